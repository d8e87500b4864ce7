"""What is installed is decided here: every environment is pinned, by hash, from anywhere."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from requirements.outside import locked, outside, unused_cuda
from requirements.resolve import BUILDS, ENVIRONMENTS, Environment, pins, split

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = [environment.lock for environment in ENVIRONMENTS]
BUILD_FILES = sorted({environment.builds for environment in ENVIRONMENTS if environment.builds})


def asked(environment: Environment) -> Iterator[Requirement]:
    """What pyproject.toml or a file of requirements asks for, extras of our own followed."""
    arguments = list(environment.asks)
    waiting = [Requirement(f"holdfast[{name}]") for at, name in enumerate(arguments) if arguments[at - 1] == "--extra"]
    for file in (name for name in arguments if name.endswith(".in")):
        lines = (line.split(" #")[0] for line in (ROOT / file).read_text().splitlines() if line[:1] != "#")
        waiting += map(Requirement, lines)
    while waiting:
        one = waiting.pop()
        if one.name == "holdfast":
            texts = PROJECT["project"]["dependencies"] + [
                text for extra in one.extras for text in PROJECT["project"]["optional-dependencies"][extra]
            ]
            waiting += map(Requirement, texts)
        else:
            yield one


def allowed(environment: Environment) -> set[tuple[str, str]]:
    files = [environment.lock, *([environment.builds] if environment.builds else [])]
    return {pin for file in files for pin in locked((ROOT / file).read_text())}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=LOCKS)
def test_whatever_is_asked_for_is_locked_within_its_range(environment: Environment) -> None:
    wanted, pinned = list(asked(environment)), allowed(environment)
    assert wanted
    for requirement in wanted:
        versions = [version for name, version in pinned if name == requirement.name]
        assert versions, f"{requirement} is in no lock; run `make lock`"
        assert all(requirement.specifier.contains(version, prereleases=True) for version in versions), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_an_exact_version_with_its_hashes(lock: str) -> None:
    found = list(pins((ROOT / lock).read_text()))
    assert found
    for pin in found:
        assert re.search(r"^    --hash=sha256:[0-9a-f]{64}", pin.text, flags=re.MULTILINE), pin.name
        assert pin.name not in BUILDS


@pytest.mark.parametrize("file", BUILD_FILES)
def test_builds_of_torch_are_pinned_by_version_alone(file: str) -> None:
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    assert any(line.startswith("torch==") for line in lines)
    assert all(re.fullmatch(rf"({'|'.join(BUILDS)})==[0-9.]+", line) for line in lines)


@pytest.mark.parametrize("file", [*LOCKS, *BUILD_FILES])
def test_a_lock_names_no_place(file: str) -> None:
    options = re.findall(r"^\s*(-{1,2}[a-z-]+)", (ROOT / file).read_text(), flags=re.MULTILINE)
    assert set(options) <= {"--hash"}
    assert not re.search(r"://| @ |\.(com|org|net|io)\b|[ =]/", (ROOT / file).read_text())


@pytest.mark.parametrize("environment", [found for found in ENVIRONMENTS if found.follows], ids=lambda e: e.lock)
def test_what_runs_is_what_was_tested(environment: Environment) -> None:
    assert environment.follows
    tested = set(locked((ROOT / environment.follows).read_text()))
    assert set(locked((ROOT / environment.lock).read_text())) <= tested


def test_the_build_backend_is_locked_too() -> None:
    names = {name for name, _ in locked((ROOT / "requirements/build.txt").read_text())}
    assert {Requirement(text).name for text in PROJECT["build-system"]["requires"]} <= names


def test_only_what_torch_alone_needs_to_drive_a_device_is_left_to_its_index() -> None:
    lock = (
        "# a head\n"
        "cuda-toolkit==13.0 \\\n    --hash=sha256:0\n    # via torch\n"
        "nvidia-cublas==1.0 \\\n    --hash=sha256:1\n    # via\n    #   cuda-toolkit\n    #   nvidia-nvrtc\n"
        "nvidia-cutlass==2.0 \\\n    --hash=sha256:2\n    # via vllm\n"
        "nvidia-nvrtc==3.0 \\\n    --hash=sha256:3\n    # via nvidia-cublas\n"
        "sympy==1.14.0 \\\n    --hash=sha256:4\n    # via torch\n"
        "torch==2.13.0 \\\n    --hash=sha256:5\n    # via vllm\n"
    )
    kept, builds = split(lock)
    assert kept.startswith("# a head\nnvidia-cutlass==2.0")
    assert [pin.name for pin in pins(kept)] == ["nvidia-cutlass", "sympy"]
    assert builds == ["torch==2.13.0"]


def test_a_lock_with_an_open_range_is_refused() -> None:
    with pytest.raises(ValueError, match="'numpy>=2' in a lock, every line must pin"):
        list(pins("numpy>=2\n"))


ALLOWED = {("numpy", "2.4.6"), ("torch", "2.13.0"), ("numpy", "2.5.5")}


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ({"numpy": "2.4.6", "torch": "2.13.0+cpu", "pip": "23.2.1", "holdfast": "0.3.0"}, []),
        ({"torch": "2.13.0", "nvidia-cublas": "13.1", "triton": "3.7.1"}, []),
        ({"numpy": "2.4.6", "torchvision": "0.28.0", "timm": "1.0"}, ["timm 1.0", "torchvision 0.28.0"]),
        ({"numpy": "2.4.5", "torch": "2.14.0+cpu"}, ["numpy 2.4.5", "torch 2.14.0+cpu"]),
    ],
)  # fmt: skip
def test_what_the_lock_does_not_have_is_found(installed: dict[str, str], found: list[str]) -> None:
    assert outside(installed, ALLOWED) == found


def test_a_build_for_cuda_is_noticed_only_where_no_gpu_is() -> None:
    cuda = {"torch": "2.13.0", "nvidia-cublas": "13.1"}
    assert unused_cuda(cuda, gpu=False)
    assert not unused_cuda(cuda, gpu=True)
    assert not unused_cuda({"torch": "2.13.0+cpu"}, gpu=False)


def test_an_environment_with_a_package_from_outside_fails_with_a_remedy(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("numpy==1.0\n")
    command = [sys.executable, str(ROOT / "requirements/outside.py"), str(lock)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert re.search(r"pytest [0-9.]+.*not in .*lock\.txt.*Run `make clean` and try again", run.stderr, re.DOTALL)
