"""From a recipe to built parts: the one room that knows their order.

Each name is loaded at its first use, so that building a source does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from densedet.core.assembly.class_weights import with_class_weights
    from densedet.core.assembly.data import (
        build_batch_sampler,
        first_batch,
        make_dataset,
        make_eval_loader,
        make_train_loader,
        make_train_set,
        transforms_at,
        worker_count,
    )
    from densedet.core.assembly.detector import build_detector, build_with_weights, check_norms
    from densedet.core.assembly.parts import build_component, build_list
    from densedet.core.assembly.sources import (
        build_resize,
        build_source,
        build_sources,
        build_split,
        category_ids,
        class_table,
        decoding_of,
        filtered_source,
        listed_classes,
        some_images,
        working_size,
    )

_LAZY = {
    "class_weights": ("with_class_weights",),
    "data": (
        "build_batch_sampler",
        "first_batch",
        "make_dataset",
        "make_eval_loader",
        "make_train_loader",
        "make_train_set",
        "transforms_at",
        "worker_count",
    ),
    "detector": ("build_detector", "build_with_weights", "check_norms"),
    "parts": ("build_component", "build_list"),
    "sources": (
        "build_resize",
        "build_source",
        "build_sources",
        "build_split",
        "category_ids",
        "class_table",
        "decoding_of",
        "filtered_source",
        "listed_classes",
        "some_images",
        "working_size",
    ),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _LAZY.items() for name in names}

__all__ = [
    "build_batch_sampler",
    "build_component",
    "build_detector",
    "build_list",
    "build_resize",
    "build_source",
    "build_sources",
    "build_split",
    "build_with_weights",
    "category_ids",
    "check_norms",
    "class_table",
    "decoding_of",
    "filtered_source",
    "first_batch",
    "listed_classes",
    "make_dataset",
    "make_eval_loader",
    "make_train_loader",
    "make_train_set",
    "some_images",
    "transforms_at",
    "with_class_weights",
    "worker_count",
    "working_size",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
