import io
from typing import Any

import pytest
from rich.console import Console

from holdfast.contract.guard.certificates import Certificate, FrontierPoint
from holdfast.contract.jobs import Check, Progress, Verification
from holdfast.contract.models import GuardInfo
from holdfast.contract.problems import FieldError, InvalidValueError
from holdfast_client.render import (
    FrontierPlot,
    certificate_view,
    models_table,
    problem_view,
    progress_in_short,
    verification_view,
    watch,
)
from tests.clients.certificates import changed
from tests.clients.terminal import shown

NO_RADII = [{"tokens": tokens, "radius": None, "native_radius": None, "method": None} for tokens in range(4)]
ABSTAINED = {"verdict": "abstained", "reason": "Abstained: too few draws.", "frontier": NO_RADII, "max_tokens": None}
ONE_CELL = [{"slots": 3, "leading_masked": 0, "at_least": True, "unsafe": 400, "near_ties": 0}]
_FLAT = {"radius": 2.3104, "native_radius": 4.6208, "method": "erase_and_check"}
_DETECTED = {"unsafe_probability_at_least": 0.31234, "unsafe_probability_at_most": 1.0, "passes_to_detect": 13}
APPEND = {
    "frontier": [{"tokens": characters, **_FLAT} for characters in range(21)],
    "worst_case": [{"tokens": characters, "epsilon": 0.5, **_DETECTED} for characters in range(21)],
    "max_tokens": 20,
    "threat": {"text": "append", "slots": 0, "max_tokens": 20},
}
ZERO_RADII = [{"tokens": d, "radius": 0.0, "native_radius": 0.0, "method": "joint"} for d in range(3)]
TEXT_ONLY = {"frontier": ZERO_RADII + NO_RADII[3:], "threat": {"image": "none"}, "noise": {"sigma": 0}}


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without those of headers and plots."""
    lines = [line.split("│")[1:-1] for line in text.splitlines() if line.count("│") > 2]
    return [[cell.strip() for cell in cells] for cells in lines]


def bars(text: str) -> dict[str, int]:
    return {line.split()[0]: line.count("#") for line in text.splitlines() if "|" in line}


def test_a_certificate_shows_its_radii_cut_with_their_method_and_says_where_nothing_is_certified(
    certificate: Certificate,
) -> None:
    text = shown(certificate_view(certificate))
    assert rows(text)[:4] == [
        ["0", "1.234", "2.469", "neyman_pearson"],
        ["1", "0.987", "1.975", "joint"],
        ["2", "0.000", "0.000", "joint"],
        ["3", "not certified", "not certified", ""],
    ]


def test_radii_in_the_images_own_pixels_are_left_out_where_they_are_the_same(certificate: Certificate) -> None:
    assert "at the image's own 128 x 128" in shown(certificate_view(certificate))
    same = changed(certificate, space={"native_operator_norm": 1.0000152, "input_height": 64, "input_width": 64})
    assert rows(shown(certificate_view(same)))[1] == ["1", "0.987", "joint"]


def test_a_certificate_shows_verdict_reason_alpha_units_and_the_whole_notice(certificate: Certificate) -> None:
    text = shown(certificate_view(certificate))
    sentences = (certificate.reason, *certificate.notice, *certificate.notes)
    for line in ("certified against up to 2 of 3 tokens", "0.01", *sentences):
        assert line in text
    assert "Frontier of the unsafe verdict" in text
    assert "L2, 3 x 64 x 64 pixels in [0, 1]" in text


@pytest.mark.parametrize(
    ("evidence", "line"),
    [
        ({}, "400, each in 4 tails x 4 cells: 6,400 passes (stopped early: more would raise"),
        ({"tails": 1, "passes": 1600}, "400, each in 4 cells: 1,600 passes (stopped early"),
        ({"cells": ONE_CELL, "passes": 1600, "stopped": "target"}, "400, each in 4 tails: 1,600 passes (stopped early"),
        ({"cells": ONE_CELL, "tails": 1, "passes": 400, "stopped": "draws_spent"}, "400 (all that were allowed)"),
    ],
)
def test_the_line_draws_says_what_each_draw_was_scored_in_and_why_there_are_no_more(
    certificate: Certificate, evidence: dict[str, Any], line: str
) -> None:
    text = " ".join(shown(certificate_view(changed(certificate, evidence=evidence))).split())
    assert f"Draws {line}" in text


def test_near_ties_are_told_where_there_are_any(certificate: Certificate) -> None:
    assert "Near ties" not in shown(certificate_view(certificate))
    near = changed(certificate, evidence={"cells": [{**ONE_CELL[0], "near_ties": 3}], "near_tie": "gA=="})
    text = shown(certificate_view(near))
    assert "3 passes within 1e-05 of a tie, counted against every claim" in text


def test_an_append_certificate_shows_one_radius_for_every_number_of_code_points(certificate: Certificate) -> None:
    text = shown(certificate_view(changed(certificate, **APPEND)))
    assert "unsafe: certified against up to 20 appended code points" in text
    assert "code points appended against certified image radius" in text
    assert rows(text) == [["0 to 20", "2.310", "4.620", "erase_and_check"], ["0 to 20", "0.312 (13)"]]
    assert "probability of some shortened text at least (plain passes of each that" in text
    assert "beta" not in text
    assert "█" not in text


def test_an_abstention_gives_its_reason_and_promises_nothing(certificate: Certificate) -> None:
    text = shown(certificate_view(changed(certificate, **ABSTAINED, worst_case=[])))
    assert "abstained: nothing is certified" in text
    assert "Abstained: too few draws." in text
    assert "Frontier" not in text
    assert "unsafe:" not in text


def test_a_safe_certificate_says_so_and_bounds_the_worst_case_from_above(certificate: Certificate) -> None:
    text = shown(certificate_view(changed(certificate, verdict="safe")))
    assert "safe: certified against up to 2 of 3 tokens" in text
    assert "Frontier of the safe verdict" in text
    assert "Unsafe probability at most" in text
    assert "at least" not in text
    assert rows(text)[-2:] == [["0", "1"], ["3", "1"]]


def test_a_worst_case_from_below_is_cut_and_zero_stays_zero(certificate: Certificate) -> None:
    text = shown(certificate_view(certificate))
    assert "at most" not in text
    assert rows(text)[-2:] == [["0", "0.987 (2)"], ["3", "0"]]


def test_an_abstention_bounds_the_worst_case_from_both_sides(certificate: Certificate) -> None:
    text = shown(certificate_view(changed(certificate, **ABSTAINED)))
    assert "Unsafe probability at least" in text
    assert "Unsafe probability at most" in text


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        ("unsafe", "Yes: unsafe is certified against 2 tokens and image radius 0.123456789"),
        ("safe", "Yes: safe is certified against 2 tokens and image radius 0.123456789"),
        (None, "No: no verdict is certified against 2 tokens and image radius 0.123456789"),
    ],
)
def test_the_answer_to_a_question_stands_first(certificate: Certificate, verdict: str | None, line: str) -> None:
    target = {"tokens": 2, "epsilon": 0.123456789, "verdict": verdict}
    text = shown(certificate_view(changed(certificate, target=target)))
    assert text.splitlines()[0].rstrip() == line
    assert "█" not in text


@pytest.mark.parametrize(
    ("changes", "attack"),
    [
        ({"threat": {"text": "none"}}, "image radius 0.5"),
        ({"threat": {"image": "none"}}, "1 token"),
        ({"kind": "tabular"}, "1 categorical field and numeric radius 0.5"),
    ],
)
def test_the_answer_names_only_what_the_attacker_may_change(
    certificate: Certificate, changes: dict[str, Any], attack: str
) -> None:
    asked = changed(certificate, target={"tokens": 1, "epsilon": 0.5, "verdict": None}, **changes)
    assert shown(certificate_view(asked)).splitlines()[0].rstrip().endswith(f"certified against {attack}")


def test_a_text_only_certificate_shows_tokens_without_radii_and_without_image_noise(certificate: Certificate) -> None:
    text = shown(certificate_view(changed(certificate, **TEXT_ONLY)))
    assert rows(text)[:4] == [*(["012"[d], "yes", "joint"] for d in range(3)), ["3", "not certified", ""]]
    assert "pixels" not in text
    assert "sigma" not in text


def test_an_image_only_certificate_shows_one_radius_and_no_token_noise(certificate: Certificate) -> None:
    only = changed(certificate, frontier=[certificate.frontier[0]], max_tokens=0, threat={"text": "none", "slots": 0})
    text = shown(certificate_view(only))
    assert "unsafe: certified against shifts of the image" in text
    assert rows(text)[0] == ["0", "1.234", "2.469", "neyman_pearson"]
    assert "beta" not in text
    assert text.count("image radius") == 1


def test_an_l0_certificate_counts_the_tokens_of_the_text(certificate: Certificate) -> None:
    l0 = changed(certificate, threat={"text": "l0", "slots": 0, "max_tokens": 3}, evidence={"positions": 14})
    assert "unsafe: certified against up to 2 of 14 tokens" in shown(certificate_view(l0))


def test_a_tabular_certificate_speaks_of_fields(certificate: Certificate) -> None:
    space = {"channels": 1, "height": 1, "width": 5, "alphabets": [2, 3, 9], "input_height": 1, "input_width": 5}
    text = shown(certificate_view(changed(certificate, kind="tabular", threat={"text": "l0"}, space=space)))
    assert "unsafe: certified against up to 2 of 3 categorical fields" in text
    assert "certified numeric radius\n(L2, 5 standardised numeric fields)" in text
    assert "image" not in text


def test_whether_a_certificate_is_signed_is_told(certificate: Certificate) -> None:
    assert "unsigned" in shown(certificate_view(certificate))
    document = certificate.model_dump(mode="json")
    document["signature"] = {"kid": "key-1", "digests": {}, "value": "00"}
    assert "signed by key-1" in shown(certificate_view(Certificate.model_validate(document)))


def test_bars_are_proportional_cut_and_absent_where_nothing_is_certified() -> None:
    radii = enumerate((1.0, 0.509, None))
    points = [FrontierPoint(tokens=d, radius=r, native_radius=r, method=None) for d, r in radii]
    assert bars(shown(FrontierPlot(points), encoding="ascii", width=77)) == {"0": 60, "1": 30, "2": 0}


def test_a_frontier_of_zeros_has_no_plot() -> None:
    zero = FrontierPoint(tokens=0, radius=0.0, native_radius=0.0, method="joint")
    assert shown(FrontierPlot([zero])) == ""


@pytest.mark.parametrize("width", [20, 40, 200])
def test_the_plot_keeps_to_the_terminal(certificate: Certificate, width: int) -> None:
    assert all(len(line) <= width + 16 for line in shown(FrontierPlot(certificate.frontier), width=width).splitlines())


def test_a_terminal_without_unicode_gets_plain_bars(certificate: Certificate) -> None:
    assert "#" in shown(FrontierPlot(certificate.frontier), encoding="ascii")


def test_a_problem_shows_title_detail_and_every_field() -> None:
    error = InvalidValueError("beta is out of range", errors=[FieldError(path="noise.beta", message="at most 0.99")])
    text = shown(problem_view(error))
    assert text.splitlines() == [
        "error: A value cannot be accepted",
        "beta is out of range",
        "  noise.beta: at most 0.99",
    ]


@pytest.mark.parametrize(
    ("verdict", "frontier", "line"),
    [
        ("unsafe", (1.2349, 0.5, None), "unsafe so far, radii 1.234 0.500 -"),
        ("unsafe", (0.5,) * 9 + (0.1,), "unsafe so far, radii" + " 0.500" * 9 + " ..."),
        ("unsafe", (1.2349,), "unsafe so far, radius 1.234"),
        ("unsafe", (1.2349,) * 21, "unsafe so far, radius 1.234 at every d to 20"),
        ("safe", (0.0, 0.0, None), "safe so far, certified to d=1"),
        ("abstained", (None, None), "nothing certified yet"),
    ],
)
def test_progress_in_short_gives_the_verdict_and_the_frontier_so_far_cut_in_a_line_of_80_columns(
    verdict: Any, frontier: tuple[float | None, ...], line: str
) -> None:
    assert progress_in_short(Progress(draws=1, max_draws=2, frontier=frontier, verdict=verdict)) == line
    assert len(line) <= 80


@pytest.mark.parametrize(("seconds_left", "pace"), [(11.2, "up to 12 s left"), (0.0, "up to 0 s left"), (None, "/s")])
def test_a_terminal_sees_draws_the_seconds_left_and_the_frontier_so_far(seconds_left: float | None, pace: str) -> None:
    progress = Progress(draws=30, max_draws=400, seconds_left=seconds_left, frontier=(1.5, None), verdict="unsafe")
    file = io.StringIO()
    watch([progress], Console(file=file, force_terminal=True, color_system=None, width=80))
    assert "30/400 draws, " in file.getvalue()
    assert pace in file.getvalue()
    assert "unsafe so far, radii 1.500 -" in file.getvalue()


def test_what_is_no_terminal_sees_no_progress_but_the_certification_is_followed_to_its_end() -> None:
    file, left = io.StringIO(), iter([Progress(draws=1, max_draws=2), Progress(draws=2, max_draws=2)])
    watch(left, Console(file=file))
    assert file.getvalue() == ""
    assert list(left) == []


def test_failed_checks_come_first_and_the_outcome_counts_them() -> None:
    checks = (
        Check(field="frontier", ok=True, detail="as computed"),
        Check(field="tau", ok=False, detail="was altered"),
    )
    text = shown(verification_view(Verification(valid=False, checks=checks)))
    assert text.startswith("NOT valid: 1 of 2 checks failed")
    assert rows(text) == [["tau", "FAILED", "was altered"], ["frontier", "ok", "as computed"]]


def test_what_was_not_checked_is_named_below_the_checks() -> None:
    checks = (Check(field="frontier", ok=True, detail="as computed"),)
    text = shown(verification_view(Verification(valid=True, checks=checks, not_checked=("id", "model.name"))))
    assert text.rstrip().endswith("held by the signature alone: id, model.name.")
    assert "Not checked" not in shown(verification_view(Verification(valid=True, checks=checks)))


def test_a_check_that_quotes_control_characters_does_not_reach_the_terminal() -> None:
    checks = (Check(field="x\x1b[2J", ok=False, detail="\x9b2J\x07"),)
    text = shown(verification_view(Verification(valid=False, checks=checks)))
    assert all(character.isprintable() or character == "\n" for character in text)


def test_the_models_table_names_every_guard_and_its_operating_point_in_80_columns(
    model: GuardInfo, tabular_model: GuardInfo
) -> None:
    _, *lines = [" ".join(line.split()) for line in shown(models_table([model, tabular_model]), width=80).splitlines()]
    assert lines[:2] == [
        "reference-guard 3 x 64 x 64 485 3 of 8 0.25 0.5 4.6e-05 1,000",
        "tabular-guard 1 numeric 2 to 3 2 fields 0.25 0.5 4.6e-05 1,000",
    ]


def test_no_models_is_said_in_words() -> None:
    assert "no worker" in shown(models_table([]))
