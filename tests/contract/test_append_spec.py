"""The false-flag bound of erase-and-check: stated of the rule that was measured, and of milder ones."""

from typing import Any

import pytest

from holdfast.contract.base import ImageData
from holdfast.contract.guard.requests import CertificationRequest, Input
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.contract.models import Defaults, FalseFlag, GuardInfo, Limits, NoiseSpace

UNION = FalseFlag(rate_at_most=0.2, alpha=0.01, scenes=500, flagged=80, measured_on="twenty characters erased")
OTHER = FalseFlag(rate_at_most=0.02, alpha=0.01, scenes=500, flagged=2, measured_on="scenes")
GUARD = GuardInfo(
    name="guard", fingerprint="sha256:0", space=NoiseSpace(channels=3, height=8, width=8), alphabets=(101,),
    defaults=Defaults(sigma=0.5, tau=0.3, max_characters=20, append=UNION),
    limits=Limits(max_slots=8, max_text_bytes=100), tie_band=1e-5, false_flag=OTHER,
)  # fmt: skip


def asked(model: GuardInfo = GUARD, **more: Any) -> GuardSpec:
    threat = {"text": {"kind": "append", **more.pop("text", {})}}
    given = Input(text="hi", image=ImageData(data="AA=="))
    return resolve(CertificationRequest.model_validate({"input": given, "threat": threat} | more), model)


@pytest.mark.parametrize("text", [{}, {"max_characters": 20}, {"max_characters": 7}, {"max_characters": 0}])
def test_the_bound_of_all_truncations_is_stated_of_as_many_or_fewer(text: dict[str, Any]) -> None:
    assert asked(text=text).false_flag == UNION


@pytest.mark.parametrize(
    "more",
    [{"text": {"max_characters": 21}}, {"decision": {"tau": 0.31}}, {"noise": {"sigma": 0.4}}],
)
def test_it_is_not_stated_of_more_truncations_nor_of_another_operating_point(more: dict[str, Any]) -> None:
    assert asked(**more).false_flag is None


def test_noise_on_tokens_that_the_threat_does_not_have_takes_nothing_from_it() -> None:
    assert asked(noise={"beta": 0.5}).false_flag == UNION


def test_the_bound_of_another_threat_is_never_stated_in_its_place() -> None:
    unmeasured = GUARD.model_copy(update={"defaults": GUARD.defaults.model_copy(update={"append": None})})
    assert asked(unmeasured).false_flag is None
