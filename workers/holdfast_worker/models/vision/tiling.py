"""Where the published tilings put an image of one size: integers alone, fixed before any image is seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from transformers.image_processing_utils import select_best_resolution


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


def grid_for(
    size: tuple[int, int], pinpoints: Sequence[Sequence[int]], tile: int, patches: int, most_tiles: float
) -> Grid:
    """Lays out the published tiling of an image (LLaVA-NeXT/OneVision ``anyres_max_N``).

    Args:
        size: Image height and width in pixels.
        pinpoints: Candidate resolutions, each (height, width) in whole tiles.
        tile: Tile side in pixels.
        patches: Patches along a tile's side.
        most_tiles: The N of ``anyres_max_N``; features beyond about N tiles are pooled down. LLaVA-NeXT: infinite.
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


def shortest_edge(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """The height and width of an image resized so that its shorter side is ``edge``, as CLIP's processor rounds."""
    height, width = size
    if height <= width:
        return edge, int(edge * width / height)
    return int(edge * height / width), edge
