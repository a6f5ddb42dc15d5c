"""Which constructor arguments the assembly fills in by itself; a recipe that sets one is refused."""

from __future__ import annotations

WIRED: dict[str, dict[str, str]] = {
    "backbone": {"in_channels": "data.color"},
    "neck": {"in_channels": "the backbone", "in_strides": "the backbone"},
    "anchors": {"strides": "the neck"},
    "head": {
        "in_channels": "the neck",
        "in_strides": "the neck",
        "num_anchors": "the anchors",
        "class_channels": "the class loss",
        "box_channels": "the coder",
        "class_bias": "the class loss",
    },
    "matcher": {"num_classes": "the classes of the source", "strides": "the neck"},
    "coder": {"num_classes": "the classes of the source", "strides": "the neck"},
    "class_loss": {"num_classes": "the classes of the source"},
    "postprocess": {"num_classes": "the classes of the source", "strides": "the neck"},
    "detector": {
        "in_channels": "the neck",
        "in_strides": "the neck",
        "num_classes": "the classes of the source",
        "class_loss_weight": "model.class_loss.weight",
        "box_loss_weights": "model.box_loss.weight",
    },
    "source": {"root": "data.root"},
    "resize": {"size_wh": "data.input_size_wh"},
    "transform": {},  # torchvision's own `size` (height, width) is the recipe's to set
    "batch_transform": {"size_wh": "data.input_size_wh"},
    "optimizer": {"parameters": "the detector"},
    "evaluator": {"source": "data.val", "classes": "data.classes"},
    "hook": {"run": "the runner"},
}
"""kind -> {argument: what it is wired from}. An argument is wired only where the constructor names it. A
detector's arguments that are
named after kinds are wired too: from the parts beside it in the ``model`` section."""

RESERVED: dict[str, tuple[str, ...]] = {"class_loss": ("weight",), "box_loss": ("weight",)}
"""kind -> keys that the recipe may write into the component's mapping and that the assembly keeps for
itself."""
