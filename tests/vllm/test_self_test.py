"""The self-test compares the engines where vLLM is installed."""

from holdfast_worker.inspection.examined import Examined
from holdfast_worker.inspection.self_test import self_test


def test_a_guard_on_transformers_is_compared_with_vllm() -> None:
    examined = Examined("reference-guard", {"device": "cpu"}, draws=8)
    found = {check.name: check for check in self_test(examined, examined.load())}
    assert found["vllm"].outcome == "pass"
    assert found["vllm"].values["passes"] == found["finite"].values["passes"]


def test_a_guard_on_vllm_is_compared_with_transformers() -> None:
    examined = Examined("reference-guard", {"device": "cpu", "engine": "vllm"}, draws=8)
    found = {check.name: check for check in self_test(examined, examined.load())}
    assert [found[name].outcome for name in ("finite", "company", "batches", "prefix", "dtype")] == ["pass"] * 5
    assert found["vllm"].outcome == "skipped"
