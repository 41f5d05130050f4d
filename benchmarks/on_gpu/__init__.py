"""The parts of benchmarks/gpu.py; `python3 run.py bench` runs the scripts beside this folder, not those within it."""
