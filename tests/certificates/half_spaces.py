"""A world whose smoothed features are known exactly: a unit feature per quadrant of the plane, three prototypes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from holdfast.certificates import FeatureAnswer, FeatureCounts, FeatureQuestion, ScoreSample, sample_of_levels

Floats = NDArray[np.float64]

PROTOTYPES = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, -0.8]])
CLIP = 0.1
ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
ALL = ("feature_mean", "feature_cdf", "margin_mean", "margin_cdf", "clipped_cdf", "vote")
ANY_TIME = ("feature_mean", "margin_mean", "vote")


def question(**changes: Any) -> FeatureQuestion:
    """All statements, at a number of draws that was fixed."""
    values: dict[str, Any] = {
        "sigma": 1.0, "alpha": 0.01, "statements": ALL, "mean_bound": "betting", "horizon": 400,
        "epsilons": (0.0, 0.25, 0.5), "cosine_floors": (0.0, 0.5), "target": None, "rivals": 2, "label": 0,
        "prototypes": True, "embedding": None, "fixed": True,
    }  # fmt: skip
    return FeatureQuestion(**{**values, **changes})


def sample(scores: ArrayLike) -> ScoreSample:
    """As a worker counts scores: levels, rounded down."""
    levels, counts = np.unique(np.floor(np.asarray(scores) * 4096).astype(int), return_counts=True)
    return sample_of_levels(levels.tolist(), counts.tolist())


@dataclass(frozen=True, eq=False)
class World:
    """`features[a, b]` is the unit feature where a = [z_0 > corner_0], b = [z_1 > corner_1]; the clean input is 0."""

    features: Floats
    corner: Floats

    @property
    def reference(self) -> Floats:
        return np.asarray(self.features[0])

    @property
    def label(self) -> int:
        return int(np.argmax(self.smoothed(np.zeros(2)) @ PROTOTYPES.T))

    @property
    def rivals(self) -> list[int]:
        return [k for k in range(3) if k != self.label]

    @property
    def margins(self) -> Floats:
        """Of every quadrant and rival, on a unit scale."""
        ways = PROTOTYPES[self.label] - PROTOTYPES[self.rivals]
        return np.asarray(self.features @ (ways / np.linalg.norm(ways, axis=1, keepdims=True)).T)

    def chances(self, shifts: Floats) -> Floats:
        """Of the four quadrants under noise of standard deviation 1 at each shift (..., 2)."""
        high = ndtr(np.asarray(shifts) - self.corner)
        sides = np.stack([1 - high, high], axis=-1)
        return np.asarray(
            np.einsum("...a,...b->...ab", sides[..., 0, :], sides[..., 1, :]).reshape(*high.shape[:-1], 4)
        )

    def smoothed(self, shifts: Floats) -> Floats:
        return self.chances(shifts) @ self.features

    def counts(self, rng: np.random.Generator, draws: int) -> FeatureCounts:
        return self.counts_of(rng.choice(4, size=draws, p=self.chances(np.zeros(2))))

    def counts_of(self, quadrants: NDArray[np.int64]) -> FeatureCounts:
        """The evidence of draws that fell in these quadrants."""
        margins = self.margins[quadrants]
        clipped = np.clip(margins, -CLIP, CLIP) / CLIP
        votes = np.argmax(self.features @ PROTOTYPES.T, axis=1)[quadrants] == self.label
        return FeatureCounts(
            reference=sample((1 + self.features @ self.reference)[quadrants] / 2),
            margins=tuple(sample((1 + margins[:, k]) / 2) for k in range(2)),
            clipped=tuple(sample((1 + clipped[:, k]) / 2) for k in range(2)),
            votes=int(votes.sum()),
            cosines=tuple((PROTOTYPES @ self.reference).tolist()),
            distances=tuple(np.linalg.norm(PROTOTYPES - PROTOTYPES[self.label], axis=1).tolist()),
        )

    def cosines(self, shifts: Floats) -> Floats:
        means = self.smoothed(shifts)
        return np.asarray(means @ self.reference / np.linalg.norm(means, axis=-1))

    def stays(self, method: str, shifts: Floats) -> bool:
        """Whether the prediction that this method speaks of is still the label at every shift."""
        if method == "vote":
            own = np.argmax(self.features @ PROTOTYPES.T, axis=1)
            return bool(np.all(np.argmax(self.chances(shifts) @ np.eye(3)[own], axis=-1) == self.label))
        margins = np.clip(self.margins, -CLIP, CLIP) if method == "clipped_cdf" else self.margins
        return bool(np.all(self.chances(shifts) @ margins > 0))


def around(radius: float) -> Floats:
    """Shifts of this length in every direction."""
    return radius * np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])


def random_world(rng: np.random.Generator) -> World:
    """The clean quadrant leans to the first prototype, the others hurt more or less."""
    features = rng.uniform(0.0, 1.5, (4, 1)) * [[0.0], [-0.4], [-0.4], [-0.8]] * PROTOTYPES[0]
    features += rng.normal(size=(4, 3)) * 0.6
    features[0] = PROTOTYPES[0] + rng.normal(size=3) * 0.1
    return World(features / np.linalg.norm(features, axis=1, keepdims=True), rng.uniform(1.0, 2.5, 2))


def tight_world() -> World:
    """One half-space where the feature is the reference, its opposite beyond: here nothing is lost but by sampling."""
    first = PROTOTYPES[0]
    return World(np.array([first, first, -first, -first]), np.array([1.0, 0.0]))


def holds(world: World, found: FeatureAnswer) -> bool:
    """Whether every number of an answer is true in this world, tried in every direction."""
    bounds = all(
        row.inner_product <= np.min(world.smoothed(around(row.epsilon)) @ world.reference)
        and (row.cosine is None or row.cosine <= np.min(world.cosines(around(row.epsilon))))
        for row in found.bounds
    )
    radii = all(
        row.radius is None or np.min(world.cosines(around(row.radius))) > row.cosine_floor for row in found.radii
    )
    return bounds and radii and all(predicts(world, row.method, row.radius) for row in found.prediction)


def predicts(world: World, method: str, radius: float | None) -> bool:
    return radius is None or world.stays(method, around(radius))
