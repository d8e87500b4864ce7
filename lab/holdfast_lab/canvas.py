"""A 64×64 canvas on which large flat shapes are painted with array operations."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
SIDE: Final = 64
_HAZE: Final = 128
_ROWS, _COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64) + 0.5


@dataclass
class Canvas:
    """Pixels as float64 (64, 64, 3) in 0..255, and the frame (centre and scale) that shapes are painted in."""

    pixels: NDArray[np.float64]
    x: NDArray[np.float64] = field(default_factory=lambda: _COLUMNS)
    y: NDArray[np.float64] = field(default_factory=lambda: _ROWS)

    @classmethod
    def room(cls, wall: Colour, *, floor: int) -> "Canvas":
        """A wall that ends at the row `floor`, with a darker floor below it."""
        pixels = np.empty((SIDE, SIDE, 3))
        pixels[:floor] = wall
        pixels[floor:] = np.multiply(wall, 0.6)
        return cls(pixels)

    def place(self, centre_x: float, centre_y: float, *, scale: float) -> None:
        """Move the origin of the coming shapes to (`centre_x`, `centre_y`) px and stretch them by `scale`."""
        self.x = (_COLUMNS - centre_x) / scale
        self.y = (_ROWS - centre_y) / scale

    def box(self, x: float, y: float, half_width: float, half_height: float, colour: Colour) -> None:
        """Paint an upright rectangle centred at (x, y)."""
        self.pixels[(abs(self.x - x) <= half_width) & (abs(self.y - y) <= half_height)] = colour

    def disk(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Paint a filled circle centred at (x, y)."""
        self.pixels[(self.x - x) ** 2 + (self.y - y) ** 2 <= radius**2] = colour

    def cross(self, x: float, y: float, half_width: float, half_height: float, stroke: float, colour: Colour) -> None:
        """Paint the two diagonals of the rectangle centred at (x, y), `stroke` px wide to each side."""
        across, down = abs(self.x - x), abs(self.y - y)
        inside = (across <= half_width) & (down <= half_height)
        self.pixels[inside & (abs(across * half_height / half_width - down) <= stroke)] = colour

    def develop(self, *, light: float, contrast: float) -> NDArray[np.uint8]:
        """The picture under illumination `light` (1 = as painted), then seen through grey haze.

        `contrast` in (0, 1] is what the haze leaves of each pixel's distance to mid-grey.
        """
        lit = np.clip(self.pixels * light, 0, 255)
        return np.rint(_HAZE + contrast * (lit - _HAZE)).astype(np.uint8)
