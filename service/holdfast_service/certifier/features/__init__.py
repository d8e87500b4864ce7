"""The certifier of encoders."""
