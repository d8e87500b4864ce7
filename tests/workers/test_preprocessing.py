from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.models.llava_onevision import LlavaOnevisionImageProcessorPil

from holdfast_worker.models.draws import Draws
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.models.vision.preprocessing import Pixels, pack, to_tiles
from holdfast_worker.models.vision.tiling import grid_for
from tests.workers.builders import Checkpoint, Draw

PINPOINTS = ((32, 32), (32, 64), (64, 32), (64, 64), (32, 96), (96, 32))
# No size here shrinks in height much more than in width: from 13 on, Pillow takes the vertical pass first there.
SIZES = [(32, 32), (48, 40), (64, 64), (20, 90), (31, 12), (33, 64), (100, 70)]
TILE, PATCHES = 32, 4


def picture(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """A noisy 8-bit picture, which stresses a resize more than a photograph does; uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def pixels_for(size: tuple[int, int], most: int = 9, tiles: Any = "anyres") -> Pixels:
    grid = grid_for(size, PINPOINTS, TILE, PATCHES, most) if tiles == "anyres" else None
    return Pixels(TILE, PATCHES, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28), grid=grid)


def ours(image: NDArray[np.uint8], pixels: Pixels) -> NDArray[np.float32]:
    """Our tiles as 8-bit values, (tiles, 3, tile, tile)."""
    tiles = to_tiles(torch.tensor(image).permute(2, 0, 1)[None] / 255, pixels)
    return eight_bit(tiles, pixels)


def published(image: NDArray[np.uint8], pixels: Pixels, pinpoints: Any = PINPOINTS) -> NDArray[np.float32]:
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": TILE, "width": TILE},
        image_mean=pixels.mean,
        image_std=pixels.std,
        image_grid_pinpoints=[list(p) for p in pinpoints],
    )
    tiles = torch.as_tensor(np.stack(processor(image, return_tensors="np")["pixel_values"])[0])
    return eight_bit(tiles, pixels)


def across_then_down(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """PIL's own resize to a tile, its passes in the order of Pillow up to 12; float32 (3, tile, tile)."""
    across = Image.fromarray(image).resize((TILE, len(image)), Image.Resampling.BICUBIC)
    return np.array(across.resize((TILE, TILE), Image.Resampling.BICUBIC), dtype=np.float32).transpose(2, 0, 1)


def eight_bit(tiles: Tensor, pixels: Pixels) -> NDArray[np.float32]:
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (pixels.mean, pixels.std))
    return ((tiles * std + mean) * 255).numpy()


@pytest.mark.parametrize("size", SIZES)
def test_tiles_match_the_published_processor_within_one_step(size: tuple[int, int]) -> None:
    pixels, image = pixels_for(size), picture(size)
    steps = np.abs(ours(image, pixels) - published(image, pixels))
    assert steps.max() < 1.01
    assert (steps < 0.01).mean() > 0.99


@pytest.mark.parametrize("size", SIZES)
def test_the_single_tile_is_the_published_base_tile(size: tuple[int, int]) -> None:
    pixels, image = pixels_for(size, tiles="base"), picture(size)
    steps = np.abs(ours(image, pixels)[0] - published(image, pixels)[0])
    assert pixels.tiles == 1
    assert steps.max() < 1.01


def test_at_native_size_the_tiles_are_identical() -> None:
    pixels, image = pixels_for((32, 32)), picture((32, 32))
    np.testing.assert_allclose(ours(image, pixels), published(image, pixels), atol=1e-3)


@pytest.mark.parametrize("most", [1, 2, 9])
@pytest.mark.parametrize("size", SIZES)
def test_features_are_packed_as_the_model_packs_them(checkpoint_model: Any, size: tuple[int, int], most: int) -> None:
    inner, pixels = checkpoint_model, pixels_for(size, most)
    features: Any = torch.randn(2 * pixels.tiles, PATCHES**2, 32, generator=torch.Generator().manual_seed(0))
    expected, lengths = inner.pack_image_features(
        features.split(pixels.tiles),
        [size, size],
        inner.image_newline,
        f"anyres_max_{most}",
    )
    packed = pack(features, inner.image_newline, pixels)
    assert lengths.tolist() == [pixels.image_tokens] * 2
    assert torch.equal(packed, torch.stack(expected))


