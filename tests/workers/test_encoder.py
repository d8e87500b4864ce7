"""The encoder: unit features of noisy images, the same however the draws are cut."""

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from holdfast.certificates.noise.kernels import BLOCK
from holdfast_worker.denoisers.loading import save_booster
from holdfast_worker.denoisers.mapper import MapperShape, ResidualMapper
from holdfast_worker.denoisers.unet import BoosterUNet, UNetShape
from holdfast_worker.gaussian import noisy
from holdfast_worker.models import registry
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError, ModelOutputError
from holdfast_worker.models.vision.towers import to_sphere
from tests.workers.cifar import cifar_encoder, drawn_images, write_head

SEED = "ab" * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CIFAR CNN's folder; no test changes it."""
    return cifar_encoder(tmp_path_factory.mktemp("cnn"), "cnn")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def load(folder: Path, **settings: Any) -> Encoder:
    encoder = registry.load(folder, settings)
    assert isinstance(encoder, Encoder)
    return encoder


@pytest.fixture
def encoder(folder: Path) -> Encoder:
    return load(folder)


@pytest.fixture
def image() -> NDArray[np.uint8]:
    images, _ = drawn_images(4)
    picture: NDArray[np.uint8] = images[3]
    return picture


def booster(folder: Path, *, width: int = 100, denoiser: bool = True, seed: int = 0) -> Path:
    """Writes an untrained booster whose networks do something."""
    torch.manual_seed(seed)
    networks: dict[str, nn.Module | None] = {
        "denoiser": BoosterUNet(UNetShape(width=4, multipliers=(1, 2), blocks=1, embedding=8)) if denoiser else None,
        "mapper": ResidualMapper(MapperShape(width=width, heads=1)),
    }
    for network in filter(None, networks.values()):
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    save_booster(folder, sigma=0.25, **networks)  # type: ignore[arg-type]
    return folder


def test_a_feature_is_the_towers_brought_to_length_one(encoder: Encoder, image: NDArray[np.uint8]) -> None:
    clean = encoder.prepare(image).clean
    pooled = encoder.tower.pooled(encoder.tower.tokens(clean[None]))
    torch.testing.assert_close(encoder.features(clean[None], 0.1), pooled / pooled.norm(dim=1, keepdim=True))


def test_denoiser_and_mapper_stand_before_and_behind_the_tower(folder: Path, tmp_path: Path) -> None:
    encoder = load(folder, booster=str(booster(tmp_path / "booster")))
    images = torch.rand(3, 3, 32, 32)
    assert encoder.denoiser is not None
    assert encoder.mapper is not None
    with torch.inference_mode():
        tokens = encoder.tower.tokens(encoder.denoiser(images, 0.3))
        expected = tokens + encoder.mapper(tokens, 0.3)
    torch.testing.assert_close(encoder.tokens(images, 0.3), expected)
    torch.testing.assert_close(encoder.features(images, 0.3), to_sphere(expected[:, 0]))
    plain = load(folder).features(images, 0.3)
    assert (encoder.features(images, 0.3) - plain).abs().max() > 0.01


def test_every_draw_is_a_unit_vector(encoder: Encoder, image: NDArray[np.uint8]) -> None:
    features = encoder.draw_features(encoder.prepare(image), SEED, 0.5, 0, 100)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.double().norm(dim=1), torch.ones(100).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("cuts", [(0, 1, 100), (0, BLOCK, 100), (0, 7, 61, 64, 100)])
