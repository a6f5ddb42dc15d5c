"""Between a source's labels and the recipe's class table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densedet.core.errors import DataError
from densedet.core.types import Detections, to_array

EMPTY = ""
"""In a class table: a slot of the network that stands for no class, as COCO's unused ids in torchvision's
weights."""


def label_map(available: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Find the label in ``classes`` of each of a source's labels, by name.

    Args:
        available: names of the source's classes.
        classes: names in label order.

    Returns:
        int64 (C_source + 1,), -1 where ``classes`` lacks the name. The last entry is -1, so that
        ``table[labels]`` leaves the label -1 as it is.

    Raises:
        DataError: no name is in both, or a name of the source is empty or occurs twice.
    """
    if EMPTY in available or len(set(available)) < len(available):
        wrong = "an empty name" if EMPTY in available else "two classes of one name"
        raise DataError(f"the source has {wrong}: give each of its classes a name of its own")
    position = {name: label for label, name in enumerate(classes) if name != EMPTY}
    labels = [position.get(name, -1) for name in available]
    if all(label < 0 for label in labels):
        wanted, found = ", ".join([*filter(None, classes)][:20]), ", ".join(available[:20])
        raise DataError(
            f"the source has none of the classes {wanted}; it has {found}: name some of these in data.classes"
        )
    return np.array([*labels, -1], dtype=np.int64)


def of_classes(detections: Detections, classes: Sequence[str]) -> Detections:
    """Return detections on the CPU without those of slots that stand for no class."""
    if EMPTY not in classes:
        return detections
    named = np.array([name != EMPTY for name in classes])
    return detections.where(named[to_array(detections.labels)])
