"""A trained model behind HTTP, for this machine or, with a token, for others: what `mriscope serve` runs."""
