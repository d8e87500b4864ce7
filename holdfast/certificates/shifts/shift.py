"""The one shape of a bound under attack, and the two ways to take several as one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Shift(Protocol):
    """A lower bound on a smoothed mean, nonincreasing in the distance t of the image in units of sigma."""

    def at(self, t: float) -> float:
        """The bound at every input at most t away, t at least 0; in [0, 1], rounded down."""

    def reach(self, level: float) -> float | None:
        """A t > 0 at which the bound exceeds the level, as large as was found; None where there is none."""


@dataclass(frozen=True)
class Least:
    """The attacker chooses one of these, at least one: each is a bound on one of the attacks."""

    parts: Sequence[Shift]

    def at(self, t: float) -> float:
        """The least of the parts."""
        return min(part.at(t) for part in self.parts)

    def reach(self, level: float) -> float | None:
        """How far the nearest part reaches; None where one has no reach."""
        least = math.inf
        for part in self.parts:
            reach = part.reach(level)
            if reach is None:
                return None
            least = min(least, reach)
        return least


@dataclass(frozen=True)
class Greatest:
    """Each of these is a bound on every attack, so the best is; of none nothing is known."""

    parts: Sequence[Shift]

    def at(self, t: float) -> float:
        """The greatest of the parts."""
        return max((part.at(t) for part in self.parts), default=0.0)

    def reach(self, level: float) -> float | None:
        """How far the farthest part reaches."""
        return max((reach for part in self.parts if (reach := part.reach(level)) is not None), default=None)
