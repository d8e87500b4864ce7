"""A guard that answers a text without an image: its prompt, its margins, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from holdfast.queue.jobs import JobInput
from holdfast.queue.orders import Order
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.sampling.guard import draws_of, margins, prepare
from tests.workers.builders import SEED, png, spec_of

TEXT = JobInput("how are you?")
NO_IMAGE_THREAT = {"threat": {"image": {"norm": "none"}}}


def loaded(folder: Path, **settings: Any) -> LlavaGuard:
    return load_guard(folder, load_config(GuardConfig, folder, {"text_alone": True, **settings}))


@pytest.fixture(scope="module", params=["published", "policy_first", "generate"])
def alone(request: pytest.FixtureRequest, base_folder: Path) -> LlavaGuard:
    """A guard that answers texts alone, in each layout and decision rule."""
    asked = {"decision": "generate", "max_new_tokens": 4} if request.param == "generate" else {"layout": request.param}
    return loaded(base_folder, **asked)


def draws(guard: LlavaGuard, given: JobInput, start: int = 0, stop: int = 6, **asked: Any) -> Draws:
    ready = prepare(guard, spec_of(guard, **{**NO_IMAGE_THREAT, **asked}), SEED, given)
    (found,) = draws_of(guard, ready, Order("j", 0, start, stop))
    return found


def language_model_alone(guard: LlavaGuard, found: Draws) -> NDArray[np.float64]:
    """One full pass per draw, tail and cell, by the language model's own forward on the whole prompt."""
    prompt, result = guard.inputs.prompt, np.empty(found.tails.shape[:3])
    for at in np.ndindex(result.shape):
        ids = [*found.prepared.prefix.tolist(), *found.tails[at], *prompt.after]
        with torch.inference_mode():
            logits = guard._model(input_ids=torch.tensor([ids])).logits[0, -1]
        result[at] = logits[[*prompt.unsafe]].logsumexp(0) - logits[[*prompt.safe]].logsumexp(0)
    return result


@pytest.mark.parametrize("layout", ["published", "policy_first"])
def test_its_margins_are_the_language_models_on_the_text_alone(base_folder: Path, layout: str) -> None:
    guard = loaded(base_folder, layout=layout)
    found = draws(guard, TEXT)
    np.testing.assert_allclose(guard.margins([found])[0], language_model_alone(guard, found), atol=1e-5)


def test_its_prompt_is_the_chat_template_without_the_image(base_folder: Path) -> None:
    guard = loaded(base_folder)
    prefix, tokenizer = draws(guard, TEXT).prepared.prefix, guard.inputs.prompt.ordinary
    template = "user Say Safe or Unsafe.\nhow are you?"
    assert tokenizer.decode(prefix.tolist(), skip_special_tokens=True).replace("<|im_start|>", "").strip() == template
    assert guard._model.config.image_token_id not in prefix.tolist()


def test_what_is_shared_between_tails_changes_nothing(alone: LlavaGuard) -> None:
    found = draws(alone, TEXT)
    np.testing.assert_allclose(alone.margins([found])[0], alone.plain_margins(found), atol=1e-5)
    assert len(np.unique(alone.margins([found])[0].round(4))) > 3


def test_texts_alone_and_with_an_image_may_share_a_batch(alone: LlavaGuard) -> None:
    mixed = [
        draws(alone, given, *span)
        for given in (TEXT, JobInput(TEXT.text, image_png=png()))
        for span in ((0, 3), (3, 5))
    ]
    mixed.append(draws(alone, JobInput("how are you?", image_png=png()), threat={}))
    order = [2, 0, 4, 1, 3]
    together = alone.margins([mixed[index] for index in order])
    for index, found in zip(order, together, strict=True):
        np.testing.assert_allclose(found, alone.margins([mixed[index]])[0], atol=1e-5)


def test_a_text_alone_of_as_many_tokens_as_a_prompt_with_an_image_is_told_from_it(base_folder: Path) -> None:
    guard = loaded(base_folder)
    pictured = draws(guard, JobInput("a", image_png=png()))
    text = next(
        one for size in range(1, 200) if len((one := draws(guard, JobInput("~" * size))).prepared.prefix)
        >= len(pictured.prepared.prefix)
    )  # fmt: skip
    assert len(text.prepared.prefix) == len(pictured.prepared.prefix)
    together = guard.margins([text, pictured])
    for found, one in zip(together, (text, pictured), strict=True):
        np.testing.assert_allclose(found, guard.margins([one])[0], atol=1e-5)


def test_an_image_changes_the_answer_so_that_the_two_are_different_questions(base_folder: Path) -> None:
    guard = loaded(base_folder)
    alone, pictured = (guard.margins([draws(guard, JobInput("a", image_png=image))])[0] for image in (b"", png()))
    assert np.abs(alone - pictured).min() > 1e-4


@pytest.mark.parametrize("asked", [{"threat": {"text": {"kind": "l0"}, "image": {"norm": "none"}}}, NO_IMAGE_THREAT])
def test_an_order_of_it_runs_under_every_threat_to_the_text(base_folder: Path, asked: dict[str, Any]) -> None:
    guard = loaded(base_folder)
    ready = prepare(guard, spec_of(guard, **asked), SEED, TEXT)
    (found,) = margins(guard, [(Order("j", 0, 0, 5), ready)])
    assert found.shape == (5, ready.spec.tails, len(ready.spec.cells))


def test_a_guard_that_is_not_said_to_answer_it_refuses_it(base_folder: Path) -> None:
    guard = loaded(base_folder, text_alone=False)
    assert (guard.info.text_alone, loaded(base_folder).info.text_alone) == (False, True)
    with pytest.raises(InputRefusedError, match="no image is given, must be for this guard; give one"):
        prepare(guard, spec_of(guard, **NO_IMAGE_THREAT), SEED, TEXT)


def test_image_noise_without_an_image_is_refused(base_folder: Path) -> None:
    guard = loaded(base_folder)
    with pytest.raises(InputRefusedError, match="must be 0 where no image is given"):
        prepare(guard, spec_of(guard), SEED, TEXT)


def test_what_answers_texts_alone_votes_alike_on_images_and_takes_no_orders_of_what_does_not(base_folder: Path) -> None:
    both, usual = loaded(base_folder), loaded(base_folder, text_alone=False)
    assert both.fingerprint != usual.fingerprint
    pictured = JobInput("a", image_png=png())
    found = [guard.margins([draws(guard, pictured, threat={})])[0] for guard in (both, usual)]
    np.testing.assert_array_equal(*found)


def test_a_template_that_writes_an_image_in_any_case_cannot_answer_it(
    base_folder: Path, checkpoint: Callable[..., Path]
) -> None:
    folder = checkpoint(tiles="base")
    stored = json.loads((folder / "tokenizer_config.json").read_text())
    template = "<|im_start|>user <image>\n{{ messages[0].content[-1].text }}<|im_end|><|im_start|>assistant\n"
    (folder / "tokenizer_config.json").write_text(json.dumps({**stored, "chat_template": template}))
    (folder / "chat_template.jinja").write_text(template)
    loaded(folder, text_alone=False)
    with pytest.raises(ModelConfigError, match="text_alone needs a prompt that without an image"):
        loaded(folder)


def test_vllm_cannot_be_said_to_answer_it(base_folder: Path) -> None:
    with pytest.raises(ModelConfigError, match="text_alone needs engine=transformers"):
        load_config(GuardConfig, base_folder, {"text_alone": True, "engine": "vllm"})
