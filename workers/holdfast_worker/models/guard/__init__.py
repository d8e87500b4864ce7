"""Guards on transformers, and tabular ones."""
