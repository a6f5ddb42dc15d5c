"""The built-in parts. They enter by the same hook as a stranger's: `densedet_register`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from densedet.core.hookspecs import hookimpl

if TYPE_CHECKING:
    from densedet.registry import Registry

if not __name__.startswith("densedet."):
    raise ImportError(
        f"plugins was imported as {__name__!r}: write 'from densedet import plugins' (and take the "
        f"root off sys.path)"
    )

FAMILIES = (
    "detectors",
    "backbones",
    "necks",
    "anchors",
    "heads",
    "matchers",
    "coders",
    "losses",
    "postprocess",
    "sources",
    "resize",
    "samplers",
    "transforms",
    "optim",
    "evaluators",
    "weight_maps",
    "launchers",
    "hooks",
)


@hookimpl
def densedet_register(registry: Registry) -> None:
    """Add every row of every family's COMPONENTS table; nothing of them is imported yet."""
    for family in FAMILIES:
        for kind, name, target, summary in importlib.import_module(f"densedet.plugins.{family}").COMPONENTS:
            registry.add(kind, name, target, summary)
