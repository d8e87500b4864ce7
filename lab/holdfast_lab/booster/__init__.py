"""Training and measuring the Gaussian Smoothness Booster ([F] §4 and A.2; maths.md §7)."""
