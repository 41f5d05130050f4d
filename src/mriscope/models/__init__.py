"""Networks and estimators, created by name."""
