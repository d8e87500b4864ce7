"""Guards on vLLM."""