@pytest.fixture(scope="module")
def checkpoint_model(checkpoint: Checkpoint) -> Any:
    folder = checkpoint(pinpoints=PINPOINTS)
    return load_guard(folder, load_config(GuardConfig, folder, {}))._model.model


@pytest.mark.parametrize(("size", "most"), [((32, 32), 9), ((20, 90), 9), ((48, 40), 1)])
def test_anyres_margins_equal_transformers_own_path(
    checkpoint: Checkpoint, draw: Draw, size: tuple[int, int], most: int
) -> None:
    folder = checkpoint(pinpoints=PINPOINTS, most=most, noise_height=size[0], noise_width=size[1])
    guard = load_guard(folder, load_config(GuardConfig, folder, {}))
    image = picture(size)
    prepared = guard.inputs.prepare("how are you?", "", image, slots=2)
    draws = Draws(prepared, "s", 0.0, 0, 1, prepared.tail_base[None, None, None])
    ids = [*prepared.prefix.tolist(), *prepared.tail_base, *guard._prompt.after]
    processor = LlavaOnevisionImageProcessorPil.from_pretrained(folder)
    with torch.inference_mode():
        logits = guard._model(input_ids=torch.tensor([ids]), **processor(image, return_tensors="pt")).logits[0, -1]
    expected = logits[[*guard._prompt.unsafe]].logsumexp(0) - logits[[*guard._prompt.safe]].logsumexp(0)
    # The tiles may differ by single 8-bit steps wherever they were resized.
    tolerance = 1e-5 if size == (32, 32) else 5e-3
    np.testing.assert_allclose(guard.margins([draws])[0], float(expected), atol=tolerance)


EVERY = [(rows * TILE, columns * TILE) for rows in range(1, 7) for columns in range(1, 7)]
"""Every tiling that LLaVA-OneVision publishes: one to six tiles each way."""


@pytest.fixture(scope="module")
def every_tiling(checkpoint: Checkpoint) -> Any:
    folder = checkpoint(pinpoints=EVERY)
    return load_guard(folder, load_config(GuardConfig, folder, {}))._model.model


@pytest.mark.parametrize("trim", [(0, 0), (5, 3)])
@pytest.mark.parametrize("pinpoint", EVERY)
def test_every_published_tiling_is_reproduced(every_tiling: Any, pinpoint: Any, trim: Any) -> None:
    size = pinpoint[0] - trim[0], pinpoint[1] - trim[1]
    grid = grid_for(size, EVERY, TILE, PATCHES, 9)
    assert (grid.rows * TILE, grid.columns * TILE) == pinpoint
    pixels, image = Pixels(TILE, PATCHES, (0.5,) * 3, (0.5,) * 3, grid), picture(size)
    base, *tiles = ours(image, pixels)
    assert np.abs(tiles - published(image, pixels, EVERY)[1:]).max() < 1.01
    assert np.abs(base - across_then_down(image)).max() < 1.01
    features = torch.randn(pixels.tiles, PATCHES**2, 32, generator=torch.Generator().manual_seed(0))
    expected, _ = every_tiling.pack_image_features([features], [size], every_tiling.image_newline, "anyres_max_9")
    assert torch.equal(pack(features, every_tiling.image_newline, pixels)[0], expected[0])


def test_noise_outside_the_8_bit_range_is_clamped() -> None:
    pixels = Pixels(TILE, PATCHES, mean=(0.0,) * 3, std=(1.0,) * 3, grid=None)
    noisy = torch.full((1, 3, TILE, TILE), 3.0)
    noisy[:, 0] = -2.0
    assert to_tiles(noisy, pixels).amax((0, 2, 3)).tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"height": 16, "width": 16}}, r"size=\(16, 16\) must be \(32, 32\)"),
        ({"resample": 2}, "resample=2 must be 3"),
        ({"do_normalize": False}, "do_normalize"),
        ({"image_grid_pinpoints": [[64, 64]]}, "image_grid_pinpoints .* differ, must agree"),
    ],
)
def test_a_processor_that_does_something_else_is_refused(checkpoint: Checkpoint, change: Any, message: str) -> None:
    folder = checkpoint()
    processor = LlavaOnevisionImageProcessorPil.from_pretrained(folder)
    for name, value in change.items():
        setattr(processor, name, value)
    processor.save_pretrained(folder)
    with pytest.raises(ModelConfigError, match=message):
        load_guard(folder, load_config(GuardConfig, folder, {}))
