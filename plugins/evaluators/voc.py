"""Average precision by PASCAL VOC's rules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from densedet.core.array_boxes import pairwise_iou
from densedet.core.contracts import Source
from densedet.core.sources import RECALLS_11, ClassMatches, MatchStore, mean_of_known
from densedet.core.types import Detections, to_array
from densedet.plugins.evaluators._collecting import Collecting, class_lines

EVERY = 2**31
"""VOC counts all detections of an image."""


class VocEvaluator(Collecting):
    """Average precision of detections by the rules of PASCAL VOC's development kit.

    Detections of a class are taken best first. Each meets the object of its image that it overlaps most. It
    is true where the overlap is at least ``iou`` and no detection before it had the object. A second
    detection of an object is false, even where another object overlaps enough, which COCO's rule would take.
    Detections of a difficult object (also a crowd or an ignored one) neither count nor hurt. Detections of
    equal score are ranked in the order of their images in the source, and within an image in the order in
    which they were added.

    The kit's boxes end with the last pixel inside, so that it adds 1 to widths and heights. Boxes are
    continuous here: the ``voc`` source has moved the kit's boxes to x = xmin - 1 and width = xmax - xmin + 1,
    for which the overlap without the 1 is the kit's.

    Args:
        source: (wired) the truth, in source pixels.
        classes: (wired) names in label order, empty for a label that stands for no class; truth of other
            classes is left out.
        points: 11 averages the best precision at recalls 0, 0.1 ... 1 (VOC 2007); "all" is the area under the
            curve of the best precision (VOC 2010 and later).
        iou: smallest overlap of a true detection, as intersection over union.
    """

    def __init__(
        self,
        *,
        source: Source,
        classes: tuple[str, ...],
        points: Literal[11, "all"] = "all",
        iou: Annotated[float, Field(gt=0, le=1)] = 0.5,
    ) -> None:
        super().__init__(source, classes)
        self.points, self.iou = points, iou

    def add(self, index: int, detections: Detections) -> None:
        """See `densedet.core.contracts.Evaluator`."""
        boxes = to_array(detections.boxes).astype(np.float64)
        self._keep(index, boxes, detections.scores, detections.labels)

    def result(self) -> dict[str, Any]:
        """Compute the metrics.

        Returns:
            "AP" and "AR", the mean over the classes of average precision and of the recall of all detections;
            "classes": {name: {"AP", "AR"}}. A number is -1 where there is nothing to count: no image, or no
            object of that class.
        """
        numbers = self.resampled(np.ones((1, len(self._detections))))
        metrics: dict[str, Any] = {key: float(numbers[key][0]) for key in ("AP", "AR")}
        metrics["classes"] = {
            name: {key: float(numbers[f"classes.{name}.{key}"][0]) for key in ("AP", "AR")}
            for name in filter(None, self.classes)
        }
        return metrics

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """See `densedet.core.contracts.Evaluator`: AP and AR, of each class too."""
        if self._matches is None:
            self._matches = self._match()
        precision, recall = self._matches.measure(weights)
        precision, recall = precision[:, :, 0, 0], recall[:, :, 0, 0, 0]
        numbers = {"AP": mean_of_known(precision, 1), "AR": mean_of_known(recall, 1)}
        for label, name in enumerate(filter(None, self.classes)):
            numbers[f"classes.{name}.AP"] = mean_of_known(precision[:, label : label + 1], 1)
            numbers[f"classes.{name}.AR"] = mean_of_known(recall[:, label : label + 1], 1)
        return numbers

    def report(self, metrics: dict[str, Any]) -> list[str]:
        """The lines that `densedet evaluate` prints: the means, then two numbers of each class."""
        rule = "11 recalls" if self.points == 11 else "all recalls"
        return [
            f" Average Precision (AP) @[ IoU={self.iou:g} | {rule} ] = {metrics['AP']:0.3f}",
            f" Average Recall    (AR) @[ IoU={self.iou:g} | all detections ] = {metrics['AR']:0.3f}",
            "",
            *class_lines(metrics, ("AP", "AR")),
        ]

    def _match(self) -> MatchStore:
        """Match the detections of each image and class with its objects."""
        labels = [label for label, name in enumerate(self.classes) if name]
        images = sorted(self._detections)
        columns: dict[int, list[tuple[np.ndarray, ...]]] = {label: [] for label in labels}
        objects = np.zeros((len(self.classes), 1, len(images)), dtype=np.int64)
        for position, index in enumerate(images):
            annotation, rows = self.source.annotation(index), self._detections[index]
            truth, owners = annotation.corners(), self._labels[to_array(annotation.labels)]
            difficult = to_array(annotation.crowd | annotation.ignore)
            for label in labels:
                here = owners == label
                objects[label, 0, position] = (here & ~difficult).sum()
                found = rows[rows[:, 5] == label]
                found = found[np.argsort(-found[:, 4], kind="stable")]
                if len(found):
                    judged = judge(found[:, :4], truth[here], difficult[here], self.iou)
                    where = np.full(len(found), position)
                    columns[label].append((where, found[:, 4], np.arange(len(found)), *judged))
        parts = [_class_matches(columns[label], objects[label]) for label in labels]
        return MatchStore(len(images), parts, RECALLS_11 if self.points == 11 else None, (EVERY,))


def _class_matches(columns: list[tuple[np.ndarray, ...]], objects: np.ndarray) -> ClassMatches:
    """The matches of one class out of the columns of each image, best detection first."""
    empty = (np.empty(0, dtype=np.int64), np.empty(0), np.empty(0, dtype=np.int64), *[np.empty(0, bool)] * 2)
    image, score, place, matched, ignored = (np.concatenate(each) for each in zip(empty, *columns))
    order = np.argsort(-score, kind="stable")
    judged = (matched[None, None, order], ignored[None, None, order])
    return ClassMatches(image[order], score[order], place[order], *judged, objects)


def judge(
    detections: np.ndarray, objects: np.ndarray, difficult: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Judge the detections of an image and class, best first.

    Args:
        detections: float64 (D,4), xyxy.
        objects: float64 (G,4), xyxy.
        difficult: bool (G,), objects that neither count nor hurt.
        iou: smallest overlap of a true detection.

    Returns:
        Two arrays bool (D,): the detection is the first one of its object; it met a difficult object.
    """
    matched, ignored = np.zeros(len(detections), dtype=bool), np.zeros(len(detections), dtype=bool)
    if not len(objects):
        return matched, ignored
    overlaps = pairwise_iou(detections, objects)
    best = overlaps.argmax(axis=1)
    near = overlaps.max(axis=1) >= iou
    ignored[near] = difficult[best[near]]
    _, first = np.unique(best[near], return_index=True)
    matched[np.flatnonzero(near)[first]] = True
    return matched & ~ignored, ignored
