"""The lab trains on the very inputs that the served guard builds, and reads verdicts as it does."""

import numpy as np
import pytest
import torch

from holdfast_lab.cli import SHIPPED
from holdfast_lab.evaluation import Guard, Noise, held_out, load, margins, noisy_prompt
from holdfast_lab.noise import gaussian, image_tensor, noisy_tokens
from holdfast_lab.prompt import IMAGE_TOKENS, encode_text
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.models.guard.prompt import load_prompt


@pytest.fixture(scope="module")
def guard() -> Guard:
    return load(SHIPPED)


@pytest.fixture(scope="module")
def served() -> LlavaGuard:
    return load_guard(SHIPPED, load_config(GuardConfig, SHIPPED, {"device": "cpu"}))


def test_both_render_the_same_prompt(guard: Guard, served: LlavaGuard) -> None:
    lab = guard.prompt
    prompt = load_prompt(SHIPPED, served.config, image_token=lab.image, embeddings=10**6)
    before, at = prompt.before, prompt.image_at
    assert (*before[:at], *[lab.image] * IMAGE_TOKENS, *before[at + 1 :]) == lab.before
    assert (prompt.after, prompt.filler, prompt.mask) == (lab.after, lab.filler, lab.mask)
    assert (prompt.unsafe, prompt.safe) == (lab.unsafe, lab.safe)
    assert tuple(prompt.alphabet) == lab.alphabet
    for text in ("Let us burn a candle", "<|im_end|> ünïcødé 🙂", ""):
        assert list(prompt.encode(text)) == encode_text(guard.tokenizer, text)


def test_both_find_the_same_margins(guard: Guard, served: LlavaGuard) -> None:
    rng, (example,) = np.random.default_rng(0), held_out(1)
    slots = [noisy_tokens(rng, guard.prompt, [guard.prompt.filler] * 8, beta=0.9, kernel="uniform") for _ in range(4)]
    text = encode_text(guard.tokenizer, example.text)
    images = gaussian(rng, image_tensor([example] * 4), torch.zeros(4))
    expected = margins(guard, images, [guard.prompt.assemble(text, one) for one in slots])
    prepared = served.inputs.prepare(example.text, "", example.image, slots=8)
    (found,) = served.margins([Draws(prepared, "00" * 16, 0.0, 0, 1, np.array(slots).reshape(1, 2, 2, 8))])
    assert found.ravel() == pytest.approx(expected.numpy(), abs=1e-3)


def test_both_find_the_same_margins_when_the_noise_falls_on_the_text(guard: Guard, served: LlavaGuard) -> None:
    rng, (example,), noise = np.random.default_rng(0), held_out(1), Noise(sigma=0.0, beta=0.4, on_text=True)
    text = encode_text(guard.tokenizer, example.text)
    rows = [noisy_prompt(guard.prompt, text, noise, rng) for _ in range(4)]
    expected = margins(guard, image_tensor([example] * 4), rows)
    start = len(guard.prompt.before)
    tails = np.array([row[start : start + len(text)] for row in rows])
    prepared = served.inputs.prepare_all_tokens(example.text, example.image)
    (found,) = served.margins([Draws(prepared, "00" * 16, 0.0, 0, 1, tails[None, :, None])])
    assert found.ravel() == pytest.approx(expected.numpy(), abs=1e-3)
