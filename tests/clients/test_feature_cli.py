"""The command line's side of encoders against the real gateway."""

import struct
from pathlib import Path

import pytest

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast_client.cli import main
from tests.clients.certificates import changed
from tests.clients.commands import interrupted, submitted
from tests.clients.feature_certificates import embedding_certificate, feature_certificate
from tests.clients.gateway import Gateway

Capture = pytest.CaptureFixture[str]
CERTIFICATE, EMBEDDING = feature_certificate(), embedding_certificate()


@pytest.fixture
def picture(image: bytes, tmp_path: Path) -> str:
    (tmp_path / "image.png").write_bytes(image)
    return str(tmp_path / "image.png")


@pytest.fixture
def certify(gateway: Gateway, picture: str) -> list[str]:
    return ["certify-features", "--url", gateway.url, picture]


@pytest.fixture
def embed(gateway: Gateway, picture: str) -> list[str]:
    return ["embed", "--url", gateway.url, picture]


def is_the(certificate: FeatureCertificate, as_json: str) -> bool:
    found = FeatureCertificate.model_validate_json(as_json)
    return found == certificate.model_copy(update={"id": found.id})


def test_json_is_the_feature_certificate_and_nothing_else(
    gateway: Gateway, certify: list[str], capsys: Capture
) -> None:
    with gateway.finishing_the_next_job(CERTIFICATE):
        assert main([*certify, "--json"]) == 0
    assert is_the(CERTIFICATE, capsys.readouterr().out)


def test_certify_features_shows_the_certificate_and_writes_it_where_asked(
    gateway: Gateway, certify: list[str], tmp_path: Path, capsys: Capture
) -> None:
    with gateway.finishing_the_next_job(CERTIFICATE):
        assert main([*certify, "--no-progress", "--out", str(tmp_path / "cert.json")]) == 0
    assert "cat: certified within image radius 0.449 (clipped_cdf)" in capsys.readouterr().out
    assert is_the(CERTIFICATE, (tmp_path / "cert.json").read_text())


def test_a_question_about_the_prediction_gets_its_answer_in_the_first_line(
    gateway: Gateway, certify: list[str], capsys: Capture
) -> None:
    target = {"epsilon": 0.25, "cosine": None, "certified": True}
    with gateway.finishing_the_next_job(changed(CERTIFICATE, target=target)):
        assert main([*certify, "--prototypes", "animals", "--target", "none,0.25"]) == 0
    assert capsys.readouterr().out.startswith("Yes: the prediction cat is certified against image radius 0.25\n")


def test_ctrl_c_cancels_the_feature_certification_and_says_so(gateway: Gateway, certify: list[str]) -> None:
    job_id, out, messages = interrupted(certify)
    assert out == ""
    assert f"{job_id} is cancelled" in messages
    assert gateway.state(job_id) == "cancelled"


def test_the_options_are_asked_for_as_they_are_given(gateway: Gateway, certify: list[str]) -> None:
    smoothing = ["--sigma", "0.5", "--reference", "direction", "--epsilons", "0.1,0.2", "--cosine-floors", "0,0.9"]
    effort = [
        "--draws",
        "400",
        "--selection-draws",
        "20",
        "--stop",
        "any_time",
        "--tolerance",
        "0.1",
        "--alpha",
        "0.01",
    ]
    spec = gateway.spec(submitted([*certify, *smoothing, *effort, "--prototypes", "animals"]))
    assert (spec.sigma, spec.reference, spec.epsilons) == (0.5, "direction", (0.1, 0.2))
    assert (spec.cosine_floors, spec.head.name, spec.alpha) == ((0.0, 0.9), "animals", 0.01)
    assert (spec.draws, spec.selection_draws, spec.stop, spec.tolerance) == (400, 20, "any_time", 0.1)


def test_a_refusal_shows_its_fields_and_fails(certify: list[str], capsys: Capture) -> None:
    assert main([*certify, "--stop", "any_time", "--mean-bound", "kl"]) == 1
    out, messages = capsys.readouterr()
    assert out == ""
    assert "mean_bound=kl holds at a fixed number of draws only; ask for betting or stop=fixed" in messages


def test_embed_shows_what_holds_of_the_embedding(gateway: Gateway, embed: list[str], capsys: Capture) -> None:
    with gateway.finishing_the_next_job(EMBEDDING):
        assert main([*embed]) == 0
    assert "Embedding: 6 values, the mean of 8 noisy features" in capsys.readouterr().out


def test_embed_writes_raw_values_and_says_their_shape_beside_the_json(
    gateway: Gateway, embed: list[str], tmp_path: Path, capsys: Capture
) -> None:
    certificate, raw = embedding_certificate(tokens=True), tmp_path / "values.f32"
    with gateway.finishing_the_next_job(certificate):
        assert main([*embed, "--tokens", "--json", "--raw", str(raw)]) == 0
    out, messages = capsys.readouterr()
    assert is_the(certificate, out)
    assert messages == f"{raw}: 2 x 3 values, float32, little-endian, row by row\n"
    assert struct.unpack("<6f", raw.read_bytes()) == pytest.approx((0.5, -0.25, 0.125, 0.0, 1e-3, 0.75))


@pytest.mark.parametrize("options", [["certify-features", "--out"], ["embed", "--out"], ["embed", "--raw"]])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_asked(
    options: list[str], gateway: Gateway, picture: str, tmp_path: Path, capsys: Capture
) -> None:
    command, option = options
    assert main([command, "--url", gateway.url, picture, option, str(tmp_path / "nowhere" / "file")]) == 1
    assert "cannot be written; give a file in a folder that is there" in capsys.readouterr().err
    assert gateway.active() == set()


@pytest.mark.parametrize("command", ["certify-features", "embed"])
def test_an_image_that_is_not_there_is_an_error_with_its_remedy(command: str, capsys: Capture) -> None:
    assert main([command, "nowhere.png"]) == 1
    assert "IMAGE cannot be read (No such file or directory); give the path of an image file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "remedy"),
    [
        (["certify-features"], "IMAGE"),
        (["certify-features", "i.png", "--json", "--out", "c.json"], "not allowed with"),
        (["certify-features", "i.png", "--cosine-floors", "0.5;0.8"], "such as 0,0.25,0.5"),
        (["certify-features", "i.png", "--target", "0.5"], "such as 0.5,0.5"),
        (["certify-features", "i.png", "--reference", "mean"], "choose from"),
        (["embed", "i.png", "--draws", "many"], "--draws"),
    ],
)
def test_wrong_options_exit_with_two_and_the_remedy(argv: list[str], remedy: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exited:
        main(argv)
    assert exited.value.code == 2
    assert remedy in capsys.readouterr().err


def test_the_help_explains_noise_radii_floors_and_every_way_to_ask(capsys: Capture) -> None:
    for command in ("certify-features", "embed"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    out = capsys.readouterr().out
    for explained in ("standard deviation sigma", "image within epsilon", "cosine floor", "not certified"):
        assert explained in " ".join(out.split())
    for example in ("--prototypes animals", "--target 0.5,0.25", "--tokens --raw skunk.f32"):
        assert f"{example}\n" in out
