"""Vision encoders and their heads."""
