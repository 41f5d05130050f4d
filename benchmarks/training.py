"""Slices per second of a training step of BaselineCNN, with and without what makes it fast.

    python3 run.py bench training

Each way runs in a process of its own, as the allocator's settings last as long as the process.
"""

import statistics
import subprocess
import sys
import time

import torch

from mriscope.data.batches import scaled
from mriscope.models.registry import create_model
from mriscope.training.devices import pick_device

BATCH, WARM_UP, STEPS = 32, 4, 16


def measure(way: str) -> float:
    if way != "freed memory given back":
        pick_device("cpu")
    model = create_model("baseline_cnn", seed=0)
    if way == "channels first":
        model = model.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.randint(0, 255, (BATCH, 128, 128), dtype=torch.uint8)
    labels = torch.randint(0, 4, (BATCH,))
    seconds = []
    for _ in range(WARM_UP + STEPS):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "bfloat16"):
            logits = model(scaled(images, "unit"))
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return BATCH / statistics.median(seconds[WARM_UP:])


def main() -> None:
    print(f"BaselineCNN, batch {BATCH} of 1×128×128, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for way in ("as mriscope trains", "channels first", "freed memory given back", "bfloat16"):
        done = subprocess.run([sys.executable, __file__, way], capture_output=True, text=True, check=True)
        print(f"{way:<26}{float(done.stdout):7.0f} slices/s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(sys.argv[1]))
    else:
        main()
