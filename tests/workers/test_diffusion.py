from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast_worker.denoisers.diffusion import OneShotDiffusion
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError

ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
LEVELS = [float(((1 - a) / a) ** 0.5) for a in ALPHAS]
CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "class_embed_type": None,
    "num_class_embeds": None,
    "block_out_channels": (4, 4, 4),
}


class Oracle(nn.Module):
    """Knows the clean image, and gives the exact answer in whatever form it is asked for."""

    dtype = torch.float32

    def __init__(self, clean: Tensor, prediction: str, **config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**(CONFIG | config))
        self.clean, self.prediction = clean, prediction
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, diffused: Tensor, steps: Tensor) -> SimpleNamespace:
        self.calls.append((diffused, steps))
        alphas = ALPHAS[steps].float()[:, None, None, None]
        x0 = 2 * self.clean - 1
        noise = (diffused - alphas.sqrt() * x0) / (1 - alphas).sqrt()
        answers = {"epsilon": noise, "sample": x0, "v_prediction": alphas.sqrt() * noise - (1 - alphas).sqrt() * x0}
        return SimpleNamespace(sample=answers[self.prediction])


@pytest.fixture
def clean() -> Tensor:
    return torch.rand(4, 3, 8, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(4, 3, 8, 12, generator=torch.Generator().manual_seed(1))


def denoiser(clean: Tensor, prediction: Any = "epsilon", clip: Any = None, **config: Any) -> OneShotDiffusion:
    return OneShotDiffusion(Oracle(clean, prediction, **config), ALPHAS, prediction=prediction, clip=clip)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_an_exact_model_gives_the_clean_image_back_whatever_it_predicts(
    clean: Tensor, noise: Tensor, prediction: str
) -> None:
    found = denoiser(clean, prediction)(clean + 0.3 * noise, 0.3)
    torch.testing.assert_close(found, clean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sigma", [0.001, 0.05, 0.12, 0.25, 0.5, 1.0, 3.0, 40.0])
def test_the_timestep_is_the_one_whose_noise_is_nearest_to_twice_sigma(clean: Tensor, sigma: float) -> None:
    step = int(denoiser(clean).timesteps(torch.tensor([sigma]))[0])
    assert abs(LEVELS[step] - 2 * sigma) == min(abs(level - 2 * sigma) for level in LEVELS)


def test_the_model_sees_the_image_in_its_own_units_and_scaled_as_diffusion_scales(clean: Tensor) -> None:
    model = denoiser(clean).requires_grad_(False)
    model(clean, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    diffused, steps = model.model.calls[0]
    assert steps.tolist() == model.timesteps(torch.tensor([0.1, 0.2, 0.3, 0.4])).tolist()
    expected = (2 * clean.double() - 1) * ALPHAS[steps].sqrt()[:, None, None, None]
    torch.testing.assert_close(diffused, expected.float())


def test_the_noise_the_model_sees_has_the_deviation_of_its_timestep(clean: Tensor) -> None:
    wide = torch.full((1, 3, 200, 200), 0.5)
    model = denoiser(wide)
    model(wide + 0.25 * torch.randn(wide.shape, generator=torch.Generator().manual_seed(2)), 0.25)
    diffused, steps = model.model.calls[0]
    assert float(diffused.std()) == pytest.approx(float((1 - ALPHAS[steps[0]]).sqrt()), rel=0.02)


def test_a_sigma_beyond_the_schedule_is_refused_with_the_largest_that_fits(clean: Tensor) -> None:
    model = denoiser(clean)
    assert model.max_sigma == pytest.approx(LEVELS[-1] / 2, rel=1e-6)
    assert model(clean, model.max_sigma).isfinite().all()
    with pytest.raises(InputRefusedError, match=r"sigma=100 must be at most 78\.\d+.*lower sigma"):
        model(clean, 100.0)


def test_a_schedule_that_ends_without_signal_is_used_up_to_there(clean: Tensor) -> None:
    ended = torch.cat((ALPHAS, torch.zeros(1, dtype=ALPHAS.dtype)))
    assert OneShotDiffusion(Oracle(clean, "sample"), ended, prediction="sample").max_sigma < float("inf")


def test_the_clean_image_is_cut_only_where_the_folder_says_so(clean: Tensor, noise: Tensor) -> None:
    outside = clean * 3 - 1
    torch.testing.assert_close(denoiser(outside)(outside + 0.1 * noise, 0.1), outside, atol=1e-5, rtol=0)
    cut = denoiser(outside, clip=1.0)(outside + 0.1 * noise, 0.1)
    torch.testing.assert_close(cut, outside.clamp(0, 1), atol=1e-5, rtol=0)


def test_images_whose_sides_the_model_cannot_halve_come_back_at_their_size(clean: Tensor) -> None:
    asked = clean[..., :7, :9]
    edge = nn.functional.pad(asked, (0, 3, 0, 1), mode="replicate")
    torch.testing.assert_close(denoiser(edge)(asked, 0.2), asked, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"in_channels": 1}, r"in_channels, out_channels=\(1, 3\) must be"),
        ({"num_class_embeds": 10}, "num_class_embeds=10 must both be null"),
        ({"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
    ],
)
def test_models_that_need_more_than_a_picture_are_refused(clean: Tensor, config: Any, problem: str) -> None:
    with pytest.raises(ModelConfigError, match=problem):
        denoiser(clean, **config)


@pytest.mark.parametrize("alphas", [[], [0.5, 0.9], [1.5, 0.2], [0.0], [float("nan")], [0.9, -0.1]])
def test_a_row_that_is_no_noise_schedule_is_refused(clean: Tensor, alphas: list[float]) -> None:
    with pytest.raises(ModelConfigError, match="must be a row of numbers in"):
        OneShotDiffusion(Oracle(clean, "sample"), torch.tensor(alphas), prediction="sample")


def test_an_unknown_prediction_is_refused(clean: Tensor) -> None:
    with pytest.raises(ModelConfigError, match="prediction_type='flow' must be one of epsilon, v_prediction, sample"):
        OneShotDiffusion(Oracle(clean, "sample"), ALPHAS, prediction="flow")  # type: ignore[arg-type]
