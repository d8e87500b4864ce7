"""The encoder: from noisy images to unit features, everything after the noise included.

An image with its noise goes through the denoiser P, if there is one, then the vision tower, then the mapper M, which
corrects the tokens; these are pooled and brought to the unit sphere, draw by draw (maths.md §§6-7).
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from holdfast.contract.models import EncoderInfo, NoiseSpace
from holdfast_worker.gaussian import noisy
from holdfast_worker.models.batching import Batching
from holdfast_worker.models.draws import PreparedInput
from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.encoder.heads import Head
from holdfast_worker.models.errors import ModelOutputError
from holdfast_worker.models.vision.noise_space import require_image, to_noise_space
from holdfast_worker.models.vision.towers import Tower, to_sphere

# Pixels of noisy images in one forward pass to begin with: on a CPU what stays in its caches, on a GPU what fills it.
_PIXELS = {"cpu": 1 << 17, "cuda": 1 << 25}
_LEAST = 16  # images in one forward pass to begin with, however large they are


class Encoder:
    """A loaded encoder; one thread at a time may call it.

    Attributes:
        config: The encoder's settings.
        fingerprint: Name of exactly this feature map; heads have fingerprints of their own.
        device: Where it runs.
        tower: The vision tower.
        denoiser: P, or ``None``.
        mapper: M, or ``None``.
        heads: Classification heads by name.
        space: Height and width of the noise space.
        token_shape: Tokens L and their width D.
        dimension: Length E of a feature.
        batching: How many images one forward pass holds.
        engine: None: everything runs in this process.
    """

    engine = None

    def __init__(
        self,
        tower: Tower,
        *,
        config: EncoderConfig,
        fingerprint: str,
        device: torch.device,
        space: tuple[int, int],
        denoiser: nn.Module | None = None,
        mapper: nn.Module | None = None,
    ) -> None:
        self.config = config
        self.fingerprint = fingerprint
        self.device = device
        self.tower = tower.to(device)
        self.denoiser = denoiser
        self.mapper = mapper
        self.heads: Mapping[str, Head] = {}
        self.space = space
        self.batching = Batching(config.batch_limit or max(_LEAST, _PIXELS[device.type] // (space[0] * space[1])))
        with torch.inference_mode():
            tokens = self.tower.tokens(torch.full((1, 3, *space), 0.5, device=device))
            self.token_shape = tokens.shape[1], tokens.shape[2]
            self.dimension = tower.pooled(tokens).shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the tower's weights and activations."""
        return self.tower.dtype

    @property
    def info(self) -> EncoderInfo:
        """The encoder as the API describes it."""
        height, width = self.space
        denoiser: Literal["none", "booster", "diffusion"] = "none"
        if self.denoiser is not None:
            denoiser = "booster" if self.config.diffusion is None else "diffusion"
        return EncoderInfo(
            name=self.config.name,
            fingerprint=self.fingerprint,
            space=NoiseSpace(channels=3, height=height, width=width),
            dimension=self.dimension,
            token_shape=self.token_shape,
            denoiser=denoiser,
            mapper=self.mapper is not None,
            heads=tuple(head.info for head in self.heads.values()),
            defaults=self.config.defaults,
        )

    def prepare(self, image: NDArray[np.uint8]) -> PreparedInput:
        """Brings an image to the noise space, on the device.

        Args:
            image: 8-bit RGB, shape (H, W, 3).

        Raises:
            InputRefusedError: It is not 8-bit RGB, or too large.
        """
        require_image(image)
        return PreparedInput(
            clean=to_noise_space(torch.tensor(image), self.space).to(self.device),
            prefix=torch.empty(0, dtype=torch.int64, device=self.device),
            tail_base=np.empty(0, dtype=np.int64),
        )

    @torch.inference_mode()
    def tokens(self, images: Tensor, sigma: float) -> Tensor:
        """The tokens of images, after denoiser and mapper.

        Args:
            images: float32, shape (B, 3, height, width) of the noise space, noise included, B at least 1.
            sigma: Standard deviation of that noise, which denoiser and mapper are told.

        Returns:
            float32, shape (B, L, D).

        Raises:
            ModelOutputError: A number is not finite.
            torch.OutOfMemoryError: A single image does not fit the device.
        """
        return self._in_parts(0, len(images), lambda start, stop: self._tokens(images[start:stop], sigma))

    @torch.inference_mode()
    def features(self, images: Tensor, sigma: float) -> Tensor:
        """The features of images; arguments and errors as ``tokens``.

        Returns:
            float32, shape (B, E), every row of length 1.
        """
        return self._in_parts(0, len(images), lambda start, stop: self._features(images[start:stop], sigma))

    @torch.inference_mode()
    def draw_features(
        self, prepared: PreparedInput, seed: str, sigma: float, start: int, stop: int, *, channel: str = "image"
    ) -> Tensor:
        """The features of the noisy draws ``[start, stop)`` of an input.

        A draw's feature depends on seed, channel and index alone, up to float rounding of some 1e-6.

        Args:
            prepared: The input.
            seed: The job's secret seed.
            sigma: Standard deviation of the noise, at least 0.
            start: First draw index, at least 0.
            stop: One past the last draw index, above ``start``.
            channel: What the draws are for, e.g. ``image/selection``; its draws are independent of other channels'.

        Returns:
            float32, shape (stop - start, E), every row of length 1.

        Raises:
            ValueError: The range is empty or negative.
            ModelOutputError: A number is not finite.
            torch.OutOfMemoryError: A single image does not fit the device.
        """
        if not 0 <= start < stop:
            raise ValueError(f"draws [{start}, {stop}) must satisfy 0 <= start < stop; ask for a nonempty range")

        if not sigma:
            return self.features(prepared.clean.expand(stop - start, -1, -1, -1), sigma)

        def draw(first: int, last: int) -> Tensor:
            return noisy(prepared.clean[None], sigma=sigma, seed=seed, start=first, stop=last, channel=channel)

        ahead: dict[range, Future[Tensor]] = {}

        def run(first: int, last: int) -> Tensor:
            own = range(first, last)
            drawn = ahead.pop(own).result() if own in ahead else draw(first, last)
            if self.device.type == "cpu" and last < stop:  # NumPy draws on a core of its own while the tower runs
                following, _ = _cut(range(last, stop), self.batching.room())
                ahead[following] = pool.submit(draw, following.start, following.stop)
            return self._features(drawn, sigma)

        with ThreadPoolExecutor(1) as pool:
            return self._in_parts(start, stop, run)

    def _features(self, images: Tensor, sigma: float) -> Tensor:
        return to_sphere(self.tower.pooled(self._tokens(images, sigma)))

    def _tokens(self, images: Tensor, sigma: float) -> Tensor:
        if self.denoiser is not None:
            images = self.denoiser(images, sigma)
        tokens = self.tower.tokens(images)
        return tokens if self.mapper is None else tokens + self.mapper(tokens, sigma)

    def _in_parts(self, start: int, stop: int, run: Callable[[int, int], Tensor]) -> Tensor:
        parts = self.batching.parts(range(start, stop), lambda part: run(part.start, part.stop), size=len, cut=_cut)
        values = torch.cat(list(parts))
        if bad := values.numel() - int(values.isfinite().sum()):
            raise ModelOutputError(
                f"{bad} of {values.numel()} numbers of the features are not finite, all must be; check the weights or"
                " use dtype=float32"
            )
        return values


def _cut(draws: range, most: int) -> tuple[range, range]:
    """Cuts off the first ``most`` draws."""
    return draws[:most], draws[most:]
