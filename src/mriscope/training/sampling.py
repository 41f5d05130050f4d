"""In which order slices are seen: pure functions of rows and seed."""

import numpy as np


def epoch_batches(rows: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, shuffled by (seed, epoch) alone, so that a resumed run sees what an unbroken one sees.

    Args:
        rows: int64 (N,), the training part.
        batch_size: slices in a batch. A single slice left over joins the batch before it, as batch norm needs two.
        seed: of the run.
        epoch: counted from 0.

    Returns:
        int64 arrays that together hold every row once.
    """
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return np.split(order, np.arange(1, n_batches(len(order), batch_size)) * batch_size)


def n_batches(n_rows: int, batch_size: int) -> int:
    """How many batches an epoch has."""
    full, rest = divmod(n_rows, batch_size)
    return max(full + (rest > 1), 1)


def step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """The seed of all chance within one step (dropout), so that a run can go on from any step."""
    return int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1, np.uint64)[0] >> 1)
