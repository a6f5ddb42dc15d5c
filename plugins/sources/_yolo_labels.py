"""YOLO's label files: a line for each object, in shares of the image's size."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from densedet.core.sources import Faults
from densedet.core.text import counted
from densedet.plugins.sources._label_files import FLAWS, Flaw, read_small

MAX_LINE = 1 << 20
"""Bytes; a polygon takes a few KB."""

SLACK = 1e-3
"""How far beyond 0..1 a number may lie: rounding of the tools that write them."""


class Label(NamedTuple):
    """A line."""

    label: int
    box: tuple[float, float, float, float]  # x, y, width, height in shares of the image's size
    text: str  # the line with single blanks
    polygon: bool = False  # whether the line is a polygon, of which this is the box

    def pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return x, y, width, height in pixels of an image of that size."""
        x, y, w, h = self.box
        return x * width, y * height, w * width, h * height


def label_file(image: str) -> str:
    """Return where an image's labels are, by Ultralytics' rule: the last /images/ becomes /labels/."""
    place = f"{os.sep}images{os.sep}"
    head, found, tail = image.rpartition(place)
    return os.path.splitext(f"{head}{os.sep}labels{os.sep}{tail}" if found else image)[0] + ".txt"


def read_labels(path: Path, classes: int, keypoints: int, faults: Faults) -> tuple[list[Label], bytes] | None:
    """Read a file of labels: return them and the file's content, or None where there is no file.

    ``keypoints`` numbers after each box are no part of it. ``faults`` gets each line that is no label. Raises
    DataError.
    """
    try:
        content = read_small(path)
    except FileNotFoundError:
        return None
    labels, flaws = [], 0
    lines = enumerate(io.BytesIO(content), start=1)
    for number, line in lines:
        try:
            if len(line) > MAX_LINE:
                raise Flaw("unreadable", f"has {len(line):,} bytes: no label is that long")
            words = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace").split()
            if words:
                labels.append(_label(words, classes, keypoints))
        except Flaw as flaw:
            faults.entry(flaw.kind, f"{path}, line {number}: {flaw}")
            flaws += 1
            if flaws == FLAWS and (rest := sum(1 for _, line in lines if line.strip())):
                sentence = f"{path}: {FLAWS} lines are wrong: the rest of the file was not read"
                faults.entry("unreadable", sentence, count=rest)
    return labels, content


def _label(words: Sequence[str], classes: int, keypoints: int) -> Label:
    numbers = [_number(word) for word in words]
    label, points = numbers[0], numbers[1:]
    if not label.is_integer() or not 0 <= label < classes:
        raise Flaw(
            "category",
            f"there is no class {words[0][:20]}: it must be one of 0 to {classes - 1}, as many as "
            f"data.yaml has names",
        )
    if keypoints and len(points) == 4 + keypoints:
        points = points[:4]
    if len(points) != 4 and (len(points) < 6 or len(points) % 2):
        raise Flaw(
            "columns",
            f"{counted(len(words), 'number')}: a label has 5 (class x y width height), or a class and the "
            f"x y of "
            f"3 or more corners",
        )
    for place, value in enumerate(points):
        # A width or height below 0 is a box drawn from right to left or upwards.
        size = len(points) == 4 and place > 1
        if math.isfinite(value) and not -SLACK <= (abs(value) if size else value) <= 1 + SLACK:
            raise Flaw(
                "out_of_range",
                f"{words[place + 1][:20]} lies outside 0..1: labels are in parts of the image's width and "
                f"height, not in pixels",
            )
    text = " ".join(words)
    if len(points) == 4:
        x, y, w, h = points
        return Label(int(label), (x - w / 2, y - h / 2, w, h), text)
    if not all(map(math.isfinite, points)):
        return Label(int(label), (math.nan,) * 4, text, polygon=True)
    across, down = points[::2], points[1::2]
    x, y = min(across), min(down)
    return Label(int(label), (x, y, max(across) - x, max(down) - y), text, polygon=True)


def _number(word: str) -> float:
    try:
        if "_" in word:  # Python would read 1_000
            raise ValueError
        return float(word)
    except ValueError:
        raise Flaw("unreadable", f"{word[:20]!r} is no number: a label is class x y width height") from None


def label_text(label: int, xywh: Sequence[float], width: int, height: int) -> str:
    """Return the line of a box x, y, width, height in pixels, clipped since others refuse to go beyond."""
    x, y, w, h = xywh
    left, right = min(max(x, 0.0), width) / width, min(max(x + w, 0.0), width) / width
    top, bottom = min(max(y, 0.0), height) / height, min(max(y + h, 0.0), height) / height
    numbers = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    return f"{label} " + " ".join(f"{number:.9f}" for number in numbers)
