"""What numba compiles: thinning, and the exact matching at all thresholds. Loading it takes a while."""
