import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers

from holdfast_worker.models.draws import Draws, images_of_draws, noisy_images
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError, ModelOutputError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.models.guard.prefix import cache_word
from holdfast_worker.models.vision.preprocessing import to_tiles
from tests.workers.builders import Checkpoint, Draw, spec_of, votes


def plain_margins(guard: LlavaGuard, draws: Draws) -> NDArray[np.float32]:
    """One full forward pass per draw, tail and cell, by the model's own path: no cache, no packing, full logits."""
    model, prompt, prepared = guard._model, guard._prompt, draws.prepared
    pixels = to_tiles(noisy_images(draws)[images_of_draws([draws])], guard.inputs.pixels)
    margins = np.empty(draws.tails.shape[:3])
    for i, tail, cell in np.ndindex(margins.shape):
        ids = torch.tensor([*prepared.prefix.tolist(), *draws.tails[i, tail, cell], *prompt.after])[None]
        image = {"pixel_values": pixels[i, None, None], "image_sizes": torch.tensor([[32, 32]])}
        with torch.inference_mode():
            logits = model(input_ids=ids, **image, batch_num_images=[2]).logits[0, -1]
        margins[i, tail, cell] = logits[[*prompt.unsafe]].logsumexp(0) - logits[[*prompt.safe]].logsumexp(0)
    return margins.astype(np.float32)


