import importlib.util
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GOLDEN = HERE.parents[2] / "shared" / "golden"


def _load(name):
    spec = importlib.util.spec_from_file_location(f"certificates_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def oracle():
    return _load("oracle")


@pytest.fixture(scope="session")
def world():
    return _load("world")


@pytest.fixture(scope="session")
def worlds():
    return _load("worlds")


@pytest.fixture(scope="session")
def encoders():
    return _load("encoders")


@pytest.fixture(scope="session")
def golden():
    """Reference radii of a 60-digit solver, by kernel."""
    if not GOLDEN.is_dir():
        pytest.skip("the golden tables are not beside this checkout")
    return {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))}
