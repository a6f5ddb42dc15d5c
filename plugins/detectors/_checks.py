"""Checks of the dense detector's parts: spaces of the losses, names of branches and losses, extras."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any

from torch import nn

from densedet.core.contracts import BoxLoss
from densedet.core.errors import PartError
from densedet.core.types import TAKEN_NAMES, Batch, Extra

if TYPE_CHECKING:
    from densedet.plugins.detectors.dense import DenseDetector


def check_parts(detector: DenseDetector) -> None:
    """Raise PartError where the detector's arguments and parts do not go together."""
    spaces = tuple(detector.coder.spaces)
    for loss in detector.box_losses:
        if loss.space not in spaces:
            raise PartError(
                f"{type(loss).__name__} works on {loss.space}, which the coder "
                f"{type(detector.coder).__name__} does not give "
                f"(it gives {', '.join(spaces)}): choose a box loss on {' or '.join(spaces)}, or "
                f"another coder",
                part="box_loss",
            )
    branches = detector.head.branches
    weighing = [name for name, branch in branches.items() if branch.weight is not None]
    if detector.box_weight not in ("none", "quality", "score", *weighing):
        raise PartError(
            f"box_weight {detector.box_weight!r} is neither none, quality, score nor a branch of "
            f"the head that has weights ({', '.join(weighing) or 'this head has none'})",
            part="detector",
        )
    unknown = [name for name in detector.branch_weights if name not in branches]
    if unknown:
        raise PartError(
            f"branch_weights names {unknown[0]!r}, which is no branch of the head: "
            f"{'write one of ' + ', '.join(branches) if branches else 'this head has none, delete it'}",
            part="detector",
        )
    taken = dict.fromkeys(("class", *detector.box_loss_keys), "another loss")
    taken |= dict.fromkeys(TAKEN_NAMES, "a detection's own column")
    for name in branches:
        if name in taken:
            raise PartError(
                f"the head calls a branch {name!r}, which is the name of {taken[name]}: rename the branch",
                part="head",
            )


def check_extras(head: Any, batch: Batch) -> None:
    """Raise PartError where a branch of the head learns what the source's objects do not carry."""
    for name, branch in head.branches.items():
        for needed, extra in branch.needs.items():
            given = batch.extras.get(needed)
            if given is None or (given.shape, given.kind) != (extra.shape, extra.kind):
                listed = ", ".join(f"{n}: {_words(e)}" for n, e in batch.extras.items()) or "no extras"
                raise PartError(
                    f"branch {name!r} of {type(head).__name__} learns {needed!r} of each object "
                    f"({_words(extra)}), but the source has {listed}: choose a source that declares "
                    f"extras {{{needed!r}: ...}} so, or another head",
                    part="head",
                )


def _words(extra: Extra) -> str:
    return f"{extra.kind} {extra.shape}" if extra.shape else f"{extra.kind}, one number"


def box_loss_keys(losses: list[BoxLoss], names: tuple[str, ...]) -> tuple[str, ...]:
    """Names to log box losses by: "box" for a single one, else "box_giou", "box_l1", "box_l1_2"."""
    if len(losses) == 1:
        return ("box",)
    names = names or tuple(type(loss).__name__ for loss in losses)
    seen: Counter[str] = Counter()
    keys = []
    for name in names:
        seen[name] += 1
        keys.append(f"box_{name}" if seen[name] == 1 else f"box_{name}_{seen[name]}")
    return tuple(keys)


def names_progress(part: Any) -> bool:
    """Whether the part's call has an argument ``progress``."""
    return "progress" in inspect.signature(part.forward if isinstance(part, nn.Module) else part).parameters
