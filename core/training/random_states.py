"""The global random number generators of this process: seeding them, and putting them back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from densedet.core.seeding import drawing_from, seed_globals


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's, NumPy's and Python's generators for a while, and put them back afterwards."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        with drawing_from("run", seed):
            torch.manual_seed(seed)
            random.seed(seed)
            yield
    finally:
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def seed_draws(device: torch.device, *purpose: int | str) -> None:
    """Seed all global generators, that of the device too.

    A step and an evaluation begin so: what they draw, e.g. for dropout, depends on no earlier draw, so that
    it is the same for any number of workers and after a resume.

    Args:
        device: where the run computes.
        purpose: numbers and words, see `densedet.core.seeding.seed_of`.
    """
    seed = seed_globals(*purpose)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
