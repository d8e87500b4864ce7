"""The checkpoint in the package: what it holds, and that it is as good as its card says."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Png
from safetensors import safe_open

from holdfast_lab.cli import SHIPPED
from holdfast_lab.erasure import UnionFlags
from holdfast_lab.evaluation import CLEAN, Guard, Noise, accuracy, held_out, load, unsafe_shares
from holdfast_lab.model_card import measured_config
from holdfast_lab.report import L0, SUFFIX, OperatingPoint, Report, one_modality
from holdfast_lab.sample_inputs import sample_inputs
from holdfast_lab.scenes import Example
from holdfast_lab.tokenizer import build_tokenizer
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.erasure import ErasureRule

EXAMPLES = Path(__file__).parents[2] / "examples"
NOISY = {"clean": CLEAN, "σ=.25, β=.9 uniform": Noise(0.25, 0.9), "σ=.5, β=.9 uniform": Noise(0.5, 0.9)}


def _point(bound: dict[str, Any]) -> OperatingPoint:
    return OperatingPoint(64, bound["scenes"], bound["flagged"], 1, 1, 1.0)


@pytest.fixture(scope="module")
def guard() -> Guard:
    return load(SHIPPED)


@pytest.fixture(scope="module")
def card() -> str:
    return (SHIPPED / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", NOISY)
def test_accuracy_on_held_out_scenes_is_what_the_card_states(guard: Guard, card: str, setting: str) -> None:
    row = re.search(rf"^\| {re.escape(setting)} \| (\d\.\d+) ", card, re.MULTILINE)
    assert row is not None
    right, total = accuracy(guard, held_out(200, part=4), NOISY[setting], seed=1)
    assert right / total >= float(row[1]) - 0.03


def test_the_card_promises_at_least_what_the_default_operating_point_needs(card: str) -> None:
    stated = dict(re.findall(r"^\| (clean|σ=[^|]*?) \| (\d\.\d+) ", card, re.MULTILINE))
    assert float(stated["σ=.25, β=.9 uniform"]) >= 0.98
    assert float(stated["σ=.5, β=.9 uniform"]) >= 0.95


@pytest.mark.parametrize("name", list(one_modality(held_out(2))))
def test_one_modality_alone_says_nothing(guard: Guard, name: str) -> None:
    right, total = accuracy(guard, one_modality(held_out(400, part=4))[name], CLEAN, seed=1)
    assert right / total == pytest.approx(0.5, abs=0.1)


def test_the_shipped_serving_configuration_is_the_exported_one_and_loads() -> None:
    stored = json.loads((SHIPPED / "holdfast.json").read_text(encoding="utf-8"))
    suffix, l0 = (_point(bound) for bound in (stored["false_flag"], stored["defaults"]["l0"]["false_flag"]))
    union = stored["defaults"]["append"]
    rule = ErasureRule.of(load_config(GuardConfig, SHIPPED, {}).defaults)
    append = UnionFlags(rule, union["scenes"], (0,), (union["flagged"],))
    assert stored == measured_config(Report((), (), suffix=suffix, l0=l0, append=append))
    config = load_config(GuardConfig, SHIPPED, {})
    assert config.false_flag is not None
    assert config.defaults.l0 is not None
    assert config.defaults.l0.false_flag is not None


def test_the_bounds_are_the_ones_that_the_card_states(card: str) -> None:
    config = load_config(GuardConfig, SHIPPED, {})
    assert config.defaults.l0 is not None
    stated = re.findall(r"False flags: (\d+) of (\d+) Safe examples, a rate of at most (\S+) ", card)
    found = config.false_flag, config.defaults.l0.false_flag, config.defaults.append
    bounds = [bound for bound in found if bound is not None]
    assert stated == [(str(b.flagged), str(b.scenes), str(b.rate_at_most)) for b in bounds]


def test_on_fresh_examples_the_l0_operating_point_flags_as_the_card_states(guard: Guard) -> None:
    pool = held_out(40, part=4)
    unsafe = np.array([example.unsafe for example in pool])
    flagged = unsafe_shares(guard, pool, L0.noise, passes=32, seed=1) > L0.tau
    assert flagged[unsafe].mean() >= 0.85
    assert flagged[~unsafe].mean() <= 0.15


def test_the_shipped_tokenizer_is_the_one_that_the_code_builds(guard: Guard) -> None:
    assert guard.tokenizer.backend_tokenizer.to_str() == build_tokenizer().backend_tokenizer.to_str()


def test_weights_are_small_and_have_the_names_that_other_engines_expect() -> None:
    path = SHIPPED / "model.safetensors"
    assert path.stat().st_size < 3_000_000
    with safe_open(path, "np") as weights:
        names = list(weights.keys())
        assert all(weights.get_tensor(name).dtype == np.float16 for name in names)
    assert any(name.startswith("vision_tower.vision_model.encoder") for name in names)
    assert any(name.startswith("language_model.model.layers") for name in names)
    assert not any("heads" in name for name in names)


def test_the_example_inputs_are_the_drawn_ones() -> None:
    for listed in json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8")):
        drawn = sample_inputs()[listed["name"]]
        assert np.array_equal(np.asarray(Png.open(EXAMPLES / listed["image"])), drawn.image)
        assert listed["text"] == drawn.text
        assert listed["expected"] == ("Unsafe" if drawn.unsafe else "Safe")


@pytest.mark.parametrize("example", sample_inputs().values(), ids=sample_inputs().keys())
def test_the_example_inputs_keep_their_verdicts_under_the_default_noise(guard: Guard, example: Example) -> None:
    (share,) = unsafe_shares(guard, [example], SUFFIX.noise, passes=100, seed=1)
    assert (share > SUFFIX.tau) == example.unsafe
    assert abs(share - example.unsafe) <= 0.05
