"""Training of models, and their checkpoints and weights on disk."""
