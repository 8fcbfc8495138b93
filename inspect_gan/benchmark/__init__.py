"""Measures this package beside a peer, anomalib's Ganomaly, in one run on one machine."""
