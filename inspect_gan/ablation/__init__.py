"""Grids of runs: what a sweep consists of, its cells one by one or on a cluster, and what they amount to."""
