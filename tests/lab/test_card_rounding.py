"""What the lab's cards and tables state: never better than what was measured, whatever that was."""

import re
from collections.abc import Sequence

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf

from holdfast.certificates.bounds.counts import clopper_pearson_lower
from holdfast_lab.encoder import card as encoder_card
from holdfast_lab.encoder import report as encoder_report
from holdfast_lab.encoder import training as encoder_training
from holdfast_lab.encoder.comparison import CAP, VOTE, Row, mean_reach, table, write_rows
from holdfast_lab.erasure import UnionFlags
from holdfast_lab.evaluation import upper_bound
from holdfast_lab.model_card import false_flag, measured_config, model_card, rate_at_most, union_false_flag
from holdfast_lab.report import OperatingPoint, Report, Score
from holdfast_lab.training import Recipe
from holdfast_worker.models.guard.erasure import ErasureRule

counts = st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
reach = st.one_of(st.none(), st.floats(1e-6, 6))
methods = st.tuples(reach, reach).map(lambda found: {CAP: found[0], VOTE: found[1]})
rows = st.lists(st.builds(Row, st.just(0), st.integers(0, 3), st.integers(0, 3), methods), min_size=1, max_size=8)


def tail(most: int, trials: int, share: float) -> mpf:
    """P(Binomial(trials, share) <= most) to 40 digits."""
    with mpmath.workdps(40):
        p = mpf(share)
        return mpmath.fsum(mpmath.binomial(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(most + 1))


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05])
@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (0, 60), (1, 60), (7, 60), (30, 60), (59, 60), (3, 1000)])
def test_an_upper_bound_excludes_every_share_above_it_and_hardly_any_below(
    successes: int, trials: int, alpha: float
) -> None:
    bound = upper_bound(successes, trials, alpha)
    assert tail(successes, trials, bound) <= alpha
    assert tail(successes, trials, bound * (1 - 1e-6)) > alpha


@given(counts, st.sampled_from([0.001, 0.01, 0.05]))
def test_an_upper_bound_lies_above_the_share_and_grows_with_each_success(count: tuple[int, int], alpha: float) -> None:
    successes, trials = count
    bound = upper_bound(successes, trials, alpha)
    assert successes / trials < bound <= 1.0 + 1e-15
    if successes < trials:
        assert bound < upper_bound(successes + 1, trials, alpha)
    assert upper_bound(successes, trials + 1, alpha) < bound or successes == trials


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_an_upper_bound_covers_the_share_as_often_as_its_risk_says(share: float) -> None:
    drawn = np.random.default_rng(11).binomial(80, share, size=4000)
    missed = sum(upper_bound(int(k), 80, 0.05) < share for k in drawn)
    # 4000 trials at a risk of .05 at most: above 260 with probability 3e-5.
    assert missed <= 260


