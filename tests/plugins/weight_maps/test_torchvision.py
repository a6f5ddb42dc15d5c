"""torchvision's names, against the state dicts of its constructors and of our recipes; nothing is
computed."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision

from densedet.core import assembly
from densedet.core.recipe.loading import load_recipe
from densedet.core.recipe.plugin_loading import load_plugins

MAPS = {
    "retinanet_resnet50_fpn": "torchvision_retinanet",
    "retinanet_resnet50_fpn_v2": "torchvision_retinanet",
    "fcos_resnet50_fpn": "torchvision_fcos",
    "ssd300_vgg16": "torchvision_ssd",
    "ssdlite320_mobilenet_v3_large": "torchvision_ssdlite",
}


def shapes_of_theirs(name: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = (
            getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None)
            if "lite" not in name
            else None
        )
    if model is None:  # it computes its channels with a real image
        model = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None)
    return {key: value.shape for key, value in model.state_dict().items()}


def shapes_of_ours(name: str) -> dict[str, torch.Size]:
    overrides = ["model.backbone.norm=batch"] if "resnet50" in name else []
    with torch.device("meta"):
        detector = assembly.build_detector(
            load_recipe(f"torchvision/{name}", overrides), 90 if "ssd" in name else 91, checked=False
        )
    return {key: value.shape for key, value in detector.state_dict().items()}


@pytest.mark.parametrize("name", MAPS)
def test_every_weight_has_its_counterpart(name: str) -> None:
    weight_map = load_plugins().components.get("weight_map", MAPS[name]).load()()
    theirs, ours = shapes_of_theirs(name), shapes_of_ours(name)
    assert {weight_map.ours(key): shape for key, shape in theirs.items()} == ours
    assert {weight_map.theirs(key): shape for key, shape in ours.items()} == theirs


@pytest.mark.parametrize("name", MAPS)
def test_no_other_map_takes_them(name: str) -> None:
    theirs = shapes_of_theirs(name)
    for component in load_plugins().components.find("weight_map"):
        if component.name != MAPS[name]:
            renamed = component.load()().ours
            assert any(renamed(key) is None for key in theirs), component.name


def test_names_of_the_published_retinanet() -> None:
    """retinanet_resnet50_fpn_coco-eeacb38b.pth was written before the towers' convolutions had a sequence
    each, and the pyramid's too."""
    weight_map = load_plugins().components.get("weight_map", "torchvision_retinanet").load()()
    for key in shapes_of_theirs("retinanet_resnet50_fpn"):
        old = re.sub(r"_head\.conv\.(\d)\.0\.", lambda m: f"_head.conv.{2 * int(m[1])}.", key)
        old = re.sub(r"((?:inner|layer)_blocks\.\d)\.0\.", r"\1.", old)
        assert weight_map.ours(old) == weight_map.ours(key)
    assert weight_map.ours("head.classification_head.conv.6.bias") == "head.class_tower.convs.0.3.bias"
    assert weight_map.ours("head.classification_head.conv.8.bias") is None
