"""The self-test passes what works, and fails what is broken in the way that each check is for."""

import importlib.util
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from holdfast.contract.models import Cost
from holdfast_worker.inspection.checks import Check, equal_margins, same_verdicts, within_band
from holdfast_worker.inspection.examined import Examined
from holdfast_worker.inspection.fixed_draws import fixed_draws
from holdfast_worker.inspection.self_test import self_test
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.encoder import encoder as encoder_module
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.guard import llava, tails
from holdfast_worker.models.guard.tabular import TabularGuard
from tests.workers.builders import table_folder
from tests.workers.feature_builders import encoder_folder

DRAWS = 8


def outcomes(folder: Path, break_it: Callable[[Any], None] | None = None, **how: Any) -> dict[str, Check]:
    overrides = how.pop("overrides", {})
    examined = Examined(folder, overrides, DRAWS, **how)
    model = examined.load()
    if break_it is not None:
        break_it(model)
    return {check.name: check for check in self_test(examined, model)}


def poisoned(folder: Path, copy: Path, name: str) -> Path:
    shutil.copytree(folder, copy)
    weights = load_file(copy / "model.safetensors")
    weights[name].fill_(torch.nan)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def test_a_guard_that_works_passes(base_folder: Path) -> None:
    found = outcomes(base_folder)
    assert [found[name].outcome for name in ("finite", "company", "batches", "prefix")] == ["pass"] * 4
    assert 0 < found["company"].values["moved"] <= found["company"].values["band"] == 1e-5
    assert found["dtype"].outcome == "skipped"
    assert found["batches"].values["passes"] == 2 * found["finite"].values["passes"]


