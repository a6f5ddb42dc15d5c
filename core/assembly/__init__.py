"""From a recipe to built parts: the one room that knows their order."""

from densedet.core.assembly.data import (
    build_batch_sampler,
    build_resize,
    build_source,
    build_sources,
    build_split,
    category_ids,
    class_table,
    decoding_of,
    filtered_source,
    first_batch,
    listed_classes,
    make_dataset,
    make_eval_loader,
    make_train_loader,
    make_train_set,
    working_size,
)
from densedet.core.assembly.detector import build_detector, build_with_weights, check_norms
from densedet.core.assembly.parts import build_component, build_list

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
    "working_size",
]
