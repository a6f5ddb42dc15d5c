"""densedet: single-stage dense object detectors from interchangeable parts.

Importing this alone is fast: each name is loaded at its first use, and torch with the first that needs it.

>>> import densedet
>>> recipe = densedet.load_recipe("quickstart_ssd", {"train.budget": {"epochs": 5}})    # doctest: +SKIP
>>> run = densedet.train(recipe)                                                        # doctest: +SKIP
>>> densedet.evaluate(run)["AP"]                                                        # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from densedet.registry import register

if TYPE_CHECKING:
    from densedet.core.api import (
        EvaluationResult,
        build,
        dataloader,
        evaluate,
        load,
        load_recipe,
        make_batch,
        resume,
        train,
    )
    from densedet.core.hookspecs import hookimpl
    from densedet.core.picture import draw
    from densedet.core.recipe.catalog import describe, list_components, list_recipes
    from densedet.core.recipe.loading import Recipe
    from densedet.core.types import Batch, Detections

__version__ = "0.1.0"

_LAZY = {
    "densedet.core.api": (
        "EvaluationResult",
        "build",
        "dataloader",
        "evaluate",
        "load",
        "load_recipe",
        "make_batch",
        "resume",
        "train",
    ),
    "densedet.core.hookspecs": ("hookimpl",),
    "densedet.core.picture": ("draw",),
    "densedet.core.recipe.catalog": ("describe", "list_components", "list_recipes"),
    "densedet.core.recipe.loading": ("Recipe",),
    "densedet.core.types": ("Batch", "Detections"),
}
_MODULES = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "Batch",
    "Detections",
    "EvaluationResult",
    "Recipe",
    "__version__",
    "build",
    "dataloader",
    "describe",
    "draw",
    "evaluate",
    "hookimpl",
    "list_components",
    "list_recipes",
    "load",
    "load_recipe",
    "make_batch",
    "register",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value
    raise AttributeError(f"module 'densedet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
