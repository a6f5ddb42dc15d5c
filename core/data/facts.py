"""Numbers about the data of a run or an evaluation, and what the user must know of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from densedet.core.annotations.border import CheckedSource
from densedet.core.annotations.faults import Faults, fault_words
from densedet.core.annotations.source import table_of
from densedet.core.annotations.table import AnnotationTable
from densedet.core.annotations.views import COUNT, KEEP, actions_of, base_of
from densedet.core.class_table import EMPTY
from densedet.core.contracts import Source
from densedet.core.errors import DataError
from densedet.core.text import counted

LOOKED_AT = 500
"""Images of a source without a table whose annotations are made only to be counted. All are where they are
made anyway, because the source has no ``sizes`` or a filter asks for them."""

NAMED = 10
"""Classes that a sentence names."""

PLACES = {"train": "training", "val": "validation"}

NOTHING = ", so that nothing is measured: look at data.classes and data.val_filter"
"""Where no box of the validation images counts."""


def data_facts(source: Source, classes: Sequence[str]) -> dict[str, Any]:
    """Count the images and boxes of a source as training or evaluation sees them.

    Args:
        source: the filtered source.
        classes: the detector's, in label order.

    Returns:
        Plain values: {"images", "looked_at" (how many of them the rest counts), "boxes" (that count, of the
        ``classes``), "images_without_boxes", "classes_without_boxes": [name], "other_classes": {name: boxes
        of a class that the detector lacks}}, and `Faults.numbers` of the whole input.
    """
    table, images, actions = _table_of(source)
    owners = table.owners()
    counting = _counting(table, images, actions, owners)
    wanted = {name for name in classes if name != EMPTY}
    known = counting & np.array([*(name in wanted for name in table.classes), False])[table.labels]
    boxes = _per_class(table, known)
    others = _per_class(table, counting & ~known & (table.labels >= 0))
    return {
        "images": len(source),
        "looked_at": len(images),
        "boxes": int(known.sum()),
        "images_without_boxes": len(images) - len(np.unique(owners[known])),
        "classes_without_boxes": [name for name in classes if name != EMPTY and not boxes.get(name)],
        "other_classes": {name: count for name, count in others.items() if count},
        **table.faults.numbers(),
    }


def box_counts(source: Source) -> dict[str, int]:
    """Count the boxes of each class that count in training.

    Args:
        source: the filtered source. Of a source without a table, some images stand for all.
    """
    table, images, actions = _table_of(source)
    return _per_class(table, _counting(table, images, actions, table.owners()))


def drawn_facts(source: Source, order: Sequence[int]) -> dict[str, dict[str, int]]:
    """Count what a sampler draws.

    Args:
        source: the training source.
        order: positions in it of the images of an epoch, as a sampler gives them.

    Returns:
        {class: {"images" (drawn ones that hold the class, each time that they are drawn), "objects"}}; a
        class that is not drawn has zeros. Objects that are ignored do not count.
    """
    found = {name: {"images": 0, "objects": 0} for name in source.classes}
    for index, times in Counter(order).items():
        annotation = source.annotation(index)
        labels = annotation.labels[~annotation.ignore & (annotation.labels >= 0)].tolist()
        for label, count in Counter(labels).items():
            row = found[source.classes[label]]
            row["images"] += times
            row["objects"] += times * count
    return found


def box_sides(source: Source, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Measure the boxes that count in training against their images.

    Args:
        source: the filtered source.
        classes: the detector's, in label order.

    Returns:
        For each class with boxes, float64 (n,): the root of each box's share of its image's area. A quarter
        of the width of an image that is as wide as high, squared, is 1/16 of its area: .25.
    """
    table, images, actions = _table_of(source)
    owners = table.owners()
    counting = _counting(table, images, actions, owners)
    shares = table.xywh[:, 2:].prod(axis=1) / table.sizes[owners].astype(np.float64).prod(axis=1)
    sides = np.sqrt(np.minimum(shares, 1.0))
    found = {name: sides[counting & (table.labels == label)] for label, name in enumerate(table.classes)}
    return {name: found[name] for name in classes if len(found.get(name, ()))}


def image_size(source: Source) -> tuple[float, float]:
    """Return the median (width, height) of the images as displayed."""
    table, images, _ = _table_of(source)
    width, height = np.median(table.sizes[images], axis=0)
    return float(width), float(height)


def _table_of(source: Source) -> tuple[AnnotationTable, np.ndarray, np.ndarray]:
    """Return a table, int64 (I,) the positions in it of the source's images, and uint8 (M,) what is done with
    each box."""
    base, images = base_of(source)
    if isinstance(base, CheckedSource) and len(images) > LOOKED_AT and not base.made_anyway:
        chosen = images[np.linspace(0, len(images) - 1, LOOKED_AT).astype(np.int64)]
        table = base.table_of_images(chosen.tolist(), Faults())
        return table, np.arange(len(table)), np.full(len(table.labels), KEEP, dtype=np.uint8)
    table = table_of(base)
    return table, images, actions_of(source, len(table.labels))


def _counting(
    table: AnnotationTable, images: np.ndarray, actions: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """Return bool (M,): the boxes of these images that are neither ignored nor dropped."""
    member = np.zeros(len(table), dtype=bool)
    member[images] = True
    return member[owners] & ((actions == COUNT) | ((actions == KEEP) & (table.flags == 0)))


def _per_class(table: AnnotationTable, boxes: np.ndarray) -> dict[str, int]:
    counts = np.bincount(table.labels[boxes], minlength=len(table.classes)).tolist()
    return dict(zip(table.classes, counts))


def check_trainable(facts: dict[str, Any]) -> None:
    """Raise DataError where no training image has a box that counts."""
    if not facts["boxes"] and facts["looked_at"] == facts["images"]:
        lost = facts["dropped_boxes"]
        why = f" ({counted(lost, 'box')} could not be used)" if lost else ""
        raise DataError(
            f"no box counts in the {counted(facts['images'], 'training image')}{why}, so nothing can be "
            f"learnt: look at the data with densedet check data, and at data.classes and data.filter"
        )


def notes_on(facts: dict[str, dict[str, Any]], train_classes: Sequence[str] = ()) -> list[str]:
    """Return sentences about what the user must know.

    Args:
        facts: {"train" or "val": `data_facts`}.
        train_classes: all classes of the training data; one that the recipe leaves out on purpose is no news
            in the validation data.
    """
    notes = []
    for split, row in facts.items():
        place, images = PLACES[split], row["looked_at"]
        of = f" (in {images:,} of {row['images']:,} images)" if images < row["images"] else ""
        if words := fault_words(row["faults"]):
            notes.append(f"{place} data: {words}{of}; densedet check data names them")
        if 2 * row["images_without_boxes"] >= images > 0:
            of_all = f"{row['images_without_boxes']:,} of {counted(images, f'{place} image')}"
            advice = NOTHING if split == "val" and not row["boxes"] else ""
            notes.append(f"without a box that counts: {of_all}{advice}")
        lacking = row["classes_without_boxes"]
        if lacking and images == row["images"]:
            so = ", whose AP is not computed" if split == "val" else ""
            notes.append(f"classes without a {place} box{so}: {_named(lacking)}")
        news = [name for name in row["other_classes"] if name not in train_classes]
        if news:
            boxes = sum(row["other_classes"][name] for name in news)
            notes.append(
                f"{counted(boxes, f'{place} box')} ignored, of classes that the detector lacks: "
                f"{_named(news)}"
            )
    return notes


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
