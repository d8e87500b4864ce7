"""The encoder in the package: what it holds, and that it is as good as its card says."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import CLIPVisionModelWithProjection

from holdfast_lab.cli import main
from holdfast_lab.encoder.architecture import unit_features
from holdfast_lab.encoder.commands import SHIPPED, load_encoder
from holdfast_lab.encoder.export import serving_config
from holdfast_lab.encoder.report import held_out_scenes, score
from holdfast_lab.noise import image_tensor
from holdfast_lab.scenes import Kind
from holdfast_worker.models.encoder.encoder import Encoder

FRESH = 250


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("reference-encoder")


@pytest.fixture(scope="module")
def card() -> dict[str, tuple[float, float]]:
    """Accuracy and mean S by σ."""
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+) \| (\d\.\d+) \| \d+ \| \d\.\d+ \| (\d\.\d+) \|$", text, re.MULTILINE)
    return {sigma: (float(accuracy), float(similarity)) for sigma, accuracy, similarity in rows}


@pytest.mark.parametrize("sigma", ["0", "0.25"])
def test_fresh_scenes_are_read_as_well_as_the_card_states(
    encoder: Encoder, card: dict[str, tuple[float, float]], sigma: str
) -> None:
    accuracy, similarity = card[sigma]
    found = score(encoder, held_out_scenes(FRESH, part=9), float(sigma), seed=9)
    # Four standard deviations of a share, and of a mean of similarities that spread by .03.
    slack = 4 * math.sqrt(max(accuracy * (1 - accuracy), 0.01) / FRESH)
    assert found.share >= accuracy - slack
    assert found.similarity == pytest.approx(similarity, abs=4 * 0.03 / math.sqrt(FRESH))


def test_the_card_promises_a_feature_that_noise_moves_a_little(card: dict[str, tuple[float, float]]) -> None:
    assert set(card) == {"0", "0.1", "0.25", "0.35"}
    assert card["0"][0] >= 0.99
    assert card["0.25"][0] >= 0.9
    assert 0.95 <= card["0.25"][1] <= 0.99


def test_the_card_states_the_radii_in_their_order() -> None:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| (\d\.\d{3}) \| \d+ \|$", text, re.MULTILINE)
    reach = {name: float(value) for name, value in rows}
    assert reach["prototype condition, mean"] <= reach["cap, mean"] < reach["margin, mean"] < reach["margin, cdf"]
    assert reach["cosine .5, mean"] <= reach["cosine .5, plug-in mean"] < reach["cosine .5, cdf"]


def test_the_worker_computes_the_trained_networks_features(encoder: Encoder) -> None:
    tower = CLIPVisionModelWithProjection.from_pretrained(SHIPPED, dtype=torch.float32)
    images = image_tensor(held_out_scenes(4)) + 0.3 * torch.randn(
        4, 3, 64, 64, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        assert torch.allclose(encoder.features(images, 0.3), unit_features(tower, images), atol=1e-5)


def test_the_shipped_folder_is_small_and_what_the_code_exports(encoder: Encoder) -> None:
    folder = SHIPPED
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_500_000
    assert json.loads((folder / "holdfast.json").read_text(encoding="utf-8")) == serving_config()
    with safe_open(folder / "model.safetensors", "np") as weights:
        assert all(weights.get_tensor(name).dtype == np.float16 for name in weights.keys())  # noqa: SIM118 - no dict


def test_the_head_has_a_unit_prototype_per_kind(encoder: Encoder) -> None:
    head = encoder.heads["objects"]
    assert (head.kind, head.version, head.classes) == ("prototypes", "1", tuple(map(str, Kind)))
    assert torch.allclose(head.weight.norm(dim=-1), torch.ones(4), atol=1e-6)
    with safe_open(SHIPPED / "heads" / "objects.safetensors", "np") as stored:
        assert stored.get_tensor("weight").dtype == np.float32


def test_training_from_the_command_line_writes_an_encoder_that_serves(tmp_path: Path) -> None:
    sizes = ["--steps", "2", "--scenes", "4", "--certified", "2", "--draws", "40"]
    main(["train-reference-encoder", "--out", str(tmp_path), *sizes])
    assert load_encoder(tmp_path).info.heads[0].classes == tuple(map(str, Kind))
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {path.name for path in SHIPPED.rglob("*") if path.is_file()}


def test_measuring_rewrites_the_card_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(SHIPPED, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    sizes = ["--scenes", "4", "--certified", "2", "--draws", "40", "--steps", "7"]
    main(["measure-reference-encoder", "--folder", str(folder), *sizes])
    assert "--steps 7 " in (folder / "README.md").read_text(encoding="utf-8")
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"README.md"}


def test_a_guard_is_no_encoder() -> None:
    with pytest.raises(ValueError, match="is a guard, must be an encoder"):
        load_encoder("reference-guard")
