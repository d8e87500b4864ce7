"""What `pip install holdfast` brings: everything that is served, and nothing that a thin client does not need."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.system.processes import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_five_packages_their_types_and_the_reference_guard(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"holdfast", "holdfast_service", "holdfast_worker", "holdfast_client", "holdfast_lab"}
    assert {f"{package}/py.typed" for package in packages} <= names
    assert {f"holdfast/queue/{script.name}" for script in (ROOT / "holdfast/queue").glob("*.lua")} <= names
    guard = "holdfast_worker/models/reference_guard"
    assert {f"{guard}/{file}" for file in ("model.safetensors", "holdfast.json", "README.md")} <= names


def test_the_wheel_is_small_and_holds_no_pickle(wheel: Path) -> None:
    assert wheel.stat().st_size < 5 * 2**20
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".bin", ".pt", ".pkl", ".pth"))]


def test_the_client_loads_without_anything_that_serves_or_computes() -> None:
    heavy = "{'numpy', 'scipy', 'torch', 'transformers', 'redis', 'fastapi', 'holdfast_service', 'holdfast_worker'}"
    program = f"import sys, holdfast_client, holdfast_client.cli; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_nothing_that_is_shipped_loads_pickles_or_remote_code() -> None:
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "tests"]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert sources
    for path in sources:
        text = path.read_text("utf-8")
        assert "import pickle" not in text, path
        assert "torch.load(" not in text, path
        assert "trust_remote_code=True" not in text, path
