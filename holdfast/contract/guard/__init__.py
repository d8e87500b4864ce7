"""The contract of guard certifications."""
