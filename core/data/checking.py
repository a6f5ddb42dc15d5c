"""Facts about a data set before training: classes, broken entries and images, duplicates, sizes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from densedet.core.annotations.source import input_scales, table_of
from densedet.core.annotations.table import CROWD, AnnotationTable
from densedet.core.contracts import Resize, Source
from densedet.core.data.copies import SIDE, thumbnail
from densedet.core.data.dataset import sample_of
from densedet.core.data.decoding import Decoding
from densedet.core.errors import DataError

SIDES = (4, 8, 16, 32, 64)
"""Pixels of the network's input at which the objects' sizes (square root of the area) are counted."""

NAMED = 100
"""Findings listed of each kind; the counts go on."""


def check_source(
    source: Source,
    *,
    resize: Resize,
    decoding: Decoding,
    decode_images: bool = True,
    on_image: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Check one source.

    Args:
        source: the source.
        resize: gives the size of an image in the network's input.
        decoding: how images are decoded.
        decode_images: whether every image is read and decoded, on all cores.
        on_image: called with the number of images that are done.

    Returns:
        Plain values: {"images", "boxes", "empty_images", "classes": see `class_rows`, "invalid_boxes":
        [sentence], "wrong": the numbers in words, those of `Faults.numbers`, "duplicate_boxes": [sentence],
        "duplicate_names":
        [name], "sides": see `side_table`, "broken_images": [sentence], "broken_count", "duplicate_images":
        [[name]]}, and "digests" of the files and "thumbnails" (see
        `densedet.core.data.copies`) if they were read.
    """
    table = table_of(source)
    facts: dict[str, Any] = {
        "images": len(table),
        "boxes": len(table.labels),
        "empty_images": int((np.diff(table.offsets) == 0).sum()),
        "classes": class_rows(table),
        "invalid_boxes": table.faults.told()[:NAMED],
        "wrong": table.faults.words(),
        **table.faults.numbers(),
        "duplicate_boxes": duplicate_boxes(table),
        "duplicate_names": sorted(
            name for name, count in Counter(table.name(i) for i in range(len(table))).items() if count > 1
        )[:NAMED],
        "sides": side_table(table, resize),
        "broken_images": [],
        "broken_count": 0,
        "duplicate_images": [],
    }
    if decode_images:
        digests, thumbnails, broken = look_at_images(
            source, resize=resize, decoding=decoding, on_image=on_image
        )
        facts["broken_images"], facts["broken_count"] = broken[:NAMED], len(broken)
        facts["digests"], facts["thumbnails"] = digests, thumbnails
        facts["duplicate_images"] = [[table.name(i) for i in group] for group in repeated(digests)][:NAMED]
    return facts


def class_rows(table: AnnotationTable) -> list[dict[str, Any]]:
    """Return a row for each class.

    {"label", "category_id", "name", "boxes" (that count), "ignored", "crowd", "images", "share"}.
    """
    counting = table.flags == 0
    count = len(table.classes)
    boxes = np.bincount(table.labels[counting], minlength=count)
    crowd = np.bincount(table.labels[(table.flags & CROWD != 0) & (table.labels >= 0)], minlength=count)
    ignored = np.bincount(table.labels[~counting & (table.labels >= 0)], minlength=count) - crowd
    pairs = np.unique(table.owners()[counting] * max(count, 1) + table.labels[counting])
    images = np.bincount(pairs % max(count, 1), minlength=count)
    total = max(int(boxes.sum()), 1)
    return [
        {
            "label": label,
            "category_id": table.category_ids[label],
            "name": name,
            "boxes": int(boxes[label]),
            "ignored": int(ignored[label]),
            "crowd": int(crowd[label]),
            "images": int(images[label]),
            "share": round(float(boxes[label]) / total, 5),
        }
        for label, name in enumerate(table.classes)
    ]


