"""From a noisy image to the tiles a LLaVA model's vision tower reads, as tensor operations on the device.

The reference are transformers' ``LlavaOnevisionImageProcessorPil``, ``LlavaNextImageProcessorPil`` and, for LLaVA-1.5,
``LlavaImageProcessorPil``. Noise leaves [0,1], which PIL cannot hold, so a
noisy image is first brought to 8 bits (multiply by 255, round, clamp), as the published pipelines do when they save
or convert it; everything here comes after the noise and is part of the base classifier (maths.md §9).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from transformers.image_utils import PILImageResampling
from transformers.models.llava import LlavaImageProcessorPil
from transformers.models.llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision import LlavaOnevisionImageProcessorPil

from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.vision.resize import resize
from holdfast_worker.models.vision.tiling import Grid, grid_for, shortest_edge

_PROCESSORS: dict[str, Any] = {
    "llava": LlavaImageProcessorPil,
    "llava_next": LlavaNextImageProcessorPil,
    "llava_onevision": LlavaOnevisionImageProcessorPil,
}
_TOWERS = {"clip_vision_model": ("default", "full"), "siglip_vision_model": ("full",)}
"""Kind of vision tower → which of its tokens may be read, the usual choice first; one with a class token has both."""


@dataclass(frozen=True)
class Pixels:
    """Everything that is fixed about turning one noisy image into tiles and features.

    Attributes:
        tile: Side of a square tile in pixels.
        patches: Patches along a tile's side.
        mean: Channel means of normalisation, in [0,1] units.
        std: Channel deviations of normalisation, in [0,1] units.
        grid: The tiles after the base tile; ``None`` for the base tile alone.
        cut_from: Height and width of the resized image whose middle is the base tile; ``None``: it is the tile.
        class_token: Whether a tile's features begin with the tower's class token.
        newline: Whether rows of patches end in a learnt feature, and a base tile alone does.
    """

    tile: int
    patches: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grid: Grid | None
    cut_from: tuple[int, int] | None = None
    class_token: bool = False
    newline: bool = True

    @property
    def tiles(self) -> int:
        """Tiles per image, the base tile included."""
        return 1 if self.grid is None else 1 + self.grid.rows * self.grid.columns

    @property
    def image_tokens(self) -> int:
        """Language-model positions per image: patches and one newline per row (base alone: one in all, or none)."""
        base = self.patches**2 + self.class_token
        if self.grid is None:
            return base + self.newline
        height, width = self.grid.pooled
        return base + height * (width + 1)


def load_pixels(folder: Path, config: Any, tiles: Literal["base", "anyres"], size: tuple[int, int]) -> Pixels:
    """Reads a checkpoint's image processor and fixes the tiling of images of one size.

    Args:
        folder: Checkpoint folder with ``preprocessor_config.json`` or ``processor_config.json``.
        config: The model's own configuration, of LLaVA-1.5, LLaVA-NeXT or LLaVA-OneVision.
        tiles: ``base`` for one tile, ``anyres`` for the published tiling. LLaVA-1.5 publishes one tile.
        size: Height and width of the noise space.

    Raises:
        ModelConfigError: The processor does something that these tensor operations do not reproduce.
    """
    kind: str = config.model_type
    processor = _PROCESSORS[kind].from_pretrained(folder, local_files_only=True)
    vision = config.vision_config
    _require_reproducible(processor, kind, vision.image_size)
    return Pixels(
        tile=vision.image_size,
        patches=vision.image_size // vision.patch_size,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        grid=_grid(processor, config, size) if tiles == "anyres" and kind != "llava" else None,
        cut_from=shortest_edge(size, vision.image_size) if kind == "llava" and processor.size.shortest_edge else None,
        class_token=_keeps_class_token(config),
        newline=kind != "llava",
    )


def _grid(processor: Any, config: Any, size: tuple[int, int]) -> Grid:
    pinpoints = [list(p) for p in processor.image_grid_pinpoints]
    if pinpoints != [list(p) for p in config.image_grid_pinpoints or ()]:
        raise ModelConfigError(
            "image_grid_pinpoints of the image processor and of config.json differ, must agree; correct one of them"
        )
    limit = getattr(config, "vision_aspect_ratio", None)  # LLaVA-NeXT pools nothing
    most = math.inf if limit is None else int(limit.removeprefix("anyres_max_"))
    vision = config.vision_config
    return grid_for(size, pinpoints, vision.image_size, vision.image_size // vision.patch_size, most)


def _keeps_class_token(config: Any) -> bool:
    """Whether the class token reaches the language model, which only LLaVA-1.5 can place."""
    tower, strategy = config.vision_config.model_type, config.vision_feature_select_strategy
    if tower not in _TOWERS:
        raise ModelConfigError(
            f"vision_config.model_type={tower!r} must be one of {sorted(_TOWERS)}; use another guard"
        )
    fitting = _TOWERS[tower]
    if strategy not in fitting or (strategy == "full" and len(fitting) > 1 and config.model_type != "llava"):
        raise ModelConfigError(
            f"vision_feature_select_strategy={strategy!r} must be {fitting[0]!r} for a {tower} in a"
            f" {config.model_type}, as published; correct config.json"
        )
    return len(fitting) > 1 and strategy == "full"


def _require_reproducible(processor: Any, kind: str, tile: int) -> None:
    size, crop = processor.size, processor.crop_size
    sides: dict[str, Any] = {"size": (size.shortest_edge,) * 2 if size.shortest_edge else (size.height, size.width)}
    if processor.do_center_crop:
        sides["crop_size"] = (crop.height, crop.width)
    steps: dict[str, Any] = {
        "resample": (int(processor.resample), int(PILImageResampling.BICUBIC)),
        "do_resize": (processor.do_resize, True),
        "do_rescale": (processor.do_rescale, True),
        "do_normalize": (processor.do_normalize, True),
        "rescale_factor": (round(1 / processor.rescale_factor, 6), 255.0),
    }
    if kind == "llava":
        steps["do_pad"] = (bool(processor.do_pad), False)
        steps["do_center_crop"] = (bool(processor.do_center_crop) or not size.shortest_edge, True)
    for name, (found, wanted) in {**{name: (side, (tile, tile)) for name, side in sides.items()}, **steps}.items():
        if found != wanted:
            raise ModelConfigError(
                f"image processor: {name}={found} must be {wanted}; correct preprocessor_config.json"
            )


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
    tiles = _middle(_eight_bit_resize(images, pixels.cut_from or (side, side)), side)[:, None]
    if pixels.grid is not None:
        tiles = torch.cat((tiles, _grid_tiles(images, pixels.grid, side)), dim=1)
    mean = images.new_tensor(pixels.mean).view(-1, 1, 1)
    std = images.new_tensor(pixels.std).view(-1, 1, 1)
    return tiles.flatten(0, 1).sub(mean * 255).div_(std * 255)


def _middle(images: Tensor, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


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


def pack(features: Tensor, newline: Tensor | None, pixels: Pixels) -> Tensor:
    """Arranges tile features as the language model reads them (transformers' ``pack_image_features``).

    Args:
        features: Projected features, shape (n · tiles, patches² and the class token, hidden).
        newline: The learnt newline feature, shape (hidden,); ``None`` for LLaVA-1.5, which has one tile.
        pixels: The tiling.

    Returns:
        Shape (n, image_tokens, hidden).
    """
    by_image = features.view(-1, pixels.tiles, *features.shape[1:])
    base = by_image[:, 0]
    if newline is None:
        return base
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
