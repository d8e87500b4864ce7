"""From pixels to vision features: preprocessing, tiles, towers."""
