"""Processes that a test starts, and that are gone when it ends."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.processes import Running, begin


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("slow")


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes; whatever still runs at the end is killed."""
    running: list[Running] = []

    def one_more(command: list[str], **environment: str) -> Running:
        running.append(begin(command, tmp_path / f"process-{len(running)}.log", **environment))
        return running[-1]

    yield one_more
    for process in running:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()
