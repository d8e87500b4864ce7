"""Feature certificates: question, answer, and their reading back."""
