"""A model's folder as files: what is read, what is refused unread, and what its digest covers."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from holdfast_worker.models.checkpoint import (
    check_model,
    model_folder,
    require_llava,
    require_no_code,
    require_safetensors,
)
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import digest, model_type, read_object, read_settings, weights_and_files
from holdfast_worker.models.weights import find_device, find_dtype, opened, read_tensors, require_fit, tensor_places

INDEX = "model.safetensors.index.json"
parts = st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=4)), max_size=4)


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sprung,)


def sharded(folder: Path, **files: dict[str, torch.Tensor]) -> None:
    """Shards and an index that names them all."""
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    places = {tensor: f"{name}.safetensors" for name, tensors in files.items() for tensor in tensors}
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))


def test_tensors_are_found_in_every_shard_and_only_those_asked_for_are_read(tmp_path: Path) -> None:
    sharded(tmp_path, one={"a": torch.ones(2), "b": torch.zeros(3)}, two={"c": torch.full((1,), 7.0)})
    places = tensor_places(tmp_path)
    assert {name: path.name for name, path in places.items()} == {
        "a": "one.safetensors",
        "b": "one.safetensors",
        "c": "two.safetensors",
    }
    read = read_tensors({name: places[name] for name in ("a", "c")})
    assert set(read) == {"a", "c"}
    assert read["c"].tolist() == [7.0]


def test_a_preferred_file_comes_before_an_index_and_a_single_one_needs_no_name(tmp_path: Path) -> None:
    sharded(tmp_path, one={"a": torch.ones(1)})
    save_file({"d": torch.ones(1)}, tmp_path / "head.safetensors")
    assert list(tensor_places(tmp_path, preferred="head.safetensors")) == ["d"]
    for name in (INDEX, "one.safetensors"):
        (tmp_path / name).unlink()
    assert list(tensor_places(tmp_path)) == ["d"]


def test_several_files_without_an_index_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({name: torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelConfigError, match=r"\['one.safetensors', 'two.safetensors'\], must hold one"):
        tensor_places(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": ["x"]}}'])
def test_an_index_without_a_map_of_file_names_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(ModelConfigError, match="has no weight_map of file names"):
        tensor_places(tmp_path)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", 3])
def test_an_index_that_names_files_elsewhere_is_refused(tmp_path: Path, name: Any) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelConfigError, match="must name files of its own folder"):
        tensor_places(tmp_path)


def test_a_shard_that_is_missing_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path, one={"a": torch.ones(1)}, two={"b": torch.ones(1)})
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(ModelConfigError, match=r"two\.safetensors must be a safetensors file \(FileNotFoundError\)"):
        tensor_places(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 8, 40, -1])
def test_a_torn_file_is_refused_wherever_it_was_torn(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(64)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelConfigError, match="must be a safetensors file"), opened(path):
        pass


def test_a_pickle_is_never_unpickled_whatever_it_is_called(tmp_path: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin", "model.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(ModelConfigError, match="must be a safetensors file"):
        tensor_places(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelConfigError, match=r"\['model.pt', 'pytorch_model.bin'\]\), weights must be safetensors"):
        require_safetensors(tmp_path)
    assert not (tmp_path / "sprung").exists()
    pickle.loads((tmp_path / "model.pt").read_bytes())  # noqa: S301 - the trap works
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_folder_that_asks_for_code_of_its_own_is_refused_by_the_file_that_does(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"auto_map": {"AutoModel": "code.Model"}}')
    with pytest.raises(ModelConfigError, match=f"{name} has an auto_map"):
        require_no_code(tmp_path)
    (tmp_path / name).write_text('{"auto_map": {}}')
    require_no_code(tmp_path)


@pytest.mark.parametrize("kind", ["bert", None, 3, ["llava"]])
def test_an_architecture_that_is_unknown_or_no_name_is_refused(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelConfigError, match="must be one of llava, llava_next, llava_onevision; use such"):
        require_llava(tmp_path)
    with pytest.raises(ModelConfigError, match="must be one of one, two, which it is not"):
        model_type(tmp_path, ("one", "two"), remedy=", which it is not")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "holds a list, must hold one JSON object"), ("{", "is not valid JSON"), ("\xff", "is not valid JSON")],
)
def test_a_file_that_is_no_object_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelConfigError, match=f"config.json.*{message}"):
        read_object(tmp_path / "config.json")


def test_a_model_that_is_neither_packaged_nor_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("reference-gard", str(tmp_path / "file"), "\x01"):
        with pytest.raises(ModelConfigError, match=r"must be one of \['reference-encoder', 'reference-guard'\] or an"):
            check_model(name, {})


@pytest.mark.parametrize("name", ["reference-guard", "reference-encoder"])
def test_what_ships_is_checked_without_being_loaded(name: str) -> None:
    check_model(name, {})
    folder = model_folder(name)
    assert (folder / "holdfast.json").is_file()


@pytest.fixture(scope="module")
def merging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("merging")


@given(st.dictionaries(st.sampled_from("abc"), st.integers()), st.dictionaries(st.sampled_from("abc"), st.integers()))
def test_settings_merge_field_by_field_at_every_depth(
    merging: Path, below: dict[str, int], over: dict[str, int]
) -> None:
    (merging / "holdfast.json").write_text(json.dumps({"x": {"y": below}, "z": 1}))
    merged = read_settings(merging, {"x": {"y": over}})
    assert merged == {"x": {"y": below | over}, "z": 1}


@given(parts, parts)
def test_two_lists_of_parts_have_one_digest_only_where_they_are_one_list(
    one: list[tuple[str, bytes]], two: list[tuple[str, bytes]]
) -> None:
    assert (digest(one) == digest(two)) == (one == two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([("ab", b"c")], [("a", b"bc")]),
        ([("a", b""), ("b", b"")], [("ab", b"")]),
        ([("a", b"x"), ("b", b"y")], [("b", b"y"), ("a", b"x")]),
        ([], [("", b"")]),
    ],
)
def test_a_digest_sees_where_a_name_ends_and_in_what_order_parts_come(one: Any, two: Any) -> None:
    assert digest(one) != digest(two)
    assert digest(one).startswith("sha256:")
    assert len(digest(one)) == len("sha256:") + 64


def test_the_files_that_may_decide_a_vote_are_digested_and_no_others(tmp_path: Path) -> None:
    for name in ("b.json", "a.safetensors", "c.jinja", "vocab.txt", "t.model", "holdfast.json", "README.md", "x.bin"):
        (tmp_path / name).write_text(name)
    before = weights_and_files(tmp_path)
    assert [name for name, _ in before] == ["a.safetensors", "b.json", "c.jinja", "t.model", "vocab.txt"]
    for name in ("holdfast.json", "README.md", "x.bin"):
        (tmp_path / name).write_text("changed")
    assert weights_and_files(tmp_path) == before
    (tmp_path / "c.jinja").write_text("changed")
    assert [old == new for old, new in zip(before, weights_and_files(tmp_path), strict=True)].count(False) == 1


@pytest.mark.parametrize("kind", ["missing_keys", "mismatched_keys", "unexpected_keys"])
def test_weights_that_do_not_fit_are_counted_and_the_first_is_named(kind: str) -> None:
    with pytest.raises(ModelConfigError, match=r"2 weights are missing, misshapen or too many \(first: a\)"):
        require_fit({kind: ["b", "a"]})
    require_fit({kind: [], "error_msgs": ["said elsewhere"]})


def test_devices_and_number_types_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")
    with pytest.raises(ModelConfigError, match=r"device=cuda:1 must exist.*use device=auto or cpu"):
        find_device("cuda:1")
    assert find_dtype("auto", torch.device("cpu")) == find_dtype("float32", torch.device("cuda")) == torch.float32
    assert find_dtype("auto", torch.device("cuda")) == find_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert find_dtype("float16", torch.device("cpu")) == torch.float16
