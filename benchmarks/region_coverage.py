"""How often the interval of a ratio by region holds the ratio: subjects drawn from those of the localisation benchmark.

    MRISCOPE_BENCH=FOLDER python benchmarks/region_coverage.py --data FOLDER

MRISCOPE_BENCH is the folder in which `python3 run.py bench localisation` has made its maps; those of Gradient x input,
Grad-CAM and HiRes-CAM on two networks that find ventricles are taken. All subjects together have the true ratio, and
each draw takes some of them with replacement.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from localising.measures import choose_examples
from localising.tasks import make_cohort

from mriscope.explain.metrics.region_shares import REGIONS, find_slice_regions, ratio_interval

NETWORKS = ("ventricles-compact_cnn-0", "ventricles-baseline_cnn-0")
METHODS = ("gradcam", "gradxinput", "hirescam")
DRAWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MRISCOPE_DATA"))
    cohort = make_cohort(str(parser.parse_args().data))
    examples = choose_examples(cohort)
    found = find_slice_regions(np.asarray(cohort.slices.images[examples.rows]), examples.units)
    areas, rng = found.area_shares(), np.random.default_rng(0)
    folder = Path(os.environ["MRISCOPE_BENCH"])
    files = [folder / f"{network}-{method}.npz" for network in NETWORKS for method in METHODS]
    shares = [found.map_shares(np.load(file)["maps"].astype(np.float32)) for file in files]
    names = " | ".join(region.replace("_", " ") for region in REGIONS[:3])
    print(f"Coverage in per cent: the mean of the maps, and the least and greatest.\n\n| subjects | {names} |")
    print("|---|---|---|---|")
    for count in (20, 32, 64):
        cells = []
        for region in REGIONS[:3]:
            covered = [coverage(one[region], areas[region], examples.units, count, rng) for one in shares]
            cells.append(f"{np.mean(covered):.0f} ({min(covered):.0f} to {max(covered):.0f})")
        print(f"| {count} | {' | '.join(cells)} |")


def coverage(shares: np.ndarray, areas: np.ndarray, units: np.ndarray, count: int, rng: np.random.Generator) -> float:
    """Return in which per cent of draws of `count` subjects the interval holds the ratio of all."""
    there = ~np.isnan(shares)
    unit = np.unique(units[there], return_inverse=True)[1]
    above, below = np.bincount(unit, shares[there]), np.bincount(unit, areas[there])
    held = 0
    for _ in range(DRAWS):
        drawn = rng.integers(len(above), size=count)
        low, high = ratio_interval(above[drawn], below[drawn])
        held += low <= above.sum() / below.sum() <= high
    return 100 * held / DRAWS


if __name__ == "__main__":
    main()
