"""Resolves every environment that a target makes into pins with hashes: `make lock`, `make upgrade`.

Builds of torch differ by index and device under one version. It and its companions are therefore pinned by version
alone, in a file of their own, and what only they need to drive a device (nvidia-…, triton) comes with the build that an
index gives. Everything else is installed by hash, and nothing is resolved again.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILDS = frozenset({"torch", "torchaudio", "torchcodec", "torchvision"})
DEVICE = re.compile(r"(nvidia|cuda)-.+|triton")


@dataclass(frozen=True)
class Environment:
    """What a lock is made from.

    Attributes:
        lock: The file of pins with hashes.
        asks: What is asked for, as arguments of uv.
        builds: The file that pins torch and its companions, where there are any.
        owns_builds: Whether that file is written from this environment, or read.
        follows: The lock whose versions this one takes where both have a package.
        prereleases: Which of them may be taken, in uv's words.
    """

    lock: str
    asks: tuple[str, ...]
    builds: str | None = None
    owns_builds: bool = False
    follows: str | None = None
    prereleases: str = "disallow"


def _extras(*names: str) -> tuple[str, ...]:
    return ("pyproject.toml", *(part for name in names for part in ("--extra", name)))


_BUILD = "requirements/build.in"
_TORCH = "requirements/torch.txt"
_DEV = "requirements/dev.txt"
_CPU = "deploy/vllm-cpu"
ENVIRONMENTS = (
    Environment(_DEV, (*_extras("dev"), _BUILD), _TORCH, owns_builds=True),
    Environment("requirements/run.txt", (*_extras("service", "worker", "lab"), _BUILD), _TORCH, follows=_DEV),
    Environment("requirements/service.txt", _extras("service"), follows=_DEV),
    Environment("requirements/worker.txt", _extras("worker"), _TORCH, follows=_DEV),
    Environment("requirements/build.txt", (_BUILD,), follows=_DEV),
    Environment("requirements/uv.txt", ("requirements/uv.in",)),
    Environment(
        "requirements/vllm-cuda.txt",
        _extras("vllm"),
        "requirements/vllm-cuda-torch.txt",
        owns_builds=True,
        prereleases="if-necessary",
    ),
    Environment(
        f"{_CPU}/requirements.txt",
        (
            *(*_extras("worker"), _BUILD, f"{_CPU}/requirements.in"),
            *("--overrides", f"{_CPU}/torch.txt", "--excludes", f"{_CPU}/without.txt"),
        ),
        f"{_CPU}/torch.txt",
        prereleases="if-necessary",
    ),
)


@dataclass(frozen=True)
class Pin:
    """One pinned package as it stands in a lock.

    Attributes:
        name: The package, in lower case with hyphens.
        version: Its version.
        asked_by: The packages and files that ask for it.
        text: Its lines.
    """

    name: str
    version: str
    asked_by: frozenset[str]
    text: str


def pins(lock: str) -> Iterator[Pin]:
    """Reads a lock that uv has written; what stands before the first pin is left out."""
    for block in re.split(r"^(?=[^\s#])", lock, flags=re.MULTILINE)[1:]:
        found = re.match(r"([\w.-]+)==([^\s;]+)", block)
        if found is None:
            raise ValueError(f"{block.splitlines()[0]!r} in a lock, every line must pin name==version; run `make lock`")
        notes = re.findall(r"^    #(?: via|  ) (.+)$", block, flags=re.MULTILINE)
        yield Pin(found[1].lower().replace("_", "-"), found[2], frozenset(notes), block)


def split(lock: str) -> tuple[str, list[str]]:
    """Divides what uv resolved into what is installed by hash and the builds that are pinned by version alone."""
    found = list(pins(lock))
    left_out = {pin.name for pin in found if pin.name in BUILDS or DEVICE.fullmatch(pin.name)}
    # Device libraries ask for each other in circles, so those that others need are taken away from all of them.
    while others := {pin.name for pin in found if pin.name in left_out - BUILDS and not pin.asked_by <= left_out}:
        left_out -= others
    head = lock[: lock.index(found[0].text)]
    kept = "".join(pin.text for pin in found if pin.name not in left_out)
    return head + kept, sorted({f"{pin.name}=={pin.version}" for pin in found if pin.name in BUILDS})


def resolve(environment: Environment, *, upgrade: bool) -> None:
    """Writes an environment's lock; without `upgrade` whatever is pinned already stays where it can."""
    lock = ROOT / environment.lock
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    command += ["--no-emit-index-url", "--python-version", "3.11", "--custom-compile-command", "make lock"]
    command += ["--prerelease", environment.prereleases, "--output-file", environment.lock, *environment.asks]
    if environment.follows:
        command += ["--constraints", environment.follows]
    if upgrade:
        command.append("--upgrade")
    builds = ROOT / environment.builds if environment.builds else None
    if builds and builds.exists() and not (upgrade and environment.owns_builds):
        command += ["--constraints", environment.builds or ""]
    subprocess.run(command, cwd=ROOT, check=True)
    kept, versions = split(lock.read_text())
    lock.write_text(kept)
    if builds and environment.owns_builds:
        builds.write_text("# By version alone: builds differ by index and device.\n" + "\n".join(versions) + "\n")


def main() -> None:
    """Writes every lock again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest allowed versions")
    upgrade = parser.parse_args().upgrade
    for environment in ENVIRONMENTS:
        resolve(environment, upgrade=upgrade)


if __name__ == "__main__":
    main()