@pytest.fixture
def allow(guard: LlavaGuard, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Gives the device room for this many sequences in one language-model call."""

    def limit(most: int) -> None:
        forward = guard._model.model.language_model.forward

        def within(*args: Any, **kwargs: Any) -> Any:
            if len(kwargs["inputs_embeds"] if "inputs_embeds" in kwargs else kwargs["input_ids"]) > most:
                raise torch.OutOfMemoryError("device full")
            return forward(*args, **kwargs)

        monkeypatch.setattr(guard._model.model.language_model, "forward", within)

    return limit


def test_prefix_reuse_equals_the_plain_forward(guard: LlavaGuard, draw: Draw) -> None:
    draws = draw(guard, 3, 8)
    np.testing.assert_allclose(guard.margins([draws])[0], plain_margins(guard, draws), atol=1e-5)


def test_the_guards_own_plain_passes_equal_the_models_forward(guard: LlavaGuard, draw: Draw) -> None:
    draws = draw(guard, 3, 6)
    np.testing.assert_allclose(guard.plain_margins(draws), plain_margins(guard, draws), atol=1e-5)


def test_the_settings_may_say_how_large_a_batch_is_to_begin_with(base_folder: Path, guard: LlavaGuard) -> None:
    limited = load_guard(base_folder, load_config(GuardConfig, base_folder, {"batch_limit": 700}))
    assert limited.batching.limit == 700 != guard.batching.limit


@pytest.mark.parametrize("shape", [{"layer": -2}, {"layer": [-1, -2]}, {"sliding": 90, "max_text_bytes": 20}])
def test_other_feature_layers_and_sliding_windows_equal_the_plain_forward(
    checkpoint: Checkpoint, draw: Draw, shape: dict[str, Any]
) -> None:
    folder = checkpoint(tiles="base", **shape)
    guard = load_guard(folder, load_config(GuardConfig, folder, {}))
    draws = draw(guard, 0, 3)
    np.testing.assert_allclose(guard.margins([draws])[0], plain_margins(guard, draws), atol=1e-5)


def test_a_policy_that_is_read_once_before_the_image_gives_the_plain_forwards_margins(
    checkpoint: Checkpoint, draw: Draw
) -> None:
    folder = checkpoint(tiles="base", layout="policy_first")
    guard = load_guard(folder, load_config(GuardConfig, folder, {}))
    batch = [draw(guard, 3, 8), draw(guard, 0, 3, text="a much longer text", sigma=0.5), draw(guard, 0, 2, sigma=0.0)]
    for draws, margins in zip(batch, guard.margins(batch), strict=True):
        np.testing.assert_allclose(margins, plain_margins(guard, draws), atol=1e-5)


def test_the_policy_before_the_image_is_read_once_for_all_draws(
    checkpoint: Checkpoint, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tiles="base", layout="policy_first")
    guard = load_guard(folder, load_config(GuardConfig, folder, {}))
    inner: Any = guard._model.model.language_model
    read: list[int] = []
    forward, word = inner.forward, cache_word(type(inner).forward)

    def noted(**given: Any) -> Any:
        read.append(given[word].get_seq_length())
        return forward(**given)

    monkeypatch.setattr(inner, "forward", noted)
    guard.batching.limit = 1
    guard.margins([draw(guard, 0, 4)])
    guard.margins([draw(guard, 4, 6, text="something else")])
    assert read.count(0) == 1
    assert read.count(guard._prompt.image_at) == 6


@pytest.mark.parametrize("cells", [[0], [4], [2, 0], [1, 1, 3]])
def test_any_selection_of_cells_equals_the_plain_forward(guard: LlavaGuard, draw: Draw, cells: list[int]) -> None:
    whole = draw(guard, 0, 3)
    some = Draws(whole.prepared, whole.seed, whole.sigma, 0, 3, whole.tails[:, :, cells])
    np.testing.assert_allclose(guard.margins([some])[0], plain_margins(guard, some), atol=1e-5)


def test_a_text_without_slots_has_one_cell_of_empty_tails(guard: LlavaGuard, draw: Draw) -> None:
    draws = draw(guard, 0, 3, slots=0)
    assert draws.tails.shape == (3, 2, 1, 0)
    np.testing.assert_allclose(guard.margins([draws])[0], plain_margins(guard, draws), atol=1e-5)


def test_margins_do_not_depend_on_how_the_range_is_cut_into_orders(guard: LlavaGuard, draw: Draw) -> None:
    whole = guard.margins([draw(guard, 0, 40)])[0]
    cuts = [0, 1, 15, 16, 17, 33, 40]
    parts = [guard.margins([draw(guard, a, b)])[0] for a, b in itertools.pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_votes_do_not_depend_on_what_else_is_in_the_batch(guard: LlavaGuard, draw: Draw) -> None:
    orders = [
        draw(guard, 0, 20),
        draw(guard, 5, 9, seed="t", sigma=0.5),
        draw(guard, 16, 30, text="a much longer text than that"),
        draw(guard, 2, 7, slots=7),
    ]
    guard.batching.limit = 1000
    together = votes(guard, orders)
    for order, found in zip(orders, together, strict=True):
        np.testing.assert_array_equal(found, plain_margins(guard, order) > 0)


def test_votes_are_not_all_alike_in_these_tests(guard: LlavaGuard, draw: Draw) -> None:
    share = votes(guard, [draw(guard, 0, 40)])[0].mean()
    assert 0.02 < share < 0.98


def test_sigma_zero_leaves_the_image_clean(guard: LlavaGuard, draw: Draw) -> None:
    margins = guard.margins([draw(guard, 0, 4, sigma=0.0, slots=0)])[0]
    np.testing.assert_allclose(margins, margins[:1].repeat(4, axis=0), atol=1e-5)


def test_an_empty_batch_has_no_votes(guard: LlavaGuard) -> None:
    assert votes(guard, []) == []


def test_out_of_memory_halves_the_batch_until_it_fits_and_remembers(
    guard: LlavaGuard, draw: Draw, allow: Callable[[int], None]
) -> None:
    draws = draw(guard, 0, 40)
    expected = guard.margins([draws])[0]
    before = guard.batching.limit
    allow(11)
    np.testing.assert_allclose(guard.margins([draws])[0], expected, atol=1e-5)
    refusals = guard.batching.out_of_memory_total
    assert refusals >= 1
    assert guard.batching.limit < before
    guard.margins([draws])
    assert guard.batching.out_of_memory_total == refusals


def test_a_draw_that_does_not_fit_alone_is_an_error_and_poisons_nothing(
    guard: LlavaGuard, draw: Draw, allow: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = guard.margins([draw(guard, 0, 4)])[0]
    allow(0)
    with pytest.raises(torch.OutOfMemoryError):
        guard.margins([draw(guard, 0, 4)])
    monkeypatch.undo()
    np.testing.assert_allclose(guard.margins([draw(guard, 0, 4)])[0], expected, atol=1e-5)


def test_a_margin_that_is_not_a_number_is_no_vote(guard: LlavaGuard, draw: Draw) -> None:
    with torch.no_grad():
        guard._model.model.image_newline[0] = float("nan")
    with pytest.raises(ModelOutputError, match="30 of 30 margins are not finite"):
        guard.margins([draw(guard, 0, 3)])


def test_every_stage_is_timed(guard: LlavaGuard, draw: Draw) -> None:
    guard.margins([draw(guard, 0, 20)])
    assert all(seconds > 0 for seconds in guard.clock.seconds.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slots": 17}, "slots=17 must be 0 to 16; choose fewer slots"),
        ({"suffix": "12345"}, "suffix has 5 tokens, must be at most slots=4; shorten it or raise slots"),
        ({"text": "x" * 201}, "text and suffix have 201 bytes, must be at most 200; shorten them"),
        ({"text": "\ud800"}, "text holds a lone surrogate, must be valid Unicode; remove it"),
        ({"image": np.zeros((4, 4), np.uint8)}, r"image is uint8 of shape \(4, 4\), must be uint8 \(H, W, 3\)"),
        ({"image": np.zeros((4, 4, 3))}, "image is float64 of shape"),
        ({"image": np.zeros((0, 4, 3), np.uint8)}, "must be uint8"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_the_rule(guard: LlavaGuard, change: Any, message: str) -> None:
    fits: dict[str, Any] = {"text": "hi", "suffix": "", "image": np.zeros((4, 4, 3), np.uint8), "slots": 4}
    guard.inputs.prepare(**fits)
    with pytest.raises(InputRefusedError, match=message):
        guard.inputs.prepare(**fits | change)


def test_a_prompt_longer_than_the_context_is_refused(
    base_folder: Path, tmp_path: Path, photo: NDArray[np.uint8]
) -> None:
    folder = shutil.copytree(base_folder, tmp_path / "copy")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Replace("z", "z" * 20)
    tokenizer.save(str(folder / "tokenizer.json"))
    guard = load_guard(folder, load_config(GuardConfig, folder, {}))
    with pytest.raises(InputRefusedError, match=r"the prompt has \d+ tokens, must be at most 600"):
        guard.inputs.prepare("z" * 200, "", photo, slots=4)


def test_a_text_limit_that_the_context_cannot_hold_is_refused_at_load(base_folder: Path) -> None:
    with pytest.raises(ModelConfigError, match=r"max_text_bytes=600 must be at most \d{3}, so that any text fits"):
        load_guard(base_folder, load_config(GuardConfig, base_folder, {"max_text_bytes": 600}))


@pytest.mark.parametrize(
    ("settings", "notes"),
    [
        ({"tiles": "anyres"}, []),
        ({}, ["as one tile, not in the tiling"]),
        ({"tiles": "anyres", "layout": "policy_first"}, ["reads its policy before the image"]),
        ({"tiles": "anyres", "decision": "generate"}, ["first word of an answer .* counts as Unsafe and is not asked"]),
        (
            {"decision": "generate", "answer": "json_rating", "unparseable": "safe", "max_new_tokens": 7},
            ["as one tile", "JSON rating .* of 7 tokens at most. .* counts as Safe and is not asked again"],
        ),
    ],
)
def test_a_guard_says_how_it_is_asked_otherwise_than_published(
    base_folder: Path, settings: dict[str, Any], notes: Any
) -> None:
    guard = load_guard(base_folder, load_config(GuardConfig, base_folder, settings))
    found = spec_of(guard, threat={"text": {"slots": 4}}).notes
    assert len(found) == len(notes)
    assert all(re.search(wanted, note) for wanted, note in zip(notes, found, strict=True))


def test_a_refusal_does_not_quote_the_input(guard: LlavaGuard, photo: NDArray[np.uint8]) -> None:
    with pytest.raises(InputRefusedError) as refusal:
        guard.inputs.prepare("secret \ud800", "", photo, slots=4)
    assert "secret" not in str(refusal.value)
    assert refusal.value.__suppress_context__


def test_the_suffix_fills_the_slots_and_the_filler_the_rest(guard: LlavaGuard, photo: NDArray[np.uint8]) -> None:
    tail = guard.inputs.prepare("how", " are", photo, slots=4).tail_base
    filler = guard._prompt.encode(".")[0]
    assert tail.tolist() == [*guard._prompt.encode(" are"), *[filler] * (4 - len(guard._prompt.encode(" are")))]


def test_tails_of_another_range_are_refused(guard: LlavaGuard, draw: Draw) -> None:
    draws = draw(guard, 0, 4)
    with pytest.raises(ValueError, match="with 5 draws and 4 slots"):
        Draws(draws.prepared, "s", 0.1, 0, 5, draws.tails)
    with pytest.raises(ValueError, match="start < stop"):
        Draws(draws.prepared, "s", 0.1, 4, 4, draws.tails[:0])
