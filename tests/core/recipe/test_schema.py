"""The JSON Schema takes the shipped recipes and their resolved copies, and refuses what the loader
refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from densedet.core.recipe.loading import recipe_from_dict
from densedet.core.recipe.merging import CONFIGS
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.recipe.schema import json_schema

VALUES: dict[str, Any] = {
    "model": {
        "backbone": "convnet",
        "neck": {"name": "fpn", "channels": 32},
        "anchors": {"name": "octave"},
        "head": {"name": "retinanet", "depth": 2},
        "matcher": {"name": "iou", "positive": 0.5},
        "coder": "delta",
        "class_loss": {"name": "focal", "weight": 2.0},
        "box_loss": [{"name": "giou"}, {"name": "smooth_l1", "weight": 0.5}],
        "postprocess": {"name": "nms"},
    },
    "data": {"train": "digits"},
    "train": {"budget": {"epochs": 1}, "optimizer": {"lr": 0.01}},
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema(load_plugins().components)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_takes_a_recipe_and_its_resolved_copy(validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(VALUES)
    validator.validate(recipe_from_dict(VALUES).values)


@pytest.mark.parametrize(
    "file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda f: f.relative_to(CONFIGS).as_posix()
)
def test_takes_every_shipped_file(validator: jsonschema.Draft202012Validator, file: Any) -> None:
    validator.validate(yaml.safe_load(file.read_text()))


def test_takes_what_stands_on_a_base(validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(
        {
            "base": ["densedet:base/x.yaml"],
            "plugins": "./a.py",
            "model": {"head": {"depth": 3}, "neck": None},
            "train": None,
        }
    )


MUTATIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "section misspelt": lambda v: v.update(trian={}),
    "part misspelt": lambda v: v["model"].update(nekc="fpn"),
    "component misspelt": lambda v: v["model"].update(head={"name": "retinanett"}),
    "bare name misspelt": lambda v: v["model"].update(coder="dleta"),
    "argument misspelt": lambda v: v["model"]["head"].update(depht=3),
    "argument misspelt without a name": lambda v: v["model"].update(head={"depht": 3}),
    "argument of the wrong type": lambda v: v["model"]["head"].update(depth="x"),
    "argument out of range": lambda v: v["model"]["matcher"].update(positive=1.5),
    "wired argument": lambda v: v["model"]["head"].update(in_channels=3),
    "weight below 0": lambda v: v["model"]["class_loss"].update(weight=-1),
    "weight where none goes": lambda v: v["model"]["matcher"].update(weight=1),
    "no loss in the list": lambda v: v["model"].update(box_loss=[]),
    "argument in a list": lambda v: v["model"]["box_loss"][1].update(betta=1),
    "field misspelt": lambda v: v["train"].update(batchsize=3),
    "field out of range": lambda v: v["train"].update(batch_size=0),
    "budget misspelt": lambda v: v["train"].update(budget={"epoch": 1}),
    "size of three": lambda v: v["data"].update(size=[1, 2, 3]),
    "color unknown": lambda v: v["data"].update(color="gray"),
    "hooks no list": lambda v: v.update(run={"hooks": "progress"}),
    "source null": lambda v: v["data"].update(train=None),
    "base a number": lambda v: v.update(base=3),
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_refuses_mutated_recipes(
    validator: jsonschema.Draft202012Validator, mutation: Callable[[dict[str, Any]], object]
) -> None:
    values = copy.deepcopy(VALUES)
    mutation(values)
    assert not validator.is_valid(values)


def test_arguments_come_with_defaults_and_descriptions_and_without_wired_ones(
    validator: jsonschema.Draft202012Validator,
) -> None:
    head = validator.schema["$defs"]["head.retinanet"]
    assert head["properties"]["depth"]["default"] == 4
    assert "in_channels" not in head["properties"]
    assert head["additionalProperties"] is False
    size = validator.schema["properties"]["data"]["anyOf"][0]["properties"]["input_size_wh"]
    assert size["default"] == [128, 64]
    assert size["description"].startswith("WIDTH, HEIGHT")
