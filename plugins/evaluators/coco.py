"""Average precision by COCO's rules, computed by hotcoco (equal to pycocotools, some fifty times faster)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import hotcoco
import numpy as np

from densedet.core.arguments import PositiveInt
from densedet.core.contracts import Source
from densedet.core.types import Annotation, Detections, to_array
from densedet.plugins.evaluators._coco_lines import TWELVE, coco_lines
from densedet.plugins.evaluators._coco_matches import coco_matches, coco_resampled, number_names
from densedet.plugins.evaluators._collecting import Collecting

TRUTHS: WeakKeyDictionary[Any, tuple[Any, tuple[hotcoco.COCO, np.ndarray]]] = WeakKeyDictionary()
"""Of a source: the classes and images of its last truth, and that truth."""

AT_ONCE = 1 << 20
"""Detections that hotcoco has at once, 390 bytes each; where there are more, class after class."""


class CocoEvaluator(Collecting):
    """Average precision and recall of detections by COCO's rules.

    Crowd and ignored objects are COCO's ``iscrowd``: detections on them neither count nor hurt. Only images
    that were added are evaluated. Detections of equal score are ranked in the order of their images' ids, as
    pycocotools does (in the source's order where some ids are numbers and some names), and within an image in
    the order in which they were added.

    Args:
        source: (wired) the truth, in source pixels.
        classes: (wired) names in label order, empty for a label that stands for no class; truth of other
            classes is left out.
        max_detections: most detections per image that AP counts; 100 in COCO. AR100 counts as many, AR1 and
            AR10 count 1 and 10.
    """

    def __init__(
        self, *, source: Source, classes: tuple[str, ...], max_detections: PositiveInt = 100
    ) -> None:
        super().__init__(source, classes)
        self.max_detections = max_detections

    def add(self, index: int, detections: Detections) -> None:
        """See `densedet.core.contracts.Evaluator`."""
        boxes = to_array(detections.boxes).astype(np.float64)
        xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        self._keep(index, xywh, detections.scores, detections.labels + 1)

    def _truth(self, indices: list[int]) -> tuple[hotcoco.COCO, np.ndarray]:
        """The truth of these images of the source, and the id that each has there, int64 (I,); made once for
        all evaluations of a run."""
        wanted = self.classes, indices
        with contextlib.suppress(TypeError):  # a source that nothing can refer to weakly, or that has no hash
            known, made = TRUTHS.get(self.source, (None, None))
            if known != wanted or made is None:
                made = self._made_truth(indices)
                TRUTHS[self.source] = wanted, made
            return made
        return self._made_truth(indices)

    def _made_truth(self, indices: list[int]) -> tuple[hotcoco.COCO, np.ndarray]:
        names: list[int | str] = []
        sizes, owner, labels, boxes, areas, crowd = [], [], [], [], [], []
        for position, index in enumerate(indices):
            annotation = self.source.annotation(index)
            names.append(annotation.image_id)
            sizes.append((annotation.width, annotation.height))
            mapped = self._labels[to_array(annotation.labels)]
            keep = mapped >= 0
            owner.append(np.full(int(keep.sum()), position))
            labels.append(mapped[keep] + 1)
            boxes.append(_xywh(annotation)[keep])
            areas.append(to_array(annotation.area).astype(np.float64)[keep])
            crowd.append(to_array(annotation.crowd | annotation.ignore)[keep])
        ids = _ranks(names)
        count = sum(map(len, owner))
        truth = hotcoco.COCO.from_arrays(
            [
                {"id": number, "width": width, "height": height}
                for number, (width, height) in zip(ids.tolist(), sizes)
            ],
            [{"id": label + 1, "name": name} for label, name in enumerate(self.classes) if name],
            ids[np.concatenate(owner)],
            np.concatenate(labels).astype(np.int64),
            np.concatenate(boxes).reshape(-1, 4),
            ids=np.arange(1, count + 1),
            area=np.concatenate(areas),
            iscrowd=np.concatenate(crowd).astype(np.int64),
        )
        return truth, ids

    def result(self) -> dict[str, Any]:
        """Compute the metrics.

        Returns:
            COCO's twelve numbers ("AP", ...), "classes": {name: {"AP", "AP50"}}, and "curves": {name:
            precision at IoU .5 over 101 recalls}. A number is -1 where there is nothing to count: no image,
            or no object of that size or class.
        """
        nothing = dict.fromkeys(TWELVE, -1.0)
        if not self._detections or not any(self.classes):
            return {
                **nothing,
                "classes": {name: {"AP": -1.0, "AP50": -1.0} for name in self.classes if name},
                "curves": {},
            }
        indices = sorted(self._detections)
        truth, ids = self._truth(indices)
        return coco_metrics(
            truth,
            self._by_classes(truth, indices, ids),
            tuple(filter(None, self.classes)),
            max_detections=self.max_detections,
        )

    def _by_classes(
        self, truth: hotcoco.COCO, indices: list[int], ids: np.ndarray
    ) -> Iterator[tuple[list[int], hotcoco.COCO]]:
        """Give ids of categories, in order, and all of their detections: all at a time, or as many as
        `AT_ONCE` lets in."""
        categories = np.concatenate([rows[:, 5] for rows in self._detections.values()]).astype(np.int64)
        counts = np.bincount(categories, minlength=len(self.classes) + 1)
        del categories
        named = [label + 1 for label, name in enumerate(self.classes) if name]
        while named:
            fit = int((np.cumsum(counts[named]) <= AT_ONCE).sum())
            some, named = named[: max(1, fit)], named[max(1, fit) :]
            rows = self._rows(indices, ids, np.isin(np.arange(len(counts)), some))
            found = truth.load_res(rows if len(rows) else [])
            del rows
            yield some, found

    def _rows(self, indices: list[int], ids: np.ndarray, categories: np.ndarray) -> np.ndarray:
        """The rows (D,7) of the images' detections of ``categories``, True at the ids of those."""
        parts = [self._detections[index] for index in indices]
        if not categories[1:].all():
            parts = [part[categories[part[:, 5].astype(np.int64)]] for part in parts]
        rows = np.empty((sum(map(len, parts)), 7))
        rows[:, 0] = np.repeat(ids, [len(part) for part in parts])
        np.concatenate(parts, out=rows[:, 1:])
        return rows

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """See `densedet.core.contracts.Evaluator`: COCO's twelve numbers, AP and AP50 of each class."""
        names = tuple(filter(None, self.classes))
        if not self._detections:
            return dict.fromkeys(number_names(names), np.full(len(weights), -1.0))
        if self._matches is None:
            labels = [label for label, name in enumerate(self.classes) if name]
            indices = sorted(self._detections)
            truth, ids = self._truth(indices)
            rows = self._rows(indices, ids, np.full(len(self.classes) + 1, True))
            self._matches = coco_matches(truth, ids, rows, labels, max_detections=self.max_detections)
        return coco_resampled(self._matches, weights, names)

    def report(self, metrics: dict[str, Any]) -> list[str]:
        """The lines that `densedet evaluate` prints: COCO's twelve numbers, then two of each class."""
        return coco_lines(metrics, self.max_detections)


