"""Values in nested mappings. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def at_path(values: Any, dotted: str) -> Any:
    """Return what stands at a dotted path of nested mappings, or None. A key may contain dots."""
    if not isinstance(values, dict):
        return None
    if dotted in values:
        return values[dotted]
    for end, letter in enumerate(dotted):
        if letter == "." and dotted[:end] in values:
            found = at_path(values[dotted[:end]], dotted[end + 1 :])
            if found is not None:
                return found
    return None


def differing(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the dotted paths at which two recipes differ, with both values; a list is one value."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            yield from differing(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
    elif one != other:
        yield path, (one, other)


def touches(paths: Iterable[str], keys: Iterable[str]) -> bool:
    """Return whether one of ``paths`` is one of ``keys``, or lies above or below it."""
    return any(f"{p}.".startswith(f"{k}.") or f"{k}.".startswith(f"{p}.") for p in paths for k in keys)
