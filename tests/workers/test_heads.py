"""Classification heads: what they hold once loaded, and which files are none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from holdfast_worker.models.encoder.heads import Head, load_head
from holdfast_worker.models.errors import ModelConfigError

METADATA = {"classes": '["cat", "dog", "eel"]', "kind": "linear", "version": "3", "clip": "0.2"}


def linear() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"weight": torch.randn(3, 5, generator=generator), "bias": torch.randn(3, generator=generator)}


def prototypes() -> dict[str, Tensor]:
    return {"weight": torch.nn.functional.normalize(linear()["weight"])}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Head]:
    def one(tensors: dict[str, Tensor], width: int = 5, **metadata: str | None) -> Head:
        path = tmp_path / "animals.safetensors"
        kept = {name: value for name, value in (METADATA | metadata).items() if value is not None}
        save_file(tensors, path, metadata=kept)
        return load_head(path, width, torch.device("cpu"))

    return one


def test_a_linear_head_is_its_file(load: Callable[..., Head]) -> None:
    head = load(linear())
    assert (head.name, head.version, head.kind, head.clip) == ("animals", "3", "linear", 0.2)
    assert head.classes == ("cat", "dog", "eel")
    assert torch.equal(head.weight, linear()["weight"])
    assert head.bias is not None
    assert torch.equal(head.bias, linear()["bias"])


def test_the_api_describes_a_head(load: Callable[..., Head]) -> None:
    head = load(prototypes(), kind="prototypes")
    assert head.info.model_dump() == {
        "name": "animals",
        "version": "3",
        "fingerprint": head.fingerprint,
        "kind": "prototypes",
        "classes": ("cat", "dog", "eel"),
        "clip": 0.2,
    }


def test_prototypes_of_a_half_type_are_brought_to_unit_length(load: Callable[..., Head]) -> None:
    head = load({"weight": prototypes()["weight"].half()}, kind="prototypes")
    assert head.bias is None
    torch.testing.assert_close(head.weight.double().norm(dim=1), torch.ones(3).double(), atol=1e-7, rtol=0)


def test_the_fingerprint_is_of_what_a_head_computes(load: Callable[..., Head]) -> None:
    moved = linear() | {"bias": linear()["bias"] + 1e-3}
    same = [load(linear()), load(linear(), version="4")]
    others = [load(moved), load(linear(), clip="0.3"), load(linear(), classes='["cat", "eel", "dog"]')]
    assert len({head.fingerprint for head in same}) == 1
    assert len({head.fingerprint for head in (same[0], *others)}) == 4


def many(count: int) -> dict[str, Any]:
    tensors = {"weight": torch.eye(count, 300), "bias": torch.zeros(count)}
    return {"tensors": tensors, "width": 300, "classes": json.dumps([f"class {index}" for index in range(count)])}


def test_a_head_may_have_256_classes(load: Callable[..., Head]) -> None:
    assert len(load(**many(256)).classes) == 256


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (many(257), "257 classes, 257 of them different, must be 2 to 256"),
        (many(1), "1 classes, 1 of them different, must be 2 to 256"),
        ({"tensors": linear(), "width": 6}, r"must hold \{'weight': \(3, 6\)"),
        ({"tensors": linear(), "kind": "prototypes"}, "must hold {'weight'"),
        ({"tensors": prototypes()}, "must hold {'weight': .*'bias'"),
        ({"tensors": {"weight": linear()["weight"]}, "kind": "prototypes"}, "prototype . has length .*, must have 1"),
        ({"tensors": linear() | {"bias": torch.tensor([0, torch.nan, 0])}}, "bias has a number that is not finite"),
        ({"tensors": {"weight": torch.eye(3, 5) * torch.nan}, "kind": "prototypes"}, "weight has a number"),
        ({"tensors": {"weight": torch.eye(3, 5)[[0, 1, 0]]}, "kind": "prototypes"}, "the same weights, must differ"),
        ({"tensors": linear(), "version": None, "clip": None}, r"lacks the metadata \['clip', 'version'\]"),
        ({"tensors": linear(), "classes": "cat"}, "classes must be a JSON list of names"),
        ({"tensors": linear(), "classes": '["cat", 2, "eel"]'}, "classes must be a JSON list of names"),
        ({"tensors": linear(), "classes": '["cat", "cat", "eel"]'}, "3 classes, 2 of them different"),
        ({"tensors": linear(), "kind": "nearest"}, "kind='nearest' must be 'prototypes' or 'linear'"),
        ({"tensors": linear(), "clip": "0"}, "clip='0' must be a number above 0 and at most 1"),
        ({"tensors": linear(), "clip": "nan"}, "clip='nan' must be a number above 0 and at most 1"),
        ({"tensors": linear(), "clip": "wide"}, "clip='wide' must be a number above 0 and at most 1"),
    ],
)
def test_a_file_that_is_no_such_head_is_refused(load: Callable[..., Head], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelConfigError, match=message):
        load(**given)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save(linear(), tmp_path / "animals.safetensors")
    with pytest.raises(ModelConfigError, match="must be a safetensors file"):
        load_head(tmp_path / "animals.safetensors", 5, torch.device("cpu"))
    with pytest.raises(ModelConfigError, match="must be a safetensors file"):
        load_head(tmp_path / "absent.safetensors", 5, torch.device("cpu"))
