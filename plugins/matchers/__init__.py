"""Built-in matchers; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "matcher",
        "iou",
        "densedet.plugins.matchers.iou:IoUMatcher",
        "thresholds on IoU, every object keeps its best anchor (SSD, RetinaNet)",
    ),
    (
        "matcher",
        "atss",
        "densedet.plugins.matchers.atss:ATSSMatcher",
        "a threshold per object from its nearest anchors' IoU (ATSS)",
    ),
    (
        "matcher",
        "task_aligned",
        "densedet.plugins.matchers.task_aligned:TaskAlignedMatcher",
        "anchors that score and localise best (TOOD)",
    ),
    (
        "matcher",
        "fcos",
        "densedet.plugins.matchers.fcos:FCOSMatcher",
        "points inside the box, object size chooses the level (FCOS)",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
