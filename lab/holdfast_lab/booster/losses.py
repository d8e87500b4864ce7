"""The losses of [F] §4 (Eqs. 7-13).

[F] Eqs. 8 and 11 write +E[cos] into a sum that is minimised, which would drive features apart: the robustness loss
here is 1 - cos.
"""

import torch
from torch import Tensor
from torch.nn import functional

from holdfast_worker.denoisers.mapper import ResidualMapper


def robustness_loss(features: Tensor, clean: Tensor) -> Tensor:
    """Mean of 1 - cos between noisy draws' features and their clean ones ([F] Eqs. 8, 11 with the sign put right).

    Args:
        features: of the draws, shape (draws, B, E); need not be unit vectors.
        clean: of the plain encoder on the clean images, shape (B, E).
    """
    return 1 - functional.cosine_similarity(features, clean[None], dim=-1).mean()


def reconstruction_loss(denoised: Tensor, clean: Tensor) -> Tensor:
    """Mean of ‖x - P(x + e)‖, the Euclidean norm over an image's pixels, as [F] Eq. 7 has it.

    Args:
        denoised: of the draws, shape (draws, B, 3, H, W).
        clean: shape (B, 3, H, W).
    """
    distances: Tensor = torch.linalg.vector_norm(clean[None] - denoised, dim=(-3, -2, -1))
    return distances.mean()


def statistics_loss(mapped: Tensor, tokens: Tensor) -> Tensor:
    """How far the mapper moves each channel's mean and standard deviation over draws, images and tokens ([F] Eq. 12).

    Args:
        mapped: tokens after the mapper, shape (N, L, D).
        tokens: the same tokens before it.
    """
    after, before = mapped.flatten(0, 1), tokens.flatten(0, 1)
    means = (after.mean(0) - before.mean(0)).square()
    deviations = (after.std(0, correction=0) - before.std(0, correction=0)).square()
    return (means + deviations).mean()


def identity_loss(mapper: ResidualMapper, tokens: Tensor) -> Tensor:
    """Mean of ‖M(z, 0)‖² over clean images ([F] Eq. 12): zero by construction for a `ResidualMapper`, and so kept.

    Args:
        mapper: M.
        tokens: of clean images, shape (B, L, D).
    """
    correction: Tensor = mapper(tokens, 0.0)
    return correction.square().flatten(1).sum(1).mean()
