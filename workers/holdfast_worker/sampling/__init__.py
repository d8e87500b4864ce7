"""From orders to tallies."""
