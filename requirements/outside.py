"""Finds what is installed and not in the lock: `make run` and `make test` begin with it.

A package from outside is refused, since it can change what the locked ones do: torchvision, for one, replaces torch or
makes transformers fail at import. A CUDA build of torch where there is no GPU works, and is worth a word.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

_OURS = frozenset({"holdfast", "pip"})
_DEVICE = re.compile(r"(nvidia|cuda)-.+|triton")
_GPUS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


def locked(text: str) -> Iterator[tuple[str, str]]:
    """The names and versions that a lock allows; one name may stand there several times, for several systems."""
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, flags=re.MULTILINE):
        yield _plain(name), version


def outside(installed: Mapping[str, str], allowed: set[tuple[str, str]]) -> list[str]:
    """Names every installed package that the lock does not have, or has in another version; builds count alike."""
    names = {name for name, _ in allowed}
    found = []
    for name, version in sorted(installed.items()):
        if name in _OURS or (name not in names and _DEVICE.fullmatch(name)):
            continue
        if not {(name, version), (name, version.split("+")[0])} & allowed:
            found.append(f"{name} {version}")
    return found


def unused_cuda(installed: Mapping[str, str], *, gpu: bool) -> bool:
    """Whether torch brought the libraries of a GPU to a machine that has none."""
    return not gpu and "torch" in installed and any(name.startswith("nvidia-") for name in installed)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Compares what is installed here with what the named locks have."""
    parser = argparse.ArgumentParser(description="Fails where something is installed that no lock has.")
    parser.add_argument("locks", nargs="+", type=Path, help="what may be installed here")
    locks: list[Path] = parser.parse_args().locks
    installed = {_plain(found.metadata["Name"]): found.version for found in distributions()}
    if unused_cuda(installed, gpu=any(path.exists() for path in _GPUS)):
        print(
            f"Note: torch {installed['torch']} is a build for CUDA, and this machine has no GPU: several GB for"
            " nothing. It works; to be rid of it, run `make clean`, make PyTorch's own index of CPU builds known to pip"
            " (extra-index-url), and try again.",
            file=sys.stderr,
        )
    allowed = {pin for lock in locks for pin in locked(lock.read_text())}
    if found := outside(installed, allowed):
        sys.exit(
            f"{', '.join(found)}: installed in {sys.prefix}, but not in {', '.join(map(str, locks))}. Everything must"
            " be, so that results are the same everywhere. Run `make clean` and try again; to add a package, name it"
            " in pyproject.toml and run `make lock`."
        )


if __name__ == "__main__":
    main()
