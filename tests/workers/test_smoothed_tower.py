import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    SiglipVisionConfig,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from holdfast_worker import gaussian
from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.encoder.loading import load_encoder
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.smoothed_tower import (
    SmoothedVisionTower,
    Smoothing,
    TokensUsed,
    plain_model,
    smooth_model,
    sphere_mean,
)
from holdfast_worker.models.vision.hidden_states import hidden_states_of

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SMALL: dict[str, Any] = {
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
PROCESSOR: dict[str, Any] = {
    "do_resize": True, "size": {"shortest_edge": 16}, "resample": 3, "do_center_crop": True,
    "crop_size": {"height": 16, "width": 16}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": MEAN, "image_std": STD,
}  # fmt: skip
GRID = [[16, 32], [32, 16]]


def _ids(images: int, tokens: int) -> dict[str, Tensor]:
    ids = torch.tensor([[1] * tokens + [5, 6, 7]]).expand(images, -1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _pixels(*shape: int) -> Tensor:
    return torch.randn(*shape, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def _llava(**changes: Any) -> Any:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=16, **SMALL),
        text_config=LlamaConfig(**TEXT),
        image_token_index=1,
        **changes,
    )
    return LlavaForConditionalGeneration(config), _ids(2, 4) | {"pixel_values": _pixels(2)}


def _llava_next() -> Any:
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(hidden_size=16, **SMALL),
        text_config=LlamaConfig(**TEXT),
        image_token_index=1,
        image_grid_pinpoints=GRID,
    )
    inputs = {"pixel_values": _pixels(1, 3), "image_sizes": torch.tensor([[16, 32]])}
    return LlavaNextForConditionalGeneration(config), _ids(1, 14) | inputs


def _llava_onevision() -> Any:
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(hidden_size=16, vision_use_head=False, **SMALL),
        text_config=LlamaConfig(**TEXT),
        image_token_index=1,
        video_token_index=2,
        image_grid_pinpoints=GRID,
    )
    inputs = {"pixel_values": _pixels(1, 3), "image_sizes": torch.tensor([[16, 32]])}
    return LlavaOnevisionForConditionalGeneration(config), _ids(1, 14) | inputs


