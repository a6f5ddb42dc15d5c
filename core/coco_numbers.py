"""COCO's twelve numbers: their names, and the lines that people know them by."""

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


def report_lines(metrics: dict[str, Any]) -> list[str]:
    """What `densedet evaluate` prints: the twelve lines where they are known, AP per class, validation
    losses."""
    if set(TWELVE) <= set(metrics):
        lines = [f"{line}{metrics[key]:0.3f}" for line, key in zip(LINES, TWELVE)]
    else:
        lines = [f" {key} = {value:0.4f}" for key, value in metrics.items() if isinstance(value, float)]
    classes = metrics.get("classes", {})
    if classes:
        width = max(map(len, classes))
        lines += ["", f" {'class':<{width}}     AP   AP50"]
        lines += [
            f" {name:<{width}}  {numbers['AP']:5.3f}  {numbers['AP50']:5.3f}"
            for name, numbers in classes.items()
        ]
    if metrics.get("losses"):
        lines += [
            "",
            " losses: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics["losses"].items()),
        ]
    return lines
