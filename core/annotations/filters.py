"""Which images and boxes of a source count, as the recipe's ``data.filter`` says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densedet.core.annotations.filter_rules import FilterSection
from densedet.core.annotations.source import input_scales, table_of
from densedet.core.annotations.table import CROWD, AnnotationTable
from densedet.core.annotations.views import COUNT, DROP, IGNORE, Subset
from densedet.core.annotations.where import where_masks
from densedet.core.contracts import Resize, Source
from densedet.core.errors import DataError


def filtered(
    source: Source, rules: FilterSection, *, classes: Sequence[str | None] | None, resize: Resize
) -> Source:
    """Apply the filter of a recipe.

    A box is taken out if any rule takes it out, else ignored if any rule has it ignored. Then come empty,
    fraction and limit.

    Args:
        source: the source.
        rules: the recipe's section ``data.filter``.
        classes: names of the classes that count; None: all.
        resize: gives the size in the network's input, for min_input_side.

    Returns:
        A `Subset`, or the source itself where the rules change nothing.

    Raises:
        DataError: no image is left.
        WhereError: ``where`` is wrong.
    """
    if not describe(rules):
        return source
    table = table_of(source)
    images = np.ones(len(table), dtype=bool)
    actions = np.zeros(len(table.labels), dtype=np.uint8)
    wanted, crowds = _of_classes(table, classes), (table.flags & CROWD) != 0
    # From the weakest rule to the strongest: of several rules for a box, one that takes it out wins.
    if rules.crowd == "count":
        actions[crowds] = COUNT
    others = _too_small(table, rules, resize)
    if rules.where is not None:
        images, chosen = where_masks(source, rules.where)
        others |= ~chosen
    if rules.rest == "drop":
        others |= ~wanted
    actions[others] = {"ignore": IGNORE, "drop": DROP}[rules.rest]
    if rules.crowd == "drop":
        actions[crowds] = DROP
    if rules.empty == "drop":
        counting = wanted & ((actions == COUNT) | ((actions == 0) & (table.flags == 0)))
        images &= np.bincount(table.owners()[counting], minlength=len(table)) > 0
    indices = _drawn(np.flatnonzero(images), rules)
    if not len(indices):
        raise DataError(f"no image of {len(table)} is left by data.filter ({describe(rules)}): loosen it")
    return Subset(source, indices, actions=actions if actions.any() else None, offsets=table.offsets)


def _of_classes(table: AnnotationTable, classes: Sequence[str | None] | None) -> np.ndarray:
    """Return bool (M,): which boxes are of these classes."""
    known = [classes is None or name in classes for name in table.classes]
    return np.array([*known, classes is None])[table.labels]  # the last for label -1, of no class


def _too_small(table: AnnotationTable, rules: FilterSection, resize: Resize) -> np.ndarray:
    """Return bool (M,): which boxes have a shorter side below a bound, in source or in input pixels."""
    small = np.zeros(len(table.labels), dtype=bool)
    if rules.min_side:
        small |= table.xywh[:, 2:].min(1, initial=np.inf) < rules.min_side
    if rules.min_input_side:
        scale = input_scales(table.sizes, resize)
        small |= (table.xywh[:, 2:] * scale[table.owners()]).min(1, initial=np.inf) < rules.min_input_side
    return small


def _drawn(indices: np.ndarray, rules: FilterSection) -> np.ndarray:
    """Return a share or number of the images, drawn by the seed, in the source's order."""
    count = len(indices)
    if rules.fraction is not None:
        count = max(1, round(count * rules.fraction)) if count else 0
    if rules.limit is not None:
        count = min(count, rules.limit)
    if count == len(indices):
        return indices
    return np.sort(np.random.default_rng(rules.seed).permutation(indices)[:count])


def describe(rules: FilterSection) -> str:
    """Return the rules that differ from no filter, in words.

    ``rest`` alone gives nothing: it only says how a filter treats the boxes that it finds.
    """
    plain = {name: info.default for name, info in FilterSection.model_fields.items()}
    changed = {name: value for name, value in rules if value != plain[name]}
    return (
        ", ".join(f"{name}: {value}" for name, value in changed.items())
        if set(changed) - {"rest", "seed"} or changed.get("rest") == "drop"
        else ""
    )
