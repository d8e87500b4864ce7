import io

import pytest
from rich.console import Console, RenderableType

from holdfast.contract.certificates import Certificate, FrontierPoint
from holdfast.contract.models import ModelInfo
from holdfast.contract.problems import FieldError, InvalidValueError
from holdfast_client.render import FrontierPlot, certificate_view, frontier_in_short, models_table, problem_view


def shown(view: RenderableType, *, encoding: str = "utf-8", width: int = 100) -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, write_through=True) as file:
        Console(file=file, width=width).print(view)
        return raw.getvalue().decode(encoding)


def bars(text: str) -> dict[str, int]:
    return {line.split()[0]: line.count("#") for line in text.splitlines() if "|" in line}


def test_a_certificate_shows_its_radii_cut_and_says_where_nothing_is_certified(certificate: Certificate) -> None:
    text = shown(certificate_view(certificate))
    assert "1.234 " in text
    assert "0.987" in text
    assert "1.235" not in text
    assert "not certified" in text


def test_a_certificate_shows_verdict_passes_alpha_and_the_whole_notice(certificate: Certificate) -> None:
    text = shown(certificate_view(certificate))
    for line in ("certified against up to 2 of 3 tokens", "6,400", "0.01", *certificate.notice):
        assert line in text


def test_an_abstention_shows_no_plot_and_promises_nothing(certificate: Certificate) -> None:
    nothing = tuple(FrontierPoint(tokens=tokens, radius=None, method=None) for tokens in range(4))
    changes = {"verdict": "abstained", "frontier": nothing, "max_tokens": None, "worst_case": ()}
    text = shown(certificate_view(certificate.model_copy(update=changes)))
    assert "abstained" in text
    assert "│0" not in text
    assert "unsafe:" not in text


def test_a_worst_case_bound_is_cut_and_zero_stays_zero(certificate: Certificate) -> None:
    rows = [line.split("│")[1:3] for line in shown(certificate_view(certificate)).splitlines() if line.count("│") == 3]
    assert [[cell.strip() for cell in row] for row in rows] == [["0", "0.987 (2)"], ["3", "0"]]


def test_bars_are_proportional_cut_and_absent_where_nothing_is_certified() -> None:
    points = [FrontierPoint(tokens=d, radius=r, method=None) for d, r in enumerate((1.0, 0.509, None))]
    assert bars(shown(FrontierPlot(points), encoding="ascii", width=77)) == {"0": 60, "1": 30, "2": 0}


def test_a_frontier_of_zeros_has_no_plot() -> None:
    assert shown(FrontierPlot([FrontierPoint(tokens=0, radius=0.0, method="stratified")])) == ""


@pytest.mark.parametrize("width", [20, 40, 200])
def test_the_plot_keeps_to_the_terminal(certificate: Certificate, width: int) -> None:
    assert all(len(line) <= width + 16 for line in shown(FrontierPlot(certificate.frontier), width=width).splitlines())


def test_a_terminal_without_unicode_gets_plain_bars(certificate: Certificate) -> None:
    assert "#" in shown(FrontierPlot(certificate.frontier), encoding="ascii")


def test_a_problem_shows_title_detail_and_every_field() -> None:
    error = InvalidValueError("beta is out of range", errors=[FieldError(path="noise.beta", message="at most 0.99")])
    text = shown(problem_view(error))
    assert text.splitlines() == [
        "error: A value is out of range",
        "beta is out of range",
        "  noise.beta: at most 0.99",
    ]


def test_the_frontier_in_short_is_cut_too() -> None:
    assert frontier_in_short((1.2349, 0.5, None)) == "radius 1.234 at d=0, certified to d=1"
    assert frontier_in_short((None, None)) == "nothing certified yet"


def test_the_models_table_names_every_guard_and_its_operating_point(model: ModelInfo) -> None:
    text = shown(models_table([model]), width=160)
    assert "reference-guard" in text
    assert "3 x 64 x 64" in text
    assert "4.6e-05" in text


def test_no_models_is_said_in_words() -> None:
    assert "no worker" in shown(models_table([]))
