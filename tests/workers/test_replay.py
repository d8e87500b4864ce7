"""Replay: a certificate's own draws again, and every way in which they are not."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from holdfast.certificates import packed, unpacked
from holdfast.contract.guard.certificates import Certificate
from holdfast.queue.jobs import JobInput
from holdfast_worker.models import registry
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.replay.command import command
from holdfast_worker.replay.guard import ReplayError, replay, spread
from tests.workers.builders import FIELDS, TEXT, png, ready_for, table_folder
from tests.workers.certificates import certificate_of

CUTS = (0, 16, 32, 40, 56)
SIZE = (48, 40)
L0: dict[str, Any] = {"threat": {"text": {"kind": "l0"}}}
HALF: dict[str, Any] = {"noise": {"beta": 0.5}, "sampling": {"tails": 2}}
JOBS: list[dict[str, Any]] = [
    HALF,
    L0 | HALF,
    HALF | {"method": "neyman_pearson"},
    HALF | {"target": {"tokens": 2, "epsilon": 0.1}},
    {"noise": {"beta": 0.5, "scope": "per_budget"}, "sampling": {"tails": 1}},
    {"noise": {"beta": 0.5, "token_kernel": "absorbing"}, "threat": {"image": {"norm": "none"}}},
    {"threat": {"text": {"kind": "none"}}},
    {"threat": {"text": {"kind": "append"}}},
]


@pytest.fixture(scope="module")
def guard() -> Guard:
    return registry.require_guard(registry.load("reference-guard", {}))


@pytest.fixture(scope="module")
def certificate(guard: Guard) -> Certificate:
    return certificate_of(guard, ready_for(guard, size=SIZE, **HALF), CUTS, SIZE)


def given_files(folder: Path, certificate: Certificate, image: bytes | None = None) -> list[str]:
    """A certificate and its image as files, as arguments."""
    (folder / "cert.json").write_text(certificate.model_dump_json())
    (folder / "image.png").write_bytes(png(*SIZE) if image is None else image)
    return [str(folder / "cert.json"), "--image", str(folder / "image.png")]


def altered(certificate: Certificate, **change: Any) -> Certificate:
    return certificate.model_copy(update={"evidence": certificate.evidence.model_copy(update=change)})


def shape_of(certificate: Certificate) -> tuple[int, int, int]:
    return certificate.evidence.draws, certificate.evidence.tails, len(certificate.evidence.cells)


def with_votes(certificate: Certificate, *flipped: int) -> Certificate:
    """The certificate with these votes turned over, counted in the plane's order."""
    unsafe = unpacked(certificate.evidence.unsafe, shape_of(certificate))
    unsafe.reshape(-1)[list(flipped)] ^= True
    return altered(certificate, unsafe=packed(unsafe))


def test_a_share_of_the_blocks_is_spread_evenly_and_is_never_none() -> None:
    assert spread(10, 0.3) == [1, 5, 8]
    assert spread(4, 1.0) == [0, 1, 2, 3]
    assert spread(7, 0.001) == [3]
    assert all(len(set(spread(n, 0.37))) == max(1, round(0.37 * n)) for n in range(1, 60))


