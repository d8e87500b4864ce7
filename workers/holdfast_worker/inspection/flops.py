"""How much arithmetic a draw is, from the shapes of the model alone; and how much the device does in a second.

A matrix product of (a, b) and (b, c) is 2abc operations; attention is counted over its full square, masked or not, and
what is no product (norms, activations, softmax, resizing) is left out, as counters of such work do. With T tokens,
width h, inner width i:

    vision layer      8 T h² + 4 T h i + 4 T² h                       query, key, value, output; MLP; attention
    patches           2 T h · 3 p²
    projector         2 T (l h) g + 2 T g²                            from l hidden states to the width g
    language layer    4 T h (q + k) + 6 T h i + 4 T C q               q, k: widths of queries, of keys; C: tokens seen
    verdict           2 · tails · cells · h · variants

The vision tower runs T = patches tokens of every tile, the prefix T = C = its tokens once per draw, and the tails T =
the tokens in which tails differ, each of which is computed once against C = prefix and tails.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from holdfast_worker.models.draws import Draws
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.tails import shared_with_last, tail_layout

_SIDE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class DrawFlops:
    """Operations of one draw with all its tails.

    Attributes:
        vision: Vision tower and projector, all tiles.
        prefix: The language model's prefix.
        tails: Its tails in all cells, and their verdicts.
    """

    vision: float
    prefix: float
    tails: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.vision + self.prefix + self.tails


def draw_flops(guard: LlavaGuard, draws: Draws) -> DrawFlops:
    """Operations of each draw of a range; none are saved where draws share an image without noise.

    A policy that stands before the image is read once for all draws and belongs to none.
    """
    prompt, text = guard.inputs.prompt, guard.architecture.text_config
    once = prompt.image_at if guard.config.layout == "policy_first" else 0
    prefix, slots = len(draws.prepared.prefix), draws.tails.shape[3]
    layout = tail_layout(prefix, slots + len(prompt.after), shared_with_last(draws.tails), guard.device)
    variants = len(prompt.unsafe) + len(prompt.safe)
    tails = language_flops(text, len(layout.kept), prefix + len(layout.kept))
    return DrawFlops(
        vision=vision_flops(guard.architecture, guard.inputs.pixels.tiles),
        prefix=language_flops(text, prefix - once, prefix),
        tails=tails + 2.0 * draws.draw_passes * text.hidden_size * variants,
    )


def vision_flops(architecture: Any, tiles: int) -> float:
    """Operations of the vision tower and the projector on this many tiles."""
    vision, text, layer = architecture.vision_config, architecture.text_config, architecture.vision_feature_layer
    patches = (vision.image_size // vision.patch_size) ** 2
    tokens = patches + (vision.model_type == "clip_vision_model")
    width, states = vision.hidden_size, 1 if isinstance(layer, int) else len(layer)
    block = 8 * tokens * width**2 + 4 * tokens * width * vision.intermediate_size + 4 * tokens**2 * width
    embedding = 2 * patches * width * 3 * vision.patch_size**2
    read = tokens - (architecture.vision_feature_select_strategy == "default")
    projector = 2 * read * text.hidden_size * (states * width + text.hidden_size)
    return float(tiles * (vision.num_hidden_layers * block + embedding + projector))


def language_flops(text: Any, tokens: int, seen: int) -> float:
    """Operations of the language model's layers on ``tokens`` that attend to ``seen``, themselves included."""
    width = text.hidden_size
    head = getattr(text, "head_dim", None) or width // text.num_attention_heads
    queries, keys = text.num_attention_heads * head, text.num_key_value_heads * head
    products = 4 * tokens * width * (queries + keys) + 6 * tokens * width * text.intermediate_size
    return float(text.num_hidden_layers * (products + 4 * tokens * seen * queries))


@torch.inference_mode()
def encoder_flops(encoder: Encoder, sigma: float) -> float:
    """Operations of one draw's feature, counted while it is computed: towers and denoisers are of many shapes."""
    image = torch.full((1, 3, *encoder.space), 0.5, device=encoder.device)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder.features(image, sigma)
    return float(counter.get_total_flops())


@torch.inference_mode()
def peak_flops(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.5) -> float:
    """Operations per second of square matrix products of this number type, the best of several.

    Args:
        device: Where.
        dtype: Of both factors and the product.
        seconds: Time to try for; three products at least.
    """
    side = _SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)
