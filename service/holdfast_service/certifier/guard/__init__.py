"""The certifier of guards."""