def _idefics() -> Any:
    perceiver = {"resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2, "resampler_head_dim": 8}
    config = IdeficsConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        cross_layer_interval=1, alpha_initializer="ones", initializer_range=0.3, use_resampler=True,
        perceiver_config=perceiver, vision_config={"embed_dim": 16, **SMALL}, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    inputs = {"pixel_values": _pixels(2, 2), "image_attention_mask": torch.ones(2, 3, 2, dtype=torch.long)}
    return IdeficsForVisionText2Text(config), _ids(2, 0) | inputs


def _idefics2() -> Any:
    perceiver = {
        "hidden_size": 32, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
        "resampler_head_dim": 8, "num_key_value_heads": 1,
    }  # fmt: skip
    config = Idefics2Config(
        image_token_id=1,
        vision_config={"hidden_size": 16, **SMALL},
        perceiver_config=perceiver,
        text_config={"model_type": "mistral", **TEXT},
    )
    shown = torch.ones(2, 2, 16, 16, dtype=torch.long)
    shown[0, 1, :, 8:] = 0
    return Idefics2ForConditionalGeneration(config), _ids(2, 8) | {
        "pixel_values": _pixels(2, 2),
        "pixel_attention_mask": shown,
    }


def _idefics3() -> Any:
    config = Idefics3Config(
        image_token_id=1,
        vision_config={"hidden_size": 16, **SMALL},
        text_config={"model_type": "llama", **TEXT},
        scale_factor=2,
    )
    return Idefics3ForConditionalGeneration(config), _ids(2, 2) | {"pixel_values": _pixels(2, 2)}


FAMILIES = {
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "idefics": _idefics,
    "idefics2": _idefics2,
    "idefics3": _idefics3,
}


def build(make: Any, **changes: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, inputs = make(**changes)
    return model.eval(), inputs


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Any:
    return build(FAMILIES[request.param])


@pytest.fixture
def llava() -> Any:
    return build(_llava)


def smooth(model: Any, **settings: Any) -> Any:
    asked: dict[str, Any] = {"sigma": 0.25, "seed": "s", "mean": MEAN, "std": STD}
    return smooth_model(model, **asked | settings)


def tower_of(model: Any) -> Any:
    return getattr(model.model, "vision_tower" if hasattr(model.model, "vision_tower") else "vision_model")


def place(model: Any, tower: Any) -> None:
    setattr(model.model, "vision_tower" if hasattr(model.model, "vision_tower") else "vision_model", tower)


def noisy(pixels: Tensor, draws: int, seed: str = "s/0", sigma: float = 0.25) -> Tensor:
    """Every image's draws, shape (images, draws, 3, H, W): noised in pixel units, then normalised again."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    units = (pixels * std + mean).repeat_interleave(draws, dim=0)
    found = gaussian.noisy(units.detach(), sigma=sigma, seed=seed, start=0, stop=len(units))
    return ((found - mean) / std).view(len(pixels), draws, *pixels.shape[1:])


class ByHand(nn.Module):
    """Stands where a tower stood: image by image and draw by draw, unit vectors, their mean, the usual length."""

    def __init__(self, model: Any, draws: int) -> None:
        super().__init__()
        self.tower, self.draws = tower_of(model), draws
        self.layer = getattr(model.config, "vision_feature_layer", None)
        self.skip = int(getattr(model.config, "vision_feature_select_strategy", "full") == "default")

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        output = self.tower(pixel_values, **kwargs)
        for index, draws in enumerate(noisy(pixel_values, self.draws)):
            own = {name: value[[index]] if torch.is_tensor(value) else value for name, value in kwargs.items()}
            each = [self._read(self.tower(draw[None], **own))[0].double() for draw in draws]
            norms = [tokens.square().sum().sqrt() for tokens in each]
            units = [tokens / norm for tokens, norm in zip(each, norms, strict=True)]
            self._read(output)[index] = sum(units) / self.draws * sum(norms) / self.draws
        return output

    def _read(self, output: Any) -> Any:
        tokens = output.last_hidden_state if self.layer is None else output.hidden_states[self.layer]
        return tokens[:, self.skip :]


@torch.no_grad()
def test_one_draw_without_noise_is_the_plain_model(family: Any) -> None:
    model, inputs = family
    plain = model(**inputs).logits
    torch.testing.assert_close(smooth(model, sigma=0, draws=1)(**inputs).logits, plain, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_model_answers_from_the_mean_over_the_seeded_draws(family: Any) -> None:
    model, inputs = family
    plain, tower = model(**inputs).logits, tower_of(model)
    place(model, ByHand(model, 3))
    expected = model(**inputs).logits
    place(model, tower)
    smoothed = smooth(model, draws=3)(**inputs).logits
    torch.testing.assert_close(smoothed, expected, atol=5e-5, rtol=0)
    assert (smoothed - plain).abs().max() > 1e-2


@pytest.fixture
def encoder_of(tmp_path: Path) -> Callable[[Any], Encoder]:
    """Saves a LLaVA and loads it as the encoder that a certificate of its features speaks of."""

    def load(model: Any) -> Encoder:
        model.save_pretrained(tmp_path)
        processor = PROCESSOR | {"image_processor_type": "CLIPImageProcessor"}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
        settings = {"name": "tiny", "kind": "encoder", "architecture": "llava", "device": "cpu"}
        (tmp_path / "holdfast.json").write_text(json.dumps(settings))
        return load_encoder(tmp_path, load_config(EncoderConfig, tmp_path, {}))

    return load


@torch.no_grad()
def test_the_model_reads_the_mean_of_the_features_that_are_certified(llava: Any, encoder_of: Any) -> None:
    model, _ = llava
    encoder = encoder_of(model)
    prepared = encoder.prepare(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    certified = encoder.draw_features(prepared, "s/0", 0.25, 0, 8).mean(dim=0)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    tower = tower_of(smooth(model))
    read = tower((prepared.clean[None] - mean) / std, output_hidden_states=True).hidden_states[-2][0, 1:].flatten()
    torch.testing.assert_close(read / read.norm(), certified / certified.norm(), atol=1e-6, rtol=0)


@torch.no_grad()
def test_batches_do_not_change_the_answer(family: Any) -> None:
    model, inputs = family
    whole = smooth(model, draws=5)(**inputs).logits
    parts = smooth(plain_model(model), draws=5, batch_limit=3)(**inputs).logits
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


def test_generation_draws_once_and_repeats_under_its_seed(family: Any) -> None:
    model, inputs = family
    smooth(model)
    first = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert tower_of(model).calls == 1
    again = smooth(plain_model(model)).generate(**inputs, max_new_tokens=4, do_sample=False)
    assert torch.equal(first, again)
    assert first.shape[1] == inputs["input_ids"].shape[1] + 4


@torch.no_grad()
def test_every_call_has_its_own_noise(llava: Any) -> None:
    model, inputs = llava
    smooth(model)
    first, second = (model(**inputs).logits for _ in range(2))
    again = smooth(plain_model(model))(**inputs).logits
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@torch.no_grad()
def test_without_a_seed_nothing_repeats(llava: Any) -> None:
    model, inputs = llava
    first, second = (smooth(plain_model(model), seed=None)(**inputs).logits for _ in range(2))
    assert not torch.equal(first, second)


@torch.no_grad()
def test_the_plain_model_comes_back(family: Any) -> None:
    model, inputs = family
    plain, names = model(**inputs).logits, list(model.state_dict())
    plain_model(smooth(model))
    assert torch.equal(model(**inputs).logits, plain)
    assert list(model.state_dict()) == names


class Record(nn.Module):
    """A denoiser or mapper that notes what it is given and answers with a part of it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.seen: list[tuple[Tensor, float]] = []

    def forward(self, values: Tensor, sigma: float) -> Tensor:
        self.seen.append((values, sigma))
        return self.factor * values


@torch.no_grad()
def test_the_denoiser_sees_the_noisy_pixels_in_unit_range(llava: Any) -> None:
    model, inputs = llava
    denoiser = Record(1.0)
    without = smooth(model, draws=3)(**inputs).logits
    with_it = smooth(plain_model(model), draws=3, denoiser=denoiser)(**inputs).logits
    (seen, sigma), std, mean = denoiser.seen[0], torch.tensor(STD), torch.tensor(MEAN)
    expected = noisy(inputs["pixel_values"], 3).flatten(0, 1) * std[:, None, None] + mean[:, None, None]
    torch.testing.assert_close(seen, expected)
    assert sigma == 0.25
    torch.testing.assert_close(with_it, without, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_denoiser_acts_before_the_tower_without_noise_too(llava: Any) -> None:
    model, inputs = llava
    pixels, std, mean = (torch.as_tensor(x) for x in (inputs["pixel_values"], STD, MEAN))
    halved = (pixels * std[:, None, None] - mean[:, None, None]) / 2 / std[:, None, None]
    expected = model(**inputs | {"pixel_values": halved}).logits
    found = smooth(model, sigma=0, denoiser=Record(0.5))(**inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_mapper_adds_to_the_tokens_read_of_every_draw(family: Any) -> None:
    model, inputs = family
    mapper = Record(-2.0)
    expected = smooth(model)(**inputs).logits
    mapped = smooth(plain_model(model), mapper=mapper)
    seen = mapped(**inputs).logits
    assert (seen - expected).abs().max() > 1e-2
    tokens_read = 5 if isinstance(model, IdeficsForVisionText2Text) else 4  # IDEFICS reads the class token
    assert mapper.seen[0][0].shape[1:] == (tokens_read, 16)


@torch.no_grad()
def test_a_mapper_that_triples_the_tokens_triples_their_mean(llava: Any) -> None:
    model, inputs = llava
    ask = {"pixel_values": inputs["pixel_values"], "output_hidden_states": True}
    plain = tower_of(smooth(model))(**ask).hidden_states[-2]
    mapped = tower_of(smooth(plain_model(model), mapper=Record(2.0)))(**ask).hidden_states[-2]
    torch.testing.assert_close(mapped[:, 1:], 3 * plain[:, 1:])
    torch.testing.assert_close(mapped[:, 0], plain[:, 0])


@torch.no_grad()
def test_layers_read_side_by_side_are_one_feature() -> None:
    model, inputs = build(_llava, vision_feature_layer=[-1, -2])
    pixels = inputs["pixel_values"]
    tower = tower_of(model)
    states = tower(noisy(pixels, 3).flatten(0, 1), output_hidden_states=True).hidden_states
    joint = torch.cat([states[layer][:, 1:] for layer in (-1, -2)], dim=-1)
    expected = sphere_mean(joint.view(2, 3, *joint.shape[1:]))
    found = tower_of(smooth(model, draws=3))(pixels, output_hidden_states=hidden_states_of([-1, -2])).hidden_states
    torch.testing.assert_close(torch.cat([found[layer][:, 1:] for layer in (-1, -2)], dim=-1), expected)
    assert torch.isfinite(model(**inputs).logits).all()


@torch.no_grad()
def test_the_output_has_the_form_of_the_towers_own(llava: Any) -> None:
    model, inputs = llava
    pixels = inputs["pixel_values"]
    plain, plain_states = tower_of(model)(pixels), tower_of(model)(pixels, output_hidden_states=True)
    tower = tower_of(smooth(model))
    assert type(tower(pixels)) is type(plain)
    assert [len(tensor) for tensor in tower(pixels, return_dict=False)] == [2, 2]
    states = tower(pixels, output_hidden_states=True, output_attentions=True)
    assert [s.shape for s in states.hidden_states] == [s.shape for s in plain_states.hidden_states]
    assert states.attentions is None


def test_gradients_reach_the_pixels(llava: Any) -> None:
    model, inputs = llava
    pixels = inputs["pixel_values"].clone().requires_grad_()
    smooth(model)(**inputs | {"pixel_values": pixels}).logits.square().sum().backward()
    assert torch.isfinite(pixels.grad).all()
    assert (pixels.grad != 0).any()


@torch.no_grad()
def test_half_precision_stays_half_precision(llava: Any) -> None:
    model, inputs = llava
    smooth(model.to(torch.bfloat16))
    tokens = tower_of(model)(inputs["pixel_values"].bfloat16()).last_hidden_state
    assert tokens.dtype == torch.bfloat16
    assert torch.isfinite(model(**inputs).logits).all()


def test_a_draw_without_direction_counts_as_the_first_unit_vector() -> None:
    rows = torch.zeros(1, 2, 1, 3)
    rows[0, 1, 0, 1] = 4.0
    torch.testing.assert_close(sphere_mean(rows), torch.tensor([[[1.0, 1.0, 0.0]]]))


def test_the_mean_never_exceeds_the_length_of_one_draw() -> None:
    rows = torch.randn(5, 8, 3, 4, generator=torch.Generator().manual_seed(0))
    assert (sphere_mean(rows).flatten(1).norm(dim=1) <= rows.flatten(2).norm(dim=2).mean(dim=1)).all()


@pytest.mark.parametrize("nested", [False, True])
def test_the_normalisation_is_read_from_the_models_folder(llava: Any, tmp_path: Path, nested: bool) -> None:
    model, _ = llava
    settings = {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255}
    name, content = (
        ("processor_config.json", {"image_processor": settings}) if nested else ("preprocessor_config.json", settings)
    )
    (tmp_path / name).write_text(json.dumps(content))
    model.name_or_path = str(tmp_path)
    tower = tower_of(smooth_model(model, sigma=0.25))
    assert (tower.smoothing.mean, tower.smoothing.std) == (MEAN, STD)


@pytest.mark.parametrize("change", [{"image_std": None}, {"do_normalize": False}, {"rescale_factor": 1 / 127.5}])
def test_another_range_of_pixels_is_refused(llava: Any, tmp_path: Path, change: Any) -> None:
    model, _ = llava
    settings = {"image_mean": MEAN, "image_std": STD} | change
    kept = {name: value for name, value in settings.items() if value is not None}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(kept))
    model.name_or_path = str(tmp_path)
    with pytest.raises(ModelConfigError, match="give mean and std"):
        smooth_model(model, sigma=0.25)


def test_a_smoothed_model_is_not_smoothed_again(llava: Any) -> None:
    with pytest.raises(ModelConfigError, match="smoothed already, must be plain; call plain_model first"):
        smooth(smooth(llava[0]))


def test_a_model_without_a_vision_tower_is_refused() -> None:
    with pytest.raises(ModelConfigError, match="Linear has no vision_tower or vision_model"):
        smooth(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": -0.1}, "sigma=-0.1 must be"),
        ({"sigma": float("nan")}, "sigma=nan must be"),
        ({"draws": 0}, "draws=0 must be at least 1"),
        ({"batch_limit": 0}, "batch_limit=0 must be at least 1"),
        ({"std": (0.2, 0.0, 0.3)}, "std=.* must be finite, above 0"),
        ({"std": (0.2, 0.3)}, "as many as mean"),
    ],
)
def test_settings_out_of_range_are_refused(llava: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smooth(llava[0], **settings)


def test_a_tower_that_packs_images_is_refused(llava: Any) -> None:
    class Packing(nn.Module):
        def forward(self, pixel_values: Tensor, return_dict: Any = True) -> Any:
            return BaseModelOutputWithPooling(last_hidden_state=pixel_values.flatten(1)[None])

    tower = SmoothedVisionTower(Packing(), Smoothing(0.1, 2, MEAN, STD), TokensUsed())
    with pytest.raises(ValueError, match="gave 1 rows for 4 images"):
        tower(llava[1]["pixel_values"])
