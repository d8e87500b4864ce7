"""What certificates of every kind say alike: units, radii, and why their draws ended."""

from rich.text import Text

from holdfast.contract.jobs import Stopped
from holdfast.contract.models import ImageSpace, NoiseSpace
from holdfast_client.render import rounding

STOPPED: dict[Stopped, str] = {
    "target": "stopped early: the question is answered",
    "tolerance": "stopped early: more would raise the radii by less than the tolerance",
    "not_certifiable": "stopped early: the rest would not certify this input",
    "draws_spent": "all that were allowed",
}


def pixels(space: NoiseSpace) -> str:
    """The unit of an image radius."""
    low, high = space.range
    return f"L2, {space.channels} x {space.height} x {space.width} pixels in [{low:g}, {high:g}]"


def resized(space: ImageSpace) -> bool:
    """Whether the image came from another size, so that its own pixels are another unit."""
    return (space.input_height, space.input_width) not in ((space.height, space.width), (None, None))


def certified(radius: float | None) -> str | Text:
    """A radius with three decimals, never above its value; one that is none, in words."""
    return Text("not certified", style="dim") if radius is None else rounding.radius(radius)
