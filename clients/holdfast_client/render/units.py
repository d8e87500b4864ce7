"""The units of what is shown."""

from holdfast.contract.models import NoiseSpace

__all__ = ["pixels"]


def pixels(space: NoiseSpace) -> str:
    """The unit of an image radius."""
    low, high = space.range
    return f"L2, {space.channels} x {space.height} x {space.width} pixels in [{low:g}, {high:g}]"
