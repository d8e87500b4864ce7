"""The research side: reference models, their training and their reports."""
