"""The worker: turns draw orders into tallies with a guard model."""
