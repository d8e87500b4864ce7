"""The shipped guard on transformers and on the real vLLM; `make test-vllm` runs these in their own environment."""

from collections.abc import Iterator

import pytest

from holdfast_worker.models import registry
from holdfast_worker.models.llava import LlavaGuard
from holdfast_worker.models.vllm_engine import ProcessEngine
from holdfast_worker.models.vllm_guard import VllmGuard


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
    loaded.close()


@pytest.fixture
def engine(guard: VllmGuard) -> ProcessEngine:
    """That guard's engine."""
    assert isinstance(guard._engine, ProcessEngine)
    return guard._engine
