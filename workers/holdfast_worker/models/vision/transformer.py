"""CLIP's and SigLIP's vision transformers as towers."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from holdfast_worker.models.vision.hidden_states import hidden_states_of
from holdfast_worker.models.vision.towers import Tower

Feature = Literal["projection", "cls", "mean", "tokens"]


class VisionTower(Tower):
    """transformers' ``CLIPVisionModel`` or ``SiglipVisionModel``, read at its end or at chosen hidden states.

    At its end CLIP's tokens are the last layer's, its class token is read behind ``post_layernorm`` and projected;
    SigLIP's tokens are behind ``post_layernorm``, and its pooling head gives the projection. Hidden states are raw.
    """

    _projection: Tensor | None

    def __init__(
        self,
        vision: Any,
        *,
        feature: Feature,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        dtype: torch.dtype,
        hidden: tuple[int, ...] = (),
        skip: bool = False,
        projection: Tensor | None = None,
    ) -> None:
        """Puts a model behind the resize and the normalisation.

        Args:
            vision: The model, frozen, of number type ``dtype``; its last layers are dropped where nothing reads them.
            feature: What ``pooled`` makes of the tokens.
            mean: Channel means of normalisation, in [0,1] units.
            std: Channel deviations of normalisation, in [0,1] units.
            dtype: Number type of its weights and activations.
            hidden: Indexes of the hidden states that are read, side by side, 0 to the number of layers; none: its end.
            skip: Whether the class token is dropped from the tokens.
            projection: CLIP's visual projection, shape (E, D).
        """
        size = vision.config.image_size
        super().__init__((size, size), mean, std, dtype)
        self._vision = vision
        self._feature = feature
        self._hidden = list(hidden)
        self._skip = skip
        self._has_class = hasattr(vision.embeddings, "class_embedding") and not skip
        self.register_buffer("_projection", None if projection is None else projection.to(dtype), persistent=False)
        if hidden:
            del vision.encoder.layers[max(1, *hidden) :]

    def tokens(self, images: Tensor) -> Tensor:
        """As ``Tower.tokens``."""
        output = self._vision(pixel_values=self._pixels(images), output_hidden_states=hidden_states_of(self._hidden))
        if self._hidden:
            found = torch.cat([output.hidden_states[index] for index in self._hidden], dim=-1)
        else:
            found = output.last_hidden_state
        return found[:, int(self._skip) :].float()

    def pooled(self, tokens: Tensor) -> Tensor:
        """As ``Tower.pooled``."""
        if self._feature == "tokens":
            return tokens.flatten(1)
        if self._feature == "mean":
            return tokens[:, int(self._has_class) :].mean(dim=1)
        own = tokens.to(self.dtype)
        if self._feature == "projection" and self._projection is None:
            found: Tensor = self._vision.head(own)
            return found.float()
        found = own[:, 0] if self._hidden else self._vision.post_layernorm(own[:, 0])
        return (found if self._projection is None else functional.linear(found, self._projection)).float()
