"""Lower confidence bounds: on the probability behind counts, on the mean of scores."""
