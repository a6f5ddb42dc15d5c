"""Which stages of a backbone hand out their maps."""

from __future__ import annotations

from collections.abc import Sequence

from densedet.core.errors import PartError


def check_taps(out: Sequence[int], choices: Sequence[int], *, name: str = "out") -> None:
    """Refuse taps that are none, unknown, repeated or out of order (maps go from fine to coarse). Raises
    PartError."""
    listed = ", ".join(map(str, choices))
    if not out:
        raise PartError(f"{name} is empty: name at least one of {listed}")
    unknown = [tap for tap in out if tap not in choices]
    if unknown:
        raise PartError(f"{name} has {unknown[0]}, which does not exist: choose from {listed}")
    if list(out) != sorted(set(out)):
        raise PartError(f"{name} is {list(out)}: write each once, fine to coarse: {sorted(set(out))}")
