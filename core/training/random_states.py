"""The global random number generators of this process: seeding them, and putting them back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
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


def states_of(device: torch.device) -> dict[str, Any]:
    """Return the states of all global generators as tensors and plain values."""
    python, numpy = random.getstate(), np.random.get_state(legacy=False)
    assert isinstance(numpy, dict)
    return {
        "torch": torch.default_generator.get_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": [python[0], list(python[1]), python[2]],
        "numpy": [numpy["state"]["key"].tolist(), int(numpy["state"]["pos"])],
    }


def put_states(states: dict[str, Any], device: torch.device) -> None:
    """Put all global generators where `states_of` found them; that of a GPU on a GPU alone.

    Raises:
        Exception: what a generator raises for a state that is none.
    """
    torch.default_generator.set_state(states["torch"])
    if states["device"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["device"], device)
    version, values, gauss = states["python"]
    random.setstate((version, tuple(values), gauss))
    key, position = states["numpy"]
    np.random.set_state(("MT19937", np.array(key, dtype=np.uint32), position, 0, 0.0))
