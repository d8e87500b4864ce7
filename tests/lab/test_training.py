import pytest
import torch
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast

from holdfast_lab.architecture import build_model, hidden_states, image_embeddings, to_pixel_values
from holdfast_lab.noise import pad
from holdfast_lab.prompt import build_prompt, encode_text
from holdfast_lab.tokenizer import build_tokenizer
from holdfast_lab.training import Recipe, train


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> LlavaOnevisionForConditionalGeneration:
    return build_model(build_prompt(tokenizer), seed=1)


def test_a_few_steps_lower_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    losses: list[float] = []
    train(tokenizer, Recipe(steps=12, batch=16), lambda _, loss: losses.append(loss))
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_the_same_recipe_gives_the_same_weights(tokenizer: PreTrainedTokenizerFast) -> None:
    first, again = (train(tokenizer, Recipe(steps=2, batch=4, seed=7), lambda *_: None).state_dict() for _ in range(2))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@torch.inference_mode()
def test_image_embeddings_are_the_models_own_for_one_tile(
    model: LlavaOnevisionForConditionalGeneration,
) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    # Two pictures in one sample: the published model takes each as a single tile.
    own = model.model.get_image_features(
        to_pixel_values(images), torch.tensor([[64, 64]] * 2), batch_num_images=torch.tensor([2])
    )
    assert torch.allclose(image_embeddings(model, images), torch.stack(own.pooler_output), atol=1e-6)


@torch.inference_mode()
def test_padding_on_the_right_leaves_the_last_position_alone(
    tokenizer: PreTrainedTokenizerFast, model: LlavaOnevisionForConditionalGeneration
) -> None:
    prompt = build_prompt(tokenizer)
    visual = image_embeddings(model, torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    rows = [prompt.assemble(encode_text(tokenizer, text), []) for text in ("no", "a much longer request")]
    together = hidden_states(model, visual, *pad(rows))[-1]
    for k, row in enumerate(rows):
        alone = hidden_states(model, visual[k : k + 1], *pad([row]))[-1]
        assert torch.allclose(together[k], alone[0], atol=1e-5)


@torch.inference_mode()
def test_the_last_hidden_state_gives_the_plain_forwards_logits(
    tokenizer: PreTrainedTokenizerFast, model: LlavaOnevisionForConditionalGeneration
) -> None:
    ids, lengths = pad([build_prompt(tokenizer).assemble(encode_text(tokenizer, "hello"), [])] * 2)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain = model(
        input_ids=ids,
        pixel_values=to_pixel_values(images),
        image_sizes=torch.tensor([[64, 64]] * 2),
        batch_num_images=torch.tensor([2]),
    )
    last = hidden_states(model, image_embeddings(model, images), ids, lengths)[-1]
    assert torch.allclose(model.lm_head(last), plain.logits[:, -1], atol=1e-5)
