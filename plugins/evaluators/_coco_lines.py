"""COCO's twelve numbers: their names, and the lines in which pycocotools prints them."""

from __future__ import annotations

from typing import Any

TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order in which pycocotools prints them."""

LINES = tuple(
    f" {kind:<18} @[ IoU={iou:<9} | area={area:>6s} | maxDets={limit:>3d} ] = "
    for kind, iou, area, limit in (
        ("Average Precision  (AP)", "0.50:0.95", "all", 100),
        ("Average Precision  (AP)", "0.50", "all", 100),
        ("Average Precision  (AP)", "0.75", "all", 100),
        ("Average Precision  (AP)", "0.50:0.95", "small", 100),
        ("Average Precision  (AP)", "0.50:0.95", "medium", 100),
        ("Average Precision  (AP)", "0.50:0.95", "large", 100),
        ("Average Recall     (AR)", "0.50:0.95", "all", 1),
        ("Average Recall     (AR)", "0.50:0.95", "all", 10),
        ("Average Recall     (AR)", "0.50:0.95", "all", 100),
        ("Average Recall     (AR)", "0.50:0.95", "small", 100),
        ("Average Recall     (AR)", "0.50:0.95", "medium", 100),
        ("Average Recall     (AR)", "0.50:0.95", "large", 100),
    )
)


def coco_lines(metrics: dict[str, Any]) -> list[str]:
    """COCO's twelve lines as pycocotools prints them, then AP and AP50 of each class."""
    classes = metrics["classes"]
    width = max(map(len, ("class", *classes)))
    return [
        *(f"{line}{metrics[key]:0.3f}" for line, key in zip(LINES, TWELVE)),
        "",
        f" {'class':<{width}}     AP   AP50",
        *(f" {name:<{width}}  {each['AP']:5.3f}  {each['AP50']:5.3f}" for name, each in classes.items()),
    ]
