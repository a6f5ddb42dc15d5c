"""A recipe's ``model.weights``: a whole detector's weights, in our own names or in those of a library that a
`WeightMap` knows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from densedet.core.errors import PartError
from densedet.core.files import atomic_file
from densedet.core.state_dict import download, read_state
from densedet.core.text import counted
from densedet.core.weights.name_maps import in_their_names, renamings
from densedet.registry import Registry, suggest


@dataclass(frozen=True)
class Loaded:
    """The outcome of loading weights into a detector.

    Attributes:
        weights: the file or the name of the weights.
        weight_map: the map that was used, None where the names were ours.
        entries: number of entries that were loaded.
        left_out: class layers that start anew, since the weights are for another number of classes.
    """

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
        return f"{counted(self.entries, 'entry')} of {self.weights}{named} loaded{kept}"


def state_of(weights: str) -> dict[str, Tensor]:
    """Read the state dict in a file (ours or another library's), or torchvision's published weights of that
    name.

    Raises:
        PartError: they cannot be had.
    """
    if os.path.isfile(weights):
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


def convert(
    source: str,
    target: Path,
    components: Registry,
    weight_map: str | None = None,
    *,
    overwrite: bool = False,
) -> tuple[str, str, int]:
    """Write weights under the names of the other side: those of a library become ours, ours become a
    library's.

    Args:
        source: a file or a name, as ``model.weights`` takes it.
        target: the file to write.
        components: the registry with the weight maps.
        weight_map: the map to use where several would do.
        overwrite: whether a file that is there may be replaced.

    Returns:
        The map that was used, whose names ``target`` has, and the number of its entries.

    Raises:
        PartError: no map fits.
        UsageError: the file is there, and it may not be replaced.
    """
    state = state_of(source)
    chosen = [
        component for component in components.find("weight_map") if weight_map in (None, component.name)
    ]
    theirs, _ = renamings(state, chosen, "ours")
    if theirs:
        used, side = next(iter(theirs)), "densedet"
        renamed = theirs[used]
    else:
        renamed, used = in_their_names(state, components, weight_map)
        side = used
    with atomic_file(target, overwrite=overwrite) as file:
        torch.save(renamed, file)
    return used, side, len(renamed)
