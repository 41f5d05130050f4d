"""Slices and where they come from: readers, the phantom, the cache, splits and batches."""
