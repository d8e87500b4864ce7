"""Where a picture of any size comes to lie: tilings and resizes at sizes as long and as thin as they come."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from holdfast.certificates import resize_norm, resize_operator_norm
from holdfast.certificates.noise.lattice import STEP
from holdfast.certificates.noise.resize import axis_matrix
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.vision.noise_space import MAX_SIDE, require_image, to_noise_space
from holdfast_worker.models.vision.preprocessing import Pixels, to_tiles
from holdfast_worker.models.vision.tiling import grid_for, shortest_edge

TILE, PATCHES = 32, 4
PINPOINTS = [(TILE * rows, TILE * columns) for rows in range(1, 5) for columns in range(1, 5)]
sides = st.integers(1, 3000)
small = st.integers(1, 12)


@given(sides, sides)
def test_a_picture_fills_its_tiles_in_one_direction_and_leaves_them_in_none(height: int, width: int) -> None:
    grid = grid_for((height, width), PINPOINTS, TILE, PATCHES, math.inf)
    rows, columns = grid.rows * TILE, grid.columns * TILE
    assert (rows, columns) in PINPOINTS
    assert 1 <= grid.resized[0] <= rows
    assert 1 <= grid.resized[1] <= columns
    assert grid.resized[0] == rows or grid.resized[1] == columns
    # The aspect ratio is kept to within the last, incomplete pixel.
    scale = min(rows / height, columns / width)
    assert abs(grid.resized[0] - height * scale) < 1 + 1e-6
    assert abs(grid.resized[1] - width * scale) < 1 + 1e-6


@given(sides, sides)
def test_patches_that_are_only_padding_are_dropped_on_both_sides_alike(height: int, width: int) -> None:
    grid = grid_for((height, width), PINPOINTS, TILE, PATCHES, math.inf)
    whole = grid.rows * PATCHES, grid.columns * PATCHES
    assert grid.kept[0] == whole[0] or grid.kept[1] == whole[1]
    for kept, all_of_them, filled in zip(grid.kept, whole, grid.resized, strict=True):
        assert (all_of_them - kept) % 2 == 0
        assert all_of_them - kept >= 0
        assert abs(kept - filled * PATCHES / TILE) < 2


@given(st.integers(100, 1000), st.integers(100, 1000), st.sampled_from([1, 2, 4, 9]))
def test_pooling_brings_a_picture_to_about_as_many_features_as_are_let_in(height: int, width: int, most: int) -> None:
    free = grid_for((height, width), PINPOINTS, TILE, PATCHES, math.inf)
    grid = grid_for((height, width), PINPOINTS, TILE, PATCHES, most)
    assert free.pooled == free.kept == grid.kept
    let_in = most * PATCHES**2
    assert grid.pooled[0] * grid.pooled[1] <= 1.1**2 * let_in
    if grid.kept[0] * grid.kept[1] <= let_in:
        assert grid.pooled == grid.kept


@given(st.integers(1, 500), st.integers(1, 500))
def test_turning_a_picture_turns_its_grid(height: int, width: int) -> None:
    upright, turned = (
        grid_for(size, PINPOINTS, TILE, PATCHES, math.inf) for size in ((height, width), (width, height))
    )
    if (upright.rows, upright.columns) == (turned.columns, turned.rows) and height != width:
        assert upright.resized == turned.resized[::-1]
        assert upright.kept == turned.kept[::-1]


@given(sides, sides, st.sampled_from([32, 224, 336]))
def test_the_shorter_side_becomes_the_edge_and_the_longer_keeps_its_ratio(height: int, width: int, edge: int) -> None:
    resized = shortest_edge((height, width), edge)
    assert min(resized) == edge
    long = edge * max(height, width) / min(height, width)
    assert math.floor(long) - 1 <= max(resized) <= long + 1e-6
    assert shortest_edge((width, height), edge) == resized[::-1]


def dense(own: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The whole resize as one matrix, from the two of its axes."""
    return np.kron(*(axis_matrix(*axis) for axis in zip(own, size, strict=True)))


