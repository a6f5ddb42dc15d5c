"""The optimizer's state over a resume: the same where nothing has changed, by names where something has."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from densedet.core.errors import CheckpointError
from densedet.core.training.optimizer_state import kept_state, restore, values_of
from densedet.plugins.optim.optimizers import adamw, sgd

ADAMW = {"lr": 0.1, "weight_decay": 0.01, "betas": (0.9, 0.99)}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def groups_of(model: nn.Module) -> list[dict[str, Any]]:
    """The weights, which decay, and the biases, as `parameter_groups` makes them."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if (p.ndim > 1) is decay], "decay": decay} for decay in (True, False)
    ]


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()


def trained(
    model: nn.Module, part: Any = adamw, **arguments: Any
) -> tuple[torch.optim.Optimizer, dict[str, Any]]:
    """An optimizer after two steps, and what a checkpoint keeps of it."""
    optimizer = part(parameters=groups_of(model), **arguments)
    start = values_of(optimizer)
    for _ in range(2):
        step(model, optimizer)
    return optimizer, copy.deepcopy(kept_state(optimizer, part.__name__, start, model))


def resumed(
    model: nn.Module, kept: dict[str, Any], part: Any = adamw, **arguments: Any
) -> tuple[torch.optim.Optimizer, list[str]]:
    optimizer = part(parameters=groups_of(model), **arguments)
    return optimizer, restore(kept, optimizer, part.__name__, values_of(optimizer), model)


class Averaging(torch.optim.Optimizer):
    """One whose number stands beside the groups, where torch's copies of an optimizer lose it."""

    def __init__(self, groups: list[dict[str, Any]], *, share: float) -> None:
        super().__init__(groups, {})
        self.share = share

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, self.share)
                parameter.sub_(average)


def averaging(*, parameters: list[dict[str, Any]], share: float) -> Averaging:
    return Averaging(parameters, share=share)


@pytest.mark.parametrize(
    ("part", "arguments"), [(adamw, ADAMW), (sgd, {"lr": 0.1}), (averaging, {"share": 0.1})]
)
def test_an_unchanged_optimizer_goes_on_as_if_nothing_had_been(part: Any, arguments: dict[str, Any]) -> None:
    first = network()
    optimizer, kept = trained(first, part, **arguments)
    second = network()
    second.load_state_dict(first.state_dict())
    again, notes = resumed(second, kept, part, **arguments)
    assert notes == []
    step(first, optimizer)
    step(second, again)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


def test_what_the_recipe_gives_anew_counts_and_the_averages_stay() -> None:
    optimizer, kept = trained(network(), **ADAMW)
    again, notes = resumed(network(), kept, **{**ADAMW, "weight_decay": 0.5, "betas": (0.5, 0.99)})
    assert notes == []
    weights, biases = again.param_groups
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.5, 0)
    assert weights["betas"] == (0.5, 0.99)
    for old, new in zip(optimizer.state.values(), again.state.values()):
        assert torch.equal(old["exp_avg"], new["exp_avg"])
        assert float(new["step"]) == 2


def test_a_value_that_the_optimizer_itself_has_changed_goes_on() -> None:
    """As the counters that schedule-free optimizers keep in their groups."""
    _, kept = trained(network(), **ADAMW)
    kept["torch"]["param_groups"][0]["weight_decay"] = 0.25
    assert resumed(network(), kept, **ADAMW)[0].param_groups[0]["weight_decay"] == 0.25
    assert (
        resumed(network(), kept, **{**ADAMW, "weight_decay": 0.5})[0].param_groups[0]["weight_decay"] == 0.5
    )


def test_another_optimizer_starts_anew_and_says_so() -> None:
    _, kept = trained(network(), **ADAMW)
    again, notes = resumed(network(), kept, sgd)
    assert notes == ["train.optimizer is sgd and was adamw: its running averages start anew"]
    assert not again.state


@pytest.mark.parametrize(("frozen_then", "frozen_now"), [(True, False), (False, True)])
def test_parameters_are_found_by_their_names(frozen_then: bool, frozen_now: bool) -> None:
    """The first layer is frozen before or after the resume: the second one finds its own averages."""
    before, after = network(), network()
    before[0].requires_grad_(not frozen_then)
    after[0].requires_grad_(not frozen_now)
    optimizer, kept = trained(before, **ADAMW)
    again, notes = resumed(after, kept, **ADAMW)
    assert torch.equal(again.state[after[1].weight]["exp_avg"], optimizer.state[before[1].weight]["exp_avg"])
    assert after[0].weight not in again.state
    assert notes == (
        [
            "the optimizer's running averages of 0.weight and 1 more parameter start anew: the checkpoint "
            "has none of them"
        ]
        if frozen_then
        else []
    )
    step(after, again)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        3,
        "x",
        [1.0],
        torch.zeros(7),
        torch.zeros(3, 2, dtype=torch.float64),
        torch.full((3, 2), float("nan")),
    ],
)
def test_a_state_that_does_not_fit_is_refused(wrong: Any) -> None:
    _, kept = trained(network(), **ADAMW)
    kept["torch"]["state"][0]["exp_avg"] = wrong
    with pytest.raises(CheckpointError, match=r"does not fit: exp_avg of 0\.weight"):
        resumed(network(), kept, **ADAMW)


@pytest.mark.parametrize(
    "group",
    [{}, {"params": 3}, {"params": [99, "x"]}, {"params": [0, 1], "betas": "x", "fused": "yes", "lr": None}],
)
def test_a_strangers_groups_choose_nothing(group: dict[str, Any]) -> None:
    _, kept = trained(network(), **ADAMW)
    kept["torch"]["param_groups"][0] = group
    model = network()
    again, _ = resumed(model, kept, **ADAMW)
    assert values_of(again)[0]["betas"] == (0.9, 0.99)
    step(model, again)


def test_an_optimizer_that_keeps_more_now_starts_anew() -> None:
    _, kept = trained(network(), sgd, momentum=0.0)
    kept["torch"]["state"] = {0: {}, 1: {}}
    again, notes = resumed(network(), kept, sgd, momentum=0.9)
    assert not again.state
    assert "averages of 0.weight and 1 more parameter start anew" in notes[0]
