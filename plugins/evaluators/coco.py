"""Average precision by COCO's rules, computed by hotcoco (equal to pycocotools, some fifty times faster)."""

from __future__ import annotations

from typing import Any

import hotcoco
import numpy as np

from densedet.core.arguments import PositiveInt
from densedet.core.class_table import label_map, relabel
from densedet.core.coco_numbers import TWELVE
from densedet.core.contracts import Source
from densedet.core.types import Annotation, Detections


class CocoEvaluator:
    """Collects detections and compares them with the source's truth.

    source (wired): the truth, in source pixels. classes (wired): names in label order, empty for a label that stands for nothing; truth of
    other classes is left out. Crowd and
    ignored objects are COCO's ``iscrowd``: detections on them neither count nor hurt. Only images that were added are judged.
    max_detections: per image, for AP (COCO: 100).
    """

    def __init__(self, *, source: Source, classes: tuple[str, ...], max_detections: PositiveInt = 100) -> None:
        self.source, self.classes, self.max_detections = source, tuple(classes), max_detections
        self._labels = label_map(source.classes, self.classes)
        self._detections: dict[int, np.ndarray] = {}

    def add(self, index: int, detections: Detections) -> None:
        """Detections of the source's image ``index``: boxes xyxy in source pixels, labels in 0..C-1 of `classes`."""
        boxes = detections.boxes.detach().cpu().numpy().astype(np.float64)
        rows = np.empty((len(boxes), 7))
        rows[:, 0] = index + 1
        rows[:, 1:3], rows[:, 3:5] = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        rows[:, 5] = detections.scores.detach().cpu().numpy()
        rows[:, 6] = detections.labels.detach().cpu().numpy() + 1
        self._detections[index] = rows

    def state(self) -> dict[int, np.ndarray]:
        """What another process needs to `merge`."""
        return self._detections

    def merge(self, states: list[Any]) -> None:
        """Take in the images that other processes judged."""
        for state in states:
            self._detections.update(state)

    def _truth(self) -> hotcoco.COCO:
        images, owner, labels, boxes, areas, crowd = [], [], [], [], [], []
        for index in sorted(self._detections):
            annotation = self.source.annotation(index)
            images.append({"id": index + 1, "width": annotation.width, "height": annotation.height})
            mapped = relabel(annotation.labels, self._labels).numpy()
            keep = mapped >= 0
            owner.append(np.full(int(keep.sum()), index + 1))
            labels.append(mapped[keep] + 1)
            boxes.append(_xywh(annotation)[keep])
            areas.append(annotation.area.numpy().astype(np.float64)[keep])
            crowd.append((annotation.crowd | annotation.ignore).numpy()[keep])
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(self.classes) if name]
        count = sum(map(len, owner))
        return hotcoco.COCO.from_arrays(
            images,
            categories,
            np.concatenate(owner).astype(np.int64),
            np.concatenate(labels).astype(np.int64),
            np.concatenate(boxes).reshape(-1, 4),
            ids=np.arange(1, count + 1),
            area=np.concatenate(areas),
            iscrowd=np.concatenate(crowd).astype(np.int64),
        )

    def result(self) -> dict[str, Any]:
        """{"AP", ... COCO's twelve, "classes": {name: {"AP", "AP50"}}, "curves": {name: precision at IoU .5 over 101 recalls}}.

        -1 where there is nothing to judge (no image, no object of that size or class).
        """
        nothing = dict.fromkeys(TWELVE, -1.0)
        if not self._detections:
            return {**nothing, "classes": {name: {"AP": -1.0, "AP50": -1.0} for name in self.classes if name}, "curves": {}}
        truth = self._truth()
        found = np.concatenate([self._detections[i] for i in sorted(self._detections)])
        return judge(truth, found, tuple(filter(None, self.classes)), max_detections=self.max_detections)


def _xywh(annotation: Annotation) -> np.ndarray:
    """float64 (G,4): as the file has them, else from the corners."""
    if annotation.xywh is not None:
        return annotation.xywh.numpy()
    corner = annotation.boxes.numpy().astype(np.float64)
    return np.concatenate([corner[:, :2], corner[:, 2:] - corner[:, :2]], axis=1)


def judge(
    truth: hotcoco.COCO, detections: np.ndarray | list[dict[str, Any]], classes: tuple[str, ...], *, max_detections: int = 100
) -> dict[str, Any]:
    """COCO's numbers of detections, (D,7) rows (image id, x, y, w, h, score, category id) or results-file rows; `CocoEvaluator.result`.

    classes: names in the order of the truth's category ids.
    """
    evaluation = hotcoco.COCOeval(truth, truth.load_res(detections if len(detections) else []), "bbox")
    parameters = evaluation.params
    parameters.max_dets = [1, 10, max_detections]
    evaluation.params = parameters
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.eval is not None
    precision, recall = (np.asarray(evaluation.eval[key]) for key in ("precision", "recall"))
    metrics: dict[str, Any] = _twelve(precision, recall)
    precision = precision[:, :, :, 0, 2]
    metrics["classes"] = {
        name: {"AP": _mean(precision[:, :, label]), "AP50": _mean(precision[0, :, label])} for label, name in enumerate(classes)
    }
    metrics["curves"] = {
        name: [round(float(value), 4) for value in precision[0, :, label]]
        for label, name in enumerate(classes)
        if (precision[0, :, label] >= 0).any()
    }
    return metrics


def _twelve(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """pycocotools' summary. precision: (10 IoUs, 101 recalls, C, 4 sizes, 3 limits); recall: (10, C, 4, 3)."""
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
