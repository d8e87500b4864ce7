"""Vision towers of transformers' and open_clip's layouts: their features are the libraries' own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPModel,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
    SiglipModel,
    SiglipVisionModel,
)
from transformers.models.clip import CLIPImageProcessorPil
from transformers.models.siglip import SiglipImageProcessorPil

from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.encoder.loading import load_tower
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.vision.towers import Tower
from tests.workers.checkpoints import SIDE, clip_folder, llava_folder, open_clip_folder, siglip_folder, siglip_vision

PICTURES = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
IMAGES = torch.tensor(PICTURES).permute(0, 3, 1, 2) / 255


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP's folder; no test changes it."""
    return clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP's folder; no test changes it."""
    return siglip_folder(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA's folder; no test changes it."""
    return llava_folder(tmp_path_factory.mktemp("llava"))


def load(folder: Path, **settings: Any) -> Tower:
    return load_tower(folder, load_config(EncoderConfig, folder, settings), torch.float32)


def feature(folder: Path, **settings: Any) -> Tensor:
    tower = load(folder, **settings)
    return tower.pooled(tower.tokens(IMAGES))


def clip_reference(folder: Path) -> Any:
    """CLIP's own vision output, hidden states included, on the pixels of its own processor."""
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=list(PICTURES), return_tensors="pt").pixel_values
    model = CLIPModel.from_pretrained(folder).eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        output = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        output.projected = model.get_image_features(pixel_values=pixels).pooler_output
    return output


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_clip_gives_its_image_embedding_by_default(clip: Path) -> None:
    close(feature(clip), clip_reference(clip).projected)


def test_clip_gives_its_class_token_its_mean_patch_and_its_tokens(clip: Path) -> None:
    output = clip_reference(clip)
    close(feature(clip, feature="cls"), output.pooler_output)
    close(feature(clip, feature="mean"), output.last_hidden_state[:, 1:].mean(1))
    close(feature(clip, feature="tokens"), output.last_hidden_state.flatten(1))


@pytest.mark.parametrize("layer", [0, 1, 3, -1, -2, -4])
def test_clip_gives_the_hidden_state_that_is_asked_for(clip: Path, layer: int) -> None:
    state = clip_reference(clip).hidden_states[layer]
    close(feature(clip, feature="cls", layer=layer), state[:, 0])
    close(feature(clip, feature="mean", layer=layer), state[:, 1:].mean(1))


def test_siglip_gives_its_pooling_head_its_mean_patch_and_its_tokens(siglip: Path) -> None:
    pixels = SiglipImageProcessorPil.from_pretrained(siglip)(images=list(PICTURES), return_tensors="pt").pixel_values
    with torch.no_grad():
        output = SiglipModel.from_pretrained(siglip).eval().vision_model(pixel_values=pixels)  # type: ignore[no-untyped-call]
    close(feature(siglip), output.pooler_output)
    close(feature(siglip, feature="mean"), output.last_hidden_state.mean(1))
    close(feature(siglip, feature="tokens"), output.last_hidden_state.flatten(1))


@pytest.mark.parametrize(
    ("of", "kind"), [("clip", CLIPVisionModelWithProjection), ("clip", CLIPVisionModel), ("siglip", SiglipVisionModel)]
)
def test_a_vision_model_may_lie_there_alone(of: str, kind: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    whole: Path = request.getfixturevalue(of)
    kind.from_pretrained(whole).save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "holdfast.json"):
        (tmp_path / name).write_text((whole / name).read_text())
    asked = {"feature": "cls"} if kind is CLIPVisionModel else {}
    assert torch.equal(feature(tmp_path, **asked), feature(whole, **asked))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_checkpoint_in_open_clips_layout_is_the_same_tower(tmp_path: Path, activation: str) -> None:
    clip = clip_folder(tmp_path / "clip")
    config = json.loads((clip / "config.json").read_text())
    config["vision_config"]["hidden_act"] = activation
    (clip / "config.json").write_text(json.dumps(config))
    other = open_clip_folder(tmp_path / "open", clip, quick_gelu=activation == "quick_gelu")
    assert (feature(clip) - feature(other)).abs().max() < 1e-6
    close(feature(other), clip_reference(clip).projected)


def test_open_clips_tensors_may_lie_beside_transformers_configuration(clip: Path, tmp_path: Path) -> None:
    other = open_clip_folder(tmp_path / "open", clip)
    (other / "open_clip_config.json").unlink()
    for name in ("config.json", "preprocessor_config.json"):
        (other / name).write_text((clip / name).read_text())
    assert torch.equal(feature(other), feature(clip))


def test_open_clip_may_be_in_transformers_layout(clip: Path) -> None:
    assert torch.equal(feature(clip, architecture="open_clip"), feature(clip))


