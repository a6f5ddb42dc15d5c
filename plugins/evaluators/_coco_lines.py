"""COCO's twelve numbers: their names, and the lines in which pycocotools prints them."""

from __future__ import annotations

from typing import Any

from densedet.plugins.evaluators._collecting import class_lines

TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order in which pycocotools prints them."""

QUANTITIES = (
    ("Average Precision  (AP)", "0.50:0.95", "all", None),
    ("Average Precision  (AP)", "0.50", "all", None),
    ("Average Precision  (AP)", "0.75", "all", None),
    ("Average Precision  (AP)", "0.50:0.95", "small", None),
    ("Average Precision  (AP)", "0.50:0.95", "medium", None),
    ("Average Precision  (AP)", "0.50:0.95", "large", None),
    ("Average Recall     (AR)", "0.50:0.95", "all", 1),
    ("Average Recall     (AR)", "0.50:0.95", "all", 10),
    ("Average Recall     (AR)", "0.50:0.95", "all", None),
    ("Average Recall     (AR)", "0.50:0.95", "small", None),
    ("Average Recall     (AR)", "0.50:0.95", "medium", None),
    ("Average Recall     (AR)", "0.50:0.95", "large", None),
)
"""(name, IoU, size, most detections per image; None: the evaluator's ``max_detections``)."""


def coco_lines(metrics: dict[str, Any], max_detections: int) -> list[str]:
    """Return COCO's twelve lines as pycocotools prints them, then AP and AP50 of each class.

    Args:
        metrics: the result of `CocoEvaluator.result`.
        max_detections: most detections per image that AP counted.
    """
    return [
        *(
            f" {kind:<18} @[ IoU={iou:<9} | area={area:>6s} | maxDets={limit or max_detections:>3d} ] = "
            f"{metrics[key]:0.3f}"
            for key, (kind, iou, area, limit) in zip(TWELVE, QUANTITIES)
        ),
        "",
        *class_lines(metrics, ("AP", "AP50")),
    ]
