from typing import Any

import pytest

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.jobs import Progress
from holdfast.contract.models import EncoderInfo
from holdfast_client.render import feature_certificate_view, feature_progress_in_short, models_table
from tests.clients.certificates import changed
from tests.clients.feature_certificates import embedding_certificate, feature_certificate
from tests.clients.terminal import shown

CERTIFICATE = feature_certificate()
SAME_SIZE = {"native_operator_norm": 1.0000152, "input_height": 64, "input_width": 64}


def table(certificate: FeatureCertificate, first_header: str) -> list[list[str]]:
    """The cells of the table that starts with this header; neighbouring cells stand two or more spaces apart."""
    lines = shown(feature_certificate_view(certificate)).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f" {first_header}"))
    body = lines[start + 1 : lines.index(" " * 100, start) if " " * 100 in lines[start:] else lines.index("", start)]
    return [[cell.strip() for cell in line.strip().split("  ") if cell.strip()] for line in body]


def with_radii(*radii: tuple[str, float | None]) -> dict[str, Any]:
    """A prediction with these radii instead."""
    assert CERTIFICATE.prediction is not None
    rows = [{"method": method, "radius": radius, "native_radius": radius} for method, radius in radii]
    return {**CERTIFICATE.prediction.model_dump(mode="json"), "radii": rows}


def test_bounds_by_mean_and_cdf_stand_side_by_side_and_are_cut() -> None:
    assert table(CERTIFICATE, "epsilon") == [
        ["0.0", "0.934", "0.929", "0.934", "0.929"],
        ["0.25", "0.612", "0.876", "0.612", "0.876"],
        ["0.5", "no claim", "0.500", "-0.124", "0.500"],
    ]


def test_radii_of_the_cosine_floors_are_cut_and_none_is_said_in_words() -> None:
    assert table(CERTIFICATE, "cosine above") == [
        ["0.5", "0.298", "0.500", "0.597", "1.000"],
        ["0.95", "not certified", "not certified", "not certified", "not certified"],
    ]
    assert table(changed(CERTIFICATE, space=SAME_SIZE), "cosine above")[0] == ["0.5", "0.298", "0.500"]


def test_every_method_of_the_prediction_says_what_the_label_wins_on_and_how_far() -> None:
    assert table(changed(CERTIFICATE, space=SAME_SIZE), "method") == [
        ["prototype_condition", "the mean feature", "not certified"],
        ["cap", "the mean feature", "0.000"],
        ["margin_mean", "the mean feature", "0.029"],
        ["margin_cdf", "the mean feature", "0.280"],
        ["clipped_cdf", "the mean clipped margins", "0.449"],
        ["vote", "the votes of single draws", "0.429"],
    ]


def test_the_summary_gives_the_largest_radius_of_the_prediction_with_its_method() -> None:
    assert "cat: certified within image radius 0.449 (clipped_cdf)" in shown(feature_certificate_view(CERTIFICATE))
    nothing = changed(CERTIFICATE, prediction=with_radii(("margin_mean", None), ("vote", None)))
    text = shown(feature_certificate_view(nothing))
    assert "cat: not certified" in text
    assert "certified within" not in text


def test_units_draws_alpha_noise_reference_and_the_whole_notice_are_shown() -> None:
    text = shown(feature_certificate_view(CERTIFICATE))
    for part in (
        "L2, 3 x 64 x 64 pixels in [0, 1]; native: in the image's own 128 x 128",
        "10,000 scored",
        "100 separate",
        "Draws ",
    ):
        assert part in text
    for part in (
        "0.001 (risk",
        "sigma=0.25",
        "direction, fixed by",
        "betting, planned for 10,000",
        *CERTIFICATE.notice,
    ):
        assert part in text


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ({"cosine": 0.5, "certified": True}, "Yes: the cosine similarity above 0.5 is certified"),
        ({"cosine": 0.5, "certified": False}, "No: the cosine similarity above 0.5 is not certified"),
        ({"cosine": None, "certified": True}, "Yes: the prediction cat is certified"),
        ({"cosine": None, "certified": False}, "No: the prediction cat is not certified"),
    ],
)
def test_the_answer_to_a_question_stands_first(target: dict[str, Any], line: str) -> None:
    text = shown(feature_certificate_view(changed(CERTIFICATE, target={"epsilon": 0.123456789, **target})))
    assert text.splitlines()[0].rstrip() == f"{line} against image radius 0.123456789"


def test_cosine_bounds_are_drawn_cut_to_an_axis_that_ends_at_one() -> None:
    text = shown(feature_certificate_view(CERTIFICATE), encoding="ascii", width=89)
    lines = {tuple(line.split()[:2]): line.count("#") for line in text.splitlines() if " |" in line}
    assert lines == {
        ("0.0", "mean"): 56,
        ("0.0", "cdf"): 55,
        ("0.25", "mean"): 36,
        ("0.25", "cdf"): 52,
        ("0.5", "mean"): 0,
        ("0.5", "cdf"): 30,
    }


def test_at_any_time_only_the_mean_has_columns() -> None:
    bounds = [row.model_dump() for row in CERTIFICATE.bounds if row.method == "mean"]
    radii = [row.model_dump() for row in CERTIFICATE.radii if row.method == "mean"]
    early = changed(CERTIFICATE, bounds=bounds, radii=radii, space=SAME_SIZE)
    assert table(early, "epsilon")[1] == ["0.25", "0.612", "0.612"]
    assert table(early, "cosine above") == [["0.5", "0.298"], ["0.95", "not certified"]]


def test_without_a_head_or_floors_there_is_no_prediction_and_no_radius() -> None:
    text = shown(feature_certificate_view(changed(CERTIFICATE, prediction=None, radii=[])))
    assert "Prediction" not in text
    assert "cosine above" not in text
    assert "radius" not in text


@pytest.mark.parametrize(("tokens", "shape"), [(False, "6 values"), (True, "2 x 3 token-level values")])
def test_an_embedding_shows_its_shape_draws_whole_risk_and_similarity_but_no_values(tokens: bool, shape: str) -> None:
    text = shown(feature_certificate_view(embedding_certificate(tokens=tokens)))
    assert f"Embedding: {shape}, the mean of 8 noisy features" in text
    assert "8 separate, of which 8 are averaged" in text
    assert "0.05 (risk that a bound here does not hold, 0.045 of it the mean's)" in text
    assert [line.split() for line in text.splitlines() if line.startswith(("     0.0 ", "     1.0 "))][1:] == [
        ["0.0", "0.912", "0.912"],
        ["1.0", "no", "claim", "-0.201"],
    ]
    assert "0.125" not in text


def test_whether_a_feature_certificate_is_signed_is_told() -> None:
    assert "unsigned" in shown(feature_certificate_view(CERTIFICATE))
    signed = changed(CERTIFICATE, signature={"kid": "key-1", "digests": {}, "value": "00"})
    assert "signed by key-1" in shown(feature_certificate_view(signed))


@pytest.mark.parametrize(
    ("frontier", "line"), [((0.29876,), "radius 0.298 so far"), ((None,), "no radius yet"), ((), "no radius yet")]
)
def test_progress_in_short_gives_the_radius_so_far_cut(frontier: tuple[float | None, ...], line: str) -> None:
    assert feature_progress_in_short(Progress(draws=1, max_draws=2, frontier=frontier)) == line


def test_the_models_table_names_every_encoder_with_its_heads(encoder: EncoderInfo) -> None:
    _, line, *_ = shown(models_table([encoder])).splitlines()
    assert " ".join(line.split()) == "reference-encoder 3 x 64 x 64 512 none animals (3) 0.25 0.001 10,000"
