"""The published sampling loop, as such code is commonly written: image first, one whole pass per draw and cell.

For every pass noise is added on the host with NumPy, transformers' PIL image processor and the tokenizer run again, and
the plain model gives full logits.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer
from transformers.models.llava_onevision import LlavaOnevisionImageProcessorPil

from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.policies import policy_text

__all__ = ["PublishedLoop"]


class PublishedLoop:
    """The loop over one text and image.

    Attributes:
        image_tokens: Placeholders of an image in the prompt.
    """

    def __init__(
        self,
        model: Any,
        folder: Path,
        config: GuardConfig,
        text: str,
        sigma: float,
        *,
        anyres: bool,
        image_tokens: int = 0,
    ) -> None:
        """Sets the loop up.

        Args:
            model: The model on its device.
            folder: Tokenizer and image processor.
            config: Policy, template and verdict tokens.
            text: The user's text.
            sigma: Standard deviation of the image noise.
            anyres: Whether an image is tiled, as published; else it is one tile.
            image_tokens: Placeholders of a tiled image.
        """
        self.model, self.config, self.text, self.sigma, self.anyres = model, config, text, sigma, anyres
        self.processor: Any = LlavaOnevisionImageProcessorPil.from_pretrained(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.unsafe = self.tokenizer.convert_tokens_to_ids(list(config.unsafe_tokens))
        self.safe = self.tokenizer.convert_tokens_to_ids(list(config.safe_tokens))
        vision = model.config.vision_config
        self.image_tokens = image_tokens or (vision.image_size // vision.patch_size) ** 2 + 1
        self.rng = np.random.default_rng(0)

    def votes(self, image: NDArray[np.uint8], tails: NDArray[np.int64], batches: int) -> list[bool]:
        """One verdict per tail and batch."""
        votes: list[bool] = []
        for _ in range(batches):
            ids = [self.prompt(tail) for tail in tails]
            noisy = [self._noisy(image) for _ in tails]
            votes += self._forward(ids, noisy)
        return votes

    def prompt(self, tail: NDArray[np.int64]) -> list[int]:
        """Token ids of a whole prompt."""
        text = self.config.user_template.format(policy=policy_text(self.config.policy), text=f"{self.text}<pad>")
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        rendered = self.tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
        before, after = rendered.replace("<image>", "<image>" * self.image_tokens).split("<pad>")
        return [*self.tokenizer.encode(before), *tail, *self.tokenizer.encode(after)]

    def _noisy(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        noise = self.rng.normal(0, self.sigma, image.shape)
        return ((image / 255 + noise) * 255).round().clip(0, 255).astype(np.uint8)

    @torch.no_grad()
    def _forward(self, ids: list[list[int]], images: list[NDArray[np.uint8]]) -> list[bool]:
        # Told that several images belong together, processor and model read each as a single tile.
        pixels = self.processor(images if self.anyres else [images], return_tensors="pt")
        inputs = {"input_ids": torch.tensor(ids)} | {k: torch.as_tensor(v) for k, v in pixels.items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        logits = self.model(**{k: v.to(self.model.device) for k, v in inputs.items()}).logits[:, -1]
        margins = logits[:, self.unsafe].logsumexp(-1) - logits[:, self.safe].logsumexp(-1)
        votes: list[bool] = (margins > 0).tolist()
        return votes
