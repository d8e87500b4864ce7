"""What a booster is worth: certified bounds on images it never saw, with and without its parts ([F] Table 6)."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates.features.radii import feature_bound, feature_radius
from holdfast_lab.booster.images import Images
from holdfast_worker.denoisers.mapper import ResidualMapper
from holdfast_worker.denoisers.unet import BoosterUNet
from holdfast_worker.models.encoder.encoder import Encoder

SHIFTS: Final = (0.5, 1.0, 1.5)
COSINE_FLOOR: Final = 0.5
_METHODS: Final[tuple[Literal["cdf", "mean"], ...]] = ("cdf", "mean")


@dataclass(frozen=True)
class Row:
    """Means over images of one encoder's certified numbers, each image's at its own α.

    Attributes:
        name: of the parts in use.
        bounds: by method, the inner-product bounds at ε = σ times `SHIFTS`.
        radii: by method, the radius for a cosine of at least `COSINE_FLOOR`, in units of σ; 0 where not certified.
        certified: by method, the share of images with such a radius.
        score: mean cosine of a noisy draw's feature with the clean one; certifies nothing.
        clean: mean cosine of the feature of the image without noise with the plain encoder's.
    """

    name: str
    bounds: dict[str, tuple[float, ...]]
    radii: dict[str, float]
    certified: dict[str, float]
    score: float
    clean: float


def variant(encoder: Encoder, denoiser: BoosterUNet | None, mapper: ResidualMapper | None) -> Encoder:
    """The encoder with these parts in place of its own."""
    changed = copy.copy(encoder)
    changed.denoiser, changed.mapper = denoiser, mapper
    return changed


def evaluate(
    encoders: Sequence[tuple[str, Encoder]],
    images: Images,
    *,
    sigma: float,
    draws: int,
    alpha: float,
    say: Callable[[str], None],
) -> list[Row]:
    """Certifies every image with every encoder, against the plain encoder's clean feature, on the same noise.

    Args:
        encoders: names and encoders, the plain one first: its clean features are the references u, fixed before any
            draw ([F] Eq. 15).
        images: not trained on.
        sigma: noise level in [0,1] units.
        draws: noisy passes for each image and encoder.
        alpha: risk of each bound.
        say: called now and then with a line of progress.

    Returns:
        A row for each encoder.
    """
    measured: list[list[_Measured]] = [[] for _ in encoders]
    plain = encoders[0][1]
    for index in range(images.count):
        picture = images.whole(index)
        reference = _clean(plain, picture, 0.0)
        for found, (_, encoder) in zip(measured, encoders, strict=True):
            found.append(_measure(encoder, picture, reference, index, sigma=sigma, draws=draws, alpha=alpha))
        if (index + 1) % 25 == 0:
            say(f"{index + 1} of {images.count} images")
    return [_row(name, found) for (name, _), found in zip(encoders, measured, strict=True)]


@dataclass(frozen=True)
class _Measured:
    bounds: dict[str, tuple[float, ...]]
    radii: dict[str, float | None]
    score: float
    clean: float


def _clean(encoder: Encoder, picture: NDArray[np.uint8], sigma: float) -> NDArray[np.float64]:
    image = encoder.prepare(picture).clean[None]
    return encoder.features(image, sigma)[0].double().cpu().numpy()


def _measure(
    encoder: Encoder,
    picture: NDArray[np.uint8],
    reference: NDArray[np.float64],
    index: int,
    *,
    sigma: float,
    draws: int,
    alpha: float,
) -> _Measured:
    features = encoder.draw_features(encoder.prepare(picture), f"evaluation/{index}", sigma, 0, draws)
    cosines = features.double().cpu().numpy() @ reference
    scores = np.clip((1 + cosines) / 2, 0, 1)
    bounds: dict[str, tuple[float, ...]] = {}
    radii: dict[str, float | None] = {}
    for method in _METHODS:
        bounds[method] = tuple(
            feature_bound(scores, epsilon=t * sigma, sigma=sigma, alpha=alpha, method=method).inner_product
            for t in SHIFTS
        )
        radius = feature_radius(scores, cosine_floor=COSINE_FLOOR, sigma=sigma, alpha=alpha, method=method)
        radii[method] = None if radius is None else radius / sigma
    return _Measured(bounds, radii, float(cosines.mean()), float(_clean(encoder, picture, sigma) @ reference))


def _row(name: str, found: Sequence[_Measured]) -> Row:
    return Row(
        name=name,
        bounds={m: tuple(np.mean([one.bounds[m] for one in found], axis=0).tolist()) for m in _METHODS},
        radii={m: float(np.mean([one.radii[m] or 0.0 for one in found])) for m in _METHODS},
        certified={m: float(np.mean([one.radii[m] is not None for one in found])) for m in _METHODS},
        score=float(np.mean([one.score for one in found])),
        clean=float(np.mean([one.clean for one in found])),
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as text, the methods side by side."""
    shifts = " ".join(f"{t:>5g}σ" for t in SHIFTS)
    lines = [f"{'':6} {'cos':>6} {'clean':>6}" + "".join(f" | {m:4} {shifts} {'R/σ':>6} {'cert':>5}" for m in _METHODS)]
    for row in rows:
        line = f"{row.name:6} {row.score:6.3f} {row.clean:6.3f}"
        for method in _METHODS:
            bounds = " ".join(f"{bound:6.3f}" for bound in row.bounds[method])
            line += f" |      {bounds} {row.radii[method]:6.3f} {row.certified[method]:5.0%}"
        lines.append(line)
    return "\n".join(lines)
