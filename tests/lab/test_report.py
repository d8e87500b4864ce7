from dataclasses import replace

import numpy as np
import pytest

from holdfast_lab.erasure import UnionFlags
from holdfast_lab.evaluation import CLEAN, held_out, upper_bound
from holdfast_lab.export import serving_config
from holdfast_lab.model_card import false_flag, measured_config, model_card, union_false_flag
from holdfast_lab.report import L0, SUFFIX, OperatingPoint, Report, Score, one_modality
from holdfast_lab.training import Recipe
from holdfast_worker.models.guard.erasure import ErasureRule

POINT = OperatingPoint(passes=64, safe=1000, safe_flagged=0, unsafe=500, unsafe_flagged=499, unsafe_median=1.0)
L0_POINT = OperatingPoint(passes=64, safe=900, safe_flagged=7, unsafe=450, unsafe_flagged=440, unsafe_median=0.9)
SCORES = (Score("clean", 99, 100), Score("noisy", 95, 100))
UNION = UnionFlags(
    ErasureRule(characters=6, passes=64, flags=20, sigma=0.5),
    scenes=800,
    exactly=(1, 1, 1, 2, 5, 9, 30),
    within=(1, 1, 2, 3, 7, 15, 42),
)
REPORT = Report(SCORES, (Score("picture", 50, 100),), suffix=POINT, l0=L0_POINT, append=UNION)


@pytest.mark.parametrize("trials", [1, 40, 1000])
def test_with_no_success_the_upper_bound_is_the_closed_form_and_never_below_it(trials: int) -> None:
    exact = 1 - 0.01 ** (1 / trials)
    assert exact <= upper_bound(0, trials, 0.01) <= exact + 1e-9


def test_when_everything_succeeds_nothing_is_excluded() -> None:
    assert upper_bound(7, 7, 0.01) >= 1.0


def test_the_stated_false_flag_rate_is_rounded_up() -> None:
    stated = false_flag(POINT)["rate_at_most"]
    assert POINT.false_flags_at_most <= stated <= POINT.false_flags_at_most + 1e-4


def test_the_card_states_every_score_and_both_counts() -> None:
    card = model_card(REPORT, Recipe(), parameters=5, alphabet=479)
    assert "| clean | 0.9900 | 100 |" in card
    assert "| noisy | 0.9500 | 100 |" in card
    assert "| picture | 0.500 | 100 |" in card
    assert "0 of 1000 Safe examples" in card
    assert "499 of 500 Unsafe examples" in card


def test_the_card_states_each_threats_price_under_its_own_heading() -> None:
    card = model_card(REPORT, Recipe(), parameters=5, alphabet=479)
    suffix, rest = card.split("### Suffix threat")[1].split("### ℓ0 threat")
    l0, append = rest.split("### Append threat")
    assert "0 of 1000 Safe examples" in suffix
    assert "499 of 500 Unsafe examples" in suffix
    assert "7 of 900 Safe examples" in l0
    assert "440 of 450 Unsafe examples" in l0
    assert "β=0.4 on the text's own tokens, without slots, τ=0.3" in l0
    assert "without their last 0 to 6 characters at\nleast 20 of 64 passes, more than τ=0.3 of them" in append
    assert f"42 of 800 Safe examples, a rate of at most {union_false_flag(UNION)['rate_at_most']} " in append
    assert "erased at most: 0: 1, 5: 15." in append


def test_the_configuration_carries_each_threats_own_false_flag_bound() -> None:
    config = measured_config(REPORT)
    assert (config["false_flag"]["flagged"], config["false_flag"]["scenes"]) == (0, 1000)
    l0 = config["defaults"]["l0"]
    assert (l0["false_flag"]["flagged"], l0["false_flag"]["scenes"]) == (7, 900)
    assert L0_POINT.false_flags_at_most <= l0["false_flag"]["rate_at_most"] <= L0_POINT.false_flags_at_most + 1e-4
    append = config["defaults"]["append"]
    assert (append["flagged"], append["scenes"]) == (42, 800)
    assert "by 0 to 6 characters, flagged where 20 of one truncation's" in append["measured_on"]
    assert "false_flag" not in serving_config()["defaults"]["l0"]
    assert "append" not in serving_config()["defaults"]


def test_a_guard_that_flags_everything_states_a_rate_of_one() -> None:
    assert false_flag(replace(POINT, safe_flagged=POINT.safe))["rate_at_most"] == 1.0


def test_either_operating_point_is_measured_on_examples_and_noise_of_its_own() -> None:
    assert SUFFIX.part != L0.part
    assert SUFFIX.seed != L0.seed
    assert not {e.image.tobytes() for e in held_out(20, part=SUFFIX.part)} & {
        e.image.tobytes() for e in held_out(20, part=L0.part)
    }


def test_exchanging_a_modality_keeps_the_labels_and_the_other_modality() -> None:
    pool = held_out(8)
    for name, changed in one_modality(pool).items():
        for before, after in zip(pool, changed, strict=True):
            assert after.unsafe == before.unsafe
            if name.startswith("picture"):
                assert np.array_equal(after.image, before.image)
            else:
                assert after.text == before.text


def test_clean_means_no_noise_at_all() -> None:
    assert (CLEAN.sigma, CLEAN.beta) == (0.0, 0.0)
