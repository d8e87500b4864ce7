from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast_worker.denoisers.unet import BoosterUNet, UNetShape

SMALL = UNetShape(width=8, multipliers=(1, 2), blocks=1, embedding=8)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 18, 14, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def moved() -> BoosterUNet:
    """A small U-Net that is the identity no longer."""
    torch.manual_seed(0)
    unet = BoosterUNet(SMALL).eval()
    last: Any = unet.head[-1]
    torch.nn.init.normal_(last.weight, std=0.1)
    return unet


def test_the_default_denoiser_weighs_about_ten_megabytes_in_float32() -> None:
    weights = sum(parameter.numel() for parameter in BoosterUNet().parameters())
    assert 9e6 <= 4 * weights <= 11e6


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 2, 3, 4)])
def test_an_untrained_denoiser_is_the_identity(images: Tensor, multipliers: tuple[int, ...]) -> None:
    unet = BoosterUNet(UNetShape(width=4, multipliers=multipliers, blocks=1))
    assert torch.equal(unet(images, 0.3), images)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (32, 32), (33, 50), (7, 64)])
def test_images_of_any_size_keep_their_size(moved: BoosterUNet, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    assert moved(images, 0.2).shape == images.shape


def test_padding_repeats_the_edge_and_leaves_no_trace_in_the_size(moved: BoosterUNet, images: Tensor) -> None:
    by_hand = torch.nn.functional.pad(images[..., :17, :13], (0, 1, 0, 1), mode="replicate")
    torch.testing.assert_close(moved(images[..., :17, :13], 0.2), moved(by_hand, 0.2)[..., :17, :13])


def test_each_image_is_denoised_by_its_own_sigma(moved: BoosterUNet, images: Tensor) -> None:
    sigmas = torch.tensor([0.0, 0.1, 0.7])
    alone = torch.cat([moved(image[None], float(sigma)) for image, sigma in zip(images, sigmas, strict=True)])
    torch.testing.assert_close(moved(images, sigmas), alone)
    assert not torch.allclose(moved(images, 0.1), moved(images, 0.7))


def test_sigma_zero_is_an_ordinary_noise_level(moved: BoosterUNet, images: Tensor) -> None:
    assert moved(images, 0.0).isfinite().all()


def test_every_weight_learns_once_the_last_convolution_has_moved(moved: BoosterUNet, images: Tensor) -> None:
    moved(images, 0.2).square().sum().backward()
    silent = [name for name, weight in moved.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not silent


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_a_sigma_that_is_no_noise_level_is_refused(moved: BoosterUNet, images: Tensor, sigma: float) -> None:
    with pytest.raises(ValueError, match="must be finite and at least 0"):
        moved(images, sigma)


def test_sigmas_must_be_one_per_image(moved: BoosterUNet, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"sigma of shape \(2,\) must have one value per image, shape \(3,\)"):
        moved(images, torch.tensor([0.1, 0.2]))
