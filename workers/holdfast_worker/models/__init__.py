"""The models a worker can serve."""
