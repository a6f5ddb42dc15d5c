"""Whether repeated measurements of a speed agree."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

UNRELIABLE = 0.10
"""Share of the median by which repeats may differ."""


def alike(values: Sequence[float]) -> bool:
    """Return whether there are several values, and they differ by at most a tenth of their median."""
    near = max(values) - min(values) <= UNRELIABLE * statistics.median(values)
    return near and len(values) > 1
