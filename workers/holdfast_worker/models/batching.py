"""Work run in parts that memory holds: halved where it does not, and the limit remembered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

Work = TypeVar("Work")
Found = TypeVar("Found")


@dataclass
class Batching:
    """How much one forward pass of a model may hold.

    Attributes:
        limit: Units, a guard's positions or an encoder's images, in one pass at most; halved when the device runs out
            of memory.
        out_of_memory_total: How often that happened.
    """

    limit: int
    out_of_memory_total: int = 0

    def room(self, units: int = 1) -> int:
        """Draws of so many units that one pass takes, at least one."""
        return max(1, self.limit // units)

    def parts(
        self,
        work: Work,
        run: Callable[[Work], Found],
        *,
        size: Callable[[Work], int],
        cut: Callable[[Work, int], tuple[Work, Work]],
        units: int = 1,
    ) -> Iterator[Found]:
        """Runs work in as few passes as memory allows.

        Args:
            work: Draws in any form.
            run: One pass.
            size: Draws in some work.
            cut: Takes so many draws at most off some work; gives them and the rest.
            units: Units of one draw.

        Yields:
            What ``run`` makes of each part, in order.

        Raises:
            torch.OutOfMemoryError: A single draw does not fit the device.
        """
        while size(work):
            part, rest = cut(work, self.room(units))
            try:
                found = run(part)
            except torch.OutOfMemoryError:
                if size(part) == 1:
                    raise
                self.limit = size(part) // 2 * units
                self.out_of_memory_total += 1
            else:
                work = rest
                yield found
