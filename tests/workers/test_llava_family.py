"""LLaVA-1.5 and LLaVA-NeXT as guards, against transformers' own models and processors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    MistralConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.clip import CLIPImageProcessorPil
from transformers.models.llava_next import LlavaNextImageProcessorPil

from holdfast_worker.models.draws import Draws
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.input import context_length
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.models.stages import StageClock
from holdfast_worker.models.vision.preprocessing import Pixels, to_tiles
from tests.workers.builders import Draw
from tests.workers.test_preprocessing import SIZES, picture

SIDE = 32
PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
KINDS = ["llava", "llava-full", "llava-siglip", "next-mistral", "next-llama"]
VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": SIDE, "patch_size": 8,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 600, "initializer_range": 0.3,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 5,
}  # fmt: skip
SETTINGS = {
    "name": "tiny", "policy": "Say Safe or Unsafe.", "mask_token": "<mask>", "max_text_bytes": 200, "max_slots": 16,
    "device": "cpu",
}  # fmt: skip


def model_of(kind: str, vocabulary: int) -> Any:
    text = (MistralConfig if kind == "next-mistral" else LlamaConfig)(vocab_size=vocabulary, **TEXT)
    if isinstance(text, MistralConfig):
        text.sliding_window = None
    vision = SiglipVisionConfig(**VISION, vision_use_head=False) if "siglip" in kind else CLIPVisionConfig(**VISION)
    own: dict[str, Any] = {
        "vision_config": vision,
        "text_config": text,
        "image_token_index": 1,
        "vision_feature_layer": -2,
    }
    if kind in ("llava-full", "llava-siglip"):
        own["vision_feature_select_strategy"] = "full"
    torch.manual_seed(0)
    if kind.startswith("next"):
        whole: Any = LlavaNextForConditionalGeneration(LlavaNextConfig(**own, image_grid_pinpoints=PINPOINTS))
    else:
        whole = LlavaForConditionalGeneration(LlavaConfig(**own))
    return whole.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, chat_tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    """A checkpoint of each kind, as it would be published; no test changes them."""
    found = {}
    for kind in KINDS:
        folder = found[kind] = tmp_path_factory.mktemp(kind)
        chat_tokenizer.save_pretrained(folder)
        model_of(kind, len(chat_tokenizer)).save_pretrained(folder)
        sizes: dict[str, Any] = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
        if kind.startswith("next"):
            LlavaNextImageProcessorPil(**sizes, image_grid_pinpoints=PINPOINTS).save_pretrained(folder)
        else:
            CLIPImageProcessorPil(**sizes).save_pretrained(folder)
        (folder / "holdfast.json").write_text(json.dumps(SETTINGS))
    return found


@pytest.fixture
def load(folders: dict[str, Path]) -> Callable[..., LlavaGuard]:
    def load(kind: str, size: tuple[int, int] = (SIDE, SIDE), **settings: Any) -> LlavaGuard:
        own = {"noise_height": size[0], "noise_width": size[1]} | settings
        return load_guard(folders[kind], load_config(GuardConfig, folders[kind], own))

    return load


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda kind: shutil.copytree(folders[kind], tmp_path / kind)


def processed(folder: Path, kind: str, image: NDArray[np.uint8]) -> Any:
    """What transformers' own processor makes of an 8-bit picture."""
    processor = LlavaNextImageProcessorPil if kind.startswith("next") else CLIPImageProcessorPil
    return processor.from_pretrained(folder)(image, return_tensors="pt")


def eight_bit(tiles: Tensor, pixels: Pixels) -> NDArray[np.float32]:
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (pixels.mean, pixels.std))
    return ((tiles * std + mean) * 255).flatten(0, -4).numpy()


def unit(image: NDArray[np.uint8]) -> Tensor:
    return torch.tensor(image).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("kind", ["llava", "next-llama"])
@pytest.mark.parametrize("size", SIZES)
def test_tiles_match_the_published_processor_within_one_step(
    folders: dict[str, Path], load: Callable[..., LlavaGuard], kind: str, size: tuple[int, int]
) -> None:
    pixels, image = load(kind, size).inputs.pixels, picture(size)
    published = eight_bit(processed(folders[kind], kind, image)["pixel_values"], pixels)
    steps = np.abs(eight_bit(to_tiles(unit(image), pixels), pixels) - published)
    assert steps.max() < 1.01
    assert (steps < 0.01).mean() > 0.99


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_features_are_the_models_own(load: Callable[..., LlavaGuard], kind: str, size: tuple[int, int]) -> None:
    guard, image = load(kind, size), unit(picture(size))
    model, pixels = guard._model, guard.inputs.pixels
    tiles = to_tiles(image.clone(), pixels)
    own = {"pixel_values": tiles[None], "image_sizes": torch.tensor([size])}
    given = own if kind.startswith("next") else {"pixel_values": tiles}
    with torch.inference_mode():
        expected = torch.cat(list(model.get_image_features(**given).pooler_output))
        found = guard._images.features(image, StageClock(guard.device))[0]
    assert len(found) == pixels.image_tokens
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def plain_margin(guard: LlavaGuard, draws: Draws, image: Any) -> float:
    """The margin of one clean pass by the model's own forward, given what its processor makes of the picture."""
    ids = torch.tensor([[*draws.prepared.prefix.tolist(), *draws.tails[0, 0, 0], *guard._prompt.after]])
    with torch.inference_mode():
        logits = guard._model(input_ids=ids, **image).logits[0, -1]
    return float(logits[[*guard._prompt.unsafe]].logsumexp(0) - logits[[*guard._prompt.safe]].logsumexp(0))


