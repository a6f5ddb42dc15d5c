"""torchvision's RetinaNet and FCOS: a ResNet under a feature pyramid, two towers."""

from __future__ import annotations

from densedet.core.name_rules import NameRules, Rule

TOWERS = (("classification_head", "class_tower"), ("regression_head", "box_tower"))
DEPTH = 4
"""Convolutions of a tower; torchvision's heads have no argument for it."""

BODY: tuple[Rule, ...] = (
    ("backbone.body.*", "backbone.*"),
    ("backbone.fpn.inner_blocks.#.0.*", "neck.top_down.lateral.#.0.*"),
    ("backbone.fpn.layer_blocks.#.0.*", "neck.top_down.output.#.0.*"),
    # Before torchvision 0.13, and so in published files, the pyramid's convolutions were in no nn.Sequential.
    ("backbone.fpn.inner_blocks.#.*", "neck.top_down.lateral.#.0.*"),
    ("backbone.fpn.layer_blocks.#.*", "neck.top_down.output.#.0.*"),
    ("backbone.fpn.extra_blocks.p6.*", "neck.extra_convolutions.convolutions.0.*"),
    ("backbone.fpn.extra_blocks.p7.*", "neck.extra_convolutions.convolutions.1.*"),
    ("head.classification_head.cls_logits.*", "head.logits.convs.0.*"),
    ("head.regression_head.bbox_reg.*", "head.box.convs.0.*"),
)


class TorchvisionRetinaNetMap(NameRules):
    """Names of retinanet_resnet50_fpn and _v2, which has group norm in the towers.

    Both the names of torchvision 0.13 and newer (``conv.0.0.weight``) and those of the published COCO_V1 file
    (``conv.0.weight``, where every second layer is a ReLU) are known.
    """

    def __init__(self) -> None:
        rules = list(BODY)
        for theirs, ours in TOWERS:
            rules += [
                (f"head.{theirs}.conv.#.0.*", f"head.{ours}.convs.0.#.*"),
                (f"head.{theirs}.conv.#.1.*", f"head.{ours}.norms.0.#.*"),
                *((f"head.{theirs}.conv.{2 * i}.*", f"head.{ours}.convs.0.{i}.*") for i in range(DEPTH)),
            ]
        super().__init__(rules)


class TorchvisionFCOSMap(NameRules):
    """Names of fcos_resnet50_fpn.

    A tower repeats convolution, group norm, ReLU: convolutions are layers 0, 3, 6, 9 and norms 1, 4, 7, 10.
    """

    def __init__(self) -> None:
        rules = [*BODY, ("head.regression_head.bbox_ctrness.*", "head.centerness.convs.0.*")]
        for theirs, ours in TOWERS:
            for i in range(DEPTH):
                rules.append((f"head.{theirs}.conv.{3 * i}.*", f"head.{ours}.convs.0.{i}.*"))
                rules.append((f"head.{theirs}.conv.{3 * i + 1}.*", f"head.{ours}.norms.0.{i}.*"))
        super().__init__(rules)
