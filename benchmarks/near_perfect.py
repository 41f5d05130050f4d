"""How often intervals of near perfect models miss, by the rule from how many wrong subjects on they are printed.

    .venv/bin/python benchmarks/near_perfect.py

Prints a row for each cell and metric: per cent of 1,000 simulated cohorts whose printed interval misses the true value.
An interval is printed where no subject is wrong, or as many as the column says. 23 s of one core.
"""

from collections.abc import Iterator

import coverage
import numpy as np

LEAST = (1, 2, 3, 4, 5, 8)
SEPARATIONS = {"3.0": 3.0, "3.2": 3.2, "3.4": 3.4, "3.8": 3.8, "near perfect": 4.5}
KINDS = ((100, "3 unequal"), (200, "2 of 20 %"))
STUDENT = "Bayesian bootstrap, Student's t"
CHUNKS = 20  # of coverage.CHUNK cohorts


def measure(cell: dict[str, object]) -> Iterator[list[str]]:
    """Yield cells of the table: metric, mean number of wrong subjects, and the misses by rule."""
    random = np.random.default_rng(sum(map(ord, str(cell))))
    truths = coverage.true_values(random, cell)
    found: dict[str, list[np.ndarray]] = {}
    for _ in range(CHUNKS):
        labels, probabilities = coverage.draw_cohorts(random, cell, coverage.CHUNK)
        wrong = (probabilities[:, :, 0].argmax(axis=-1) != labels).sum(axis=1)
        cells = coverage.confusion(labels, probabilities)
        for bounds in (coverage.table_bounds, coverage.proportion_bounds):
            for name, candidate, _, (low, high) in bounds(random, cells):
                if candidate in ("Wilson", coverage.CHOSEN_OF.get(name, STUDENT)):
                    missed = (truths[name] < low - 1e-9) | (truths[name] > high + 1e-9)
                    enough = coverage.reliable(name, labels, probabilities, least_wrong=0)
                    found.setdefault(name, []).append(np.stack([missed, wrong, enough]))
    for name, parts in found.items():
        missed, wrong, enough = np.concatenate(parts, axis=1)
        printed = [(enough > 0) & ((wrong == 0) | (wrong >= least)) for least in LEAST]
        shares = (f"{100 * (missed * one).sum() / max(enough.sum(), 1):.0f}" for one in printed)
        yield [name, f"{wrong.mean():.1f}", *shares]


def main() -> None:
    coverage.SEPARATIONS.update(SEPARATIONS)
    print("| subjects, classes, distance | metric | wrong | " + " | ".join(f"{one} or more" for one in LEAST) + " |")
    for subjects, classes in KINDS:
        for separation in SEPARATIONS:
            cell = {"subjects": subjects, "slices": 1, "classes": classes, "separation": separation}
            for row in measure(cell):
                print(f"| {subjects}, {classes}, {SEPARATIONS[separation]:g} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
