"""Vision folders that cannot be served, and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.encoder.loading import load_tower
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config
from tests.workers.checkpoints import clip_folder, llava_folder, open_clip_folder, siglip_folder, siglip_vision


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP's folder; no test changes it."""
    return clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def copy(clip: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clip, tmp_path / "copy")


def refused(folder: Path, message: str, **settings: Any) -> None:
    with pytest.raises(ModelConfigError, match=message):
        load_tower(folder, load_config(EncoderConfig, folder, settings), torch.float32)


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    # Copies, since the file that they are mapped from is written over.
    stored = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(stored)
    save_file(stored, folder / "model.safetensors")


def test_pickled_weights_are_refused(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    refused(copy, r"pickled: \['pytorch_model.bin'\].*must be safetensors, since unpickling runs code")


def test_a_pickle_under_another_name_is_refused(copy: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, copy / "model.safetensors")
    refused(copy, "must be a safetensors file")


NAME = "vision_model.encoder.layers.1.mlp.fc1.weight"


@pytest.mark.parametrize(
    "change",
    [
        lambda stored: stored.pop(NAME),
        lambda stored: stored.update({NAME: torch.zeros(4, 4)}),
        lambda stored: stored.update({NAME.replace(".1.", ".7."): torch.zeros(4, 4)}),
    ],
    ids=["missing", "misshapen", "too many"],
)
def test_weights_that_do_not_fit_the_configuration_are_refused(
    copy: Path, change: Callable[[dict[str, Tensor]], Any]
) -> None:
    change_weights(copy, change)
    refused(copy, r"1 weights are missing, misshapen or too many \(first: .*mlp.fc1.weight")


@pytest.mark.parametrize("bad", [None, torch.zeros(12, 15)])
def test_a_projection_that_is_missing_or_misshapen_is_refused_only_where_it_is_used(
    copy: Path, bad: Tensor | None
) -> None:
    def change(stored: dict[str, Tensor]) -> None:
        stored.pop("visual_projection.weight")
        stored.update({} if bad is None else {"visual_projection.weight": bad})

    change_weights(copy, change)
    refused(copy, r"must have one of shape \(E, 16\) for feature=projection")
    assert load_tower(copy, load_config(EncoderConfig, copy, {"feature": "cls"}), torch.float32).size == (32, 32)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("siglip", "model_type='clip' must be one of siglip, siglip_vision_model for architecture=siglip"),
        ("llava", "model_type='clip' must be one of llava, llava_next, llava_onevision"),
    ],
)
def test_another_architecture_is_refused(clip: Path, architecture: str, message: str) -> None:
    refused(clip, message, architecture=architecture)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    settings = {"name": "e", "kind": "encoder", "architecture": "clip"}
    refused(tmp_path, "holds no safetensors", **settings)
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    refused(tmp_path, r"holds no config\.json", **settings)
    refused(tmp_path / "absent", "must be a folder that exists", **settings)


def test_code_in_the_folder_is_never_run(copy: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (copy / "code.py").write_text(f"open({str(trace)!r}, 'w')")
    rewrite(copy / "config.json", auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})
    load_tower(copy, load_config(EncoderConfig, copy, {}), torch.float32)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_normalize": False}, "do_normalize=False must be True"),
        ({"do_rescale": False}, "do_rescale=False must be True"),
        ({"rescale_factor": 1 / 127.5}, r"255 \* rescale_factor=2\.0 must be 1\.0"),
        ({"rescale_factor": 0}, r"255 \* rescale_factor=0 must be 1\.0"),
        ({"resample": 2}, "resample=2 must be"),
        ({"crop_size": {"height": 32, "width": 24}}, "crop_size="),
        ({"image_mean": [0.5, 0.5]}, "image_mean=.* must be three numbers"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std=.* must be above 0"),
    ],
)
def test_an_image_processor_that_does_something_else_is_refused(
    copy: Path, change: dict[str, Any], message: str
) -> None:
    rewrite(copy / "preprocessor_config.json", **change)
    refused(copy, f"image processor: {message}")


def test_a_missing_image_processor_is_refused(copy: Path) -> None:
    (copy / "preprocessor_config.json").unlink()
    refused(copy, r"holds no preprocessor_config\.json, which says how pixels are normalised")


def test_a_layer_that_is_not_there_is_refused(clip: Path) -> None:
    for layer in (4, -5):
        refused(clip, f"layer={layer} must be -4 to 3, its hidden states", feature="mean", layer=layer)


def test_a_pooling_head_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = siglip_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    rewrite(folder / "config.json", vision_config=config["vision_config"] | {"vision_use_head": False})
    change_weights(folder, lambda stored: [stored.pop(name) for name in list(stored) if ".head." in name])
    refused(folder, "has no pooling head, which feature=projection is")


def test_a_llava_of_another_vision_model_is_refused(tmp_path: Path) -> None:
    folder = llava_folder(tmp_path, vision=siglip_vision())
    rewrite(folder / "config.json", vision_config={"model_type": "dinov2"})
    refused(folder, "the vision model is 'dinov2'.*must be CLIP's or SigLIP's")


def test_shards_outside_the_folder_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy.parent / "outside.safetensors")
    save_file({"weight": torch.zeros(1)}, copy / "inside.safetensors")
    index = {"weight_map": {NAME: "../outside.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(copy, r"names '\.\./outside\.safetensors', must name files of its own folder")
    (copy / "model.safetensors.index.json").write_text("[]")
    refused(copy, "has no weight_map of file names")


def test_an_open_clip_of_another_tower_is_refused(clip: Path, tmp_path: Path) -> None:
    folder = open_clip_folder(tmp_path / "open", clip)
    layout = json.loads((folder / "open_clip_config.json").read_text())
    vision = layout["model_cfg"]["vision_cfg"]
    for change in ({"layers": [3, 4, 6, 3]}, {"timm_model_name": "convnext_base"}):
        rewrite(folder / "open_clip_config.json", model_cfg=layout["model_cfg"] | {"vision_cfg": vision | change})
        refused(folder, "must describe a plain vision transformer")
    rewrite(folder / "open_clip_config.json", model_cfg={})
    refused(folder, r"open_clip_config\.json does not describe a vision model")


def test_an_open_clip_tensor_of_another_tower_is_refused(clip: Path, tmp_path: Path) -> None:
    folder = open_clip_folder(tmp_path / "open", clip)
    path = folder / "open_clip_model.safetensors"
    stored = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(stored | {"visual.attn_pool.query": torch.zeros(1)}, path)
    refused(folder, r"tensor visual\.attn_pool\.query is none of a plain vision transformer's")
