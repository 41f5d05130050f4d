"""Predictions of models, their metrics and intervals, and comparisons of them."""
