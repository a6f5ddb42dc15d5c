"""Seeds that depend on nothing but what they are for: not on the process, the platform or what was drawn
before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """A seed in 0..2**63-1 from what it is for, e.g. ``seed_of(seed, "sample", epoch, index)``; any other
    parts give another seed."""
    text = "\0".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator_of(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `seed_of`."""
    import torch  # seeds alone are wanted where torch is not

    return torch.Generator().manual_seed(seed_of(*parts))