@pytest.mark.parametrize("limit", [1, BLOCK - 1, BLOCK + 1, 1000])
def test_a_draw_is_the_same_however_the_range_is_cut(
    encoder: Encoder, image: NDArray[np.uint8], cuts: tuple[int, ...], limit: int
) -> None:
    prepared = encoder.prepare(image)
    whole = encoder.draw_features(prepared, SEED, 0.25, 0, 100)
    encoder.batching.limit = limit
    parts = [encoder.draw_features(prepared, SEED, 0.25, a, b) for a, b in itertools.pairwise(cuts)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_a_draw_is_the_clean_image_with_its_channels_noise(encoder: Encoder, image: NDArray[np.uint8]) -> None:
    prepared = encoder.prepare(image)
    for channel in ("image", "image/selection"):
        images = noisy(prepared.clean[None], sigma=0.25, seed=SEED, start=5, stop=9, channel=channel)
        found = encoder.draw_features(prepared, SEED, 0.25, 5, 9, channel=channel)
        torch.testing.assert_close(found, encoder.features(images, 0.25))


def test_an_image_comes_to_the_noise_space_in_its_size(encoder: Encoder) -> None:
    large = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    prepared = encoder.prepare(large)
    assert prepared.clean.shape == (3, 32, 32)
    assert len(prepared.tail_base) == len(prepared.prefix) == 0


def test_an_input_that_is_no_image_is_refused(encoder: Encoder) -> None:
    with pytest.raises(InputRefusedError, match=r"uint8 of shape \(4, 4\), must be uint8 \(H, W, 3\)"):
        encoder.prepare(np.zeros((4, 4), dtype=np.uint8))


@pytest.mark.parametrize(("start", "stop"), [(3, 3), (4, 2), (-1, 2)])
def test_an_empty_or_negative_range_is_refused(
    encoder: Encoder, image: NDArray[np.uint8], start: int, stop: int
) -> None:
    with pytest.raises(ValueError, match="0 <= start < stop"):
        encoder.draw_features(encoder.prepare(image), SEED, 0.25, start, stop)


class Small(nn.Module):
    """A device that holds no more than so many images, in a denoiser's place."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.batches: list[int] = []

    def forward(self, images: Tensor, sigma: float) -> Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError
        self.batches.append(len(images))
        return images


def test_out_of_memory_halves_the_batch_and_remembers(encoder: Encoder, image: NDArray[np.uint8]) -> None:
    prepared = encoder.prepare(image)
    expected = encoder.draw_features(prepared, SEED, 0.25, 0, 64)
    encoder.denoiser = small = Small(20)
    found = encoder.draw_features(prepared, SEED, 0.25, 0, 64)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (encoder.batching.limit, encoder.batching.out_of_memory_total, small.batches) == (16, 2, [16] * 4)
    encoder.features(torch.rand(20, 3, 32, 32), 0.0)
    assert (encoder.batching.out_of_memory_total, small.batches[4:]) == (2, [16, 4])


def test_a_single_image_that_does_not_fit_is_an_error(encoder: Encoder) -> None:
    encoder.denoiser = Small(0)
    with pytest.raises(torch.OutOfMemoryError):
        encoder.features(torch.rand(4, 3, 32, 32), 0.0)


def test_numbers_that_are_not_finite_are_an_error(encoder: Encoder) -> None:
    with pytest.raises(ModelOutputError, match="100 of 200 numbers of the features are not finite"):
        encoder.features(torch.stack((torch.zeros(3, 32, 32), torch.full((3, 32, 32), torch.inf))), 0.0)


def test_a_row_of_any_scale_keeps_its_direction_and_a_row_of_zeros_gets_one() -> None:
    rows = torch.tensor([[0.0, 0.0, 0.0], [3e38, -3e38, 0.0], [3e-42, 0.0, 4e-42], [0.0, 3.0, 4.0]])
    half = 0.5**0.5
    expected = torch.tensor([[1.0, 0.0, 0.0], [half, -half, 0.0], [0.6, 0.0, 0.8], [0.0, 0.6, 0.8]])
    torch.testing.assert_close(to_sphere(rows), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(to_sphere(rows).norm(dim=1), torch.ones(4))


def test_gradients_through_the_sphere_are_tangent_and_finite() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    to_sphere(rows)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert rows.grad is not None
    torch.testing.assert_close(rows.grad, torch.tensor([[0.0, 0.0], [0.128, -0.096]]))


def test_an_encoder_describes_itself_as_the_contract_wants(folder: Path, tmp_path: Path) -> None:
    info = load(folder, name="mine", booster=str(booster(tmp_path / "booster"))).info
    assert (info.name, info.kind, info.dimension, info.token_shape) == ("mine", "encoder", 100, (1, 100))
    assert (info.space.channels, info.space.height, info.space.width) == (3, 32, 32)
    assert (info.denoiser, info.mapper, info.defaults.sigma) == ("booster", True, 0.12)
    assert [head.name for head in info.heads] == ["linear"]
    assert type(info).model_validate_json(info.model_dump_json()) == info


def test_whatever_changes_a_feature_changes_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    layers = json.loads((folder / "holdfast.json").read_text())["layers"]
    changes: list[Mapping[str, Any]] = [
        {},
        {"layers": layers[:-1]},
        {"noise_height": 33, "noise_width": 32},
        {"mean": [0.5, 0.5, 0.5]},
        {"std": [0.5, 0.5, 0.5]},
        {"dtype": "bfloat16"},
        {"booster": str(booster(tmp_path / "a"))},
        {"booster": str(booster(tmp_path / "b", denoiser=False))},
        {"booster": str(booster(tmp_path / "c", seed=1))},
    ]
    assert len({load(folder, **change).fingerprint for change in changes}) == len(changes)


def test_names_defaults_and_heads_leave_the_fingerprint_alone(folder: Path) -> None:
    changes: list[dict[str, Any]] = [{"name": "other"}, {"defaults": {"sigma": 1.0}}, {"heads": []}, {"batch_limit": 9}]
    assert {load(folder, **change).fingerprint for change in changes} == {load(folder).fingerprint}


def test_the_settings_may_say_how_large_a_batch_is_to_begin_with(folder: Path) -> None:
    assert load(folder, batch_limit=9).batching.limit == 9 != load(folder).batching.limit


def test_a_single_changed_weight_changes_the_fingerprint(folder: Path, copy: Path) -> None:
    stored = {name: tensor.clone() for name, tensor in load_file(copy / "model.safetensors").items()}
    stored["0.weight"][0, 0, 0, 0] += 1e-3
    save_file(stored, copy / "model.safetensors")
    assert load(copy).fingerprint != load(folder).fingerprint


def spoil_kind(copy: Path) -> dict[str, Any]:
    torch.save(load_file(copy / "model.safetensors"), copy / "model.pt")
    (copy / "model.safetensors").unlink()
    return {}


def spoil_booster(copy: Path) -> dict[str, Any]:
    return {"booster": str(booster(copy / "booster", width=64))}


def spoil_head(copy: Path) -> dict[str, Any]:
    write_head(copy, "wide", kind="linear", weight=torch.eye(10, 99), bias=torch.zeros(10))
    return {"heads": ["linear", "wide"]}


def name_no_head(copy: Path) -> dict[str, Any]:
    return {"heads": ["absent"]}


def two_files(copy: Path) -> dict[str, Any]:
    shutil.move(copy / "model.safetensors", copy / "a.safetensors")
    shutil.copy(copy / "a.safetensors", copy / "b.safetensors")
    return {}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_kind, r"pickled: \['model.pt'\].*must be safetensors, since unpickling runs code"),
        (spoil_booster, "tokens 64 wide, must take this encoder's, 100 wide"),
        (spoil_head, r"must hold \{'weight': \(10, 100\)"),
        (name_no_head, "absent.safetensors must be a safetensors file"),
        (two_files, r"holds \['a.safetensors', 'b.safetensors'\], must hold one"),
    ],
)
def test_an_encoder_that_cannot_be_served_is_refused_at_load(
    copy: Path, spoil: Callable[[Path], dict[str, Any]], message: str
) -> None:
    settings = spoil(copy)
    with pytest.raises(ModelConfigError, match=message):
        load(copy, **settings)


def test_what_only_a_guard_can_do_is_refused_of_an_encoder(encoder: Encoder) -> None:
    with pytest.raises(ModelConfigError, match="model 'cifar-cnn' is an encoder, must be a guard here"):
        registry.require_guard(encoder)
