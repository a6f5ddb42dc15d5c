"""A file of CVAT ("CVAT for images 1.1" and "CVAT for video 1.1"), read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from densedet.core.sources import Faults
from densedet.plugins.sources import _shapes as shapes
from densedet.plugins.sources._label_files import FLAWS, Flaw, plain_int
from densedet.plugins.sources._labelled import LabelledBox, exact_box, exact_text
from densedet.plugins.sources._xml import XmlElements, json_value, number_of, side_of, xml_text

POINTED = ("polygon", "polyline", "points")
SHAPES = ("box", *POINTED, "ellipse", "mask", "cuboid", "skeleton")
"""Elements that are objects."""


@dataclass
class CvatImage:
    """An image of a file, or a frame of a video.

    Attributes:
        name: of its file; "" for a frame of a video.
        width: 0 where the file has none.
        height: 0 where the file has none.
        subset: the part of the project that it belongs to, "" for none.
        objects: its objects.
        ours: the attribute that `cvat_text` wrote, or None.
    """

    name: str
    width: int = 0
    height: int = 0
    subset: str = ""
    objects: list[LabelledBox] = field(default_factory=list)
    ours: Any = None


@dataclass
class CvatFile:
    """A file's content.

    Attributes:
        labels: the classes that the task lists, in its order.
        category_ids: of the labels, where `cvat_text` wrote them; else empty.
        images: in the file's order.
        frames: of a video, by their numbers.
    """

    labels: list[str] = field(default_factory=list)
    category_ids: list[int] = field(default_factory=list)
    images: list[CvatImage] = field(default_factory=list)
    frames: dict[int, CvatImage] = field(default_factory=dict)


@dataclass
class _Shape:
    tag: str
    values: dict[str, str]
    label: str
    attributes: dict[str, str] = field(default_factory=dict)
    points: list[str] = field(default_factory=list)


def read_cvat(content: bytes, path: Path, faults: Faults) -> CvatFile:
    """Read a file; ``faults`` gets each broken shape. Raises DataError if it is none of CVAT's."""
    elements = _Elements(path, faults)
    elements.read(content)
    return elements.file


class _Elements(XmlElements):
    """What is read of a file."""

    root, one, all = "annotations", "file of CVAT", "CVAT's files"

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path)
        self.faults, self.file = faults, CvatFile()
        self._image: CvatImage | None = None
        self._track: dict[str, str] | None = None
        self._shape: _Shape | None = None
        self._attribute = ""
        self._number = self._flaws = 0
        self._size = {"width": 0, "height": 0}

    def opened(self, tag: str, values: dict[str, str]) -> None:
        stack = self.stack
        if len(stack) == 2 and tag == "image":
            self._image = CvatImage(
                values.get("name", "").replace("\\", "/"),
                side_of(values.get("width")),
                side_of(values.get("height")),
                values.get("subset", ""),
                ours=json_value(values.get("densedet")),
            )
            self.file.images.append(self._image)
            self._number = self._flaws = 0
        elif len(stack) == 2 and tag == "track":
            self._track = values
            self._number = self._flaws = 0
        elif len(stack) == 3 and tag in SHAPES and stack[1] in ("image", "track"):
            label = values.get("label", "") if self._track is None else self._track.get("label", "")
            self._shape = _Shape(tag, values, label)
        elif self._shape is not None and tag == "attribute":
            self._attribute = values.get("name", "")
        elif self._shape is not None and tag == "points" and values.get("outside") != "1":
            self._shape.points.append(values.get("points", ""))
        elif tag == "label" and stack[-2:] == ["labels", "label"]:
            number = json_value(values.get("densedet"))
            self.file.category_ids += [number] if plain_int(number) else []

    def closed(self, tag: str) -> None:
        stack, shape = self.stack, self._shape
        text = "".join(self.pieces).strip()
        if shape is not None and tag == "attribute":
            shape.attributes[self._attribute] = text
        elif shape is not None and len(stack) == 3:
            self._add(shape)
            self._shape = None
        elif stack[-3:] == ["labels", "label", "name"] and text:
            self.file.labels.append(text)
        elif len(stack) >= 2 and stack[-2] == "original_size" and tag in self._size:
            self._size[tag] = side_of(text)
        elif len(stack) == 2:
            self._image = self._track = None
        self.pieces.clear()

    def _add(self, shape: _Shape) -> None:
        self._number += 1
        if self._flaws >= FLAWS:
            self.faults.entry("unreadable", f"{self._place()} is one of many that are wrong: not read")
            return
        try:
            found = _object(shape)
            if self._image is not None:
                self._image.objects.append(found)
            elif shape.values.get("outside") != "1":
                self._frame(shape).objects.append(found)
        except Flaw as flaw:
            self._flaws += 1
            self.faults.entry(flaw.kind, f"{self._place()} ({shape.label[:40]}) {flaw}")

    def _frame(self, shape: _Shape) -> CvatImage:
        try:
            number = int(shape.values.get("frame", ""))
        except ValueError:
            raise Flaw("image_id", "has no number of a frame") from None
        new = CvatImage("", self._size["width"], self._size["height"])
        return self.file.frames.setdefault(number, new)

    def _place(self) -> str:
        inside = "track" if self._image is None else f"image {self._image.name[:80]!r}"
        return f"{self.path}: {inside}: shape {self._number}"


