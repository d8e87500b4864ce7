"""The way to the noise space: linear, and stretched by no more than the tally's operator norm says."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from holdfast.certificates.noise.lattice import rounded_distance
from holdfast.certificates.noise.resize import axis_matrix, resize_norm
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.vision.noise_space import MAX_SIDE, to_noise_space
from holdfast_worker.models.vision.resize import resize

SIZES = [
    ((10, 12), (8, 8)),
    ((8, 9), (64, 33)),
    ((300, 40), (16, 24)),
    ((64, 257), (64, 32)),
    ((1, 50), (8, 8)),
    ((33, 1), (32, 16)),
]
Size = tuple[int, int]


def picture(size: Size, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def distance(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> float:
    return float(np.linalg.norm((x.astype(float) - y) / 255))


def moved(x: NDArray[np.uint8], y: NDArray[np.uint8], size: Size) -> float:
    """How far apart two images are in the noise space."""
    there, here = (to_noise_space(torch.tensor(image), size).double() for image in (x, y))
    return float((there - here).norm())


def allowed(x: NDArray[np.uint8], y: NDArray[np.uint8], own: Size, size: Size) -> float:
    """How far apart the certificate takes them to lie at most."""
    return rounded_distance(resize_norm(own, size) * distance(x, y), dimensions=3 * size[0] * size[1])


def gram_step(image: torch.Tensor, size: Size) -> torch.Tensor:
    """Aᵀ A of the resize A at an image, by automatic differentiation: no matrix of ours in it."""
    variable = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(resize(variable, size).square().sum(), variable)
    return gradient / 2


def test_an_image_of_its_own_size_comes_to_the_nearest_points_of_the_lattice() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    space = to_noise_space(torch.tensor(image), (16, 16)).permute(1, 2, 0).double().numpy()
    exact = [[math.floor(Fraction(int(u), 255) * 2**18 + Fraction(1, 2)) / 2**18 for u in row] for row in image[..., 0]]
    np.testing.assert_array_equal(space, np.repeat(np.array(exact)[..., None], 3, axis=2))
    assert len(np.unique(space)) == 256


def test_an_image_of_its_own_size_is_not_stretched() -> None:
    assert resize_norm((10, 12), (10, 12)) == 1.0


def test_the_resize_is_linear_before_its_clamp() -> None:
    a, b = (torch.rand(1, 1, 20, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    assert torch.allclose(resize(a - 2 * b, (8, 8)), resize(a, (8, 8)) - 2 * resize(b, (8, 8)), atol=1e-13)


@pytest.mark.parametrize(("own", "size"), SIZES)
def test_the_axis_matrices_are_the_resize(own: Size, size: Size) -> None:
    image = torch.rand(1, 1, *own, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, columns = (axis_matrix(*axis) for axis in zip(own, size, strict=True))
    np.testing.assert_allclose(resize(image, size)[0, 0].numpy(), rows @ image[0, 0].numpy() @ columns.T, atol=1e-12)


@settings(max_examples=60)
@given(st.integers(1, 600), st.integers(1, 400))
def test_a_matrix_is_what_the_resize_makes_of_every_unit_vector(own: int, size: int) -> None:
    # Two columns: torch's filter mixes up the memory layouts of an image one pixel wide.
    units = torch.eye(own, dtype=torch.float64)[:, None, :, None].expand(own, 1, own, 2).contiguous()
    made = resize(units, (size, 2))[:, 0, :, 0].T.numpy()
    np.testing.assert_allclose(axis_matrix(own, size), made, rtol=0, atol=4e-15)


@pytest.mark.parametrize(("own", "size"), SIZES)
def test_the_norm_is_never_below_what_power_iteration_finds_and_hardly_above(own: Size, size: Size) -> None:
    image = torch.rand(1, 1, *own, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(200):
        image = gram_step(image / image.norm(), size)
    reached = float(image.norm().sqrt())
    assert reached * (1 - 1e-12) <= resize_norm(own, size) < 1.001 * reached


@pytest.mark.parametrize(("own", "size"), SIZES)
def test_no_two_images_come_to_lie_further_apart_than_the_norm_allows(own: Size, size: Size) -> None:
    for seed in range(20):
        x, y = picture(own, seed), picture(own, seed + 100)
        near = x + (picture(own, seed + 200) < 3) * (x < 255).astype(np.uint8)
        for other in (y, near, np.minimum(x, 254) + np.uint8(1)):
            assert moved(x, other, size) <= allowed(x, other, own, size)


def test_the_certificates_shift_pays_for_the_rounding_to_the_lattice() -> None:
    size = (8, 8)
    for level in range(255):  # single pixels: their one difference is stretched by the whole norm
        x, y = (np.full((1, 1, 3), value, dtype=np.uint8) for value in (level, level + 1))
        assert moved(x, y, size) <= allowed(x, y, (1, 1), size)


def test_an_image_too_long_for_its_norm_is_refused(guard: LlavaGuard) -> None:
    with pytest.raises(InputRefusedError, match=r"longer side has 8193 pixels, must have at most 8192; crop it"):
        guard.inputs.prepare("hi", "", np.zeros((1, MAX_SIDE + 1, 3), np.uint8), slots=0)
