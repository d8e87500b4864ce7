"""The contract of feature certifications and embeddings."""
