"""A recipe's ``model.weights``: a whole detector's weights, in our own names or in those of a library that a
`WeightMap` knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor

from densedet.core.errors import PartError
from densedet.core.files import atomic_file
from densedet.core.state_dict import download, read_state
from densedet.registry import Component, Registry, suggest


@dataclass(frozen=True)
class Loaded:
    """What became of a detector's weights. weight_map: the name of the map that was used, None where the
    names were ours. left_out: our names of the class layers that start anew, since the file's are for another
    number of classes."""

    weights: str
    weight_map: str | None
    entries: int
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = f" (names of {self.weight_map})" if self.weight_map else ""
        kept = (
            f"; for another number of classes, so these start anew: {', '.join(self.left_out)}"
            if self.left_out
            else ""
        )
        return f"{self.entries} entries of {self.weights}{named} loaded{kept}"


def state_of(weights: str) -> dict[str, Tensor]:
    """The state dict in a file (ours or another library's), or of torchvision's published weights by their
    name. Raises PartError."""
    if Path(weights).is_file():
        return read_state(weights)
    family, dot, member = weights.partition(".")
    if dot and family.endswith("_Weights"):
        return _published(weights, family, member)
    raise PartError(
        f"weights {weights!r} are neither a file (relative paths start in the working directory) nor "
        f"published ones of torchvision "
        "such as RetinaNet_ResNet50_FPN_Weights.COCO_V1"
    )


def _published(weights: str, family: str, member: str) -> dict[str, Tensor]:
    known = {
        name: value for name, value in vars(torchvision.models.detection).items() if name.endswith("_Weights")
    }
    if family not in known:
        raise PartError(
            f"torchvision has no detection weights {family!r}.{suggest(family, list(known))} It has: "
            f"{', '.join(sorted(known))}"
        )
    members = known[family].__members__
    if member not in members:
        raise PartError(
            f"torchvision's {family} has no {member!r}.{suggest(member, list(members))} It has: "
            f"{', '.join(members)}"
        )
    return download(members[member], f"the weights {weights}", "model.weights=PATH")


def in_our_names(
    state: Mapping[str, Tensor], own: Mapping[str, Any], components: Registry, weights: str
) -> tuple[dict[str, Tensor], str | None]:
    """(``state`` under the names of ``own``, the weight map that was used or None). Raises PartError where no
    map knows all names."""
    if sum(name in own for name in state) * 2 > len(state):
        return dict(state), None
    fitting, unknown = _renamings(state, components.find("weight_map"), "ours")
    if fitting:
        used = next(iter(fitting))
        return fitting[used], used
    nearest = min(unknown, key=lambda name: len(unknown[name]), default=None)
    if nearest is None:
        raise PartError(
            f"the weights {weights!r} do not have the names of this detector ({next(iter(state))})"
        )
    raise PartError(
        f"the weights {weights!r} have names that neither this detector nor any weight map knows "
        f"({', '.join(unknown)}); "
        f"{nearest} knows all but {len(unknown[nearest])}, the first of them {unknown[nearest][0]}"
    )


def _renamings(
    state: Mapping[str, Tensor], maps: Iterable[Component], side: Literal["ours", "theirs"]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, list[str]]]:
    """({map: ``state`` under that side's names} of the maps that know all its names, {map: names that it does
    not know} of all maps)."""
    fitting: dict[str, dict[str, Tensor]] = {}
    gaps: dict[str, list[str]] = {}
    for component in maps:
        rename = getattr(component.load()(), side)
        names = {name: rename(name) for name in state}
        gaps[component.name] = [name for name, other in names.items() if other is None]
        if not gaps[component.name]:
            fitting[component.name] = {str(names[name]): value for name, value in state.items()}
    return fitting, gaps


def in_their_names(
    state: Mapping[str, Tensor], components: Registry, weight_map: str | None
) -> tuple[dict[str, Tensor], str]:
    """A detector's state dict under another library's names, and whose those are. weight_map: None where only
    one map knows all names.

    Raises PartError where none or several would do.
    """
    chosen = [components.get("weight_map", weight_map)] if weight_map else components.find("weight_map")
    fitting, gaps = _renamings(state, chosen, "theirs")
    if len(fitting) == 1:
        used = next(iter(fitting))
        return fitting[used], used
    if fitting:
        raise PartError(f"the names fit {' and '.join(fitting)}: say --to, with which of them")
    nearest = min(gaps, key=lambda name: len(gaps[name]))
    raise PartError(
        f"these weights have no counterpart in {', '.join(gaps)}; {nearest} lacks {len(gaps[nearest])} "
        f"of their {len(state)} names, "
        f"the first {gaps[nearest][0]}"
    )


def convert(
    source: str, target: Path, components: Registry, weight_map: str | None = None
) -> tuple[str, str, int]:
    """Write the weights of ``source`` under the names of the other side: a library's become ours, ours become
    a library's.

    source: what ``model.weights`` takes. weight_map: whose names ours become, or which map theirs are read
    by, where several would do. Returns (the map that was used, whose names ``target`` has, entries). Raises
    PartError where no map fits.
    """
    state = state_of(source)
    chosen = [
        component for component in components.find("weight_map") if weight_map in (None, component.name)
    ]
    theirs, _ = _renamings(state, chosen, "ours")
    if theirs:
        used, side = next(iter(theirs)), "densedet"
        renamed = theirs[used]
    else:
        renamed, used = in_their_names(state, components, weight_map)
        side = used
    with atomic_file(target) as file:
        torch.save(renamed, file)
    return used, side, len(renamed)
