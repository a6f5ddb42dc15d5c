"""Every built-in part keeps its contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core import conformance
from densedet.core.recipe.plugin_loading import load_plugins

ARGUMENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("backbone", "resnet18"): {"sizes": ((64, 64),)},
    ("backbone", "torchvision"): {"model": "shufflenet_v2_x0_5", "nodes": ("stage2",), "sizes": ((64, 64),)},
    ("backbone", "efficientnet_lite0"): {"out_indices": (3, 4)},
    ("backbone", "timm"): {"model": "test_resnet", "sizes": ((64, 64),)},
    ("backbone", "vgg16_ssd"): {"width": 0.0625},
    ("neck", "ssd_extras"): {},
    ("head", "retinanet"): {"depth": 1},
    ("head", "fcos"): {"depth": 1},
    ("anchors", "default_boxes"): {"ratios": (2.0,)},
    ("source", "digits"): {"count": 12},
    ("launcher", "local"): {"jobs": 3},
    ("launcher", "slurm"): {"cluster": "local", "poll_seconds": 0.1},
    ("transform", "CenterCrop"): {"size": (80, 100)},
    ("transform", "GaussianBlur"): {"kernel_size": 3},
    ("transform", "Grayscale"): {"num_output_channels": 3},
    ("transform", "Pad"): {"padding": 4},
    ("transform", "RandomAdjustSharpness"): {"sharpness_factor": 2},
    ("transform", "RandomAffine"): {"degrees": 10},
    ("transform", "RandomCrop"): {"size": (80, 100)},
    ("transform", "RandomPosterize"): {"bits": 3},
    ("transform", "RandomResize"): {"min_size": 50, "max_size": 90},
    ("transform", "RandomResizedCrop"): {"size": (80, 100)},
    ("transform", "RandomRotation"): {"degrees": 10},
    ("transform", "RandomShortestSize"): {"min_size": (50, 70)},
    ("transform", "RandomSolarize"): {"threshold": 128},
    ("transform", "Resize"): {"size": (60, 80)},
    ("transform", "ScaleJitter"): {"target_size": (96, 128)},
}


SKIPPED = ("source", "detector")
"""Kinds that need files or built parts; their own tests check them."""
LARGER = ("resnet34", "resnet50", "mobilenet_v3_large")
"""Backbones of the same code as a smaller one."""


NEEDS = {"slurm": "submitit", "ray": "ray", "timm": "timm"}
"""Name of a part -> the library of an extra that it needs."""


def rows() -> Iterator[Any]:
    for component in load_plugins().components.find():
        if component.name == "digits" or not (component.kind in SKIPPED or component.name in LARGER):
            marks = [pytest.mark.long] if component.name == "ray" else []
            yield pytest.param(component.kind, component.name, marks=marks)


@pytest.mark.parametrize(("kind", "name"), list(rows()))
def test_built_in(kind: str, name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    torch.manual_seed(0)
    factory = load_plugins().components.get(kind, name).load()
    conformance.check_part(kind, factory, **ARGUMENTS.get((kind, name), {}))


@pytest.mark.parametrize(
    ("file", "kind", "name"),
    [
        ("my_head.py", "head", "one_tower"),
        ("attribute_head.py", "head", "tint"),
        ("keypoint_head.py", "head", "keypoints"),
        ("my_hook.py", "hook", "stop_at"),
    ],
)
def test_parts_beside_recipes(file: str, kind: str, name: str) -> None:
    path = Path(__file__).parents[3] / "examples" / "beside_a_recipe" / file
    conformance.check_part(kind, load_plugins([str(path)]).components.get(kind, name).load())
