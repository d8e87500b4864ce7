"""The canvas against a definition of every shape by single pixels, in plain Python."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from holdfast_lab.canvas import SIDE, Canvas, Colour

WALL: Colour = (100, 120, 140)
INK: Colour = (200, 10, 30)
coordinates = st.integers(-30, 30)
halves = st.integers(1, 30)
strokes = st.sampled_from([0.5, 1.0, 2.2, 5.0])


def room() -> Canvas:
    """A wall without a floor, its origin in the middle."""
    canvas = Canvas.room(WALL, floor=SIDE)
    canvas.place(SIDE / 2, SIDE / 2, scale=1.0)
    return canvas


def painted(canvas: Canvas) -> NDArray[np.bool_]:
    """Where the ink is."""
    return np.asarray((canvas.pixels == INK).all(axis=-1))


def by_pixel(inside: Callable[[float, float], bool]) -> NDArray[np.bool_]:
    """A shape by definition: the pixels whose centres, seen from the middle of the canvas, lie inside."""
    offset = 0.5 - SIDE / 2
    return np.array([[inside(column + offset, row + offset) for column in range(SIDE)] for row in range(SIDE)])


@given(coordinates, coordinates, halves, halves)
def test_a_box_is_the_pixels_whose_centres_lie_in_it(x: int, y: int, width: int, height: int) -> None:
    canvas = room()
    canvas.box(x, y, width, height, INK)
    assert (
        painted(canvas) == by_pixel(lambda a, b: x - width <= a <= x + width and y - height <= b <= y + height)
    ).all()


@given(coordinates, coordinates, halves)
def test_a_disk_is_the_pixels_whose_centres_are_within_its_radius(x: int, y: int, radius: int) -> None:
    canvas = room()
    canvas.disk(x, y, radius, INK)
    assert (painted(canvas) == by_pixel(lambda a, b: (a - x) * (a - x) + (b - y) * (b - y) <= radius * radius)).all()


@given(coordinates, coordinates, st.integers(1, 15), strokes)
def test_a_square_cross_is_the_pixels_near_either_diagonal(x: int, y: int, half: int, stroke: float) -> None:
    canvas = room()
    canvas.cross(x, y, half, half, stroke, INK)

    def near(a: float, b: float) -> bool:
        falling, rising = abs((a - x) - (b - y)), abs((a - x) + (b - y))
        return abs(a - x) <= half and abs(b - y) <= half and min(falling, rising) <= stroke

    assert (painted(canvas) == by_pixel(near)).all()


@given(st.integers(2, 20), st.integers(2, 20))
def test_a_flat_cross_reaches_every_corner_of_its_rectangle_and_nothing_beyond(a: int, b: int) -> None:
    width, height = max(a, b), min(a, b)
    canvas = room()
    canvas.cross(0, 0, width, height, 1.0, INK)
    rows, columns = np.nonzero(painted(canvas))
    assert (rows.min(), rows.max()) == (SIDE // 2 - height, SIDE // 2 + height - 1)
    assert (columns.min(), columns.max()) == (SIDE // 2 - width, SIDE // 2 + width - 1)
    assert (painted(canvas) == painted(canvas)[::-1, ::-1]).all()


@given(st.integers(-8, 8), st.integers(-8, 8))
def test_placing_moves_a_shape_by_whole_pixels(right: int, down: int) -> None:
    still, moved = room(), room()
    moved.place(SIDE / 2 + right, SIDE / 2 + down, scale=1.0)
    for canvas in (still, moved):
        canvas.disk(3, -2, 12, INK)
    assert (np.roll(painted(still), (down, right), axis=(0, 1)) == painted(moved)).all()


@given(st.sampled_from([0.5, 2.0]), st.integers(1, 12), st.integers(1, 12))
def test_a_scale_stretches_a_shape_about_its_origin(scale: float, width: int, height: int) -> None:
    stretched, drawn = room(), room()
    stretched.place(SIDE / 2, SIDE / 2, scale=scale)
    stretched.box(0, 0, width, height, INK)
    drawn.box(0, 0, width * scale, height * scale, INK)
    assert (painted(stretched) == painted(drawn)).all()


def test_what_is_painted_last_lies_on_top() -> None:
    canvas = room()
    canvas.box(0, 0, 10, 10, INK)
    canvas.disk(0, 0, 4, (1, 2, 3))
    assert canvas.pixels[SIDE // 2, SIDE // 2].tolist() == [1, 2, 3]
    assert painted(canvas)[SIDE // 2 - 9, SIDE // 2 - 9]


@pytest.mark.parametrize("floor", [0, 1, 44, SIDE])
def test_a_floor_is_the_wall_at_three_fifths_of_its_light(floor: int) -> None:
    pixels = Canvas.room(WALL, floor=floor).pixels
    assert (pixels[:floor] == WALL).all()
    assert pixels[floor:] == pytest.approx(np.broadcast_to(0.6 * np.array(WALL), (SIDE - floor, SIDE, 3)))


def test_a_canvas_leaves_the_next_one_where_it_was() -> None:
    canvas = room()
    canvas.place(3, 4, scale=2.0)
    fresh = Canvas.room(WALL, floor=SIDE)
    assert (fresh.x[0, 0], fresh.y[0, 0]) == (0.5, 0.5)


def test_full_contrast_under_plain_light_is_the_picture_as_painted() -> None:
    canvas = room()
    canvas.disk(0, 0, 9, INK)
    assert (canvas.develop(light=1.0, contrast=1.0) == canvas.pixels).all()


@given(st.floats(0.85, 1.1), st.floats(0.06, 1.0), st.tuples(*[st.integers(0, 255)] * 3))
def test_haze_leaves_its_share_of_each_pixels_distance_to_mid_grey(
    light: float, contrast: float, paint: Colour
) -> None:
    found = Canvas.room(paint, floor=SIDE).develop(light=light, contrast=contrast)[0, 0]
    for level, seen in zip(paint, found.tolist(), strict=True):
        # Half a level for the rounding, and no more.
        assert abs((seen - 128) - contrast * (min(255.0, level * light) - 128)) <= 0.5 + 1e-9


@given(st.floats(0.06, 1.0))
def test_less_contrast_never_shows_more(contrast: float) -> None:
    canvas = room()
    canvas.disk(0, 0, 9, INK)
    clear, hazy = (canvas.develop(light=1.0, contrast=c).astype(int) for c in (1.0, contrast))
    assert (np.abs(hazy - 128) <= np.abs(clear - 128)).all()
    assert np.ptp(hazy) <= np.ptp(clear)


def test_light_beyond_white_is_cut_rather_than_wrapped() -> None:
    assert (Canvas.room((250, 255, 240), floor=SIDE).develop(light=1.1, contrast=1.0)[0, 0] == 255).all()
