"""What the evaluators of average precision share: the detections of each image, and the lines of a class."""

from __future__ import annotations

from typing import Any

import numpy as np

from densedet.core.class_table import label_map
from densedet.core.contracts import Source
from densedet.core.sources import MatchStore
from densedet.core.text import short
from densedet.core.types import to_array


class Collecting:
    """Keeps the detections of each image, as rows of six numbers, until they are matched.

    Args:
        source: the truth.
        classes: names in label order.
    """

    def __init__(self, source: Source, classes: tuple[str, ...]) -> None:
        self.source, self.classes = source, tuple(classes)
        self._labels = label_map(source.classes, self.classes)
        self._detections: dict[int, np.ndarray] = {}
        self._matches: MatchStore | None = None

    def _keep(self, index: int, boxes: np.ndarray, scores: Any, labels: Any) -> None:
        """Keep float64 rows of an image: four numbers of the box, score, label."""
        columns = [boxes, to_array(scores)[:, None], to_array(labels)[:, None]]
        self._detections[index], self._matches = np.concatenate(columns, axis=1), None

    def state(self) -> dict[int, np.ndarray]:
        """What another process needs to `merge`."""
        return self._detections

    def merge(self, states: list[Any]) -> None:
        """Take in the detections of other processes."""
        self._matches = None
        for state in states:
            self._detections.update(state)


def class_lines(metrics: dict[str, Any], keys: tuple[str, str]) -> list[str]:
    """Return the heading, and a line of each class with two of its numbers.

    Args:
        metrics: with "classes", {name: {key: number}}.
        keys: of the two numbers.
    """
    classes = [(short(name), numbers) for name, numbers in metrics["classes"].items()]
    width = max(len("class"), *(len(name) for name, _ in classes), 0)
    return [
        f" {'class':<{width}}  {keys[0]:>5}  {keys[1]:>5}",
        *(f" {name:<{width}}  {each[keys[0]]:5.3f}  {each[keys[1]]:5.3f}" for name, each in classes),
    ]