def clean_draw(guard: LlavaGuard, image: NDArray[np.uint8]) -> Draws:
    prepared = guard.inputs.prepare("how are you?", "", image, slots=2)
    return Draws(prepared, "s", 0.0, 0, 1, prepared.tail_base[None, None, None])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_margins_equal_the_models_own_forward_of_the_same_tiles(
    load: Callable[..., LlavaGuard], kind: str, size: tuple[int, int]
) -> None:
    guard, image = load(kind, size), picture(size)
    draws, tiles = clean_draw(guard, image), to_tiles(unit(image), guard.inputs.pixels)
    own = {"pixel_values": tiles[None], "image_sizes": torch.tensor([size])}
    expected = plain_margin(guard, draws, own if kind.startswith("next") else {"pixel_values": tiles})
    np.testing.assert_allclose(guard.margins([draws])[0], expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_margins_of_a_picture_that_fits_equal_transformers_whole_path(
    folders: dict[str, Path], load: Callable[..., LlavaGuard], kind: str
) -> None:
    guard, image = load(kind), picture((SIDE, SIDE))
    draws = clean_draw(guard, image)
    expected = plain_margin(guard, draws, processed(folders[kind], kind, image))
    np.testing.assert_allclose(guard.margins([draws])[0], expected, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"layout": "policy_first"}, {"decision": "generate", "max_new_tokens": 3}])
@pytest.mark.parametrize("kind", KINDS)
def test_shared_prefixes_equal_the_plain_forward(
    load: Callable[..., LlavaGuard], draw: Draw, kind: str, settings: dict[str, Any]
) -> None:
    guard = load(kind, **settings)
    draws = draw(guard, 3, 8)
    np.testing.assert_allclose(guard.margins([draws])[0], guard.plain_margins(draws), atol=1e-4)


def test_llava_1_5_reads_one_tile_without_a_newline(load: Callable[..., LlavaGuard]) -> None:
    assert [load(kind).inputs.pixels.image_tokens for kind in ("llava", "llava-full", "llava-siglip")] == [16, 17, 16]
    assert load("llava", tiles="base").inputs.pixels == load("llava").inputs.pixels
    assert load("llava", tiles="base").info.notes == ()


def test_llava_next_may_be_served_by_one_tile(load: Callable[..., LlavaGuard], draw: Draw) -> None:
    guard = load("next-llama", tiles="base")
    assert guard.inputs.pixels.image_tokens == 17
    assert np.isfinite(guard.margins([draw(guard, 0, 2)])[0]).all()


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("llava", {"size": {"shortest_edge": 16}}, r"size=\(16, 16\) must be \(32, 32\)"),
        ("llava", {"crop_size": {"height": 16, "width": 16}}, r"crop_size=\(16, 16\) must be \(32, 32\)"),
        ("llava", {"do_center_crop": False}, "do_center_crop=False must be True"),
        ("llava", {"do_pad": True}, "do_pad=True must be False"),
        ("llava", {"resample": 2}, "resample=2 must be 3"),
        ("next-llama", {"image_grid_pinpoints": [[64, 64]]}, "image_grid_pinpoints .* differ, must agree"),
        ("next-llama", {"do_rescale": False}, "do_rescale=False must be True"),
    ],
)
def test_a_processor_that_does_something_else_is_refused(
    copy: Callable[[str], Path], kind: str, change: Any, message: str
) -> None:
    folder = copy(kind)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelConfigError, match=message):
        load_guard(folder, load_config(GuardConfig, folder, {}))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("llava-siglip", {"vision_feature_select_strategy": "default"}, "must be 'full' for a siglip_vision_model"),
        ("next-llama", {"vision_feature_select_strategy": "full"}, "must be 'default' for a clip_vision_model"),
    ],
)
def test_a_choice_of_tokens_that_was_never_published_is_refused(
    copy: Callable[[str], Path], kind: str, change: Any, message: str
) -> None:
    folder = copy(kind)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelConfigError, match=message):
        load_guard(folder, load_config(GuardConfig, folder, {}))


def test_weights_of_another_model_are_refused(copy: Callable[[str], Path], folders: dict[str, Path]) -> None:
    folder = copy("llava")
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(folders["next-llama"] / name, folder / name)
    with pytest.raises(
        ModelConfigError, match=r"1 weights are missing, misshapen or too many \(first: model.image_newline\)"
    ):
        load_guard(folder, load_config(GuardConfig, folder, {}))


def test_a_window_of_every_layer_bounds_the_context() -> None:
    whole = MistralConfig(max_position_embeddings=600, sliding_window=None)
    assert context_length(whole) == 600
    assert context_length(MistralConfig(max_position_embeddings=600, sliding_window=64)) == 64
