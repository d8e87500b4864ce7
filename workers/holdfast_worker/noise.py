"""Token noise for a range of draws, on the host."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates.noise.kernels import AbsorbingKernel, SuffixDraws, TokenKernel, UniformKernel
from holdfast.contract.guard.spec import Cell
from holdfast.contract.models import TokenKernelName


def kernel_of(name: TokenKernelName, beta: float, alphabet_size: int) -> TokenKernel:
    """The token kernel of this name."""
    return UniformKernel(beta, alphabet_size) if name == "uniform" else AbsorbingKernel(beta)


def cell_masks(natural: NDArray[np.bool_], cells: Sequence[Cell]) -> NDArray[np.bool_]:
    """The kernel's own masks as they are in each cell (maths.md §5).

    Args:
        natural: Which slots each tail masks by itself, shape (..., slots).
        cells: What the tails of each have in common; apart from that they are the same tails.

    Returns:
        Shape (..., cells, slots).
    """
    masked = np.repeat(natural[..., None, :], len(cells), axis=-2)
    for at, cell in enumerate(cells):
        masked[..., at, : cell.leading_masked] = True
        if not cell.at_least:
            masked[..., at, cell.leading_masked] = False
    return masked


def replace_tokens(
    draws: SuffixDraws, tail_base: NDArray[np.int64], alphabet: NDArray[np.int64], mask_id: int | None
) -> NDArray[np.int64]:
    """Writes the token noise into the slots of every tail and cell.

    Args:
        draws: Masks (..., cells, slots), and for the uniform kernel replacements (..., slots) as alphabet indexes.
        tail_base: Clean slot tokens, shape (slots,).
        alphabet: Token ids that the uniform kernel draws from, shape (V,).
        mask_id: The absorbing kernel's token; needed only without replacements.

    Returns:
        Token ids, shape (..., cells, slots).

    Raises:
        ValueError: The absorbing kernel is asked of a guard without a mask token.
    """
    if draws.replacement is not None:
        return np.where(draws.masked, alphabet[draws.replacement][..., None, :], tail_base)
    if mask_id is None:
        raise ValueError("token_kernel=absorbing needs the guard's mask_token, which is null; use uniform or name one")
    return np.where(draws.masked, np.int64(mask_id), tail_base)
