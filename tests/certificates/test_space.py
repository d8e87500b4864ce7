import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from holdfast.certificates.noise.space import native_radius, resize_operator_norm

Floats = NDArray[np.float64]


def box_rows(old: int, new: int) -> Floats:
    """Averages blocks of old/new rows."""
    return np.kron(np.eye(new), np.full((1, old // new), new / old))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(radius=st.floats(0.0, 1e6), norm=st.floats(1e-6, 1e6))
def test_a_native_radius_is_rounded_down(radius: float, norm: float) -> None:
    native = native_radius(radius, norm)
    assert native is not None
    exact = Fraction(radius) / Fraction(norm)
    assert native <= exact < Fraction(math.nextafter(native, math.inf))


def test_not_certified_and_unbounded_radii_stay_what_they_are() -> None:
    assert native_radius(None, 0.5) is None
    assert native_radius(math.inf, 0.5) == math.inf
    assert native_radius(1e300, 1e-300) == np.finfo(float).max


@pytest.mark.parametrize("shape", [(5, 5), (7, 20), (20, 7), (1, 9)])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e150])
def test_the_operator_norm_is_just_above_the_largest_stretch(shape: tuple[int, int], scale: float) -> None:
    rng = np.random.default_rng(1)
    rows, columns = rng.normal(size=shape), rng.normal(size=(3, 8))
    exact = np.linalg.norm(np.kron(rows, columns), 2)
    assert exact <= resize_operator_norm(rows * scale, columns) / scale <= exact * (1 + 3e-9)


@pytest.mark.parametrize("old", [3, 6, 7, 14, 96, 100])
@pytest.mark.parametrize("new", [1, 2, 5, 7])
def test_the_operator_norm_is_not_below_an_exact_one_that_is_no_float(old: int, new: int) -> None:
    # The norm of averaging blocks of `old` is sqrt(1 / old), whose square is rational; twice it is that of both sides.
    rows, ones = box_rows(old * new, new), np.ones((1, old * old))
    bound = Fraction(resize_operator_norm(rows, ones))
    entry = Fraction(float(rows[0, 0]))
    assert entry**2 * old * old**2 <= bound**2 <= entry**2 * old * old**2 * (1 + Fraction(1, 10**8))


@pytest.mark.parametrize("size", [20, 60, 120])
def test_the_operator_norm_of_summed_permutations_is_not_below_their_number(size: int) -> None:
    # Rows and columns all sum to 3: no vector is stretched further (|A|^2 <= |A|_1 |A|_inf), and that of ones is by 3.
    rng = np.random.default_rng(4)
    for _ in range(12):
        matrix = sum(np.eye(size)[rng.permutation(size)] for _ in range(3))
        assert 9 <= Fraction(resize_operator_norm(matrix, matrix)) <= 9 * (1 + Fraction(1, 10**8))


def test_no_image_is_stretched_further() -> None:
    rng, rows, columns = np.random.default_rng(2), box_rows(24, 8), box_rows(40, 8)
    bound = resize_operator_norm(rows, columns)
    assert bound == pytest.approx(math.sqrt(8 / 24 * 8 / 40), rel=1e-8)
    for _ in range(200):
        image = rng.normal(size=(24, 40))
        assert np.linalg.norm(rows @ image @ columns.T) <= bound * np.linalg.norm(image)
    assert np.linalg.norm(rows @ np.ones((24, 40)) @ columns.T) >= bound * (1 - 1e-8) * np.linalg.norm(
        np.ones((24, 40))
    )


def test_a_resize_to_nothing_has_norm_zero() -> None:
    assert resize_operator_norm(np.zeros((2, 3)), np.eye(2)) == 0.0


@pytest.mark.parametrize("matrix", [np.ones(3), np.ones((0, 3)), np.array([[math.nan]]), np.array([[math.inf]])])
def test_what_is_no_matrix_is_refused(matrix: Floats) -> None:
    with pytest.raises(ValueError, match=r"row_matrix of shape .* must be a finite matrix; pass"):
        resize_operator_norm(matrix, np.eye(2))


@pytest.mark.parametrize(
    ("radius", "norm", "message"), [(-1.0, 1.0, "radius=-1.0 must be"), (1.0, 0.0, "operator_norm=0.0 must be above 0")]
)
def test_values_outside_their_range_are_refused(radius: float, norm: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native_radius(radius, norm)
