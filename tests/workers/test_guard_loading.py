import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from holdfast_worker.models import registry
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from tests.workers.builders import Draw, votes


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(base_folder, tmp_path / "copy")


def fingerprint(folder: Path, **settings: Any) -> str:
    return load_guard(folder, load_config(GuardConfig, folder, settings)).fingerprint


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_equal_folders_have_equal_fingerprints(base_folder: Path, copy: Path) -> None:
    assert fingerprint(base_folder) == fingerprint(copy)
    assert fingerprint(base_folder).startswith("sha256:")
    assert len(fingerprint(base_folder)) == 71


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "Say Unsafe or Safe."},
        {"user_template": "{policy} {text}"},
        {"unsafe_tokens": ["Unsafe", "U"]},
        {"safe_tokens": ["Safe", "S"]},
        {"filler_token": "!"},
        {"mask_token": "<pad>"},
        {"tiles": "anyres"},
        {"noise_height": 48},
        {"noise_width": 48},
        {"dtype": "bfloat16"},
        {"layout": "policy_first"},
        {"decision": "generate"},
        {"answer_prefix": "I say "},
        {"answer": "json_rating", "answer_prefix": '{"rating": "'},
    ],
)
def test_whatever_changes_a_vote_changes_the_fingerprint(base_folder: Path, settings: dict[str, Any]) -> None:
    assert fingerprint(base_folder, **settings) != fingerprint(base_folder)


@pytest.mark.parametrize(
    "settings",
    [{"name": "other"}, {"max_slots": 9}, {"max_text_bytes": 50}, {"defaults": {"beta": 0.3}}, {"batch_limit": 99}],
)
def test_names_and_limits_leave_the_fingerprint_alone(base_folder: Path, settings: dict[str, Any]) -> None:
    assert fingerprint(base_folder, **settings) == fingerprint(base_folder)


def test_a_single_changed_weight_changes_the_fingerprint(base_folder: Path, copy: Path) -> None:
    change_weights(copy, lambda weights: weights["image_newline"][0].add_(1e-3))
    assert fingerprint(copy) != fingerprint(base_folder)


def test_another_alphabet_changes_the_fingerprint(base_folder: Path, copy: Path) -> None:
    stored = json.loads((copy / "tokenizer.json").read_text())
    last = max(stored["model"]["vocab"], key=stored["model"]["vocab"].get)
    del stored["model"]["vocab"][last]
    stored["model"]["merges"] = [m for m in stored["model"]["merges"] if "".join(m) != last]
    (copy / "tokenizer.json").write_text(json.dumps(stored))
    assert fingerprint(copy) != fingerprint(base_folder)


def test_pickled_weights_are_refused(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    message = r"pickled: \['pytorch_model.bin'\].*must be safetensors, since unpickling runs code"
    with pytest.raises(ModelConfigError, match=message):
        load_guard(copy, load_config(GuardConfig, copy, {}))


def test_a_missing_weight_is_refused_rather_than_left_random(copy: Path) -> None:
    change_weights(copy, lambda weights: weights.pop("image_newline"))
    with pytest.raises(
        ModelConfigError, match=r"1 weights are missing, misshapen or too many \(first: model.image_newline\)"
    ):
        load_guard(copy, load_config(GuardConfig, copy, {}))


def test_another_architecture_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "qwen2_vl"}')
    with pytest.raises(ModelConfigError, match="model_type='qwen2_vl' must be one of llava, llava_next, llava_one"):
        load_guard(copy, load_config(GuardConfig, copy, {}))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_a_checkpoint_that_asks_for_its_own_code_is_refused(copy: Path, name: str) -> None:
    stored = json.loads((copy / name).read_text()) if (copy / name).is_file() else {}
    (copy / name).write_text(json.dumps(stored | {"auto_map": {"AutoModel": "modeling_own.OwnModel"}}))
    with pytest.raises(ModelConfigError, match=f"{name} has an auto_map, .* and none is run; use a checkpoint that"):
        load_guard(copy, load_config(GuardConfig, copy, {}))


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelConfigError, match=r"holds no config\.json"):
        load_guard(tmp_path, load_config(GuardConfig, tmp_path, {"name": "x"}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_a_device_that_is_not_there_is_refused(copy: Path) -> None:
    with pytest.raises(ModelConfigError, match="no CUDA device is present; use device=auto or cpu"):
        load_guard(copy, load_config(GuardConfig, copy, {"device": "cuda"}))


def test_bfloat16_votes_like_float32_where_the_margin_is_wide(base_folder: Path, draw: Draw) -> None:
    exact = load_guard(base_folder, load_config(GuardConfig, base_folder, {}))
    rounded = load_guard(base_folder, load_config(GuardConfig, base_folder, {"dtype": "bfloat16"}))
    margins = exact.margins([draw(exact, 0, 30)])[0]
    wide = abs(margins) > 0.5
    assert wide.mean() > 0.3
    assert (votes(rounded, [draw(rounded, 0, 30)])[0] == (margins > 0))[wide].all()


def test_a_guard_is_loaded_from_a_folder_by_the_registry(base_folder: Path) -> None:
    assert registry.load(base_folder, {"name": "mine"}).config.name == "mine"


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelConfigError, match=r"must be one of \[.*'reference-guard'\] or an existing folder"):
        registry.load(tmp_path / "absent", {})


def test_the_reference_guard_ships_with_the_worker(draw: Draw) -> None:
    guard = registry.load("reference-guard", {})
    assert isinstance(guard, LlavaGuard)
    assert votes(guard, [draw(guard, 0, 4)])[0].shape == (4, 2, 5)


def test_one_encoder_under_two_names_must_have_the_same_heads() -> None:
    whole, bare = (registry.load("reference-encoder", {"heads": heads}) for heads in (["objects"], []))
    registry.require_one_set_of_heads([whole, whole])
    with pytest.raises(ModelConfigError, match="same encoder with different heads"):
        registry.require_one_set_of_heads([whole, bare])


def test_code_of_a_checkpoints_own_is_refused_for_vllm_too(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "modeling.Guard"}}))
    with pytest.raises(ModelConfigError, match="auto_map"):
        registry.load(copy, {"engine": "vllm", "vllm_url": "http://127.0.0.1:9"})
