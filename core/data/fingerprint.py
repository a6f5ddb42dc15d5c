"""What a run's images and boxes were, in a few short texts, so that a resume can tell what has changed."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densedet.core.annotations.table import AnnotationTable
from densedet.core.annotations.views import base_of
from densedet.core.contracts import Source
from densedet.core.text import counted

READ_AT_MOST = 128 << 20
"""Bytes of image files that are read. Of a larger set, files that are evenly spread over it are read, and
their times of change tell of the others."""


def fingerprint(source: Source) -> dict[str, Any]:
    """Describe a source as it is now.

    Images are taken in the order of their names, so that another order is told from other boxes.

    Args:
        source: a source, filtered or not.

    Returns:
        "images" and "boxes", their numbers (boxes: None where only the source knows); "names", "order",
        "truth" (labels and boxes), "pixels" (sizes of the image files and the bytes that are read; the same
        on another disk) and "times" (of change, "" where all bytes are read), a digest of each; "files", the
        number of image files that are there.
    """
    base, indices = base_of(source)
    table = getattr(base, "table", None)
    if isinstance(table, AnnotationTable):
        names = [table.name(int(index)) for index in indices]
        by_name = sorted(range(len(names)), key=names.__getitem__)
        told = {
            "boxes": int((table.offsets[indices + 1] - table.offsets[indices]).sum()),
            "names": _digest(names[position].encode("utf-8", "surrogatepass") for position in by_name),
            "order": _digest(name.encode("utf-8", "surrogatepass") for name in names),
            "truth": _digest(_truth(table, indices[by_name])),
        }
    else:
        by_name = list(range(len(source)))
        told = {"boxes": None, "names": "", "order": "", "truth": _digest([source.fingerprint().encode()])}
    return {"images": len(source), **told, **_pixels(source, by_name)}


def differences(then: dict[str, Any], now: dict[str, Any], what: str) -> list[str]:
    """Say what differs between two fingerprints.

    Args:
        then: from `fingerprint`.
        now: likewise.
        what: the kind of images, "training" or "validation".
    """
    if then["images"] != now["images"]:
        return [f"the number of {what} images was {then['images']} and is {now['images']}"]
    if then["names"] != now["names"]:
        return [f"some {what} images have other names"]
    found = []
    if then["order"] != now["order"]:
        found.append(f"the {what} images are in another order")
    if then["boxes"] != now["boxes"]:
        found.append(f"the number of boxes of the {what} images was {then['boxes']} and is {now['boxes']}")
    elif then["truth"] != now["truth"]:
        found.append(f"the boxes of the {what} images have changed")
    if then["files"] > now["files"]:
        found.append(
            f"gone: {then['files'] - now['files']} of {counted(then['files'], f'{what} image file')}"
        )
    elif (then["pixels"], then["times"]) != (now["pixels"], now["times"]):
        found.append(f"the image files of the {what} images have changed")
    return found


def _truth(table: AnnotationTable, positions: np.ndarray) -> Iterator[bytes]:
    """Yield sizes, labels and boxes of the images at ``positions``, in this order."""
    starts, ends = table.offsets[positions], table.offsets[positions + 1]
    counts = ends - starts
    boxes = np.repeat(starts - np.append(0, np.cumsum(counts)[:-1]), counts) + np.arange(counts.sum())
    for column in (table.sizes[positions], counts):
        yield column.astype(np.int64).tobytes()
    for column, kind in (
        (table.xywh, np.float64),
        (table.areas, np.float64),
        (table.labels, np.int64),
        (table.flags, np.uint8),
    ):
        yield column[boxes].astype(kind).tobytes()


def _pixels(source: Source, positions: Sequence[int]) -> dict[str, Any]:
    """Count and digest the image files; a source whose images are no files digests them itself."""
    images = [source.image(position) for position in positions]
    paths = [Path(image) for image in images if isinstance(image, (str, os.PathLike))]
    if not paths:
        return {"files": len(source), "pixels": "", "times": ""}
    states = [_state(path) for path in paths]
    sizes, times = zip(*((None, None) if state is None else state for state in states))
    step = max(1, -(-sum(filter(None, sizes)) // READ_AT_MOST))  # every step-th file is read
    content = (_content(path) for path in paths[::step])
    return {
        "files": len(states) - states.count(None),
        "pixels": _digest(itertools.chain([repr(sizes).encode()], content)),
        "times": "" if step == 1 else _digest([repr(times).encode()]),
    }


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
