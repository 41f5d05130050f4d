"""The measurements of benchmarks/speed.py, each beside the usual notebook's way."""
