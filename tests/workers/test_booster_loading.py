import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from holdfast_worker.denoisers.loading import load_booster, load_diffusion, save_booster
from holdfast_worker.denoisers.mapper import MapperShape, ResidualMapper
from holdfast_worker.denoisers.unet import BoosterUNet, UNetShape
from holdfast_worker.models.errors import ModelConfigError

CPU = torch.device("cpu")


@pytest.fixture
def denoiser() -> BoosterUNet:
    torch.manual_seed(0)
    unet = BoosterUNet(UNetShape(width=4, multipliers=(1, 2), blocks=1, embedding=4))
    last: Any = unet.head[-1]
    torch.nn.init.normal_(last.weight)
    return unet


@pytest.fixture
def mapper() -> ResidualMapper:
    torch.manual_seed(0)
    return ResidualMapper(MapperShape(width=8))


@pytest.fixture
def folder(tmp_path: Path, denoiser: BoosterUNet, mapper: ResidualMapper) -> Path:
    save_booster(tmp_path / "booster", sigma=0.25, denoiser=denoiser, mapper=mapper)
    return tmp_path / "booster"


def rewrite(folder: Path, file: str, **fields: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_saved_booster_comes_back_as_it_was(folder: Path, denoiser: BoosterUNet, mapper: ResidualMapper) -> None:
    loaded = load_booster(folder, CPU)
    images, tokens = torch.rand(2, 3, 9, 9), torch.randn(2, 3, 8)
    assert loaded.sigma == 0.25
    assert loaded.denoiser is not None
    assert loaded.mapper is not None
    torch.testing.assert_close(loaded.denoiser(images, 0.2), denoiser(images, 0.2))
    torch.testing.assert_close(loaded.mapper(tokens, 0.2), mapper(tokens, 0.2), atol=1e-9, rtol=1e-4)


def test_a_loaded_booster_is_frozen_and_evaluates(folder: Path) -> None:
    loaded = load_booster(folder, CPU)
    for network in (loaded.denoiser, loaded.mapper):
        assert network is not None
        assert not network.training
        assert not any(weight.requires_grad for weight in network.parameters())


def test_either_network_may_be_absent(tmp_path: Path, denoiser: BoosterUNet, mapper: ResidualMapper) -> None:
    save_booster(tmp_path / "p", sigma=0.1, denoiser=denoiser)
    save_booster(tmp_path / "m", sigma=0.1, mapper=mapper)
    assert load_booster(tmp_path / "p", CPU).mapper is None
    assert load_booster(tmp_path / "m", CPU).denoiser is None
    with pytest.raises(ValueError, match="denoiser and mapper are both absent"):
        save_booster(tmp_path / "none", sigma=0.1)


def test_saving_over_a_booster_replaces_all_of_it(folder: Path, denoiser: BoosterUNet) -> None:
    save_booster(folder, sigma=0.5, denoiser=denoiser)
    assert load_booster(folder, CPU).mapper is None
    assert sorted(path.name for path in folder.iterdir()) == ["booster.json", "denoiser.safetensors"]


def test_the_fingerprint_covers_every_file(folder: Path) -> None:
    before = load_booster(folder, CPU).fingerprint_parts
    assert [name for name, _ in before] == ["booster.json", "denoiser.safetensors", "mapper.safetensors"]
    rewrite(folder, "booster.json", sigma=0.26)
    after = load_booster(folder, CPU).fingerprint_parts
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"sigma": 0}, "sigma: Input should be greater than 0"),
        ({"colour": 1}, "colour: Extra inputs are not permitted"),
        ({"format": 2}, "format: Input should be 1"),
        ({"denoiser": None}, "holds denoiser.safetensors, but booster.json has no denoiser"),
        ({"mapper": {"width": 12}}, "mapper.safetensors does not fit the numbers in booster.json"),
        ({"mapper": {"width": 9}}, "heads=4 must divide width=9"),
    ],
)
def test_a_booster_file_at_odds_with_itself_is_refused(folder: Path, fields: Any, problem: str) -> None:
    rewrite(folder, "booster.json", **fields)
    with pytest.raises(ModelConfigError, match=problem):
        load_booster(folder, CPU)


def test_a_folder_without_a_booster_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelConfigError, match=r"holds no booster\.json"):
        load_booster(tmp_path, CPU)


