"""Seeds that depend on their purpose alone: not on the process, the platform or earlier draws."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

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


_SPARE: list[np.random.MT19937] = []


def seed_globals(*parts: int | str) -> int:
    """Seed the global generators of Python, NumPy and torch's CPU, and return the seed.

    Args:
        parts: numbers and words that name the purpose, see `seed_of`.
    """
    import torch

    seed = seed_of(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    return seed


@contextmanager
def drawing_from(*parts: int | str) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch's CPU by `seed_of` for a while.

    What draws from them meanwhile, such as a plug-in's transform, gives the same in every process.

    Args:
        parts: numbers and words that name the purpose.
    """
    import torch

    before = random.getstate(), np.random.get_bit_generator(), torch.default_generator.get_state()  # type: ignore[attr-defined]
    # NumPy takes long to copy a state and to make a generator, and no time to take another one.
    spare = _SPARE.pop() if _SPARE else np.random.MT19937()
    np.random.set_bit_generator(spare)  # type: ignore[attr-defined]
    seed_globals(*parts)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_bit_generator(before[1])  # type: ignore[attr-defined]
        _SPARE.append(spare)
        torch.default_generator.set_state(before[2])
