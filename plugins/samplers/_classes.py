"""Which classes the training images hold."""

from __future__ import annotations

from densedet.core.contracts import Source


def classes_of_images(source: Source) -> list[set[int]]:
    """Return the labels of the objects of each image that count: those that are neither ignored nor of a
    class that was filtered out."""
    found = []
    for index in range(len(source)):
        annotation = source.annotation(index)
        found.append(set(annotation.labels[~annotation.ignore & (annotation.labels >= 0)].tolist()))
    return found
