"""torchvision's SSD300 and SSDlite320."""

from __future__ import annotations

from densedet.core.name_rules import NameRules

POOL4 = 23
"""Layer of VGG's ``features`` at which torchvision's SSD cuts: later layers are in ``extra.0``, numbered from
0."""

CONV5 = (24, 26, 28)
STAGES = 8
"""More extra stages than any SSD has."""

C4 = 13
"""Block of MobileNetV3 large whose expansion is SSDlite's first map: torchvision's ``features.0`` ends with
it and ``features.1.0`` is the rest of the block."""

LAST = 16
"""MobileNetV3 large's last layer."""


class TorchvisionSSDMap(NameRules):
    """Names of ssd300_vgg16."""

    def __init__(self) -> None:
        conv5 = [(f"backbone.extra.0.{layer - POOL4}.*", f"backbone.features.{layer}.*") for layer in CONV5]
        stages = []
        for stage in range(1, STAGES):
            for theirs, ours in ((0, 0), (2, 1)):
                stages.append((f"backbone.extra.{stage}.{theirs}.*", f"neck.extras.{stage - 1}.{ours}.0.*"))
        super().__init__(
            [
                *conv5,
                ("backbone.features.*", "backbone.features.*"),
                ("backbone.extra.0.7.*", "backbone.fc.*"),
                ("backbone.scale_weight", "neck.l2_norm.weight"),
                *stages,
                ("head.classification_head.module_list.*", "head.logits.convs.*"),
                ("head.regression_head.module_list.*", "head.box.convs.*"),
            ]
        )


class TorchvisionSSDLiteMap(NameRules):
    """Names of ssdlite320_mobilenet_v3_large."""

    def __init__(self) -> None:
        after = [
            (f"backbone.features.1.{layer - C4}.*", f"backbone.features.{layer}.*")
            for layer in range(C4 + 1, LAST + 1)
        ]
        super().__init__(
            [
                (f"backbone.features.0.{C4}.*", f"backbone.features.{C4}.block.0.*"),
                ("backbone.features.1.0.#.*", f"backbone.features.{C4}.block.#.*"),
                *after,
                ("backbone.features.0.#.*", "backbone.features.#.*"),
                ("backbone.extra.*", "neck.extras.*"),
                ("head.classification_head.module_list.#.0.*", "head.class_blocks.#.*"),
                ("head.classification_head.module_list.#.1.*", "head.logits.convs.#.*"),
                ("head.regression_head.module_list.#.0.*", "head.box_blocks.#.*"),
                ("head.regression_head.module_list.#.1.*", "head.box.convs.#.*"),
            ]
        )
