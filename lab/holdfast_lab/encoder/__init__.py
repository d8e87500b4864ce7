"""The reference encoder, heads on any encoder's features, and how far each certificate reaches on them."""