def _object(shape: _Shape) -> LabelledBox:
    if not shape.label.strip():
        raise Flaw("category", "has no label")
    corners = _corners(shape)
    ignore, crowd = (shapes.marked(shape.attributes, names) for names in (shapes.IGNORED, shapes.CROWDED))
    return exact_box(shape.label.strip(), corners, ignore, crowd, json_value(shape.values.get("densedet")))


def _corners(shape: _Shape) -> shapes.Corners:
    tag, values = shape.tag, shape.values
    turn = _numbers(values, ("rotation",))[0] if "rotation" in values else 0.0
    if tag == "box":
        xtl, ytl, xbr, ybr = _numbers(values, ("xtl", "ytl", "xbr", "ybr"))
        return shapes.around_turned((xtl, ytl, xbr, ybr), turn)
    if tag == "ellipse":
        cx, cy, rx, ry = _numbers(values, ("cx", "cy", "rx", "ry"))
        return shapes.around_ellipse(cx, cy, rx, ry, turn)
    if tag == "mask":
        left, top, width, height = _numbers(values, ("left", "top", "width", "height"))
        return left, top, left + width, top + height
    if tag == "cuboid":
        names = [f"{corner}{face}" for corner in ("tl", "bl", "tr", "br") for face in (1, 2)]
        numbers = _numbers(values, [axis + name for name in names for axis in "xy"])
        return shapes.around(list(zip(numbers[::2], numbers[1::2])))
    texts = shape.points if tag == "skeleton" else [values.get("points", "")]
    pairs = [pair for text in texts for pair in text.split(";") if pair.strip()]
    if not pairs:
        raise Flaw("no_box", "has no points")
    return shapes.around([_pair(pair) for pair in pairs])


def _pair(text: str) -> tuple[float, float]:
    try:
        x, y = (number_of(value) for value in text.split(","))
        return x, y
    except ValueError:
        raise Flaw("unreadable", f"has a point {text[:40]!r}: x,y is wanted") from None


def _numbers(values: dict[str, str], names: Iterable[str]) -> list[float]:
    try:
        return [number_of(values[name]) for name in names]
    except KeyError as error:
        raise Flaw("no_box", f"has no {error.args[0]}") from None
    except ValueError:
        given = ", ".join(values.get(name, "")[:20] for name in names)
        raise Flaw("unreadable", f"has {given}: numbers are wanted") from None


def head_text(classes: dict[int, str], scored: bool) -> str:
    """Return the start of a file: a task's labels, with an attribute for scores where there are some.

    Attributes "densedet", here and in `image_text`, hold what the format has no place for; CVAT skips them.
    """
    score = (
        "<attributes><attribute><name>score</name><mutable>True</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute></attributes>"
        if scored
        else "<attributes></attributes>"
    )
    labels = "".join(
        f'\n<label densedet="{number}"><name>{escape(xml_text(name))}</name>{score}</label>'
        for number, name in classes.items()
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><task><labels>{labels}\n</labels></task></meta>\n"
    )


def image_text(
    position: int, name: str, size: tuple[int, int], image_id: int | str, objects: list[LabelledBox]
) -> str:
    """Return an image of a file.

    Args:
        position: of the image.
        name: of its file.
        size: (width, height).
        image_id: of the table.
        objects: its objects.
    """
    ours = {"file_name": name, "image_id": image_id}
    rows = [
        f'<image id="{position}" name={_attribute(xml_text(name))} width="{size[0]}" height="{size[1]}" '
        f"densedet={_attribute(json.dumps(ours))}>"
    ]
    for o in objects:
        x, y, w, h = o.box
        given = {
            "ignore": "true" if o.ignore else "",
            "crowd": "true" if o.crowd else "",
            "score": "" if o.score is None else f"{o.score:.3f}",
        }
        inside = "".join(
            f'<attribute name="{key}">{value}</attribute>' for key, value in given.items() if value
        )
        rows.append(
            f'<box label={_attribute(xml_text(o.name))} source="{"manual" if o.score is None else "auto"}" '
            f'occluded="0" xtl="{x!r}" ytl="{y!r}" xbr="{x + w!r}" ybr="{y + h!r}" z_order="0" '
            f"densedet={_attribute(json.dumps(exact_text(o)))}>{inside}</box>"
        )
    return "\n".join([*rows, "</image>\n"])


def _attribute(text: str) -> str:
    # In an attribute, a reader makes blanks of line ends and tabs that are written as they are.
    return quoteattr(text, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
