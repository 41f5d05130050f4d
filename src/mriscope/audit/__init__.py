"""Whose brain a slice shows, and what a split shares between its parts."""
