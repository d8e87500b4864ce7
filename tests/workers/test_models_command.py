"""`holdfast models add`, `list` and `check`, on the file of settings that a worker then reads."""

import importlib
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from holdfast.roles import read
from holdfast_worker.inspection.models_command import add, check, list_models
from holdfast_worker.models import registry
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.settings import WorkerSettings
from tests.workers.builders import table_folder
from tests.workers.feature_builders import encoder_folder

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
FEW = ["--draws", "4"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of settings, which the worker reads."""
    path = tmp_path / "h.toml"
    path.write_text("port = 9  # of the gateway\n")
    monkeypatch.setenv("HOLDFAST_CONFIG", str(path))
    monkeypatch.delenv("HOLDFAST_MODELS", raising=False)
    return path


def small(folder: Path, **settings: Any) -> str:
    folder.mkdir()
    return str(encoder_folder(folder, **settings))


def poisoned(folder: Path, copy: Path) -> str:
    """A checkpoint whose newline feature is no number."""
    shutil.copytree(folder, copy)
    weights = load_file(copy / "model.safetensors")
    weights["image_newline"].fill_(torch.nan)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return str(copy)


@pytest.mark.parametrize("group", ["holdfast.commands", "holdfast.models"])
def test_every_command_that_is_registered_is_there(group: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for target in project["entry-points"][group].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_a_guard_that_is_added_is_what_the_worker_serves(settings: Path, base_folder: Path, capsys: Capture) -> None:
    assert add(["mine", str(base_folder), "max_slots=12", "defaults.tau=0.25", *FEW]) == 0
    worker = read(WorkerSettings)
    guard = registry.load_served("mine", worker.served)
    assert worker.models == ("reference-guard", "reference-encoder", "mine")
    assert not isinstance(guard, Encoder)
    assert (guard.info.limits.max_slots, guard.info.defaults.tau) == (12, 0.25)
    assert settings.read_text().startswith(
        'models = ["reference-guard", "reference-encoder", "mine"]\nport = 9  # of the gateway\n'
    )
    assert guard.fingerprint in capsys.readouterr().out


def test_the_batch_limit_that_was_measured_is_served_with(settings: Path, base_folder: Path, capsys: Capture) -> None:
    assert add(["mine", str(base_folder), *FEW, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    guard: Any = registry.load_served("mine", read(WorkerSettings).served)
    assert guard.batching.limit == found["batch_limit"]
    assert guard.batching.limit in [point["limit"] for point in found["batches"]]
    assert found["written"] == str(settings)


def test_a_batch_limit_that_is_given_is_not_measured(settings: Path, tmp_path: Path, capsys: Capture) -> None:
    assert add(["e", small(tmp_path / "e"), "batch_limit=9", *FEW]) == 0
    assert tomllib.loads(settings.read_text())["served"]["e"]["batch_limit"] == 9
    assert "recommended" not in capsys.readouterr().out


def test_a_model_that_is_added_again_keeps_its_other_fields(settings: Path, tmp_path: Path) -> None:
    folder = small(tmp_path / "e")
    assert add(["e", folder, "heads=[]", "batch_limit=9", *FEW]) == 0
    assert add(["e", folder, "batch_limit=7", *FEW]) == 0
    assert tomllib.loads(settings.read_text())["served"]["e"] == {"folder": folder, "heads": [], "batch_limit": 7}


def test_what_fails_its_check_is_not_added(settings: Path, base_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    before = settings.read_text()
    assert add(["bad", poisoned(base_folder, tmp_path / "nan"), *FEW, "batch_limit=999"]) == 1
    assert settings.read_text() == before
    assert "not added, for a check failed: finite" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["architecture=clip"], "architecture=clip takes no layers"),
        (["nonsense=1"], "nonsense: Extra inputs are not permitted; correct holdfast.json or the worker's settings"),
        (["dtype"], "'dtype' must be field=value, such as dtype=bfloat16; correct it"),
        (["folder=x"], "'folder=x' must be field=value"),
    ],
)
def test_a_refusal_has_its_remedy_and_leaves_the_file(
    settings: Path, tmp_path: Path, capsys: Capture, fields: list[str], message: str
) -> None:
    before = settings.read_text()
    assert add(["e", small(tmp_path / "e"), *fields, *FEW]) == 1
    assert message in capsys.readouterr().err
    assert settings.read_text() == before


def test_a_folder_that_is_not_there_is_refused(settings: Path, tmp_path: Path, capsys: Capture) -> None:
    assert add(["e", str(tmp_path / "absent")]) == 1
    assert "or an existing folder; correct the name" in capsys.readouterr().err


def test_a_file_of_settings_that_is_broken_is_refused_before_anything_is_loaded(
    settings: Path, capsys: Capture
) -> None:
    settings.write_text("models = [")
    for command, given in ((add, ["e", "absent"]), (list_models, []), (check, ["reference-guard"])):
        assert command(given) == 1
        assert "TOML" in capsys.readouterr().err
    assert settings.read_text() == "models = ["


def test_the_environment_going_over_the_file_is_said(
    settings: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_MODELS", '["reference-guard"]')
    assert add(["e", small(tmp_path / "e"), "batch_limit=9", *FEW]) == 0
    assert "HOLDFAST_MODELS is set, and goes over the file" in capsys.readouterr().out


def test_the_list_says_what_each_name_is_and_which_does_not_load(
    settings: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "t").mkdir()
    good, bad = table_folder(tmp_path / "t"), tmp_path / "absent"
    settings.write_text(
        f'models = ["t", "bad"]\n[served]\nt.folder = "{good}"\nbad.folder = "{bad}"\nunused.folder = "{good}"\n'
    )
    assert list_models(["--json"]) == 1
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: (row["kind"], row["served"], row["loads"]) for name, row in rows.items()} == {
        "t": ("tabular", True, True), "bad": (None, True, False), "unused": ("tabular", False, True),
    }  # fmt: skip
    assert rows["t"]["fingerprint"] == registry.load(good, {}).fingerprint
    assert "correct the name" in rows["bad"]["problem"]


def test_the_list_for_people_has_the_same(settings: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "t").mkdir()
    settings.write_text(f'models = ["t"]\n[served.t]\nfolder = "{table_folder(tmp_path / "t")}"\n')
    assert list_models([]) == 0
    _, row, fingerprint = capsys.readouterr().out.splitlines()
    assert row.split() == ["t", "tabular", "yes", "yes", str(tmp_path / "t")]
    assert fingerprint.strip().startswith("sha256:")


@pytest.mark.usefixtures("settings")
def test_a_folder_is_checked_without_being_served(base_folder: Path, capsys: Capture) -> None:
    assert check([str(base_folder), "dtype=bfloat16", *FEW, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failed"] == []
    assert set(found["parts"]) == {"weights", "config", "tokenizer", "preprocessing", "policy", "alphabet"}
    assert {"finite", "company", "batches", "prefix", "dtype", "vllm"} == {row["name"] for row in found["checks"]}


def test_a_served_name_is_checked_with_its_settings(settings: Path, tmp_path: Path, capsys: Capture) -> None:
    settings.write_text(f'[served.e]\nfolder = "{small(tmp_path / "e")}"\nheads = []\n')
    assert check(["e", *FEW]) == 0
    assert "pass      unit" in capsys.readouterr().out


@pytest.mark.usefixtures("settings")
def test_a_check_that_fails_exits_with_one(base_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    assert check([*FEW, poisoned(base_folder, tmp_path / "nan"), "max_slots=9"]) == 1
    assert capsys.readouterr().out.endswith("failed: finite\n")
