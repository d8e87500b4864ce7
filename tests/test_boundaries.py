"""The floor plan, enforced: which room may import which, and what the certificates may not touch."""

import ast
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "holdfast.certificates": ROOT / "holdfast/certificates",
    "holdfast.contract": ROOT / "holdfast/contract",
    "holdfast.questions": ROOT / "holdfast/questions.py",
    "holdfast.queue": ROOT / "holdfast/queue",
    "holdfast.images": ROOT / "holdfast/images.py",
    "holdfast.logs": ROOT / "holdfast/logs.py",
    "holdfast.roles": ROOT / "holdfast/roles.py",
    "holdfast.settings": ROOT / "holdfast/settings.py",
    "holdfast.signing": ROOT / "holdfast/signing.py",
    "holdfast_service": ROOT / "service/holdfast_service",
    "holdfast_worker": ROOT / "workers/holdfast_worker",
    "holdfast_client": ROOT / "clients/holdfast_client",
    "holdfast_lab": ROOT / "lab/holdfast_lab",
}
SHARED = {room for room in ROOMS if room.startswith("holdfast.")}
MAY_IMPORT = {
    "holdfast.certificates": set(),
    "holdfast.contract": set(),
    "holdfast.queue": {"holdfast.contract"},
    "holdfast.questions": {"holdfast.certificates", "holdfast.contract"},
    "holdfast.images": {"holdfast.contract"},
    "holdfast.logs": set(),
    "holdfast.roles": {"holdfast.queue", "holdfast.settings"},
    "holdfast.settings": set(),
    "holdfast.signing": {"holdfast.certificates", "holdfast.contract"},
    "holdfast_service": SHARED,
    "holdfast_worker": SHARED,
    "holdfast_client": {"holdfast.contract"},
    "holdfast_lab": set(ROOMS) - {"holdfast_lab"},
}
# Only inside functions: `pip install holdfast` brings nothing that these need.
MAY_IMPORT_LATE = {"holdfast_client": {"holdfast.certificates", "holdfast.signing"}}
CERTIFICATES_MAY_USE = {
    *(
        "base64",
        "binascii",
        "collections",
        "dataclasses",
        "decimal",
        "fractions",
        "functools",
        "hashlib",
        "itertools",
        "json",
        "math",
    ),
    *("itertools", "json", "math", "numbers", "operator", "re", "typing", "numpy", "scipy"),
}


def imports(room: str) -> set[tuple[str, str, bool]]:
    """Every import of a room: file, name, and whether it runs only when a function is called."""
    home = ROOMS[room]
    files = home.rglob("*.py") if home.is_dir() else [home]
    return {(path.name, name, late) for path in files for name, late in imported(ast.parse(path.read_text("utf-8")))}


def imported(node: ast.AST, late: bool = False) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, late) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: relative import"
        yield from ((f"{node.module}.{alias.name}", late) for alias in node.names)
    late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        yield from imported(child, late)


def room_of(module: str) -> str | None:
    return next((name for name in ROOMS if f"{module}.".startswith(f"{name}.")), None)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_floor_plan_allows(room: str) -> None:
    strays = set()
    for file, module, late in imports(room):
        allowed = {room, *MAY_IMPORT[room], *(MAY_IMPORT_LATE.get(room, ()) if late else ())}
        if (other := room_of(module)) is not None and other not in allowed:
            strays.add((file, module))
    assert not strays


def test_an_import_inside_a_function_is_told_from_one_beside_it() -> None:
    found = imported(ast.parse("import a\nclass C:\n    import b\n    def f(self):\n        from c import d\n"))
    assert set(found) == {("a", False), ("b", False), ("c.d", True)}


def test_every_room_has_code_and_every_module_a_room() -> None:
    assert all(imports(room) for room in ROOMS)
    strays = {path.name for path in (ROOT / "holdfast").iterdir() if room_of(f"holdfast.{path.stem}") is None}
    assert strays <= {"__init__.py", "py.typed", "__pycache__"}


def test_certificates_use_numpy_scipy_and_pure_parts_of_the_standard_library() -> None:
    used = {module.split(".")[0] for _, module, _ in imports("holdfast.certificates")} - {"holdfast"}
    assert used <= CERTIFICATES_MAY_USE


def test_the_contract_needs_no_numpy() -> None:
    used = {module.split(".")[0] for _, module, _ in imports("holdfast.contract")}
    assert not used & {"numpy", "scipy", "torch", "redis", "fastapi"}


def test_outer_folders_are_source_roots_not_packages() -> None:
    for folder in ("service", "workers", "clients", "lab"):
        assert not (ROOT / folder / "__init__.py").exists()


def modules(room: str) -> dict[str, Path]:
    """A room's files by the name of their module, `__init__` aside."""
    base = ROOMS[room].parents[room.count(".")]
    paths = [path for path in ROOMS[room].rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(base).with_suffix("").parts): path for path in paths}


def longest_chain(imports_of: Mapping[str, Set[str]]) -> list[str]:
    """The most modules of which each imports the next; no circle is a chain."""

    @cache
    def from_here(module: str) -> list[str]:
        return [module, *max((from_here(below) for below in imports_of[module]), key=len, default=[])]

    return max(map(from_here, imports_of), key=len)


@pytest.mark.parametrize(("room", "most"), [("holdfast.certificates", 7), ("holdfast_worker", 10)])
def test_no_chain_of_imports_is_longer_than_a_reader_follows(room: str, most: int) -> None:
    files = modules(room)
    found = {
        module: {
            name
            for imported_name, _ in imported(ast.parse(path.read_text("utf-8")))
            for name in (imported_name, imported_name.rpartition(".")[0])
            if name in files
        }
        for module, path in files.items()
    }
    assert len(longest_chain(found)) <= most


def test_a_chain_is_counted_in_modules() -> None:
    assert longest_chain({"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}) == ["a", "b", "c"]
