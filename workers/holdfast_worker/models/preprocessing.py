"""From a noisy image to the tiles a LLaVA-OneVision vision tower reads, as tensor operations on the device.

The reference is transformers' ``LlavaOnevisionImageProcessorPil``. Noise leaves [0,1], which PIL cannot hold, so a
noisy image is first brought to 8 bits (multiply by 255, round, clamp), as the published pipelines do when they save
or convert it; everything here comes after the noise and is part of the base classifier (maths.md §9).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlavaOnevisionConfig
from transformers.image_processing_utils import select_best_resolution
from transformers.image_utils import PILImageResampling
from transformers.models.llava_onevision import LlavaOnevisionImageProcessorPil

from holdfast_worker.models.errors import GuardConfigError

__all__ = ["Grid", "Pixels", "grid_for", "load_pixels", "pack", "resize", "to_tiles"]


@dataclass(frozen=True)
class Grid:
    """Where the published tiling puts an image of one size (transformers' anyres, `select_best_resolution`).

    Attributes:
        rows: Tiles from top to bottom.
        columns: Tiles from left to right.
        resized: Height and width of the image inside the tiles, in pixels, the rest being black.
        kept: Patch rows and columns of the image, without the patches that are only padding.
        pooled: Patch rows and columns that reach the language model.
    """

    rows: int
    columns: int
    resized: tuple[int, int]
    kept: tuple[int, int]
    pooled: tuple[int, int]


@dataclass(frozen=True)
class Pixels:
    """Everything that is fixed about turning one noisy image into tiles and features.

    Attributes:
        tile: Side of a square tile in pixels.
        patches: Patches along a tile's side.
        mean: Channel means of normalisation, in [0,1] units.
        std: Channel deviations of normalisation, in [0,1] units.
        grid: The tiles after the base tile; ``None`` for the base tile alone.
    """

    tile: int
    patches: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grid: Grid | None

    @property
    def tiles(self) -> int:
        """Tiles per image, the base tile included."""
        return 1 if self.grid is None else 1 + self.grid.rows * self.grid.columns

    @property
    def image_tokens(self) -> int:
        """Language-model positions per image: patches and one newline per row (base alone: one in all)."""
        base = self.patches**2
        if self.grid is None:
            return base + 1
        height, width = self.grid.pooled
        return base + height * (width + 1)


def load_pixels(
    folder: Path, config: LlavaOnevisionConfig, tiles: Literal["base", "anyres"], size: tuple[int, int]
) -> Pixels:
    """Reads a checkpoint's image processor and fixes the tiling of images of one size.

    Args:
        folder: Checkpoint folder with ``preprocessor_config.json`` or ``processor_config.json``.
        config: The model's own configuration.
        tiles: ``base`` for one tile, ``anyres`` for the published tiling.
        size: Height and width of the noise space.

    Raises:
        GuardConfigError: The processor does something that these tensor operations do not reproduce.
    """
    processor = LlavaOnevisionImageProcessorPil.from_pretrained(folder, local_files_only=True)
    vision: Any = config.vision_config
    patches = vision.image_size // vision.patch_size
    _require_reproducible(processor, vision.image_size)
    if config.vision_feature_select_strategy != "full":
        raise GuardConfigError(
            f"vision_feature_select_strategy={config.vision_feature_select_strategy!r} must be 'full', as"
            " LLaVA-OneVision publishes it; correct config.json"
        )
    grid = None
    if tiles == "anyres":
        pinpoints = [list(p) for p in processor.image_grid_pinpoints]
        if pinpoints != [list(p) for p in config.image_grid_pinpoints or ()]:
            raise GuardConfigError(
                "image_grid_pinpoints of the image processor and of config.json differ, must agree; correct one of them"
            )
        most = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
        grid = grid_for(size, pinpoints, vision.image_size, patches, most)
    return Pixels(
        tile=vision.image_size,
        patches=patches,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        grid=grid,
    )


def _require_reproducible(processor: LlavaOnevisionImageProcessorPil, tile: int) -> None:
    found = {
        "size": (processor.size["height"], processor.size["width"]),
        "resample": int(processor.resample),
        "do_resize, do_rescale, do_normalize": (
            processor.do_resize,
            processor.do_rescale,
            processor.do_normalize,
        ),
        "do_center_crop": bool(processor.do_center_crop),
        "rescale_factor": round(1 / processor.rescale_factor, 6),
    }
    wanted = {
        "size": (tile, tile),
        "resample": int(PILImageResampling.BICUBIC),
        "do_resize, do_rescale, do_normalize": (True, True, True),
        "do_center_crop": False,
        "rescale_factor": 255.0,
    }
    for name, value in found.items():
        if value != wanted[name]:
            raise GuardConfigError(
                f"image processor: {name}={value} must be {wanted[name]}; correct preprocessor_config.json"
            )


def grid_for(
    size: tuple[int, int], pinpoints: Sequence[Sequence[int]], tile: int, patches: int, most_tiles: int
) -> Grid:
    """Lays out the published tiling of an image (LLaVA-NeXT/OneVision ``anyres_max_N``).

    Args:
        size: Image height and width in pixels.
        pinpoints: Candidate resolutions, each (height, width) in whole tiles.
        tile: Tile side in pixels.
        patches: Patches along a tile's side.
        most_tiles: The N of ``anyres_max_N``; features beyond about N tiles are pooled down.
    """
    height, width = size
    target_height, target_width = select_best_resolution(size, list(pinpoints))
    scale_height, scale_width = target_height / height, target_width / width
    if scale_width < scale_height:
        resized = min(math.ceil(height * scale_width), target_height), target_width
    else:
        resized = target_height, min(math.ceil(width * scale_height), target_width)
    rows, columns = target_height // tile, target_width // tile
    kept = _unpadded(size, rows * patches, columns * patches)
    ratio = math.sqrt(kept[0] * kept[1] / (most_tiles * patches**2))
    pooled = (int(kept[0] // ratio), int(kept[1] // ratio)) if ratio > 1.1 else kept
    return Grid(rows, columns, resized, kept, pooled)


def _unpadded(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    # Patch rows or columns are dropped evenly on both sides; the rounding is the published one.
    height, width = size
    if width / height > columns / rows:
        return rows - 2 * ((rows - int(round(height * (columns / width), 7))) // 2), columns
    return rows, columns - 2 * ((columns - int(round(width * (rows / height), 7))) // 2)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes (n, C, H, W) by PIL's antialiased bicubic filter, unrounded; the same size is the identity."""
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(images, size, mode="bicubic", antialias=True)


def to_tiles(images: Tensor, pixels: Pixels) -> Tensor:
    """Quantises, tiles and normalises noisy images.

    Args:
        images: float32, shape (n, 3, H, W), in [0,1] before the noise; overwritten.
        pixels: The tiling for this H and W.

    Returns:
        float32, shape (n · tiles, 3, tile, tile), an image's base tile first, then its grid by rows.
    """
    images = images.mul_(255).round_().clamp_(0, 255)
    side = pixels.tile
    tiles = _eight_bit_resize(images, (side, side))[:, None]
    if pixels.grid is not None:
        tiles = torch.cat((tiles, _grid_tiles(images, pixels.grid, side)), dim=1)
    mean = images.new_tensor(pixels.mean).view(-1, 1, 1)
    std = images.new_tensor(pixels.std).view(-1, 1, 1)
    return tiles.flatten(0, 1).sub(mean * 255).div_(std * 255)


def _eight_bit_resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes 8-bit values as PIL does: rows and columns in turn, back to 8 bits after each."""
    # Noise drives the first pass far outside the range: without the clamp in between, pixels differ by 15 steps.
    # The order is that of Pillow up to 12; from 13 on it is the other where the height shrinks much more.
    height, width = images.shape[-2], size[1]
    across = _eight_bits(images, resize(images, (height, width)))
    return _eight_bits(across, resize(across, size))


def _eight_bits(source: Tensor, resized: Tensor) -> Tensor:
    return source if resized is source else resized.round_().clamp_(0, 255)


def _grid_tiles(images: Tensor, grid: Grid, side: int) -> Tensor:
    height, width = grid.resized
    spare_height, spare_width = grid.rows * side - height, grid.columns * side - width
    top, left = spare_height // 2, spare_width // 2
    padded = functional.pad(
        _eight_bit_resize(images, grid.resized), (left, spare_width - left, top, spare_height - top)
    )
    cut = padded.view(*padded.shape[:2], grid.rows, side, grid.columns, side)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def pack(features: Tensor, newline: Tensor, pixels: Pixels) -> Tensor:
    """Arranges tile features as the language model reads them (LLaVA-OneVision's ``pack_image_features``).

    Args:
        features: Projected features, shape (n · tiles, patches², hidden).
        newline: The learnt newline feature, shape (hidden,).
        pixels: The tiling.

    Returns:
        Shape (n, image_tokens, hidden).
    """
    by_image = features.view(-1, pixels.tiles, *features.shape[1:])
    base = by_image[:, 0]
    if pixels.grid is None:
        return torch.cat((base, newline.expand(len(base), 1, -1)), dim=1)
    rows = _whole_picture(by_image[:, 1:], pixels.patches, pixels.grid)
    lines = torch.cat((rows, newline.expand(*rows.shape[:2], 1, -1)), dim=2)
    return torch.cat((base, lines.flatten(1, 2)), dim=1)


def _whole_picture(tiles: Tensor, patches: int, grid: Grid) -> Tensor:
    picture = tiles.reshape(len(tiles), grid.rows, grid.columns, patches, patches, -1)
    picture = picture.permute(0, 1, 3, 2, 4, 5).flatten(1, 2).flatten(2, 3)
    top = (picture.shape[1] - grid.kept[0]) // 2
    left = (picture.shape[2] - grid.kept[1]) // 2
    picture = picture[:, top : top + grid.kept[0], left : left + grid.kept[1]]
    if grid.pooled == grid.kept:
        return picture
    shrunk = functional.interpolate(picture.permute(0, 3, 1, 2), grid.pooled, mode="bilinear")
    return shrunk.permute(0, 2, 3, 1)
