"""Options whose value is a list of numbers."""

import argparse

__all__ = ["number_list"]


def number_list(text: str) -> tuple[float, ...]:
    """The numbers of an option such as `0,0.25,0.5`.

    Raises:
        ArgumentTypeError: they are none.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers with commas between, such as 0,0.25,0.5") from None
