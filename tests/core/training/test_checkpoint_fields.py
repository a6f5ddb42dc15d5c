"""Checkpoints of strangers: the digest is right, and a field is not what densedet writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core import sealed_file
from densedet.core.errors import CheckpointError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint
from densedet.core.training.checkpoint_fields import Fields
from densedet.core.training.run import Run

NAN = float("nan")


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    small = ["data.train.count=8", "data.val=null", "train.batch_size=8", "model.backbone.widths=[8, 8, 8]"]
    return Run(load_recipe("quickstart_ssd", [*small, "run.hooks=[]"])).state()


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value] * 10  # 10 ** levels lists when written out
    return value


WRONG = (None, True, -1, 1.5, 10**30, NAN, "", "x", [], [1], {}, {"a": 1}, torch.zeros(2), torch.tensor(1.0))
FITTING = {
    "densedet": ("", "x"),
    "recipe": ("", "x"),  # what it says is told when it is read
    "recipe_name": ("x",),
    "seconds": (1.5,),
    "ema": (None, {"a": torch.zeros(2)}),
    "optimizer": (None,),
    "precision": (None,),
    "scaler": ({}, {"a": 1}),
    "metrics": ({}, {"a": 1}),
    "plugins": ({},),
    "thresholds": (None,),
}
"""Values among WRONG that are right for a field."""


@pytest.mark.parametrize("name", list(Fields.model_fields))
def test_a_field_of_a_wrong_type_is_refused(state: dict[str, Any], name: str) -> None:
    right = [repr(value) for value in FITTING.get(name, ())]
    wrong = [value for value in WRONG if repr(value) not in right]
    assert len(wrong) >= 11
    for value in wrong:
        assert name in str(checkpoint._fault({**state, name: value})), value
    lacking = checkpoint._fault({key: value for key, value in state.items() if key != name})
    assert (name in str(lacking)) is Fields.model_fields[name].is_required()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, r"a\.pt is not a checkpoint that densedet has written: step: "),
        ({"format": 1}, "has format 1, this densedet reads 3"),
        ({"format": torch.zeros(2)}, "has format"),
        ({"detector": 3}, "detector: "),
    ],
)
def test_reading_refuses_it(state: dict[str, Any], tmp_path: Path, change: Any, message: str) -> None:
    sealed_file.write(tmp_path / "a.pt", {**state, **change})
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recipe_name", "../x"),
        ("recipe_name", ".."),
        ("category_ids", [1]),
        ("seconds", NAN),
        ("detector", {"a": "text"}),
        ("detector", {"a": None}),
        ("detector", {1: torch.zeros(2)}),
        ("best", {"value": 1.0, "step": -1}),
        ("metrics", {"losses": {"box": "x"}}),
        ("metrics", {"broken_images": 3}),
        ("metrics", {"AP": torch.zeros(2)}),
        ("counters.lost_boxes", -1),
        ("counters.broken_images", {"x": "no position"}),
        ("counters.broken_images", {"1": 3}),
        ("plugins", {"hook": 3}),
        ("plugins", {"hook": {"a": nested(40)}}),
        ("optimizer.name", 3),
        ("optimizer.parameters", [3]),
        ("optimizer.at_start", [3]),
        ("optimizer.torch", {"state": {}, "param_groups": [3]}),
        ("optimizer.torch", {"state": {"x": {}}, "param_groups": []}),
        ("optimizer.torch", {"state": {0: 3}, "param_groups": []}),
        ("more", 3),
    ],
)
def test_what_is_wrong_inside_a_field_is_refused(state: dict[str, Any], name: str, value: Any) -> None:
    field, _, inner = name.partition(".")
    fault = checkpoint._fault({**state, field: {**state[field], inner: value} if inner else value})
    assert fault is not None
    assert field in fault


def test_shared_lists_are_looked_at_once(state: dict[str, Any]) -> None:
    assert checkpoint._fault({**state, "plugins": {"hook": {"a": nested(25)}}}) is None


def test_what_could_not_be_read_again_is_not_written(state: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not written.*plugins\.Hook#1\.a: a PosixPath is no tensor"):
        checkpoint.save(tmp_path / "a.pt", {**state, "plugins": {"Hook#1": {"a": Path("x")}}})
    assert not list(tmp_path.iterdir())
