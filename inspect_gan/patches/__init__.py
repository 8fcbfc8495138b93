"""Patches of images: where they lie, drawing them for training, scoring grids of them, stitching maps."""
