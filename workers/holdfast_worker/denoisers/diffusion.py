"""A pretrained diffusion model as a denoiser: one prediction of the clean image, no sampling (Carlini et al. 2023).

A diffusion model lives in [-1, 1], where noise of standard deviation σ in [0, 1] units is 2σ (maths.md §9).
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from holdfast_worker.denoisers.conditioning import on_multiples, per_image
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError

Prediction = Literal["epsilon", "v_prediction", "sample"]


class OneShotDiffusion(nn.Module):
    """The timestep whose noise is nearest to σ, one forward pass, its estimate of the clean image.

    The diffused image of timestep t is ``√ᾱ_t x₀ + √(1-ᾱ_t) e``; divided by √ᾱ_t it carries noise of standard
    deviation ``r_t = √((1-ᾱ_t)/ᾱ_t)``, which grows with t. σ is brought to [-1, 1] units, 2σ, and takes the t with r_t
    nearest to 2σ in absolute difference, the earlier of two equally near; below r_0 that is t = 0.

    Attributes:
        max_sigma: Largest σ, in [0, 1] units, that the schedule reaches.
    """

    def __init__(
        self, model: nn.Module, alphas_cumprod: Tensor, *, prediction: Prediction, clip: float | None = None
    ) -> None:
        """Takes an unconditional model apart from its scheduler.

        Args:
            model: A diffusers ``UNet2DModel`` of RGB pixels.
            alphas_cumprod: ᾱ_t by timestep, shape (T,), never growing, in [0, 1].
            prediction: What the model predicts.
            clip: Where to cut the clean image in [-1, 1] units, if at all.

        Raises:
            ModelConfigError: One of these cannot be served.
        """
        super().__init__()
        _check_model(model)
        alphas = alphas_cumprod.double().cpu()
        if (
            alphas.ndim != 1
            or not len(alphas)
            or not (0 < alphas[0] <= 1 and alphas[-1] >= 0 and (alphas.diff() <= 0).all())
        ):
            raise ModelConfigError(
                f"alphas_cumprod of shape {tuple(alphas.shape)} must be a row of numbers in [0, 1] that never grow and"
                " begin above 0; correct the scheduler's betas"
            )
        if prediction not in get_args(Prediction):
            raise ModelConfigError(
                f"prediction_type={prediction!r} must be one of {', '.join(get_args(Prediction))}; correct the"
                " scheduler's config"
            )
        self.model: Any = model
        self.prediction, self.clip = prediction, clip
        # Schedules of zero terminal signal end at ᾱ = 0, where no noise level is left to match.
        self._alphas = alphas[alphas > 0]
        self._levels = ((1 - self._alphas) / self._alphas).sqrt()
        self.max_sigma = float(self._levels[-1].float()) / 2

    def timesteps(self, sigma: Tensor) -> Tensor:
        """The timestep of each σ.

        Args:
            sigma: Standard deviations in [0, 1] units, shape (B,).

        Returns:
            int64 on the CPU, shape (B,).

        Raises:
            InputRefusedError: A σ is beyond the schedule's noisiest timestep.
        """
        wanted = 2 * sigma.double().cpu()
        if (wanted > 2 * self.max_sigma).any():
            raise InputRefusedError(
                f"sigma={float(wanted.max()) / 2:.6g} must be at most {self.max_sigma:.6g}, which the noisiest timestep"
                " of this diffusion model's schedule has; lower sigma or use a denoiser that goes further"
            )
        return (self._levels - wanted[:, None]).abs().argmin(dim=1)

    def forward(self, images: Tensor, sigma: float | Tensor) -> Tensor:
        """Predicts clean images.

        Args:
            images: Noisy images in [0, 1] units, whose values may leave [0, 1]; shape (B, 3, H, W), any H and W.
            sigma: The noise's standard deviation in the same units, one for all or one per image, shape (B,).

        Returns:
            float32, shape (B, 3, H, W), in [0, 1] units; cut there only if the scheduler's config says so.
        """
        steps = self.timesteps(per_image(sigma, torch.empty(len(images))))
        alphas = self._alphas[steps].to(images.device, torch.float32)[:, None, None, None]
        diffused = alphas.sqrt() * (2 * images.float() - 1)
        answer = self._answer(diffused, steps.to(images.device))
        clean = _clean(self.prediction, diffused, answer, alphas)
        if self.clip is not None:
            clean = clean.clamp(-self.clip, self.clip)
        return (clean + 1) / 2

    def _answer(self, diffused: Tensor, steps: Tensor) -> Tensor:
        def run(padded: Tensor) -> Tensor:
            # A model that also predicts variances puts them in the channels after the first three.
            answer: Tensor = self.model(padded.to(self.model.dtype), steps).sample[:, :3]
            return answer.float()

        return on_multiples(diffused, 2 ** (len(self.model.config.block_out_channels) - 1), run)


def _clean(prediction: Prediction, diffused: Tensor, answer: Tensor, alphas: Tensor) -> Tensor:
    if prediction == "epsilon":
        return (diffused - (1 - alphas).sqrt() * answer) / alphas.sqrt()
    if prediction == "v_prediction":
        return alphas.sqrt() * diffused - (1 - alphas).sqrt() * answer
    return answer


def _check_model(model: Any) -> None:
    config = model.config
    channels = config.in_channels, config.out_channels
    if channels not in ((3, 3), (3, 6)):
        raise ModelConfigError(
            f"in_channels, out_channels={channels} must be (3, 3), or (3, 6) with predicted variances; use a model of"
            " RGB pixels"
        )
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        raise ModelConfigError(
            f"class_embed_type={config.class_embed_type!r}, num_class_embeds={config.num_class_embeds} must both be"
            " null; use an unconditional model"
        )
