"""Order of the training slices: pure functions of rows and seed."""

import numpy as np


def epoch_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches; a single slice left over joins the batch before it, as batch norm needs two."""
    return np.split(order, np.arange(1, n_batches(len(order), batch_size)) * batch_size)


def shuffled(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Shuffle the rows by (seed, epoch) alone, so that a resumed run sees what an uninterrupted one sees.

    Args:
        rows: int64 (N,), the training part.
        seed: of the run.
        epoch: counted from 0.
    """
    return np.random.default_rng([seed, epoch]).permutation(rows)


def balanced(rows: np.ndarray, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Draw as many rows as there are, with replacement, each class equally often on average.

    Args:
        rows: int64 (N,), the training part.
        labels: int64 (N,), their classes.
        seed: of the run.
        epoch: counted from 0.
    """
    weights = 1 / np.bincount(labels)[labels]
    return np.random.default_rng([seed, epoch]).choice(rows, len(rows), p=weights / weights.sum())


def n_batches(n_rows: int, batch_size: int) -> int:
    """Return the number of batches of an epoch."""
    full, rest = divmod(n_rows, batch_size)
    return max(full + (rest > 1), 1)


def step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Return the seed of all randomness within one step, so that a run can be resumed from any step."""
    return int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1, np.uint64)[0] >> 1)