def test_a_missing_or_torn_weight_file_is_refused(folder: Path) -> None:
    path = folder / "mapper.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelConfigError, match="no intact safetensors file"):
        load_booster(folder, CPU)
    path.unlink()
    with pytest.raises(ModelConfigError, match=r"is missing, and booster\.json names that network"):
        load_booster(folder, CPU)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    path = folder / "mapper.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, path)
    with pytest.raises(ModelConfigError, match="weights that are not finite"):
        load_booster(folder, CPU)


@pytest.fixture
def unet() -> Any:
    diffusers: Any = importlib.import_module("diffusers")
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=16, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip


@pytest.fixture
def scheduler() -> Any:
    diffusers: Any = importlib.import_module("diffusers")
    return diffusers.DDPMScheduler(clip_sample=False)


def save_diffusion(folder: Path, unet: Any, scheduler: Any, *, whole: bool = True) -> Path:
    unet.save_pretrained(folder / "unet" if whole else folder)
    scheduler.save_pretrained(folder / "scheduler" if whole else folder)
    return folder


@pytest.mark.parametrize("whole", [True, False])
def test_a_diffusers_folder_denoises_as_its_own_scheduler_does(
    tmp_path: Path, unet: Any, scheduler: Any, whole: bool
) -> None:
    loaded = load_diffusion(save_diffusion(tmp_path, unet, scheduler, whole=whole), CPU).denoiser
    images = torch.rand(2, 3, 12, 16) + 0.2 * torch.randn(2, 3, 12, 16)
    step = int(loaded.timesteps(torch.tensor([0.2]))[0])
    diffused = scheduler.alphas_cumprod[step].sqrt() * (2 * images - 1)
    with torch.no_grad():
        answer = unet(diffused, step).sample
    expected = scheduler.step(answer, step, diffused).pred_original_sample
    torch.testing.assert_close(loaded(images, 0.2), (expected + 1) / 2)


def test_a_scheduler_that_clips_is_obeyed(tmp_path: Path, unet: Any) -> None:
    diffusers: Any = importlib.import_module("diffusers")
    folder = save_diffusion(tmp_path, unet, diffusers.DDIMScheduler(clip_sample=True, clip_sample_range=0.5))
    found = load_diffusion(folder, CPU).denoiser(torch.randn(2, 3, 16, 16), 0.5)
    assert float(found.min()) == 0.25
    assert float(found.max()) == 0.75


def test_a_diffusion_fingerprint_covers_model_and_schedule(tmp_path: Path, unet: Any, scheduler: Any) -> None:
    before = load_diffusion(save_diffusion(tmp_path, unet, scheduler), CPU).fingerprint_parts
    names = ["unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"]
    assert [name for name, _ in before] == names
    rewrite(tmp_path, "scheduler/scheduler_config.json", beta_end=0.03)
    after = load_diffusion(tmp_path, CPU).fingerprint_parts
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False]


@pytest.mark.parametrize(
    ("file", "fields", "problem"),
    [
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "must be 'UNet2DModel'"),
        ("unet/config.json", {"block_out_channels": [8, 12]}, "the weights cannot be loaded|misshapen"),
        ("unet/config.json", {"layers_per_block": 2}, "weights are missing, misshapen or too many"),
        ("scheduler/scheduler_config.json", {"_class_name": "KarrasVeScheduler"}, "must be one of DDPMScheduler"),
        ("scheduler/scheduler_config.json", {"thresholding": True}, "thresholding=true must be false"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type='flow' must be one of"),
    ],
)
def test_a_diffusion_folder_that_cannot_be_served_is_refused(
    tmp_path: Path, unet: Any, scheduler: Any, file: str, fields: Any, problem: str
) -> None:
    rewrite(save_diffusion(tmp_path, unet, scheduler), file, **fields)
    with pytest.raises(ModelConfigError, match=problem):
        load_diffusion(tmp_path, CPU)


def test_pickled_weights_are_refused(tmp_path: Path, unet: Any, scheduler: Any) -> None:
    weights = save_diffusion(tmp_path, unet, scheduler) / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelConfigError, match=r"pickled: \['diffusion_pytorch_model.bin'\]"):
        load_diffusion(tmp_path, CPU)


def test_a_diffusion_folder_without_a_scheduler_is_refused(tmp_path: Path, unet: Any) -> None:
    unet.save_pretrained(tmp_path)
    with pytest.raises(ModelConfigError, match=r"holds no scheduler_config\.json"):
        load_diffusion(tmp_path, CPU)