def test_the_fixed_draws_are_the_same_every_time_and_give_both_verdicts(base_folder: Path) -> None:
    guard = Examined(base_folder, {}).load()
    assert not isinstance(guard, Encoder)
    first, second = (np.concatenate(guard.margins(fixed_draws(guard, 16))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert 0.005 < (first > 0).mean() < 0.995


def test_numbers_that_are_not_finite_fail(base_folder: Path, tmp_path: Path) -> None:
    found = outcomes(poisoned(base_folder, tmp_path / "nan", "image_newline"))
    assert found["finite"].outcome == "fail"
    assert "margins are not finite, all must be; check the weights or use dtype=float32" in found["finite"].detail


def test_margins_that_depend_on_the_batch_fail(base_folder: Path) -> None:
    def lean_on_the_batch(guard: Any) -> None:
        own = guard._margins
        guard._margins = lambda hidden: own(hidden) + 1e-3 * len(hidden)

    found = outcomes(base_folder, lean_on_the_batch)
    assert [found[name].outcome for name in ("company", "batches")] == ["fail", "fail"]
    assert "report it" in found["batches"].detail
    assert re.search(r"move by at most \d.*band of ties: 1e-05.*serve it with a tie_band of", found["company"].detail)


def test_tails_that_see_each_other_fail(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tails.tail_layout

    def blind_to_tails(*given: Any) -> Any:
        layout = own(*given)
        return replace(layout, mask=torch.ones_like(layout.mask))

    monkeypatch.setattr(llava, "tail_layout", blind_to_tails)
    assert outcomes(base_folder)["prefix"].outcome == "fail"


def test_the_effect_of_half_precision_is_measured(base_folder: Path) -> None:
    found = outcomes(base_folder, overrides={"dtype": "bfloat16"})["dtype"]
    assert found.outcome == "pass"
    assert 0.8 < found.values["equal_share"] <= 1
    assert 0 < found.values["apart"] < 1


def test_the_other_layout_is_measured_when_it_is_asked_for(base_folder: Path) -> None:
    found = outcomes(base_folder, layouts=True)["layout"]
    assert found.outcome == "measured"
    assert 0 <= found.values["equal_share"] <= 1
    assert "are those of policy_first" in found.detail


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_report_says_so(base_folder: Path) -> None:
    assert outcomes(base_folder)["vllm"] == Check(
        "vllm", "skipped", "vLLM is not installed; install the vllm extra to compare the engines"
    )


def test_a_verdict_may_differ_near_a_tie_and_nowhere_else() -> None:
    exact = [np.array([[-2.0, 0.00005, 3.0]], dtype=np.float32)]
    near = [np.array([[-2.0, -0.1, 3.0]], dtype=np.float32)]
    far = [np.array([[2.0, 0.1, 3.0]], dtype=np.float32)]
    assert same_verdicts("vllm", near, exact, near=1e-4, remedy="r").outcome == "pass"
    failed = same_verdicts("vllm", far, exact, near=1e-4, remedy="serve another")
    assert failed.outcome == "fail"
    assert failed.detail.endswith("1 differ more than 0.0001 from a tie, none may; serve another")


@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=8), st.integers(0, 2), st.floats(0, 0.5))
def test_margins_move_by_the_most_that_two_ways_of_batching_are_apart(
    exact: list[float], moves: int, band: float
) -> None:
    ways: Any = [[np.array(exact)], [np.array(exact)], [np.array(exact)]]
    ways[moves] = [np.array([*exact[:-1], exact[-1] + 0.25])]
    found = within_band("company", ways, band=band)
    assert found.values["moved"] == 0.25
    assert found.outcome == ("pass" if band >= 0.25 else "fail")


@pytest.mark.parametrize(("apart", "outcome"), [(9e-6, "pass"), (2e-5, "fail"), (float("nan"), "fail")])
def test_margins_below_one_may_differ_by_a_hundred_thousandth(apart: float, outcome: str) -> None:
    exact: Any = [np.array([[0.5, -0.25]])]
    assert equal_margins("prefix", [exact[0] + apart], exact, remedy="").outcome == outcome


def test_a_tabular_guard_that_works_passes(tmp_path: Path) -> None:
    found = outcomes(table_folder(tmp_path))
    assert {name: check.outcome for name, check in found.items()} == {
        "finite": "pass", "company": "pass", "batches": "pass",
    }  # fmt: skip


class Contrary:
    """A guard of a kind of its own, as one who adds a guard would write it: another's opposite."""

    engine = None
    cost: Cost | None = None

    def __init__(self, other: TabularGuard, lean: float) -> None:
        self.config, self.fingerprint, self.info, self.inputs = other.config, "contrary", other.info, other.inputs
        self.device, self.dtype, self.room = other.device, other.dtype, other.room
        self._other, self._lean = other, lean

    def margins(self, batch: Sequence[Draws]) -> list[NDArray[np.float32]]:
        return [self._lean * len(margins) - margins for margins in self._other.margins(batch)]


@pytest.mark.parametrize(("lean", "outcome"), [(0.0, "pass"), (0.1, "fail")])
def test_a_guard_of_a_new_kind_is_examined_draw_by_draw(tmp_path: Path, lean: float, outcome: str) -> None:
    examined = Examined(table_folder(tmp_path), {}, DRAWS)
    other = examined.load()
    assert isinstance(other, TabularGuard)
    found = {check.name: check.outcome for check in self_test(examined, Contrary(other, lean))}
    assert found == {"finite": "pass", "company": outcome, "batches": outcome}


def test_an_encoder_that_works_passes(tmp_path: Path) -> None:
    found = outcomes(encoder_folder(tmp_path))
    assert {name: check.outcome for name, check in found.items()} == {
        "finite": "pass", "unit": "pass", "batches": "pass", "dtype": "skipped",
    }  # fmt: skip


def test_the_effect_of_half_precision_on_features_is_measured(tmp_path: Path) -> None:
    found = outcomes(encoder_folder(tmp_path, dtype="bfloat16"))["dtype"]
    assert found.outcome == "measured"
    assert 0.99 < found.values["cosine_at_least"] < 1


def test_features_that_are_not_finite_fail(tmp_path: Path) -> None:
    def poison(encoder: Any) -> None:
        next(encoder.tower.parameters()).data.fill_(torch.nan)

    assert outcomes(encoder_folder(tmp_path), poison)["finite"].outcome == "fail"


def test_features_that_are_no_unit_vectors_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "to_sphere", lambda vectors: vectors)
    found = outcomes(encoder_folder(tmp_path))["unit"]
    assert found.outcome == "fail"
    assert "may be by 1e-05 at most; check the weights" in found.detail


def test_features_that_depend_on_the_batch_fail(tmp_path: Path) -> None:
    def lean_on_the_batch(encoder: Any) -> None:
        own = encoder.tower.pooled
        encoder.tower.pooled = lambda tokens: own(tokens) + 0.01 * len(tokens) * torch.arange(own(tokens).shape[1])

    assert outcomes(encoder_folder(tmp_path), lean_on_the_batch)["batches"].outcome == "fail"
