"""Names for the authors of sources and evaluators: the annotation table, its builder, files and YAML."""

from __future__ import annotations

from densedet.core.annotations.builder import NO_ID, Faults, TableBuilder
from densedet.core.annotations.folders import FileNames, addition, is_free, new_folder
from densedet.core.annotations.image_header import SUFFIXES, image_size
from densedet.core.annotations.source import TableSource, existing_file, existing_folder
from densedet.core.annotations.sql import (
    APPLICATION_ID,
    INDEXES,
    SCHEMA,
    VERSION,
    Guarded,
    Undecodable,
    connect,
    fill,
    refused_with,
)
from densedet.core.annotations.table import (
    CHUNK,
    CLIPPED,
    CROWD,
    IGNORE,
    MAX_SIDE,
    RULES,
    AnnotationTable,
    Objects,
    annotation_of,
    box_faults,
    corners,
    name_fault,
    pack_names,
)
from densedet.core.annotations.where import RowIds, check_where_syntax, matching
from densedet.core.recipe.faults import Fault, RecipeError
from densedet.core.recipe.yaml_marks import parse_yaml

__all__ = [
    "APPLICATION_ID",
    "CHUNK",
    "CLIPPED",
    "CROWD",
    "IGNORE",
    "INDEXES",
    "MAX_SIDE",
    "NO_ID",
    "RULES",
    "SCHEMA",
    "SUFFIXES",
    "VERSION",
    "AnnotationTable",
    "Fault",
    "Faults",
    "FileNames",
    "Guarded",
    "Objects",
    "RecipeError",
    "RowIds",
    "TableBuilder",
    "TableSource",
    "Undecodable",
    "addition",
    "annotation_of",
    "box_faults",
    "check_where_syntax",
    "connect",
    "corners",
    "existing_file",
    "existing_folder",
    "fill",
    "image_size",
    "is_free",
    "matching",
    "name_fault",
    "new_folder",
    "pack_names",
    "parse_yaml",
    "refused_with",
]
