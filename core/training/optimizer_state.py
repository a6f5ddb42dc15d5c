"""The optimizer's state in a checkpoint. It is kept by parameter names, so that it survives another freezing
and grouping, and it is compared with the optimizer that takes it over: fused kernels would read whatever
memory lies behind a tensor of a wrong shape."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.errors import CheckpointError
from densedet.core.text import counted


def values_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the values of each parameter group, such as its weight decay, without its parameters."""
    return [
        {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]


def kept_state(
    optimizer: torch.optim.Optimizer, name: str, at_start: list[dict[str, Any]], detector: nn.Module
) -> dict[str, Any]:
    """Return what a checkpoint keeps of an optimizer.

    Args:
        optimizer: the optimizer.
        name: of the part in the recipe.
        at_start: its `values_of` before the first step.
        detector: gives the parameters their names.

    Returns:
        "name"; "parameters", their names in the optimizer's order; "at_start"; and "torch", its state dict.
    """
    return {
        "name": name,
        "parameters": _names(optimizer, detector),
        "at_start": at_start,
        "torch": optimizer.state_dict(),
    }


def restore(
    kept: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    name: str,
    at_start: list[dict[str, Any]],
    detector: nn.Module,
) -> list[str]:
    """Fill a new optimizer from what `kept_state` returned; the other arguments are those of this run.

    A value of a group that the recipe gives now as it gave it then is taken over, since an optimizer may
    change its values as it goes. A value that the recipe gives anew counts.

    Returns:
        A sentence on each thing that could not be taken over.

    Raises:
        CheckpointError: the state is not of these parameters.
    """
    if kept["name"] != name:
        return [f"train.optimizer is {name} and was {kept['name']}: its running averages start anew"]
    here, there = _names(optimizer, detector), kept["parameters"]
    found = {there[i]: state for i, state in kept["torch"]["state"].items() if 0 <= i < len(there)}
    groups = {
        tuple(there[i] for i in _positions(group, there)): (group, start)
        for group, start in zip(kept["torch"]["param_groups"], kept["at_start"])
    }
    own = optimizer.state_dict()
    for group, start in zip(own["param_groups"], at_start):
        before = groups.get(tuple(here[i] for i in group["params"]))
        if before is not None:
            group |= {key: before[0][key] for key in start if _goes_on(key, group, start, *before)}
    wanted = _after_a_step(optimizer)
    own["state"] = {}
    anew = [parameter for parameter in here if parameter not in there]
    for position, parameter in enumerate(here):
        if parameter in found:
            if _fits(found[parameter], wanted.get(position, {}), parameter):
                own["state"][position] = found[parameter]
            else:
                anew.append(parameter)
    optimizer.load_state_dict(own)
    if not anew:
        return []
    more = f" and {counted(len(anew) - 1, 'more parameter')}" if len(anew) > 1 else ""
    return [
        f"the optimizer's running averages of {anew[0]}{more} start anew: the checkpoint has none of them"
    ]


def _names(optimizer: torch.optim.Optimizer, detector: nn.Module) -> list[str]:
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    return [names.get(id(p), "") for group in optimizer.param_groups for p in group["params"]]


def _positions(group: dict[str, Any], there: list[str]) -> list[int]:
    listed = group.get("params")
    return [i for i in listed if type(i) is int and 0 <= i < len(there)] if isinstance(listed, list) else []


def _goes_on(
    key: str, group: dict[str, Any], start: dict[str, Any], before: dict[str, Any], its_start: dict[str, Any]
) -> bool:
    """Whether the checkpoint's value of a group goes on: a number, numbers or a tensor, whose start has not
    changed."""
    if key not in before or key not in its_start or isinstance(group[key], bool) or group[key] is None:
        return False
    return _alike(before[key], group[key]) and _same(start[key], its_start[key])


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one.cpu(), other.cpu())
    return type(one) is type(other) and bool(one == other)


def _alike(value: Any, wanted: Any) -> bool:
    """Whether a value has the type of another, a tensor its shape and dtype."""
    if isinstance(wanted, Tensor):
        return isinstance(value, Tensor) and (value.shape, value.dtype) == (wanted.shape, wanted.dtype)
    if isinstance(wanted, (list, tuple)):
        return type(value) is type(wanted) and len(value) == len(wanted) and all(map(_alike, value, wanted))
    return type(value) is type(wanted)


def _fits(state: dict[str, Any], wanted: dict[str, Any], parameter: str) -> bool:
    """Return whether the state of a parameter has all that the optimizer keeps of it.

    Raises:
        CheckpointError: an entry has another type or shape, or is not finite.
    """
    for key, value in wanted.items():
        if key in state and not (
            _alike(state[key], value)
            and (not isinstance(value, Tensor) or bool(torch.isfinite(state[key]).all()))
        ):
            raise CheckpointError(
                f"the optimizer's state in this checkpoint does not fit: {key} of {parameter} has another "
                f"type or shape, or is not finite"
            )
    return set(wanted) <= set(state)


def _after_a_step(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """Return what an optimizer keeps of each parameter, from a step of a copy with gradients of 0."""
    # Not deepcopy of the whole: torch copies an optimizer's state and groups alone, and not what the class of
    # a plug-in keeps beside them.
    tried = object.__new__(type(optimizer))
    tried.__dict__.update(copy.deepcopy(optimizer.__dict__))
    for group in tried.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    tried.step()
    state: dict[int, dict[str, Any]] = tried.state_dict()["state"]
    return state
