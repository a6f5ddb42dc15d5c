"""From the weight names of another library to ours and back, by the registered weight maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import Tensor

from densedet.core.errors import PartError
from densedet.core.text import counted
from densedet.registry import Component, Registry


def in_our_names(
    state: Mapping[str, Tensor], own: Mapping[str, Any], components: Registry, weights: str
) -> tuple[dict[str, Tensor], str | None]:
    """Rename weights to the names of this detector.

    Args:
        state: weights under our names or another library's.
        own: the detector's entries by name.
        components: the registry with the weight maps.
        weights: where the weights come from, for errors.

    Returns:
        The renamed weights, and the weight map that was used or None.

    Raises:
        PartError: no weight map knows all names.
    """
    if sum(name in own for name in state) * 2 > len(state):
        return dict(state), None
    fitting, unknown = renamings(state, components.find("weight_map"), "ours")
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


def renamings(
    state: Mapping[str, Tensor], maps: Iterable[Component], side: Literal["ours", "theirs"]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, list[str]]]:
    """Try weight maps on the names of ``state``.

    Args:
        state: values by name.
        maps: the weight maps to try.
        side: "ours" renames to our names, "theirs" to those of the other library.

    Returns:
        {map: renamed ``state``} of the maps that know all names, and {map: names that it lacks} of all maps.
    """
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
    """Rename the weights of a detector to the names of another library.

    Args:
        state: the state dict of a detector.
        components: the registry with the weight maps.
        weight_map: the map to use; None where only one knows all names.

    Returns:
        The renamed weights, and the map that was used.

    Raises:
        PartError: no map knows all names, or several do.
    """
    chosen = [components.get("weight_map", weight_map)] if weight_map else components.find("weight_map")
    fitting, gaps = renamings(state, chosen, "theirs")
    if len(fitting) == 1:
        used = next(iter(fitting))
        return fitting[used], used
    if fitting:
        raise PartError(f"the names fit {' and '.join(fitting)}: say --to, with which of them")
    nearest = min(gaps, key=lambda name: len(gaps[name]))
    raise PartError(
        f"these weights have no counterpart in {', '.join(gaps)}; {nearest} lacks {len(gaps[nearest])} "
        f"of their {counted(len(state), 'name')}, "
        f"the first {gaps[nearest][0]}"
    )
