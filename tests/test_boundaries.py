"""The floor plan, enforced: which room may import which, and what the certificates may not touch."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "holdfast.certificates": ROOT / "holdfast/certificates",
    "holdfast.contract": ROOT / "holdfast/contract",
    "holdfast.queue": ROOT / "holdfast/queue",
    "holdfast_service": ROOT / "service/holdfast_service",
    "holdfast_worker": ROOT / "workers/holdfast_worker",
    "holdfast_client": ROOT / "clients/holdfast_client",
    "holdfast_lab": ROOT / "lab/holdfast_lab",
}
MAY_IMPORT = {
    "holdfast.certificates": set(),
    "holdfast.contract": set(),
    "holdfast.queue": {"holdfast.contract"},
    "holdfast_service": {"holdfast.certificates", "holdfast.contract", "holdfast.queue"},
    "holdfast_worker": {"holdfast.certificates", "holdfast.contract", "holdfast.queue"},
    "holdfast_client": {"holdfast.contract"},
    "holdfast_lab": set(PACKAGES) - {"holdfast_lab"},
}
CERTIFICATES_MAY_USE = {
    *("collections", "dataclasses", "decimal", "fractions", "functools", "hashlib", "itertools", "math", "numbers"),
    *("operator", "typing", "numpy", "scipy"),
}


def imports(package: str) -> set[tuple[str, str]]:
    found = set()
    for path in PACKAGES[package].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {(path.name, alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                found |= {(path.name, f"{node.module}.{alias.name}") for alias in node.names}
    return found


def room_of(module: str) -> str | None:
    return next((name for name in PACKAGES if f"{module}.".startswith(f"{name}.")), None)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_imports_only_what_the_floor_plan_allows(package: str) -> None:
    strays = {
        (file, module)
        for file, module in imports(package)
        if (room := room_of(module)) is not None and room != package and room not in MAY_IMPORT[package]
    }
    assert not strays


def test_every_room_has_code() -> None:
    assert all(imports(package) for package in PACKAGES)


def test_certificates_use_numpy_scipy_and_pure_parts_of_the_standard_library() -> None:
    used = {module.split(".")[0] for _, module in imports("holdfast.certificates")} - {"holdfast"}
    assert used <= CERTIFICATES_MAY_USE


def test_the_contract_needs_no_numpy() -> None:
    used = {module.split(".")[0] for _, module in imports("holdfast.contract")}
    assert not used & {"numpy", "scipy", "torch", "redis", "fastapi"}


def test_outer_folders_are_source_roots_not_packages() -> None:
    for folder in ("service", "workers", "clients", "lab"):
        assert not (ROOT / folder / "__init__.py").exists()
