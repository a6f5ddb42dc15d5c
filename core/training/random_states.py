"""The random number generators of this process: seeding, keeping, putting back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's and Python's generators for a while, and put them back afterwards."""
    before = random_states()
    torch.manual_seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        restore_random_states(before)


def random_states() -> dict[str, Any]:
    """Return the states of torch's, CUDA's and Python's generators as tensors and plain values."""
    version, internal, gauss = random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda, "python": [version, list(internal), gauss]}


def restore_random_states(state: dict[str, Any]) -> None:
    """Put back what `random_states` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
