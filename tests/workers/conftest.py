"""Tiny random LLaVA-OneVision checkpoints, saved as a published one would be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.llava_onevision import LlavaOnevisionImageProcessorPil

from holdfast.contract.guard.spec import Cell
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from tests.workers.builders import Checkpoint, Draw, spec_of

SPECIALS = ["<pad>", "<image>", "<video>", "<mask>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {% for p in m.content %}{% if p.type == 'image' %}<image>\n"
    "{% else %}{{ p.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SETTINGS = {
    "name": "tiny",
    "policy": "Say Safe or Unsafe.",
    "unsafe_tokens": ["Unsafe"],
    "safe_tokens": ["Safe"],
    "mask_token": "<mask>",
    "noise_height": 32,
    "noise_width": 32,
    "max_text_bytes": 200,
    "max_slots": 16,
}


def _tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["Safe", "Unsafe", "user", "assistant", "how are you?"] * 50, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<|im_end|>")  # type: ignore[no-untyped-call]
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS[1:5]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _model(tokenizer: PreTrainedTokenizerFast, pinpoints: Any, most: int, layer: Any, sliding: Any) -> Any:
    torch.manual_seed(0)
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=8, vision_use_head=False,
    )  # fmt: skip
    text = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=600, initializer_range=0.3, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=None, eos_token_id=5,
        use_sliding_window=sliding is not None, sliding_window=sliding, max_window_layers=1,
    )  # fmt: skip
    config = LlavaOnevisionConfig(
        vision_config=vision, text_config=text, image_token_index=1, video_token_index=2,
        image_grid_pinpoints=pinpoints, vision_aspect_ratio=f"anyres_max_{most}", vision_feature_layer=layer,
    )  # fmt: skip
    model: Any = LlavaOnevisionForConditionalGeneration(config)
    return model.eval()


@pytest.fixture(scope="session")
def chat_tokenizer() -> PreTrainedTokenizerFast:
    """The tiny checkpoints' tokenizer, with their chat template."""
    return _tokenizer()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Writes a fresh checkpoint folder; the settings given are laid over `SETTINGS` in its holdfast.json."""

    def write(
        pinpoints: Any = ((32, 32),), most: int = 9, layer: Any = -1, sliding: Any = None, **settings: Any
    ) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        tokenizer = _tokenizer()
        tokenizer.save_pretrained(folder)
        _model(tokenizer, [list(p) for p in pinpoints], most, layer, sliding).save_pretrained(folder)
        LlavaOnevisionImageProcessorPil(
            size={"height": 32, "width": 32},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
            image_grid_pinpoints=[list(p) for p in pinpoints],
        ).save_pretrained(folder)
        (folder / "holdfast.json").write_text(json.dumps(SETTINGS | settings))
        return folder

    return write


@pytest.fixture(scope="session")
def base_folder(checkpoint: Checkpoint) -> Path:
    """A one-tile checkpoint that no test changes."""
    return checkpoint(tiles="base")


@pytest.fixture
def guard(base_folder: Path) -> LlavaGuard:
    """A freshly loaded one-tile guard."""
    return load_guard(base_folder, load_config(GuardConfig, base_folder, {}))


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A smooth random picture, uint8 (48, 40, 3)."""
    coarse = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, (48, 40), mode="bicubic").clamp(0, 1)
    return (fine[0].permute(1, 2, 0) * 255).round().byte().numpy()


@pytest.fixture(scope="session")
def draw(photo: NDArray[np.uint8]) -> Draw:
    """Builds the range of draws that a worker would run for an order."""

    def build(
        guard: LlavaGuard,
        start: int,
        stop: int,
        *,
        text: str = "how are you?",
        seed: str = "s",
        sigma: float = 0.25,
        slots: int = 4,
        tails: int = 2,
    ) -> Draws:
        prepared = guard.inputs.prepare(text, "", photo, slots=slots)
        strata = [Cell(slots, k, k == slots) for k in range(slots + 1)]
        asked = {"text": "a", "image": {"data": "given"}}  # the kernel is the same for every text
        spec = spec_of(guard, input=asked, noise={"beta": 0.5}, sampling={"tails": tails})
        noised = guard.inputs.noised(spec, prepared.tail_base, strata, seed=seed, start=start, stop=stop)
        return Draws(prepared, seed, sigma, start, stop, noised)

    return build
