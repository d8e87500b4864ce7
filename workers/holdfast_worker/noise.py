"""Seeded noise for a range of draws: Gaussian on the device, token replacement on the host.

A draw's noise depends on the seed and the draw's index alone, never on how a range was cut into orders or batches:
draws come in blocks of ``BLOCK``, each from its own generator keyed by (seed, channel, block), and a range takes whole
blocks and keeps what it asked for.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.certificates.noise.kernels import (
    BLOCK,
    AbsorbingKernel,
    SuffixDraws,
    TokenKernel,
    UniformKernel,
    block_key,
)
from holdfast.contract.guard.spec import Cell
from holdfast.contract.models import TokenKernelName


def gaussian(
    seed: str, start: int, stop: int, shape: tuple[int, ...], device: torch.device, *, channel: str = "image"
) -> Tensor:
    """Standard normal noise of the draws ``[start, stop)``.

    The values for one seed differ between CPU and CUDA, whose generators differ; a replay needs the same kind.

    Args:
        seed: The job's secret seed.
        start: First draw index, at least 0.
        stop: One past the last draw index, above ``start``.
        shape: Shape of one draw's noise, normally (3, H, W).
        device: Where the noise is generated and returned.
        channel: What the draws are for; channels of one seed are independent of each other.

    Returns:
        float32, shape (stop - start, *shape).

    Raises:
        ValueError: The range is empty or negative.
    """
    if not 0 <= start < stop:
        raise ValueError(f"draws [{start}, {stop}) must satisfy 0 <= start < stop; ask for a nonempty range")
    first, last = start // BLOCK, (stop - 1) // BLOCK
    fill = _fill_cpu if device.type == "cpu" else _fill_device
    blocks = torch.empty((last - first + 1, BLOCK, *shape), device=device)
    for block, values in enumerate(blocks, first):
        fill(values, block_key(seed, channel, block))
    return blocks.flatten(0, 1)[start - first * BLOCK : stop - first * BLOCK]


def _fill_cpu(values: Tensor, key: int) -> None:
    # PyTorch's CPU generator keeps only the low 32 bits of a seed, so different keys could repeat a block of noise.
    generator = np.random.Generator(np.random.SFC64(key))
    generator.standard_normal(dtype=np.float32, out=values.numpy())


def _fill_device(values: Tensor, key: int) -> None:
    values.normal_(generator=torch.Generator(values.device).manual_seed(key))


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
