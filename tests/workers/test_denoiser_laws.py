"""What denoisers do whatever their weights: no memory, no neighbours, σ by the image, every file accounted for."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from holdfast_worker.denoisers.conditioning import LOWEST_SIGMA, on_multiples, per_image, sigma_features
from holdfast_worker.denoisers.diffusion import OneShotDiffusion
from holdfast_worker.denoisers.loading import Booster, load_booster, save_booster
from holdfast_worker.denoisers.mapper import MapperShape, ResidualMapper
from holdfast_worker.denoisers.unet import BoosterUNet, UNetShape
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError

CPU = torch.device("cpu")
sigmas = st.floats(0, 10)


def moved(network: nn.Module, *, std: float = 0.3) -> Any:
    """The network with every weight somewhere that training may have taken it."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def unet() -> BoosterUNet:
    found: BoosterUNet = moved(BoosterUNet(UNetShape(width=4, multipliers=(1, 2), blocks=1, embedding=4)))
    return found


@pytest.fixture(scope="module")
def mapper() -> ResidualMapper:
    found: ResidualMapper = moved(ResidualMapper(MapperShape(width=8, blocks=2, heads=2, conditioning=4)))
    return found


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 10, 6, generator=torch.Generator().manual_seed(0))


@given(sigmas)
def test_one_sigma_is_the_same_one_for_every_image(sigma: float) -> None:
    each = per_image(sigma, torch.zeros(3, 5))
    assert each.dtype == torch.float32
    assert torch.equal(each, torch.full((3,), sigma))
    assert torch.equal(per_image(each.double(), torch.zeros(3, 5)), each)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1)])
def test_sigmas_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have one value per image, shape \(3,\)"):
        per_image(torch.zeros(shape), torch.zeros(3, 5))


@given(st.lists(sigmas, min_size=1, max_size=5))
def test_networks_read_sigma_and_its_logarithm_and_neither_falls_below_the_lowest(given_sigmas: list[float]) -> None:
    read = sigma_features(torch.tensor(given_sigmas))
    for sigma, (plain, log) in zip(given_sigmas, read.tolist(), strict=True):
        floored = max(sigma, LOWEST_SIGMA)
        assert plain == pytest.approx(floored, rel=1e-6)
        assert log == pytest.approx(math.log(floored), rel=1e-5, abs=1e-6)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 4, 8]))
def test_a_network_sees_whole_multiples_and_its_answer_comes_back_at_the_pictures_size(
    height: int, width: int, multiple: int
) -> None:
    seen: list[Tensor] = []

    def run(padded: Tensor) -> Tensor:
        seen.append(padded)
        return padded + 1

    images = torch.rand(2, 3, height, width)
    assert torch.equal(on_multiples(images, multiple, run), images + 1)
    (padded,) = seen
    assert [side % multiple for side in padded.shape[-2:]] == [0, 0]
    assert padded.shape[-2] - height < multiple
    assert (padded[..., height - 1 :, width - 1 :] == images[..., -1:, -1:]).all()


@pytest.mark.parametrize("sigma", [0.0, 0.25, 3.0])
def test_a_denoiser_gives_the_same_answer_every_time_and_in_any_company(
    unet: BoosterUNet, images: Tensor, sigma: float
) -> None:
    whole = unet(images, sigma)
    assert torch.equal(unet(images, sigma), whole)
    for order in ([3, 1, 0, 2], [2], [0, 0, 3]):
        torch.testing.assert_close(unet(images[order], sigma), whole[order])


def test_a_denoiser_has_nothing_that_training_or_chance_could_move(unet: BoosterUNet, images: Tensor) -> None:
    kinds = (nn.Dropout, nn.modules.batchnorm._BatchNorm)
    assert not any(isinstance(module, kinds) for module in unet.modules())
    assert not list(unet.buffers())
    assert torch.equal(unet.train()(images, 0.2), unet.eval()(images, 0.2))


@settings(max_examples=25)
@given(sigmas)
def test_a_sigma_below_the_lowest_counts_as_the_lowest(unet: BoosterUNet, sigma: float) -> None:
    images = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(unet(images, min(sigma, LOWEST_SIGMA)), unet(images, LOWEST_SIGMA))
    assert unet(images, sigma).isfinite().all()


@settings(max_examples=25)
@given(sigmas)
def test_a_mappers_correction_is_finite_and_bounded_by_its_blocks(mapper: ResidualMapper, sigma: float) -> None:
    tokens = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    corrections = []
    for block in mapper.blocks:
        corrections.append(block(tokens, torch.full((2,), sigma)))
        tokens = tokens + corrections[-1]
    assert all(one.isfinite().all() for one in corrections)


