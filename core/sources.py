"""Names for the authors of sources and evaluators: the annotation table, its builder, files and YAML."""
# ruff: noqa: F401  a plug-in imports files at core's root only, so this one passes the rooms' names on

from __future__ import annotations

from densedet.core.annotations.builder import NO_ID, TableBuilder
from densedet.core.annotations.faults import Faults
from densedet.core.annotations.folders import FileNames, added_by_macos, addition, is_free, new_folder
from densedet.core.annotations.image_header import SUFFIXES, image_size
from densedet.core.annotations.source import Progress, TableSource, existing
from densedet.core.annotations.sql import (
    APPLICATION_ID,
    COLUMNS,
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
    CROWD,
    IGNORE,
    MAX_SIDE,
    AnnotationTable,
    Objects,
    annotation_of,
    corners,
    image_ids_of,
    is_side,
    name_fault,
    pack_names,
    packed_ids,
    positions_in,
    with_tensors,
)
from densedet.core.annotations.where import RowIds, check_where_syntax, matching
from densedet.core.recipe.faults import Fault, RecipeError
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.core.statistics.matches import (
    RECALLS_11,
    RECALLS_101,
    ClassMatches,
    MatchStore,
    mean_of_known,
)