def _ranks(names: list[int | str]) -> np.ndarray:
    """The rank 1 .. I of each image id, int64 (I,): numbers by size, names by letters, as given where both
    occur.

    pycocotools goes through the images in this order and breaks ties in score by it, so AP depends on it.
    """
    order = np.arange(len(names))
    if len({isinstance(name, str) for name in names}) == 1:
        order = np.array(sorted(order, key=lambda position: names[position]))
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[order] = np.arange(1, len(names) + 1)
    return ranks


def _xywh(annotation: Annotation) -> np.ndarray:
    """x, y, width, height of the boxes, float64 (G,4): the file's, else from the corners."""
    if annotation.xywh is not None:
        return to_array(annotation.xywh)
    corner = to_array(annotation.boxes).astype(np.float64)
    return np.concatenate([corner[:, :2], corner[:, 2:] - corner[:, :2]], axis=1)


def coco_metrics(
    truth: hotcoco.COCO,
    groups: Iterable[tuple[list[int], hotcoco.COCO]],
    classes: tuple[str, ...],
    *,
    max_detections: int = 100,
) -> dict[str, Any]:
    """Compare detections with the truth by COCO's rules.

    Args:
        truth: with the evaluated images alone.
        groups: ids of categories, and all of their detections, by ``truth.load_res``. Together all
            categories, in order.
        classes: names in the order of the truth's category ids.
        max_detections: most detections per image that AP counts.

    Returns:
        As `CocoEvaluator.result`.
    """
    parts = [_curves(truth, *group, max_detections) for group in groups]
    precision = np.concatenate([part[0] for part in parts], axis=2)
    recall = np.concatenate([part[1] for part in parts], axis=1)
    metrics: dict[str, Any] = _twelve(precision, recall)
    precision = precision[:, :, :, 0, 2]
    metrics["classes"] = {
        name: {"AP": _mean(precision[:, :, label]), "AP50": _mean(precision[0, :, label])}
        for label, name in enumerate(classes)
    }
    metrics["curves"] = {
        name: [round(float(value), 4) for value in precision[0, :, label]]
        for label, name in enumerate(classes)
        if (precision[0, :, label] >= 0).any()
    }
    return metrics


def _curves(
    truth: hotcoco.COCO, categories: list[int], found: hotcoco.COCO, max_detections: int
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (10 IoUs, 101 recalls, C, 4 sizes, 3 limits) and recall (10, C, 4, 3) of some categories."""
    evaluation = hotcoco.COCOeval(truth, found, "bbox")
    parameters = evaluation.params
    parameters.max_dets, parameters.cat_ids = [1, 10, max_detections], categories
    evaluation.params = parameters
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.eval is not None
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def _twelve(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """pycocotools' summary of what `_curves` gives of all categories."""
    half, three_quarters = 0, 5  # positions of IoU 0.5 and 0.75 in 0.5, 0.55 ... 0.95
    best = precision[..., 2]
    values = [_mean(best[..., 0]), _mean(best[half, ..., 0]), _mean(best[three_quarters, ..., 0])]
    values += [_mean(best[..., size]) for size in (1, 2, 3)]
    values += [_mean(recall[:, :, 0, limit]) for limit in (0, 1, 2)]
    values += [_mean(recall[:, :, size, 2]) for size in (1, 2, 3)]
    return dict(zip(TWELVE, values))


def _mean(values: np.ndarray) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0