def duplicate_boxes(table: AnnotationTable) -> list[str]:
    """Return a sentence for each box that repeats another of its image: same class, same numbers."""
    if not len(table.labels):
        return []
    rows = np.column_stack(
        [table.owners(), table.labels.astype(np.int64), np.ascontiguousarray(table.xywh).view(np.int64)]
    )
    order = np.lexsort(rows.T[::-1])
    same = (rows[order[1:]] == rows[order[:-1]]).all(1)
    sentences = []
    for first, second in zip(order[:-1][same][:NAMED].tolist(), order[1:][same][:NAMED].tolist()):
        image = int(rows[first, 0])
        label = int(table.labels[first])
        name = table.classes[label] if label >= 0 else "object of no class"
        sentences.append(
            f"image {table.image_id(image)} ({table.name(image)}): annotations {table.ids[first]} and "
            f"{table.ids[second]} are the same {name}"
        )
    extra = int(same.sum()) - len(sentences)
    return sentences + ([f"... and {extra} more"] if extra > 0 else [])


def side_table(table: AnnotationTable, resize: Resize) -> dict[str, Any]:
    """Return the sizes of the objects that count, in pixels of the network's input.

    A size is the square root of an object's area after ``resize``.

    Returns:
        {"below": {side: number of smaller objects} for `SIDES`, "all": quantiles, "classes": {name:
        quantiles}}.
    """
    scale = input_scales(table.sizes, resize)
    counting = table.flags == 0
    sides = np.sqrt((table.xywh[counting, 2:] * scale[table.owners()[counting]]).prod(1))
    labels = table.labels[counting]
    per_class = {name: _quantiles(sides[labels == label]) for label, name in enumerate(table.classes)}
    return {
        "below": {str(side): int((sides < side).sum()) for side in SIDES},
        "all": _quantiles(sides),
        "classes": per_class,
    }


def _quantiles(values: np.ndarray) -> list[float] | None:
    """Return minimum, 10 %, median, 90 % and maximum, or None where there are no values."""
    return (
        None if not len(values) else [round(float(v), 1) for v in np.quantile(values, (0, 0.1, 0.5, 0.9, 1))]
    )


def look_at_images(
    source: Source, *, resize: Resize, decoding: Decoding, on_image: Callable[[int], None] | None = None
) -> tuple[list[str | None], np.ndarray, list[str]]:
    """Read and decode every image.

    Returns:
        A digest of each image's file (None where it is no readable file), thumbnails (I,T), NaN where an
        image cannot be decoded, and sentences about these.
    """
    unseen = np.full(SIDE * SIDE, np.nan, dtype=np.float32)

    def look(index: int) -> tuple[str | None, np.ndarray, str | None]:
        digest = None
        try:
            image = source.image(index)
            if isinstance(image, (str, os.PathLike)) and Path(image).is_file():
                content = Path(image).read_bytes()
                digest = hashlib.blake2b(content, digest_size=16).hexdigest()
            sample = sample_of(
                image, decoding=decoding, resize=resize, index=index, truth=source.annotation(index)
            )
        except DataError as error:
            return digest, unseen, str(error)
        return digest, thumbnail(sample.image), None

    digests, thumbnails, broken = [], [], []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, (digest, small, sentence) in enumerate(pool.map(look, range(len(source))), start=1):
            digests.append(digest)
            thumbnails.append(small)
            if sentence is not None:
                broken.append(sentence)
            if on_image is not None:
                on_image(done)
    return digests, np.array(thumbnails, dtype=np.float32).reshape(-1, SIDE * SIDE), broken


def repeated(digests: Sequence[str | None]) -> list[list[int]]:
    """Return the groups of positions that share a digest."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        if digest is not None:
            groups[digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def shared_images(first: dict[str, Any], second: dict[str, Any]) -> int:
    """Count the images of the second check that are, byte for byte, also in the first.

    These are training images in a validation set.
    """
    known = set(first.get("digests", ())) - {None}
    return sum(digest in known for digest in second.get("digests", ()))


def problems(facts: dict[str, Any]) -> int:
    """Count the entries that are wrong, not merely worth a look."""
    return sum(int(facts[name]) for name in ("dropped_boxes", "left_out_images", "broken_count"))
