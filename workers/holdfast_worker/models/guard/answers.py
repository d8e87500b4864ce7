"""What a written answer says: its first word, or the rating of its JSON."""

import re
from dataclasses import dataclass
from typing import Self

from holdfast_worker.models.guard.config import GuardConfig

_RATINGS = {
    "word": re.compile(r"[\W_]*([^\W_]+)(?=[\W_])"),
    "json_rating": re.compile(r'.*?"rating"\s*:\s*"([^"]*)"', re.S),
}


@dataclass(frozen=True)
class Reading:
    """How one guard's answers are read; the first rating that an answer gives is its last.

    Attributes:
        rating: Finds it, once it is complete.
        unsafe: Ratings that are Unsafe, in lower case.
        safe: Ratings that are Safe, in lower case.
        otherwise: Whether an answer that gives neither counts as Unsafe.
    """

    rating: re.Pattern[str]
    unsafe: frozenset[str]
    safe: frozenset[str]
    otherwise: bool

    @classmethod
    def of(cls, config: GuardConfig) -> Self:
        """How the answers of a guard of these settings are read."""
        unsafe, safe = (
            frozenset(variant.strip().casefold() for variant in variants)
            for variants in (config.unsafe_tokens, config.safe_tokens)
        )
        return cls(_RATINGS[config.answer], unsafe, safe, config.unparseable == "unsafe")

    def verdict(self, answer: str, *, ended: bool) -> bool | None:
        """Whether an answer is Unsafe; ``None`` while it may still give a rating.

        Args:
            answer: What has been written so far.
            ended: Whether nothing more will be.
        """
        found = self.rating.match(answer + "\n" if ended else answer)
        if found is None:
            return self.otherwise if ended else None
        rating = found[1].strip().casefold()
        return rating in self.unsafe or (rating not in self.safe and self.otherwise)
