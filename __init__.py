"""densedet: single-stage dense object detectors from interchangeable parts. Importing this alone stays fast
(no torch).

>>> import densedet
>>> recipe = densedet.load_recipe("quickstart_ssd")     # doctest: +SKIP
>>> run = densedet.train(recipe)                        # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from densedet.registry import register

if TYPE_CHECKING:
    from densedet.core.api import build, evaluate, load, train
    from densedet.core.hookspecs import hookimpl
    from densedet.core.recipe.loading import load_recipe

__version__ = "0.1.0"

_LAZY = {
    "build": "densedet.core.api",
    "evaluate": "densedet.core.api",
    "load": "densedet.core.api",
    "train": "densedet.core.api",
    "load_recipe": "densedet.core.recipe.loading",
    "hookimpl": "densedet.core.hookspecs",
}

__all__ = ["__version__", "build", "evaluate", "hookimpl", "load", "load_recipe", "register", "train"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'densedet' has no attribute {name!r}")
