"""Vision towers: from images to tokens, and from tokens to one feature vector."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.vision.resize import resize


class Tower(nn.Module):
    """A frozen vision tower, differentiable with respect to its images.

    Numbers are float32 at its borders, whatever type it computes in.

    Attributes:
        size: Height and width that it takes; images of another size are resized inside.
        dtype: Number type of its weights and activations.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> None:
        """Sets what comes before the weights.

        Args:
            size: Height and width that the tower takes.
            mean: Channel means of normalisation, in [0,1] units.
            std: Channel deviations of normalisation, in [0,1] units.
            dtype: Number type of its weights and activations.
        """
        super().__init__()
        self.eval()
        self.size = size
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    @abstractmethod
    def tokens(self, images: Tensor) -> Tensor:
        """The tokens of images.

        Args:
            images: float32, shape (B, 3, h, w), in [0,1] units; values may leave [0,1].

        Returns:
            float32, shape (B, L, D).
        """

    @abstractmethod
    def pooled(self, tokens: Tensor) -> Tensor:
        """One feature per image, not normalised.

        Args:
            tokens: As ``tokens`` gives them.

        Returns:
            float32, shape (B, E).
        """

    def _pixels(self, images: Tensor) -> Tensor:
        """Resized and normalised, in the tower's number type."""
        return ((resize(images, self.size) - self.mean) / self.std).to(self.dtype)


class LayersTower(Tower):
    """A declared encoder: its output, one vector per image, is its only token."""

    def __init__(
        self,
        network: nn.Sequential,
        *,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype,
    ) -> None:
        super().__init__(size, mean, std, dtype)
        self._network = network.to(dtype)
        _require_one_vector(network, torch.zeros(1, 3, *size, dtype=dtype))

    def tokens(self, images: Tensor) -> Tensor:
        """As ``Tower.tokens``, with L = 1."""
        hidden: Tensor = self._network(self._pixels(images))
        return hidden.float()[:, None]

    def pooled(self, tokens: Tensor) -> Tensor:
        """As ``Tower.pooled``: the one token."""
        return tokens[:, 0]


def _require_one_vector(network: nn.Sequential, hidden: Tensor) -> None:
    for index, layer in enumerate(network):
        try:
            hidden = layer(hidden)
        except RuntimeError as error:
            raise ModelConfigError(
                f"layers.{index} does not take what comes before it, shape {tuple(hidden.shape[1:])} per image;"
                " correct the layers or the noise size"
            ) from error
    if hidden.ndim != 2:
        raise ModelConfigError(
            f"the layers end in shape {tuple(hidden.shape[1:])} per image, must end in one vector; add a flatten or"
            " an average_pool"
        )


def to_sphere(vectors: Tensor) -> Tensor:
    """Brings every row to length 1; a row of zeros becomes the first unit vector.

    That makes every draw's feature a unit vector, as the theorem wants it ([F] Thm 3.2, maths.md §6). Rows of any
    scale keep their direction: each is divided by its largest number before its squares are taken.

    Args:
        vectors: Floating, shape (..., E).

    Returns:
        The same shape and type.
    """
    largest = vectors.detach().abs().amax(dim=-1, keepdim=True)
    first = torch.zeros_like(vectors)
    first[..., 0] = 1
    scaled = torch.where(largest == 0, first, vectors / torch.where(largest == 0, 1, largest))
    unit: Tensor = scaled / torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return unit