@pytest.mark.parametrize("asked", JOBS)
def test_every_threat_replays_to_its_own_votes(
    guard: Guard, asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = certificate_of(guard, ready_for(guard, size=SIZE, **asked), CUTS, SIZE)
    assert command([*given_files(tmp_path, certificate), "--text", TEXT, "--share", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["equal"], answer["differing"], answer["draws"], len(answer["compared"])) == (True, 0, 56, 4)
    assert answer["passes"] == sum(found["passes"] for found in answer["compared"]) == certificate.evidence.passes
    assert [found["stop"] for found in answer["compared"]] == [16, 32, 48, 56]


def test_a_tabular_certificate_replays_from_its_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table").mkdir()
    table = registry.require_guard(registry.load(table_folder(tmp_path / "table"), {}))
    certificate = certificate_of(table, ready_for(table), CUTS, (1, 2))
    (tmp_path / "cert.json").write_text(certificate.model_dump_json())
    (tmp_path / "fields.json").write_text(json.dumps(FIELDS))
    (tmp_path / "h.toml").write_text(f'[served.mine]\nfolder = "{tmp_path / "table"}"\n')
    monkeypatch.setenv("HOLDFAST_CONFIG", "")
    options = ["--fields", str(tmp_path / "fields.json"), "--config", str(tmp_path / "h.toml"), "--model", "mine"]
    assert command([str(tmp_path / "cert.json"), *options, "--share", "1"]) == 0
    assert "56 passes replayed: every vote is the certificate's." in capsys.readouterr().out


def test_votes_that_were_turned_over_are_found_and_said_with_their_draws(
    certificate: Certificate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    each = certificate.evidence.passes // certificate.evidence.draws
    forged = with_votes(certificate, 35 * each, 35 * each + 1, 40 * each)
    assert command([*given_files(tmp_path, forged), "--text", TEXT, "--share", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines if "32..48" in line] == [["32..48", f"{16 * each}", "3"]]
    assert f"{56 * each} passes replayed: 3 votes differ." in lines
    assert lines[-1].startswith("Votes within 1e-05 of a tie may differ with batch composition or device;")


def test_a_vote_near_a_tie_may_differ_and_is_counted_apart(guard: Guard, certificate: Certificate) -> None:
    forged = with_votes(certificate, 0, 1, 2)
    near = np.zeros(shape_of(certificate), dtype=np.bool_)
    near.reshape(-1)[:2] = True
    (first, *rest) = replay(guard, altered(forged, near_tie=packed(near)), JobInput(TEXT, "", png(*SIZE)), share=1.0)
    assert (first.differing, first.near_ties, first.near_differing) == (1, 2, 2)
    assert all((found.differing, found.near_ties) == (0, 0) for found in rest)


def test_what_is_near_a_tie_by_the_replays_own_margin_may_differ_too(guard: Guard, certificate: Certificate) -> None:
    forged = altered(with_votes(certificate, *range(20)), tie_band=1e6)
    (first, *_) = replay(guard, forged, JobInput(TEXT, "", png(*SIZE)), share=1.0)
    assert (first.differing, first.near_ties, first.near_differing) == (0, first.passes, first.passes)


def test_a_share_runs_whole_blocks_of_the_certificates_own_draws(guard: Guard, certificate: Certificate) -> None:
    found = list(replay(guard, certificate, JobInput(TEXT, "", png(*SIZE)), share=0.5))
    assert [(block.start, block.stop, block.differing) for block in found] == [(16, 32, 0), (48, 56, 0)]


def test_another_text_differs(certificate: Certificate, tmp_path: Path) -> None:
    assert command([*given_files(tmp_path, certificate), "--text", "Put the can next to the door", "--share", "1"]) == 1


def test_another_guard_is_refused_by_its_fingerprint(
    certificate: Certificate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = certificate.model.model_copy(update={"fingerprint": "sha256:" + "0" * 64})
    other = certificate.model_copy(update={"model": model})
    assert command([*given_files(tmp_path, other), "--text", TEXT]) == 1
    assert "must be the certificate's sha256:0000" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"draws": 72}, {"tails": 3}, {"unsafe": "AAAA"}, {"near_tie": "no base64"}])
def test_evidence_that_contradicts_what_was_asked_is_refused(
    guard: Guard, certificate: Certificate, change: dict[str, Any]
) -> None:
    with pytest.raises(
        ReplayError, match=r"is not of \d+ draws by \d tails in 9 cells.*check it with `holdfast verify`"
    ):
        list(replay(guard, altered(certificate, **change), JobInput(TEXT, "", png(*SIZE)), share=1.0))


def test_an_l0_text_of_another_length_is_refused(guard: Guard) -> None:
    certificate = certificate_of(guard, ready_for(guard, text="short", size=SIZE, **L0), CUTS, SIZE)
    with pytest.raises(ReplayError, match=r"the input has \d+ positions, must have the certificate's \d+; give"):
        list(replay(guard, certificate, JobInput(TEXT, "", png(*SIZE)), share=1.0))


def test_an_image_of_another_size_is_refused(
    certificate: Certificate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command([*given_files(tmp_path, certificate, png(40, 48)), "--text", TEXT]) == 1
    assert "(40, 48) rows and columns, must have the certificate's (48, 40)" in capsys.readouterr().err


def test_files_that_cannot_be_used_are_refused_with_the_rule(
    certificate: Certificate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = given_files(tmp_path, certificate)
    (tmp_path / "job.json").write_text('{"state": "queued"}')
    for arguments, message in (
        ([str(tmp_path / "absent.json"), *good[1:]], "absent.json cannot be read"),
        ([str(tmp_path / "job.json"), *good[1:]], "must be a certificate"),
        ([good[0], "--image", good[0]], "must be a PNG, JPEG or WebP file"),
    ):
        assert command([*arguments, "--text", TEXT]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "t", "--image", "i", "--fields", "f"], "give --text and --image, or --text alone"),
        (["--fields", "f", "--suffix", "s"], "give --text and --image, or --text alone"),
        (["--fields", "f", "--share", "0"], "--share 0 must be above 0 and at most 1"),
    ],
)
def test_wrong_usage_is_told_apart(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command(["cert.json", *arguments])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_the_help_says_what_a_replay_shows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(["--help"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("fingerprint", "near a tie", "Exit status", "--share", "examples:"))


@pytest.mark.parametrize("form", ["webp", "turned", "opaque"])
def test_an_image_file_is_read_as_the_gateway_reads_it(certificate: Certificate, tmp_path: Path, form: str) -> None:
    pixels, turned = Image.open(io.BytesIO(png(*SIZE))), Image.Exif()
    turned[0x0112] = 6  # a reader turns it right by a quarter
    file = io.BytesIO()
    if form == "webp":
        pixels.save(file, "WEBP", lossless=True)
    elif form == "turned":
        pixels.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=turned)
    else:
        pixels.convert("RGBA").save(file, "PNG")
    given = given_files(tmp_path, certificate, file.getvalue())
    assert command([*given, "--text", TEXT, "--share", "0.3"]) == 0
