import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from holdfast.certificates.bounds.means import ScoreSample
from holdfast_lab.cli import main
from holdfast_lab.encoder.commands import load_encoder
from holdfast_lab.encoder.comparison import (
    CAP,
    CAP_CDF,
    CONDITION,
    MARGIN_CDF,
    MARGIN_MEAN,
    PLUG_IN,
    SIMILARITY_CDF,
    VOTE,
    clipped_name,
    compare,
    plug_in_reach,
    reaches,
)
from holdfast_lab.encoder.draws import Plan, ScoredDraws, draw_scores, image_seed
from holdfast_lab.encoder.report import held_out_scenes, labelled
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.registry import load
from tests.workers.cifar import CIFAR, cifar_encoder, drawn_images

PLAN = Plan(sigma=0.1, draws=400, selection=20, seed=5)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    found = load("reference-encoder", {"device": "cpu"})
    assert isinstance(found, Encoder)
    return found


@pytest.fixture(scope="module")
def scores(encoder: Encoder) -> ScoredDraws:
    return draw_scores(encoder, "objects", held_out_scenes(1, part=2)[0].image, 0, plan=PLAN, clips=(0.1, 1.0))


def _counts(sample: object) -> list[tuple[float, int]]:
    return list(zip(sample.values.tolist(), sample.counts.tolist(), strict=True))  # type: ignore[attr-defined]


def test_the_cap_reaches_as_far_as_the_condition_and_the_curve_further_than_the_mean(encoder: Encoder) -> None:
    rows = compare(
        encoder,
        "objects",
        labelled(held_out_scenes(3)),
        plan=Plan(0.05, 200, 20),
        alpha=0.01,
        clips=(0.1,),
        report=lambda row: None,
    )
    found = [{name: reach or 0.0 for name, reach in row.reaches.items()} for row in rows]
    assert all(row[CAP] >= row[CONDITION] for row in found)
    assert sum(row[MARGIN_CDF] for row in found) > sum(row[MARGIN_MEAN] for row in found)
    assert any(row[CAP] > 0 for row in found)


def test_every_method_reaches_where_the_draws_agree() -> None:
    steady = ScoreSample(np.array([0.995, 1.0]), np.array([10, 990]))
    draws = ScoredDraws(0, 1000, 0.99995, steady, (steady,), {0.5: (steady,)}, 1000, (0.9, 0.1), (0.0, 1.2))
    found = reaches(draws, 0.001)
    assert None not in found.values()
    assert 0 < found[CONDITION] < found[CAP]  # type: ignore[operator]  # no value is None
    assert set(reaches(dataclasses.replace(draws, cosines=(), distances=()), 0.001)) == set(found) - {
        CONDITION,
        CAP,
        CAP_CDF,
    }


def test_scores_are_those_of_the_very_draws(encoder: Encoder, scores: ScoredDraws) -> None:
    prepared = encoder.prepare(held_out_scenes(1, part=2)[0].image)
    features = encoder.draw_features(prepared, image_seed(5, 0), 0.1, 0, 400).double()
    weight, y = encoder.heads["objects"].weight.double(), scores.label
    assert scores.votes == int(((features @ weight.T).argmax(-1) == y).sum())
    rival = (y + 1) % 4
    direction = (weight[y] - weight[rival]) / (weight[y] - weight[rival]).norm()
    expected = np.sort(((1 + features @ direction) / 2).numpy())
    sample = scores.margins[[k for k in range(4) if k != y].index(rival)]
    found = np.repeat(sample.values, sample.counts)
    # Counted in steps of 1/4096, rounded down, after a millionth is taken off for rounding.
    assert (found <= expected).all()
    assert (expected - found < 1 / 4096 + 1e-6).all()


def test_a_clip_of_one_changes_no_margin(scores: ScoredDraws) -> None:
    assert [_counts(s) for s in scores.clipped[1.0]] == [_counts(s) for s in scores.margins]
    assert all(sample.values[-1] == 1.0 for sample in scores.clipped[0.1])


def test_the_plug_in_is_the_published_formula() -> None:
    assert plug_in_reach(0.95) == pytest.approx(norm.ppf(0.95) - norm.ppf(0.75))
    assert plug_in_reach(0.7) is None


def test_the_command_prints_a_table_and_writes_a_line_per_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, labels = drawn_images(4)
    np.savez(tmp_path / "some.npz", images=pictures, labels=labels, classes=np.array(CIFAR))
    folder = str(cifar_encoder(tmp_path / "cnn", "cnn"))
    main(["train-head", "--encoder", folder, "--npz", str(tmp_path / "some.npz"), "--name", "few", "--copies", "2"])
    assert (tmp_path / "cnn" / "heads" / "few.safetensors").is_file()
    options = ["--npz", str(tmp_path / "some.npz"), "--draws", "200", "--clips", ".05", ".1"]
    main(["compare-predictions", "--encoder", folder, "--head", "linear", *options, "--csv", str(tmp_path / "r.csv")])
    printed = capsys.readouterr().out
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["0", "1", "2", "3"]
    assert [int(row["true"]) for row in rows] == labels.tolist()
    for name in (MARGIN_MEAN, clipped_name(0.05), clipped_name(0.1), VOTE, PLUG_IN, SIMILARITY_CDF):
        assert f"| {name} | " in printed
        assert name in rows[0]
    assert CONDITION not in printed


def test_a_head_can_be_trained_for_an_encoder_of_the_settings_that_lists_it_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, labels = drawn_images(4)
    np.savez(tmp_path / "some.npz", images=pictures, labels=labels)
    folder = cifar_encoder(tmp_path / "cnn", "cnn")
    settings = {"mine": {"folder": str(folder), "heads": ["few"]}}
    monkeypatch.setenv("HOLDFAST_SERVED", json.dumps(settings))
    main(["train-head", "--encoder", "mine", "--npz", str(tmp_path / "some.npz"), "--name", "few", "--copies", "2"])
    assert list(load_encoder("mine").heads) == ["few"]


def test_a_packaged_encoder_is_not_written_into() -> None:
    with pytest.raises(SystemExit, match="give --out"):
        main(["train-head", "--encoder", "reference-encoder", "--npz", "absent.npz", "--name", "few"])


def test_a_head_or_images_that_are_not_there_are_refused() -> None:
    with pytest.raises(SystemExit, match="--npz FILE"):
        main(["compare-predictions", "--encoder", "reference-encoder", "--head", "objects"])
    with pytest.raises(SystemExit, match=r"must be one of \['objects'\]"):
        main(["compare-predictions", "--encoder", "reference-encoder", "--head", "other"])
