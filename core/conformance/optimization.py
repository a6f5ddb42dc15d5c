"""Optimizers and schedules."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import torch
from torch import nn

from densedet.core.conformance.requirements import Factory, check, finite, require, same, wire


@check("schedule")
def check_schedule(factory: Factory, **arguments: Any) -> None:
    """Check that factors are plain numbers, finite, not negative, and depend on progress and step alone.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments)
    table = [(f / 20, 500 * f) for f in range(21)]
    first = [part(*row) for row in table]
    require(
        all(isinstance(value, (int, float)) for value in first),
        f"a schedule gives a number, not {type(first[0]).__name__}",
    )
    require(
        first == [part(*row) for row in reversed(table)][::-1],
        "a schedule is a function of progress and step alone: asked in another order it gave other factors",
    )
    require(
        all(math.isfinite(value) and 0 <= value <= 5 for value in first),
        f"factors are finite and not negative, and around 1, since `lr` is the rate at the top: {first}",
    )
    require(
        max(first) > 0.05,
        f"the largest factor is {max(first):g}: a schedule gives a factor on the learning rate, around 1, "
        f"not the rate itself",
    )
    require(
        sum(value > 0 for value in first) > len(first) / 2,
        f"the factor is 0 in most of the training: it is called with (progress in 0..1, step): {first}",
    )
    require(math.isfinite(part(1.0, 10**7)) and math.isfinite(part(0.0, 0)), "a factor is not finite")


def _network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return network


def _groups(network: nn.Module) -> list[dict[str, Any]]:
    """As the runner makes them: weights decay, biases do not."""
    own = list(network.parameters())
    rest = {"lr_factor": 1.0, "start": 0.0}
    return [
        {"params": [p for p in own if p.ndim > 1], "decay": True, **rest},
        {"params": [p for p in own if p.ndim <= 1], "decay": False, **rest},
    ]


@check("optimizer")
def check_optimizer(factory: Factory, **arguments: Any) -> None:
    """Check that it takes the runner's groups, steps every parameter downhill by the learning rates in its
    groups, decays only what is to decay, and goes on alike from its state dict.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """

    def build(network: nn.Module) -> Any:
        return wire(factory, arguments, parameters=_groups(network))

    network = _network()
    part = build(network)
    require(
        isinstance(part, torch.optim.Optimizer),
        f"it gives a torch.optim.Optimizer, not {type(part).__name__}",
    )
    held = [id(p) for group in part.param_groups for p in group["params"]]
    require(
        sorted(held) == sorted(id(p) for p in network.parameters()),
        f"it holds {len(set(held))} of the {len(list(network.parameters()))} parameters, each once: take all "
        f"of the wired groups",
    )
    decaying = {id(p) for p in network.parameters() if p.ndim > 1}
    require(
        all(len({id(p) in decaying for p in group["params"]}) == 1 for group in part.param_groups),
        "parameters of different groups are in one group: keep the wired groups",
    )
    require(all(float(group["lr"]) > 0 for group in part.param_groups), "each group has an `lr` above 0")
    _check_arguments(factory, arguments)
    _check_still(build)
    _check_downhill(build)
    _check_resume(build)


def _check_arguments(factory: Factory, arguments: dict[str, Any]) -> None:
    """What the recipe sets must arrive: the learning rate, and each group's own weight decay and factor."""
    groups = [{**g, "weight_decay": 0.03, "lr_factor": 0.5} for g in _groups(_network())[:1]]
    given = wire(factory, arguments, parameters=groups).param_groups[0]
    require(
        given.get("weight_decay", 0.03) == 0.03,
        f"a group's own weight_decay of 0.03 becomes {given.get('weight_decay')}: keep what a group has",
    )
    require(
        given.get("lr_factor") == 0.5 and "start" in given,
        "the groups lose 'lr_factor' or 'start', which the runner reads: hand over the wired groups whole",
    )
    if "lr" in inspect.signature(factory).parameters and "lr" not in arguments:
        rates = [
            float(wire(factory, arguments | {"lr": lr}, parameters=_groups(_network())).param_groups[0]["lr"])
            for lr in (0.001, 0.002)
        ]
        require(rates[0] < rates[1], f"lr 0.001 and 0.002 give groups with lr {rates[0]:g} and {rates[1]:g}")


def _loss(network: nn.Module) -> torch.Tensor:
    inputs = torch.linspace(-1, 1, 20).view(5, 4)
    return (network(inputs) - torch.tensor([1.0, -1.0])).square().mean()


def _step(network: nn.Module, part: Any) -> float:
    part.zero_grad(set_to_none=True)
    loss = _loss(network)
    loss.backward()
    part.step()
    return float(loss.detach())


def _check_still(build: Any) -> None:
    """What a rate of 0 and a gradient of 0 leave alone."""
    network = _network()
    part, before = build(network), [p.detach().clone() for p in network.parameters()]
    for group in part.param_groups:
        group["lr"] = 0.0
    _step(network, part)
    require(
        same(before, list(network.parameters()), 1e-6),
        "parameters move at a learning rate of 0: the schedule sets param_groups[...]['lr'], use it",
    )
    network = _network()
    part = build(network)
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    part.step()
    for old, p in zip(before, network.parameters()):
        require(
            p.ndim > 1 or same(old, p, 1e-7),
            "a bias without gradient moves: weight decay applies only to groups with 'decay' True",
        )


def _check_downhill(build: Any) -> None:
    network = _network()
    part, before = build(network), [p.detach().clone() for p in network.parameters()]
    losses = [_step(network, part) for _ in range(30)]
    for old, (name, p) in zip(before, network.named_parameters()):
        require(not same(old, p), f"parameter {name} was not stepped")
        require(finite(p), f"parameter {name} is not finite after 30 steps")
    last = float(_loss(network).detach())
    require(
        last < losses[0], f"the loss of a linear model grows from {losses[0]:.4g} to {last:.4g} in 30 steps"
    )


def _check_resume(build: Any) -> None:
    """State dict of the model and of the optimizer: the next steps must be the same."""
    network, other = _network(), _network()
    part = build(network)
    for _ in range(3):
        _step(network, part)
    resumed = build(other)
    other.load_state_dict(network.state_dict())
    resumed.load_state_dict(copy.deepcopy(part.state_dict()))
    for _ in range(3):
        _step(network, part)
        _step(other, resumed)
    require(
        same(list(network.parameters()), list(other.parameters()), 1e-6),
        "an optimizer that loads the state dict of another takes other steps: a resumed run would differ",
    )