def test_a_mapper_corrects_each_picture_by_its_own_tokens(mapper: ResidualMapper) -> None:
    tokens = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
    each = torch.tensor([0.1, 0.0, 0.5, 1.0])
    whole = mapper(tokens, each)
    torch.testing.assert_close(mapper(tokens[[2, 0]], each[[2, 0]]), whole[[2, 0]])
    assert not whole[1].any()


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [
        (UNetShape, {"width": 0}), (UNetShape, {"multipliers": ()}), (UNetShape, {"multipliers": (1,) * 7}),
        (UNetShape, {"multipliers": (1, 0)}), (UNetShape, {"blocks": 9}), (UNetShape, {"embedding": 0}),
        (UNetShape, {"dropout": 0.1}), (MapperShape, {"width": 0}), (MapperShape, {"width": 8, "blocks": 33}),
        (MapperShape, {"width": 8, "scale": 0.0}), (MapperShape, {"width": 8, "kernel": 33}), (MapperShape, {}),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_that_no_network_should_be_built_from_are_refused(shape: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=list(wrong or {"width": 0})[-1]):
        shape(**wrong)


def saved(folder: Path, unet: BoosterUNet, mapper: ResidualMapper) -> Path:
    save_booster(folder, sigma=0.25, denoiser=unet, mapper=mapper)
    return folder


def test_every_single_weight_is_in_the_fingerprint(tmp_path: Path, unet: BoosterUNet, mapper: ResidualMapper) -> None:
    folder = saved(tmp_path, unet, mapper)
    before = load_booster(folder, CPU).fingerprint_parts
    for name in ("denoiser", "mapper"):
        path = folder / f"{name}.safetensors"
        whole = load_file(path)
        for key, tensor in whole.items():
            nudged = tensor.clone()
            nudged.view(-1)[-1] += 1e-3
            save_file(whole | {key: nudged}, path)
            assert load_booster(folder, CPU).fingerprint_parts != before, key
        save_file(whole, path)
    assert load_booster(folder, CPU).fingerprint_parts == before


@pytest.mark.parametrize("harm", ["missing", "too many", "misshapen", "pickled"])
def test_weights_that_are_not_exactly_the_networks_own_are_refused(
    tmp_path: Path, unet: BoosterUNet, mapper: ResidualMapper, harm: str
) -> None:
    path = saved(tmp_path, unet, mapper) / "denoiser.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    if harm == "missing":
        del weights[name]
    elif harm == "too many":
        weights["another"] = torch.zeros(1)
    elif harm == "misshapen":
        weights[name] = weights[name].flatten()[:1]
    save_file(weights, path)
    if harm == "pickled":
        torch.save(weights, path)
    with pytest.raises(ModelConfigError, match=r"does not fit the numbers|no intact safetensors file"):
        load_booster(tmp_path, CPU)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"sigma": "NaN", "mapper": {"width": 8}}', "{}"])
def test_a_booster_file_that_is_none_is_refused_by_its_path(
    tmp_path: Path, unet: BoosterUNet, mapper: ResidualMapper, content: str
) -> None:
    (saved(tmp_path, unet, mapper) / "booster.json").write_text(content)
    with pytest.raises(ModelConfigError, match=r"booster\.json: .+; correct the file"):
        load_booster(tmp_path, CPU)


def test_a_booster_is_written_whole_or_not_at_all(
    tmp_path: Path, unet: BoosterUNet, mapper: ResidualMapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path, unet, mapper)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_booster(folder, sigma=0.5, denoiser=BoosterUNet(UNetShape(width=2)))
    assert {name: (folder / name).read_bytes() for name in before} == before
    found: Booster = load_booster(folder, CPU)
    assert found.sigma == 0.25
    assert json.loads(before["booster.json"])["format"] == 1


class Echo(nn.Module):
    """A model of pixels that predicts the clean image to be what it sees."""

    dtype = torch.float32
    config = SimpleNamespace(
        in_channels=3, out_channels=3, class_embed_type=None, num_class_embeds=None, block_out_channels=(4,)
    )

    def forward(self, images: Tensor, steps: Tensor) -> Any:
        return SimpleNamespace(sample=images)


ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100, dtype=torch.float64), 0)
LEVELS = ((1 - ALPHAS) / ALPHAS).sqrt()


@given(st.floats(0, 1))
def test_the_timestep_is_the_nearest_of_all_and_the_earlier_of_two(share: float) -> None:
    model = OneShotDiffusion(Echo(), ALPHAS, prediction="sample")
    sigma = torch.tensor([share * model.max_sigma])
    step = int(model.timesteps(sigma)[0])
    distances = (LEVELS - 2 * sigma.double()).abs()
    assert float(distances[step]) == float(distances.min())
    assert not (distances[:step] == distances.min()).any()


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_noise_is_never_an_earlier_timestep(one: float, two: float) -> None:
    model = OneShotDiffusion(Echo(), ALPHAS, prediction="sample")
    low, high = model.timesteps(torch.tensor(sorted((one, two))) * model.max_sigma).tolist()
    assert low <= high


def test_each_image_has_the_timestep_of_its_own_sigma_and_the_ends_are_the_schedules() -> None:
    model = OneShotDiffusion(Echo(), ALPHAS, prediction="sample")
    asked = torch.tensor([0.0, 1e-6, model.max_sigma])
    assert model.timesteps(asked).tolist() == [0, 0, 99]
    with pytest.raises(InputRefusedError, match="must be at most"):
        model.timesteps(torch.tensor([0.0, model.max_sigma * 1.001]))


@given(st.floats(0, 1))
def test_what_a_model_takes_for_clean_is_brought_back_to_unit_pixels(share: float) -> None:
    model = OneShotDiffusion(Echo(), ALPHAS, prediction="sample")
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    sigma = share * model.max_sigma
    scale = ALPHAS[model.timesteps(torch.tensor([sigma]))].sqrt().float()
    torch.testing.assert_close(model(images, sigma), (scale * (2 * images - 1) + 1) / 2)
