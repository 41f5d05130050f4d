"""Which map to trust: tasks on real slices whose answer lies in a known place, and what methods show of it.

    python3 run.py bench localisation

Reads the source that MRISCOPE_DATA names. Networks, maps and curves are kept in runs/bench/localisation, or in the
folder that MRISCOPE_BENCH names, so that what was cut off goes on; tables are of what is there. About an hour of one
core; MRISCOPE_BENCH_MINUTES stops the work earlier, and tables follow.
"""

import os
import time
from pathlib import Path

import torch
from keeping import FOLDER
from localising.measures import choose_examples, jobs, run
from localising.tables import print_tables
from localising.tasks import make_cohort


def main() -> None:
    """Do the jobs in their order, then print the tables."""
    torch.set_num_threads(1)
    folder = Path(os.environ.get("MRISCOPE_BENCH", FOLDER / "localisation"))
    folder.mkdir(parents=True, exist_ok=True)
    cohort = make_cohort(os.environ["MRISCOPE_DATA"])
    examples = choose_examples(cohort)
    ends = time.monotonic() + 60 * float(os.environ.get("MRISCOPE_BENCH_MINUTES", "inf"))
    for job in jobs():
        if time.monotonic() > ends:
            break
        began = time.monotonic()
        run(cohort, examples, folder, job)
        print(*job, f"{time.monotonic() - began:.0f} s", flush=True)
    print_tables(cohort, examples, folder)


if __name__ == "__main__":
    main()
