"""Built-in losses; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    ("class_loss", "focal", "densedet.plugins.losses.focal:FocalLoss", "sigmoid focal loss (RetinaNet)"),
    (
        "class_loss",
        "hard_negative",
        "densedet.plugins.losses.hard_negative:HardNegativeLoss",
        "softmax on the positives and the hardest negatives of each image (SSD)",
    ),
    (
        "class_loss",
        "quality_focal",
        "densedet.plugins.losses.quality_focal:QualityFocalLoss",
        "focal loss against the match's quality (GFL)",
    ),
    (
        "class_loss",
        "varifocal",
        "densedet.plugins.losses.varifocal:VarifocalLoss",
        "quality-weighted positives, focal negatives (VarifocalNet)",
    ),
    (
        "class_loss",
        "bce",
        "densedet.plugins.losses.bce:BCELoss",
        "plain sigmoid cross entropy on all anchors",
    ),
    (
        "class_loss",
        "softmax",
        "densedet.plugins.losses.softmax:SoftmaxLoss",
        "plain softmax cross entropy on all anchors",
    ),
    ("box_loss", "l1", "densedet.plugins.losses.l1:L1Loss", "absolute difference of the deltas"),
    (
        "box_loss",
        "smooth_l1",
        "densedet.plugins.losses.smooth_l1:SmoothL1Loss",
        "absolute difference of the deltas, rounded near 0",
    ),
    ("box_loss", "iou", "densedet.plugins.losses.iou:IoULoss", "1 - IoU of the boxes"),
    ("box_loss", "giou", "densedet.plugins.losses.giou:GIoULoss", "1 - generalised IoU of the boxes"),
    ("box_loss", "diou", "densedet.plugins.losses.diou:DIoULoss", "1 - IoU and the distance of the centres"),
    (
        "box_loss",
        "ciou",
        "densedet.plugins.losses.ciou:CIoULoss",
        "DIoU and the difference of the aspect ratios",
    ),
    (
        "box_loss",
        "dfl",
        "densedet.plugins.losses.dfl:DistributionFocalLoss",
        "cross entropy of a side's distribution with its two nearest bins (GFL)",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
