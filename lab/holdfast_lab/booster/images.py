"""What a booster is trained and measured on: a folder of pictures, or drawn scenes."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.contract.problems import ProblemError, TooLargeError
from holdfast.images import upright
from holdfast_lab.scenes import Hazard, draw_scene
from holdfast_worker.models.vision.noise_space import to_noise_space

MAX_PIXELS: Final = 50_000_000
_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_SMALLEST_CROP: Final = 0.8
_MEASURED: Final = 1  # fourth word of a key: training's keys have three, or a fourth of zero and a fifth


class FolderImages:
    """The PNG, JPEG and WebP files of a folder and the folders in it, in the order of their paths."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
        if not self._paths:
            raise ValueError(f"{folder} holds no {', '.join(sorted(_SUFFIXES))} file, must hold one; correct the path")
        names = (f"{path.relative_to(folder)} {path.stat().st_size}" for path in self._paths)
        self._identity = sha256("\n".join(names).encode()).hexdigest()

    @property
    def count(self) -> int:
        """Files."""
        return len(self._paths)

    @property
    def identity(self) -> str:
        """A hash of names and sizes."""
        return f"folder:{self._identity}"

    def whole(self, index: int) -> NDArray[np.uint8]:
        """The picture, upright.

        Raises:
            ValueError: it has more than `MAX_PIXELS`, seen before its pixels are decoded, or cannot be decoded.
        """
        path = self._paths[index]
        try:
            return np.asarray(upright(path.read_bytes(), max_pixels=MAX_PIXELS))
        except TooLargeError:
            raise ValueError(f"{path.name} has more than {MAX_PIXELS:,} pixels, which is the most; shrink it") from None
        except (OSError, ProblemError) as error:
            raise ValueError(f"{path.name} is no readable PNG, JPEG or WebP; repair or remove it") from error

    def varied(self, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Half the time the whole, else a crop of at least `_SMALLEST_CROP` of either side; flipped half the time."""
        image = self.whole(index)
        height, width = (round(side * _crop(rng)) for side in image.shape[:2])
        top, left = (int(rng.integers(most + 1)) for most in (image.shape[0] - height, image.shape[1] - width))
        crop = image[top : top + height, left : left + width]
        return crop[:, ::-1] if rng.random() < 0.5 else crop


def _crop(rng: np.random.Generator) -> float:
    return min(1.0, rng.uniform(_SMALLEST_CROP, 2 - _SMALLEST_CROP))


@dataclass(frozen=True)
class DrawnScenes:
    """Pictures drawn as they are asked for: training never sees one twice, and none of those that `whole` gives.

    Attributes:
        count: pictures in one epoch.
        seed: of the pictures that `whole` gives.
    """

    count: int
    seed: int = 0

    @property
    def identity(self) -> str:
        """Their number; what training draws follows from its own seed."""
        return f"scenes:{self.count}"

    def whole(self, index: int) -> NDArray[np.uint8]:
        """The picture of this index, always the same."""
        return _scene(np.random.default_rng([self.seed, index, 0, _MEASURED]))

    def varied(self, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A new picture, whatever the index."""
        return _scene(rng)


Images = FolderImages | DrawnScenes
"""Pictures by index, `count` in an epoch; a resumed training must find the same `identity`."""


def _scene(rng: np.random.Generator) -> NDArray[np.uint8]:
    hazards = list(Hazard)
    return draw_scene(rng, hazards[rng.integers(len(hazards))]).image


def training_batch(images: Images, indices: Sequence[int], size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Varied pictures of these indices in the noise space: float32 in [0,1], shape (len(indices), 3, height, width)."""
    # Copied: flipped views and decoders' buffers are not what torch can take as they are.
    pictures = [torch.tensor(images.varied(index, rng).copy()) for index in indices]
    return torch.stack([to_noise_space(picture, size) for picture in pictures])
