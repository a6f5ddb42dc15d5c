"""The parts and recipes that there are, to look through from Python or the command line."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densedet.core.recipe.merging import shipped_recipes
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.recipe.signatures import describe_component
from densedet.registry import KINDS, Component, UnknownComponent, suggest


class Description(dict[str, Any]):
    """Facts about one part, see `describe`; printed, it is a page of text."""

    def __repr__(self) -> str:
        doc = f"{textwrap.indent(self['doc'], '  ')}\n\n" if self["doc"] else ""
        lines = [
            f"{self['kind']} {self['name']}: {self['summary']}",
            f"from {self['origin']}",
            f"\n{doc}arguments:",
        ]
        for row in self["arguments"]:
            if row["wired"]:
                value = f"wired from {row['wired']}: not for recipes"
            else:
                value = f"{row['type']}, " + ("required" if row["required"] else f"default {row['default']}")
            lines.append(
                textwrap.fill(f"{row['name']}: {value}", 110, initial_indent="  ", subsequent_indent="      ")
            )
            if row["doc"]:
                lines.append(
                    textwrap.fill(row["doc"], 110, initial_indent="      ", subsequent_indent="      ")
                )
        return "\n".join(lines)


def find_components(kind: str, name: str, plugins: Sequence[str | Path]) -> list[Component]:
    """Return the parts whose kind and name match the wildcards; a name may stand in place of the kind.

    Raises:
        UnknownComponent: nothing matches; the message has the closest names.
    """
    table = load_plugins(plugins).components
    rows = table.find(kind, name) or table.find(name, kind)  # "focal" alone, and "focal class_loss"
    if not rows:
        known = table.names(kind) if kind in KINDS else list(KINDS)
        names = [] if kind in KINDS else sorted({row.name for row in table.find()})
        raise UnknownComponent(
            f"no part matches {kind} {name}.{suggest(name if kind in KINDS else kind, known + names)} "
            f"There are: {', '.join(known)}"
        )
    return rows


def list_components(
    kind: str = "*", name: str = "*", *, plugins: Sequence[str | Path] = ()
) -> list[dict[str, str]]:
    """List parts.

    Args:
        kind: a kind such as "head", or a wildcard.
        name: a name such as "retinanet", or a wildcard such as "s*".
        plugins: plug-in files whose parts are listed as well.

    Returns:
        One row a part: kind, name, summary, and origin (the plug-in that it comes from).

    Raises:
        UnknownComponent: nothing matches.
    """
    return [
        {"kind": c.kind, "name": c.name, "summary": c.summary, "origin": c.origin}
        for c in find_components(kind, name, plugins)
    ]


def describe(kind: str, name: str, *, plugins: Sequence[str | Path] = ()) -> Description:
    """Describe one part.

    Args:
        kind: its kind, such as "head".
        name: its name, such as "retinanet".
        plugins: plug-in files to look in as well.

    Returns:
        A mapping with kind, name, summary, origin, doc, and arguments: one row an argument with name, type,
        default, required, wired, part and doc. Printed, it is a page of text.

    Raises:
        UnknownComponent: there is no such part.
    """
    return Description(describe_component(load_plugins(plugins).components.get(kind, name)))


def list_recipes() -> list[str]:
    """List the names of the shipped recipes, which `load_recipe` takes."""
    return shipped_recipes()
