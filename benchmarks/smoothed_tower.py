"""What it costs that a whole MLLM answers from smoothed features: n0 draws against n0 passes of its vision tower.

    python benchmarks/smoothed_tower.py              one thread, then torch's default
    python benchmarks/smoothed_tower.py --threads 1  one thread only

Two models: the reference guard on one tile, and a LLaVA-1.5 with the vision tower of CLIP ViT-B/32 (random weights:
time does not depend on them). One answer to an image and a text, from n0 = 8 draws, is timed against the most that it
may cost: 8 times the plain tower on one image, and one pass of the language model with the image's features given. The
exit status is 1 where an answer costs more.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import torch
from throughput import least_seconds
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
)
from transformers.utils import logging

from holdfast_worker.models.checkpoint import model_folder
from holdfast_worker.models.smoothed_tower import plain_model, smooth_model

DRAWS, SIGMA, TEXT_TOKENS = 8, 0.25, 64
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, torch.get_num_threads()])
    ratios = []
    for threads in dict.fromkeys(parser.parse_args().threads):
        torch.set_num_threads(threads)
        for name, model, image in subjects():
            print(f"{name}, {threads} thread{'s' * (threads > 1)}: ", end="")
            ratios.append(compare(model, image))
    return 0 if max(ratios) <= 1 else 1


def subjects() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    folder = model_folder("reference-guard")
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    guard = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    # Told that it is one of two, the model reads an image as a single tile.
    one_tile = {"image_sizes": torch.tensor([[64, 64]]), "batch_num_images": [2]}
    yield "reference-guard", guard, {"pixel_values": torch.randn(1, 1, 3, 64, 64), **one_tile}
    text = LlamaConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=8)
    config = LlavaConfig(vision_config=CLIPVisionConfig(), text_config=text, image_token_index=1)
    llava = LlavaForConditionalGeneration(config)
    yield "LLaVA on ViT-B/32", llava, {"pixel_values": torch.randn(1, 3, 224, 224)}


@torch.inference_mode()
def compare(model: Any, image: dict[str, Any]) -> float:
    """The time of a smoothed answer as a share of what it may cost."""
    pixels = image["pixel_values"].flatten(0, -4)
    layer = model.config.vision_feature_layer
    features = model.model.get_image_features(**image, return_dict=True)
    image_tokens = sum(len(part) for part in features.pooler_output)
    ids = torch.tensor([[model.config.image_token_id] * image_tokens + [5] * TEXT_TOKENS])
    tower = model.eval().model.vision_tower
    smooth_model(model, sigma=SIGMA, draws=DRAWS, seed="benchmark", mean=MEAN, std=STD)

    def allowed() -> None:
        for _ in range(DRAWS):
            tower(pixels, output_hidden_states=[layer])
        model(input_ids=ids, mm_encoder_outputs={"image": features})

    smoothed_s, allowed_s = least_seconds(lambda: model(input_ids=ids, **image), allowed)
    plain_model(model)
    print(f"{1e3 * smoothed_s:.1f} ms, at most {1e3 * allowed_s:.1f}: {smoothed_s / allowed_s:.2f} of it")
    return smoothed_s / allowed_s


if __name__ == "__main__":
    sys.exit(main())
