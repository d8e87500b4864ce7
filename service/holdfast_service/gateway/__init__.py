"""Routes, limits, problems and events."""
