import numpy as np
import pytest

from holdfast_lab.evaluation import CLEAN, held_out, upper_bound
from holdfast_lab.model_card import false_flag, model_card
from holdfast_lab.report import OperatingPoint, Report, Score, one_modality
from holdfast_lab.training import Recipe

POINT = OperatingPoint(passes=64, safe=1000, safe_flagged=0, unsafe=500, unsafe_flagged=499, unsafe_median=1.0)


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
    scores = (Score("clean", 99, 100), Score("noisy", 95, 100))
    card = model_card(Report(scores, (Score("picture", 50, 100),), POINT), Recipe(), parameters=5, alphabet=479)
    assert "| clean | 0.9900 | 100 |" in card
    assert "| noisy | 0.9500 | 100 |" in card
    assert "| picture | 0.500 | 100 |" in card
    assert "0 of 1000 Safe examples" in card
    assert "499 of 500 Unsafe examples" in card


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
