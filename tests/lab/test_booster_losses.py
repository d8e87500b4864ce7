import numpy as np
import pytest
import torch

from holdfast_lab.booster.losses import identity_loss, reconstruction_loss, robustness_loss, statistics_loss
from holdfast_worker.denoisers.mapper import MapperShape, ResidualMapper


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def test_the_robustness_loss_is_zero_where_features_point_as_the_clean_ones_do(clean: torch.Tensor) -> None:
    assert float(robustness_loss(torch.stack((clean, 3 * clean)), clean)) == pytest.approx(0, abs=1e-6)
    assert float(robustness_loss(-clean[None], clean)) == pytest.approx(2, abs=1e-6)


def test_descending_the_robustness_loss_brings_features_together(clean: torch.Tensor) -> None:
    features = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    before = robustness_loss(features, clean)
    before.backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    after = robustness_loss(features - 0.1 * features.grad, clean)
    assert after < before


def test_the_robustness_loss_is_the_mean_over_draws_and_images(clean: torch.Tensor) -> None:
    features = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    cosines = [
        np.dot(draw[i], row) / np.linalg.norm(draw[i]) / np.linalg.norm(row)
        for draw in features.numpy()
        for i, row in enumerate(clean.numpy())
    ]
    assert float(robustness_loss(features, clean)) == pytest.approx(1 - np.mean(cosines), abs=1e-6)


def test_the_reconstruction_loss_is_the_mean_euclidean_distance_not_its_square() -> None:
    clean = torch.zeros(2, 3, 4, 4)
    denoised = torch.stack((clean, clean + 0.5))
    assert float(reconstruction_loss(denoised, clean)) == pytest.approx((0 + 0.5 * 48**0.5) / 2)


def test_a_perfect_reconstruction_gives_a_finite_gradient() -> None:
    denoised = torch.zeros(1, 2, 3, 4, 4, requires_grad=True)
    reconstruction_loss(denoised, torch.zeros(2, 3, 4, 4)).backward()  # type: ignore[no-untyped-call]
    assert denoised.grad is not None
    assert denoised.grad.isfinite().all()


def test_the_statistics_loss_compares_each_channels_mean_and_deviation() -> None:
    rng = np.random.default_rng(0)
    mapped, tokens = rng.normal(1, 2, (5, 3, 4)), rng.normal(0, 1, (5, 3, 4))
    expected = 0.0
    for d in range(4):
        expected += (mapped[..., d].mean() - tokens[..., d].mean()) ** 2 / 4
        expected += (mapped[..., d].std() - tokens[..., d].std()) ** 2 / 4
    assert float(statistics_loss(torch.from_numpy(mapped), torch.from_numpy(tokens))) == pytest.approx(expected)


def test_a_channel_that_never_varies_gives_a_finite_gradient() -> None:
    mapped = torch.zeros(5, 3, 4, requires_grad=True)
    statistics_loss(mapped, torch.randn(5, 3, 4)).backward()  # type: ignore[no-untyped-call]
    assert mapped.grad is not None
    assert mapped.grad.isfinite().all()


def test_the_identity_loss_sees_what_a_network_does_at_sigma_zero() -> None:
    mapper, tokens = ResidualMapper(MapperShape(width=4)), torch.randn(2, 3, 4)
    assert identity_loss(mapper, tokens) == 0
    assert float(identity_loss(lambda z, sigma: z + sigma, tokens)) == pytest.approx(  # type: ignore[arg-type]
        float((tokens**2).sum()) / 2
    )