MODELS: dict[Any, Any] = {
    LlavaConfig: LlavaForConditionalGeneration,
    LlavaNextConfig: LlavaNextForConditionalGeneration,
}


def llava_reference(folder: Path, model: Any) -> list[Tensor]:
    """The hidden states of a LLaVA's own vision tower."""
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=list(PICTURES), return_tensors="pt").pixel_values
    with torch.no_grad():
        states: list[Tensor] = model.model.vision_tower(pixel_values=pixels, output_hidden_states=True).hidden_states
    return states


@pytest.mark.parametrize("of", [LlavaConfig, LlavaNextConfig])
@pytest.mark.parametrize(("layer", "strategy"), [(-2, "default"), (-1, "full"), ([-3, 1], "default")])
def test_a_llava_gives_what_its_projector_reads(tmp_path: Path, of: Any, layer: Any, strategy: str) -> None:
    chosen = {"vision_feature_layer": layer, "vision_feature_select_strategy": strategy}
    folder = llava_folder(tmp_path, of=of, config=chosen)
    states = llava_reference(folder, MODELS[of].from_pretrained(folder).eval())
    layers = layer if isinstance(layer, list) else [layer]
    read = torch.cat([states[index] for index in layers], dim=-1)
    kept = read[:, 1:] if strategy == "default" else read
    close(load(folder).tokens(IMAGES), kept)
    close(feature(folder), kept.flatten(1))
    close(feature(folder, feature="mean"), read[:, 1:].mean(1))
    close(feature(folder, feature="cls"), read[:, 0])


def test_a_llava_of_siglip_has_no_class_token_to_drop(tmp_path: Path) -> None:
    folder = llava_folder(tmp_path, vision=siglip_vision(), config={"vision_feature_select_strategy": "full"})
    states = llava_reference(folder, LlavaForConditionalGeneration.from_pretrained(folder).eval())  # type: ignore[no-untyped-call]
    close(feature(folder, feature="mean"), states[-2].mean(1))
    with pytest.raises(ModelConfigError, match="feature=cls needs a class token, which SigLIP has not"):
        load(folder, feature="cls")


def test_a_llava_onevision_guard_lends_its_tower(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(layer=-1)
    settings = {"name": "tower", "kind": "encoder", "architecture": "llava", "device": "cpu"}
    (folder / "holdfast.json").write_text(json.dumps(settings))
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder).eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        states = model.model.vision_tower(pixel_values=(IMAGES - 0.5) / 0.5, output_hidden_states=True).hidden_states
    close(feature(folder), states[-1].flatten(1))


PUBLISHED = [
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.language_model.", "language_model.model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
]


def test_a_llava_is_read_under_the_names_that_older_ones_are_published_with(llava: Path, tmp_path: Path) -> None:
    stored = {
        name: tensor for shard in sorted(llava.glob("*.safetensors")) for name, tensor in load_file(shard).items()
    }
    assert len(list(llava.glob("*.safetensors"))) > 2
    renamed = {}
    for name, tensor in stored.items():
        bare = name.replace("vision_tower.vision_model.", "vision_tower.")
        bare = bare if bare.startswith("model.") else f"model.{bare}"
        ours = next((new + bare.removeprefix(old) for old, new in PUBLISHED if bare.startswith(old)), name)
        renamed[ours] = tensor
    renamed["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    for name in ("config.json", "preprocessor_config.json", "holdfast.json"):
        (tmp_path / name).write_text((llava / name).read_text())
    save_file(renamed, tmp_path / "model.safetensors")
    assert torch.equal(feature(tmp_path), feature(llava))


def test_images_of_another_size_are_resized_inside(clip: Path) -> None:
    large = torch.rand(2, 3, 48, 40)
    resized = torch.nn.functional.interpolate(large, (SIDE, SIDE), mode="bicubic", antialias=True)
    tower = load(clip)
    assert torch.equal(tower.tokens(large), tower.tokens(resized))
    assert tower.size == (SIDE, SIDE)


@pytest.mark.parametrize("settings", [{}, {"feature": "tokens", "layer": -2}])
def test_gradients_reach_the_images_and_no_weight(clip: Path, settings: dict[str, Any]) -> None:
    tower = load(clip, **settings)
    images = IMAGES.clone().requires_grad_(True)
    tower.pooled(tower.tokens(images)).square().sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert images.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not any(module.training for module in tower.modules())


def test_half_precision_stays_near(clip: Path) -> None:
    tower = load_tower(clip, load_config(EncoderConfig, clip, {}), torch.bfloat16)
    rounded = tower.pooled(tower.tokens(IMAGES))
    assert rounded.dtype == tower.tokens(IMAGES).dtype == torch.float32
    similarity = torch.cosine_similarity(rounded, feature(clip))
    assert similarity.min() > 0.999
    assert similarity.max() < 1
