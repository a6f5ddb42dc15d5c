"""Learning rate, weight decay and start of parameters, by name pattern."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training.engine import optimizer_step
from densedet.core.training.parameter_groups import grouped, stages_of
from densedet.core.training.run import Run


def network() -> nn.Module:
    """Two backbone stages and a head, each one convolution with a bias."""
    return nn.ModuleDict(
        {
            "backbone": nn.ModuleDict({"stem": nn.Conv2d(1, 2, 1), "stage": nn.Conv2d(2, 2, 1)}),
            "head": nn.Conv2d(2, 2, 1),
        }
    )


def groups(rules: str) -> list[dict]:
    return grouped(network(), load_recipe("quickstart_ssd", [f"train.parameter_groups={rules}"]))


def test_without_rules_weights_decay_and_biases_do_not() -> None:
    assert [(g["decay"], len(g["params"]), g["lr_factor"]) for g in groups("{}")] == [
        (True, 3, 1.0),
        (False, 3, 1.0),
    ]


def test_the_first_pattern_that_fits_counts() -> None:
    found = groups('{"backbone.stem.*": {lr: 0.01, weight_decay: 0}, "backbone.*": {lr: 0.1, start: 0.5}}')
    assert [(g["decay"], len(g["params"]), g["lr_factor"], g["start"]) for g in found] == [
        (True, 1, 0.01, 0.0),
        (False, 1, 0.01, 0.0),
        (True, 1, 0.1, 0.5),
        (False, 1, 0.1, 0.5),
        (True, 1, 1.0, 0.0),
        (False, 1, 1.0, 0.0),
    ]
    assert [g.get("weight_decay") for g in found] == [0, None, None, None, None, None]


def test_layer_decay_counts_stages_from_the_last_one() -> None:
    # The stem lies one stage before the last of the pattern: 0.1 * 0.5; the last one has 0.1.
    found = groups('{"backbone.*": {lr: 0.1, layer_decay: 0.5}}')
    assert [g["lr_factor"] for g in found] == pytest.approx([0.05, 0.05, 0.1, 0.1, 1.0, 1.0])


def test_stages_of_a_body_are_its_children() -> None:
    names = ["backbone.body.stem.weight", "backbone.body.stem.bias", "backbone.body.stage_1.0.weight"]
    assert list(stages_of(names).values()) == [0, 0, 1]
    assert list(stages_of(["backbone.stem.weight", "backbone.stage.a.weight"]).values()) == [0, 1]
    assert list(stages_of(["backbone.stem.weight"]).values()) == [0]


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"no parameter that trains is called 'neck.\*'.*backbone, head"):
        groups('{"neck.*": {lr: 0.1}}')


def test_a_detector_may_group_by_itself() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2, 2))

        def parameter_groups(self, patterns: list[str]) -> dict[str, str | None]:
            assert patterns == ["slow"]
            return {"a": "slow", "b": None}

    found = grouped(Own(), load_recipe("quickstart_ssd", ["train.parameter_groups={slow: {lr: 0.5}}"]))
    assert [g["lr_factor"] for g in found] == [0.5, 1.0]


def test_a_group_stays_until_its_start_and_then_steps_at_its_own_rate(tmp_path: Path) -> None:
    """Four steps of plain SGD: up to progress 0.5 the backbone stays, then it moves a tenth as fast."""
    recipe = load_recipe(
        "quickstart_ssd",
        [
            f"run.folder={tmp_path}",
            "run.hooks=[]",
            "data.train.count=8",
            "data.val=null",
            "train.batch_size=4",
            "train.budget.steps=4",
            "train.optimizer={name: sgd, lr: 0.1, momentum: 0, weight_decay: 0}",
            "train.schedule={name: constant, warmup_steps: 0}",
            "train.clip_norm=null",
            "train.precision=float32",
            'train.parameter_groups={"backbone.*": {lr: 0.1, start: 0.5}}',
        ],
    )
    run = Run(recipe)
    run.detector.train()
    batch = next(run.batches())[0]
    weight = next(p for n, p in run.detector.named_parameters() if n.startswith("backbone.") and p.ndim > 1)
    head = next(p for n, p in run.detector.named_parameters() if n.startswith("head.") and p.ndim > 1)
    for step in range(4):
        before, before_head = weight.detach().clone(), head.detach().clone()
        optimizer_step(run, (batch,))
        assert not torch.equal(head, before_head)
        if step < 2:  # progress 0 and 0.25
            assert torch.equal(weight, before)
        else:
            torch.testing.assert_close(weight, before - 0.01 * weight.grad)
