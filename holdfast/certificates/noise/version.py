"""Which draws a seed stands for."""

SAMPLER = "2"
"""Changes whenever a seed comes to mean other draws, so that no question under one root seed gets both."""
