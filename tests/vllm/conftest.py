"""The shipped guard on transformers and on the real vLLM; `make test-vllm` runs these in their own environment."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_worker.models import registry
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.vllm.engine import ProcessEngine
from holdfast_worker.models.vllm.guard import VllmGuard
from tests.vllm.checkpoints import saved_anew


@pytest.fixture(scope="session")
def plain() -> LlavaGuard:
    """The guard on transformers, whose answers are the reference."""
    loaded = registry.load("reference-guard", {"device": "cpu"})
    assert isinstance(loaded, LlavaGuard)
    return loaded


@pytest.fixture(scope="session")
def guard() -> Iterator[VllmGuard]:
    """The same guard on vLLM; no test harms its engine."""
    loaded = registry.load("reference-guard", {"device": "cpu", "engine": "vllm"})
    assert isinstance(loaded, VllmGuard)
    yield loaded
    loaded.engine.stop()


@pytest.fixture(scope="session")
def anew(plain: LlavaGuard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped guard in the newer layout; it ships in the hub's."""
    return saved_anew(tmp_path_factory.mktemp("anew"), plain)


@pytest.fixture(scope="session")
def expendable(anew: Path) -> Iterator[VllmGuard]:
    """A guard whose engine a test may kill, served from the newer layout; whoever kills it restores it."""
    loaded = registry.load(anew, {"device": "cpu", "engine": "vllm"})
    assert isinstance(loaded, VllmGuard)
    yield loaded
    loaded.engine.stop()


@pytest.fixture
def engine(guard: VllmGuard) -> ProcessEngine:
    """That guard's engine."""
    assert isinstance(guard.engine, ProcessEngine)
    return guard.engine
