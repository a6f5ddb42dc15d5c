"""Seeds that depend on their purpose alone: not on the process, the platform or earlier draws."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """Derive a seed from its purpose, e.g. ``seed_of(seed, "sample", epoch, index)``.

    Args:
        parts: numbers and words that name the purpose; any other parts give another seed.

    Returns:
        A seed in 0..2**63-1.
    """
    text = "\0".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator_of(*parts: int | str) -> torch.Generator:
    """Make a CPU generator seeded by `seed_of`.

    Args:
        parts: numbers and words that name the purpose.

    Returns:
        The generator.
    """
    import torch  # imported late: seeds are also used where torch is not

    return torch.Generator().manual_seed(seed_of(*parts))
