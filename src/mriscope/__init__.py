"""mriscope: train, rank, explain and honestly evaluate dementia classifiers on brain-MRI slices."""

__version__ = "0.1.0"