@settings(max_examples=40)
@given(small, small, small, small)
def test_the_norm_is_the_largest_singular_value_of_the_dense_resize(a: int, b: int, c: int, d: int) -> None:
    exact = float(np.linalg.svd(dense((a, b), (c, d)), compute_uv=False)[0])
    norm = resize_norm((a, b), (c, d))
    # The little above it pays for the rounding to float32, 255 half units in the last place for each pixel reached.
    assert exact * (1 - 1e-12) <= norm <= exact + 255 * 2.0**-24 * 1.001 * math.sqrt(c * d) + 1e-9
    rows, columns = axis_matrix(a, c), axis_matrix(b, d)
    assert resize_operator_norm(rows, columns) >= exact * (1 - 1e-12)


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(1, 40))
def test_a_resized_axis_keeps_what_is_constant(own: int, size: int) -> None:
    matrix = axis_matrix(own, size)
    assert matrix.shape == (size, own)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)


@given(small, small, small, small, st.integers(0, 255))
def test_a_plain_picture_stays_plain_in_the_noise_space(a: int, b: int, c: int, d: int, level: int) -> None:
    space = to_noise_space(torch.full((a, b, 3), level, dtype=torch.uint8), (c, d))
    assert space.shape == (3, c, d)
    assert space.dtype == torch.float32
    torch.testing.assert_close(space, torch.full((3, c, d), level / 255), atol=STEP / 2 + 1e-7, rtol=0)
    assert 0 <= float(space.min()) <= float(space.max()) <= 1


@pytest.mark.parametrize("own", [(1, 200), (200, 1), (2, 97), (97, 2), (31, 33), (64, 64), (9, 500)])
def test_the_noise_space_is_pils_resize_before_its_rounding(own: tuple[int, int]) -> None:
    image = np.random.default_rng(5).integers(0, 256, (*own, 3), dtype=np.uint8)
    for channel in range(3):
        exact = Image.fromarray(image[..., channel].astype(np.float32)).resize((16, 24), Image.Resampling.BICUBIC)
        found = to_noise_space(torch.tensor(image), (24, 16))[channel]
        np.testing.assert_allclose(255 * found.numpy(), np.clip(np.asarray(exact), 0, 255), atol=2e-3)


@pytest.mark.parametrize("own", [(32, 32), (40, 44), (32, 90), (90, 32), (64, 200)])
def test_the_middle_of_a_resized_picture_is_pils_middle(own: tuple[int, int]) -> None:
    image = np.random.default_rng(6).integers(0, 256, (*own, 3), dtype=np.uint8)
    resized = shortest_edge(own, TILE)
    pixels = Pixels(TILE, PATCHES, (0.0,) * 3, (1.0,) * 3, None, cut_from=resized)
    (tile,) = to_tiles(torch.tensor(image).permute(2, 0, 1)[None] / 255, pixels)
    across = Image.fromarray(image).resize((resized[1], own[0]), Image.Resampling.BICUBIC)
    whole = np.asarray(across.resize((resized[1], resized[0]), Image.Resampling.BICUBIC))
    top, left = (resized[0] - TILE) // 2, (resized[1] - TILE) // 2
    steps = np.abs(255 * tile.permute(1, 2, 0).numpy() - whole[top : top + TILE, left : left + TILE])
    assert steps.max() < 1.01
    assert (steps < 0.01).mean() > 0.99


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda image: f"{image.dtype} {image.shape}",
)
def test_what_is_no_picture_is_refused_by_its_type_and_shape(image: np.ndarray) -> None:
    with pytest.raises(InputRefusedError, match=r"must be uint8 \(H, W, 3\); convert it to RGB"):
        require_image(image)


def test_the_longest_side_that_is_let_in_is_let_in() -> None:
    require_image(np.zeros((MAX_SIDE, 1, 3), np.uint8))
    with pytest.raises(InputRefusedError, match=f"has {MAX_SIDE + 1} pixels, must have at most {MAX_SIDE}; crop it"):
        require_image(np.zeros((MAX_SIDE + 1, 1, 3), np.uint8))
