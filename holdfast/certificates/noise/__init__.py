"""Token kernels, their seeded draws, their likelihood ratios, and the image's noise space."""