def point(flagged: int, safe: int, unsafe: int = 7) -> OperatingPoint:
    return OperatingPoint(64, safe, flagged, unsafe, unsafe // 2, 0.5)


def union(flagged: int, scenes: int) -> UnionFlags:
    return UnionFlags(ErasureRule(20, 64, 20, 0.5), scenes, (0,) * 21, (0,) * 20 + (flagged,))


@given(counts)
def test_the_stated_rate_of_the_union_is_never_below_the_bound_either(count: tuple[int, int]) -> None:
    stated, bound = union_false_flag(union(*count)), min(1.0, upper_bound(*count, 0.01))
    assert bound <= stated["rate_at_most"] <= min(1.0, bound + 1.0001e-4)
    assert (stated["flagged"], stated["scenes"]) == count


@given(counts)
def test_the_stated_false_flag_rate_is_never_below_the_bound_and_has_four_digits(count: tuple[int, int]) -> None:
    measured = point(*count)
    stated = rate_at_most(measured)
    assert min(1.0, measured.false_flags_at_most) <= stated <= min(1.0, measured.false_flags_at_most + 1.0001e-4)
    assert stated == round(stated, 4)
    assert false_flag(measured) | {"rate_at_most": stated, "flagged": count[0], "scenes": count[1]} == false_flag(
        measured
    )


@given(counts)
def test_the_guards_card_states_no_accuracy_above_its_lower_bound(count: tuple[int, int]) -> None:
    score = Score("clean", *count)
    card = model_card(Report((score,), (), point(0, 9), point(0, 9), union(0, 9)), Recipe(), parameters=1, alphabet=479)
    found = re.search(r"^\| clean \| (\S+) \| (\d+) \| (\S+) \|$", card, re.MULTILINE)
    assert found is not None
    assert float(found[1]) == pytest.approx(score.share, abs=5.1e-5)
    assert int(found[2]) == count[1]
    assert float(found[3]) <= score.at_least < float(found[3]) + 1.0001e-4
    assert score.at_least == clopper_pearson_lower(*count, 0.01) <= score.share


@given(counts)
def test_the_encoders_card_states_no_accuracy_above_its_lower_bound(count: tuple[int, int]) -> None:
    score = encoder_report.Score(0.25, *count, 0.97)
    report = encoder_report.Report((score,), 10, (Row(0, 0, 0, {CAP: 1.0}),))
    card = encoder_card.model_card(report, encoder_training.Recipe(), parameters=1)
    found = re.search(r"^\| 0.25 \| (\S+) \| (\d+) \| (\S+) \| 0.9700 \|$", card, re.MULTILINE)
    assert found is not None
    assert float(found[3]) <= score.at_least < float(found[3]) + 1.0001e-4
    assert score.at_least == clopper_pearson_lower(*count, 0.001)


@pytest.mark.parametrize("alphabet", [2, 101, 479])
def test_the_guards_card_says_how_often_noise_masks_what_it_speaks_of(alphabet: int) -> None:
    card = model_card(Report((), (), point(0, 9), point(0, 9), union(0, 9)), Recipe(), parameters=1, alphabet=alphabet)
    slot, token = (min(1.0, beta * alphabet / (alphabet - 1)) for beta in (0.9, 0.4))
    assert f"All eight slots are masked in {slot**8:.0%} of the passes" in card
    assert f"A token is masked in {token:.0%} of the passes" in card
    assert f"more than {0.3 / token:.0%} of the passes that mask it" in card


def test_a_card_names_the_recipe_and_holds_no_gap() -> None:
    recipe = Recipe(steps=12, batch=34, seed=56)
    card = model_card(Report((), (), point(0, 9), point(1, 9), union(2, 9)), recipe, parameters=1234567, alphabet=479)
    assert "--steps 12 --seed 56`: 12 AdamW steps of 34" in card
    assert "(1,234,567 parameters" in card
    assert not re.search(r"\{[a-z_0-9:%]*\}", card)
    other = encoder_training.Recipe(steps=7, batch=8, seed=9)
    report = encoder_report.Report((), 10, (Row(0, 0, 0, {CAP: 1.0}),))
    card = encoder_card.model_card(report, other, parameters=1234567)
    assert "--steps 7 --seed 9`: 7 AdamW steps of 8" in card
    assert not re.search(r"\{[a-z_0-9:%]*\}", card)


def test_what_is_measured_of_a_guard_is_laid_over_its_configuration_and_changes_no_default() -> None:
    first, second = (measured_config(Report((), (), point(k, 9), point(k, 9), union(k, 9))) for k in (0, 5))
    assert first["false_flag"] != second["false_flag"]
    for config in (first, second):
        config.pop("false_flag")
        config["defaults"]["l0"].pop("false_flag")
        config["defaults"].pop("append")
    assert first == second


def cells(line: str) -> Sequence[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@given(rows)
def test_a_table_counts_what_is_not_certified_as_no_reach_at_all(found: list[Row]) -> None:
    head, _, _, _, *lines = table(found)
    right = [row for row in found if row.label == row.true]
    assert head.startswith(f"{len(right)} of {len(found)} images are classified correctly")
    assert [cells(line)[0] for line in lines] == [CAP, VOTE]
    for line in lines:
        name, mean, certified = cells(line)
        certain = [row.reaches[name] for row in right if row.reaches[name] is not None]
        exact = sum(value for value in certain if value is not None) / max(1, len(right))
        assert int(certified) == len(certain)
        assert float(mean) <= exact + 1e-12
        assert exact < float(mean) + 1.001e-3
        assert mean_reach(right, name) == pytest.approx(exact)


def test_a_mean_over_no_images_is_none_of_them() -> None:
    assert mean_reach([], CAP) == 0.0
    assert "| vote | 0.000 | 0 |" in list(table([Row(0, 1, 2, {VOTE: 3.0})]))


def test_an_image_without_a_certificate_leaves_its_field_empty(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    write_rows([Row(0, 1, 1, {CAP: None, VOTE: 0.1}), Row(1, 2, 1, {CAP: 0.30000000000000004, VOTE: None})], path)
    assert path.read_text().splitlines() == [
        "image,true,label," + f'"{CAP}",{VOTE}',
        "0,1,1,,0.1",
        "1,2,1,0.30000000000000004,",
    ]
