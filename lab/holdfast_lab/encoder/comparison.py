"""How far each certificate of a prediction reaches, side by side, from the same draws of the same images."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scipy.stats import norm

from holdfast.certificates.features.prototypes import cap_reach, prototype_condition_reach, vote_reach
from holdfast.certificates.features.radii import feature_radius, margin_radius
from holdfast.certificates.shifts.scores import mean_shift, score_law
from holdfast_lab.encoder.draws import Plan, ScoredDraws, draw_scores
from holdfast_lab.encoder.labelled import LabelledImages
from holdfast_worker.models.encoder.encoder import Encoder

CONDITION: Final = "prototype condition, mean"
CAP: Final = "cap, mean"
CAP_CDF: Final = "cap, cdf"
MARGIN_MEAN: Final = "margin, mean"
MARGIN_CDF: Final = "margin, cdf"
VOTE: Final = "vote"
# Not the prediction but the similarity: how far the cosine with the clean feature stays at .5.
PLUG_IN: Final = "cosine .5, plug-in mean"
SIMILARITY_MEAN: Final = "cosine .5, mean"
SIMILARITY_CDF: Final = "cosine .5, cdf"
_FLOOR: Final = 0.5


@dataclass(frozen=True, eq=False)
class Row:
    """One image: its number, its class, the certified one, and every method's reach R/σ; None is not certified."""

    index: int
    true: int
    label: int
    reaches: Mapping[str, float | None]


def clipped_name(clip: float) -> str:
    """The method's name for margins clipped at ±`clip`."""
    return f"clipped cdf, c={clip:g}"


def reaches(scores: ScoredDraws, alpha: float) -> dict[str, float | None]:
    """Every method's reach R/σ from one image's draws, each at the whole of `alpha`.

    The condition and the cap speak of unit prototypes and are left out for a linear head.
    """
    mean, curve = mean_shift(scores.reference, alpha), score_law(scores.reference, alpha).shift
    found: dict[str, float | None] = {}
    if scores.cosines:
        found[CONDITION] = prototype_condition_reach(mean, scores.cosines, scores.label)
        found[CAP] = cap_reach(mean, scores.cosines, scores.distances, scores.label)
        found[CAP_CDF] = cap_reach(curve, scores.cosines, scores.distances, scores.label)
    found[MARGIN_MEAN] = margin_radius(scores.margins, sigma=1.0, alpha=alpha, method="mean")
    found[MARGIN_CDF] = margin_radius(scores.margins, sigma=1.0, alpha=alpha, method="cdf")
    for clip, samples in scores.clipped.items():
        found[clipped_name(clip)] = margin_radius(samples, sigma=1.0, alpha=alpha, method="cdf")
    found[VOTE] = vote_reach(scores.votes, scores.draws, alpha)
    found[PLUG_IN] = plug_in_reach(scores.plain_mean)
    found[SIMILARITY_MEAN] = feature_radius(
        scores.reference, cosine_floor=_FLOOR, sigma=1.0, alpha=alpha, method="mean"
    )
    found[SIMILARITY_CDF] = feature_radius(scores.reference, cosine_floor=_FLOOR, sigma=1.0, alpha=alpha, method="cdf")
    return found


def plug_in_reach(plain_mean: float) -> float | None:
    """[F] Cor. 3.3 as printed, with the plain mean in the place of a bound: an estimate, no certificate."""
    reach = float(norm.ppf(plain_mean) - norm.ppf((1 + _FLOOR) / 2))
    return reach if reach > 0 else None


def compare(
    encoder: Encoder,
    head: str,
    images: LabelledImages,
    *,
    plan: Plan,
    alpha: float,
    clips: Sequence[float],
    report: Callable[[Row], None],
) -> list[Row]:
    """Certify every image by every method; `report` is called after each."""
    rows = []
    for index, (image, true) in enumerate(zip(images.images, images.labels, strict=True)):
        scores = draw_scores(encoder, head, image, index, plan=plan, clips=clips)
        rows.append(Row(index, int(true), scores.label, reaches(scores, alpha)))
        report(rows[-1])
    return rows


def table(rows: Sequence[Row]) -> Iterator[str]:
    """A table in Markdown: mean R/σ, rounded down, over the correctly classified images, and how many are certified."""
    right = [row for row in rows if row.label == row.true]
    yield f"{len(right)} of {len(rows)} images are classified correctly; an image without a certificate counts as 0."
    yield ""
    yield "| method | mean R/σ | certified |"
    yield "|---|---|---|"
    for name in rows[0].reaches:
        certified = sum(row.reaches[name] is not None for row in right)
        yield f"| {name} | {math.floor(mean_reach(right, name) * 1e3) / 1e3:.3f} | {certified} |"


def mean_reach(rows: Sequence[Row], name: str) -> float:
    """The mean reach R/σ of one method, 0 for an image without a certificate; 0 without images."""
    return sum(row.reaches[name] or 0.0 for row in rows) / max(1, len(rows))


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write one line per image as CSV; an empty field is *not certified*."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "true", "label", *rows[0].reaches])
        lines.writerows([row.index, row.true, row.label, *row.reaches.values()] for row in rows)
