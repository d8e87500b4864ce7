import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from holdfast.queue.jobs import JobInput
from holdfast_worker.models.draws import Draws, noisy_images
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.models.vision.preprocessing import to_tiles
from holdfast_worker.replay.guard import replay
from tests.workers.builders import TEXT, Draw, png, ready_for, votes
from tests.workers.certificates import certificate_of

TALKS = ["Safe", "Unsafe", ".", '"', "<|im_end|>"]
RULES: dict[str, dict[str, Any]] = {
    "word": {"answer": "word"},
    "json": {
        "answer": "json_rating",
        "answer_prefix": '{"rating": "',
        "unsafe_tokens": ["Unsafe", "Unsafe.Unsafe."],
        "safe_tokens": ["Safe", "Safe."],
    },
}


@pytest.fixture(scope="module")
def folder(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose answers are made of a few tokens, so that many of them are verdicts."""
    folder = shutil.copytree(base_folder, tmp_path_factory.mktemp("talks") / "copy")
    weights = load_file(folder / "model.safetensors")
    few = torch.tensor(AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(TALKS))
    name = next(name for name in weights if name.endswith("lm_head.weight"))
    loud = torch.full((len(weights[name]), 1), 0.01)
    loud[few] = torch.tensor([1.0, 1.0, 1.0, 1.5, 1.0])[:, None]
    save_file(weights | {name: weights[name] * loud}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def load(folder: Path) -> Callable[..., LlavaGuard]:
    def load(rule: str, **settings: Any) -> LlavaGuard:
        own = {"decision": "generate", "max_new_tokens": 5, **RULES[rule]}
        return load_guard(folder, load_config(GuardConfig, folder, own | settings))

    return load


def published_answer(guard: LlavaGuard, draws: Draws, index: int, tail: int, cell: int) -> str:
    """What transformers' own greedy `generate` writes behind one full prompt."""
    prepared, most = draws.prepared, guard.config.max_new_tokens
    pixels = to_tiles(noisy_images(draws), guard.inputs.pixels)[index, None, None]
    ids = torch.tensor([[*prepared.prefix.tolist(), *draws.tails[index, tail, cell], *guard._prompt.after]])
    image = {"pixel_values": pixels, "image_sizes": torch.tensor([[32, 32]]), "batch_num_images": [2]}
    mask = torch.ones_like(ids)
    written = guard._model.generate(input_ids=ids, attention_mask=mask, **image, do_sample=False, max_new_tokens=most)
    return guard._prompt.ordinary.decode(written[0, ids.shape[1] :].tolist())


def expected(guard: LlavaGuard, text: str) -> bool | None:
    """The verdict of a whole answer, None where it gives none."""
    if guard.config.answer == "word":
        rating = next(iter(re.findall(r"[A-Za-z]+", text)), None)
    else:
        rating = text.split('"')[0] if '"' in text else None
    verdicts = dict.fromkeys(guard.config.unsafe_tokens, True) | dict.fromkeys(guard.config.safe_tokens, False)
    return None if rating is None else verdicts.get(rating)


@pytest.mark.parametrize("rule", RULES)
def test_votes_are_what_transformers_own_greedy_answers_say(
    load: Callable[..., LlavaGuard], draw: Draw, rule: str
) -> None:
    guard = load(rule)
    draws = draw(guard, 0, 8, seed="t")
    found = votes(guard, [draws])[0]
    answers = np.array([published_answer(guard, draws, *at) for at in np.ndindex(8, 2, 5)]).reshape(8, 2, 5)
    verdicts = np.vectorize(lambda text: expected(guard, text), otypes=[object])(answers)
    assert {True, False, None} <= set(verdicts.ravel())
    assert (found == np.where(verdicts == None, True, verdicts)).all()  # noqa: E711


@pytest.mark.parametrize("rule", RULES)
def test_an_unparseable_answer_counts_as_the_settings_say_and_changes_no_other(
    load: Callable[..., LlavaGuard], draw: Draw, rule: str
) -> None:
    cautious, lenient = load(rule), load(rule, unparseable="safe")
    found = [guard.margins([draw(guard, 0, 12)])[0] for guard in (cautious, lenient)]
    np.testing.assert_allclose(np.abs(found[0]), np.abs(found[1]), atol=1e-5)
    changed = (found[0] > 0) != (found[1] > 0)
    assert changed.any()
    assert (found[0][changed] > 0).all()


def test_answers_do_not_depend_on_what_else_is_in_the_batch(load: Callable[..., LlavaGuard], draw: Draw) -> None:
    guard = load("word")
    whole = guard.margins([draw(guard, 0, 20)])[0]
    cuts = [0, 1, 7, 20]
    orders = [draw(guard, a, b) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(guard.margins(orders)), whole, atol=1e-4)
    np.testing.assert_allclose(guard.plain_margins(draw(guard, 0, 4)), whole[:4], atol=1e-4)


def test_a_margin_is_the_lead_of_the_answer_over_another_one(load: Callable[..., LlavaGuard], draw: Draw) -> None:
    guard = load("word", max_new_tokens=1)
    draws = draw(guard, 0, 3)
    states = []
    guard._model.lm_head.register_forward_hook(lambda _, __, logits: states.append(logits))
    margins = guard.margins([draws])[0]
    best = states[0].topk(2).values
    np.testing.assert_allclose(np.abs(margins).ravel(), best[:, 0] - best[:, 1], atol=1e-6)
    assert len(states) == 1


def test_nothing_is_written_after_the_verdict(load: Callable[..., LlavaGuard], draw: Draw) -> None:
    guard = load("word", max_new_tokens=100, max_text_bytes=20)
    calls = []
    guard._model.lm_head.register_forward_hook(lambda _, __, logits: calls.append(len(logits)))
    guard.margins([draw(guard, 0, 8, tails=1)])
    assert calls == sorted(calls, reverse=True)
    assert len(calls) < 20


def test_a_tie_of_tokens_is_not_a_tie_of_verdicts(load: Callable[..., LlavaGuard], draw: Draw) -> None:
    guard = load("json", max_new_tokens=1)
    torch.nn.init.zeros_(guard._model.lm_head.weight)
    assert votes(guard, [draw(guard, 0, 2)])[0].all()


def test_variants_of_written_answers_may_be_several_tokens(load: Callable[..., LlavaGuard]) -> None:
    assert load("json", unsafe_tokens=["Review Needed"]).config.unsafe_tokens == ("Review Needed",)


def test_a_text_limit_leaves_room_for_the_answer(load: Callable[..., LlavaGuard]) -> None:
    with pytest.raises(ModelConfigError, match="max_text_bytes=200 must be at most"):
        load("word", max_new_tokens=400)


def test_votes_of_written_answers_are_replayed(load: Callable[..., LlavaGuard]) -> None:
    guard = load("word")
    ready = ready_for(guard, size=(48, 40), noise={"beta": 0.5}, threat={"text": {"slots": 4}})
    stated = certificate_of(guard, ready, (0, 4, 8), (48, 40))
    compared = list(replay(guard, stated, JobInput(TEXT, "", png(48, 40)), share=1))
    assert [(found.passes, found.differing) for found in compared] == [(8 * ready.spec.draw_passes, 0)]
