"""One Pascal VOC XML file, read and written."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Union
from xml.sax.saxutils import escape, quoteattr

from densedet.core.sources import NO_ID, Faults
from densedet.plugins.sources._label_files import FLAWS, Flaw, plain_float, plain_int
from densedet.plugins.sources._labelled import LabelledBox
from densedet.plugins.sources._xml import XmlElements, json_value, number_of, side_of, xml_text

Corners = Literal["one_based", "zero_based"]

OF_IMAGE = ("filename", "size/width", "size/height")
OF_OBJECT = ("name", "difficult", "bndbox/xmin", "bndbox/ymin", "bndbox/xmax", "bndbox/ymax")
"""The elements that are read, below <annotation> and below <object>. Of several in one place the first
counts."""

_PLACES = {name: i for i, name in enumerate(OF_IMAGE)} | {
    f"object/{name}": i for i, name in enumerate(OF_OBJECT)
}


@dataclass
class VocFile:
    """A file's content."""

    filename: str = ""  # as the file has it, "" where it has none
    width: int = 0  # 0 where the file has none
    height: int = 0
    exact_name: str | None = None  # what `voc_text` wrote, if it still agrees with filename
    image_id: int | str | None = None
    objects: list[LabelledBox] = field(default_factory=list)
    from_zero: bool = False  # whether a box starts at 0, as none does in VOC's own files
    points: list[str] = field(default_factory=list)  # sentences about boxes of a single pixel


def read_voc(content: bytes, path: Path, corners: Corners, faults: Faults) -> VocFile:
    """Read a file; ``faults`` gets each broken object. Raises DataError if it is no VOC."""
    raw = _Elements(path)
    raw.read(content)
    filename, width, height = raw.texts
    found = VocFile((filename or "").replace("\\", "/"), side_of(width), side_of(height))
    name, image_id = json_value(raw.ours.get("file_name")), json_value(raw.ours.get("image_id"))
    found.exact_name = name if isinstance(name, str) and xml_text(name) == filename else None
    found.image_id = image_id if type(image_id) in (int, str) else None
    flaws = 0
    for number, (texts, ours) in enumerate(raw.objects, start=1):
        try:
            found.objects.append(_object(texts, ours, corners, found))
            if not ours and texts[2:4] == texts[4:6] and corners == "one_based":
                place = f"{path}: object {number} ({found.objects[-1].name[:40]})"
                found.points.append(
                    f"{place} is the single pixel {texts[2]}, {texts[3]}: a slip of the mouse? It "
                    f"counts as an object"
                )
        except Flaw as flaw:
            flaws += 1
            faults.entry(flaw.kind, f"{path}: object {number} ({(texts[0] or '')[:40]}) {flaw}")
            if flaws == FLAWS and (rest := len(raw.objects) - number):
                sentence = f"{path}: {FLAWS} objects are wrong: the rest of the file was not read"
                faults.entry("unreadable", sentence, count=rest)
                break
    return found


Texts = list[Union[str, None]]
_NOTHING: tuple[Texts, dict[str, str]] = ([None] * len(OF_OBJECT), {})


class _Elements(XmlElements):
    """The texts of a file that are read.

    They are those of `OF_IMAGE` and the attributes of the image's <coco>, and of each object those of
    `OF_OBJECT` and the attributes of its <coco>.
    """

    root, one, all = "annotation", "Pascal VOC file", "Pascal VOC files"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.texts: Texts = [None] * len(OF_IMAGE)
        self.ours: dict[str, str] = {}
        self.objects: list[tuple[Texts, dict[str, str]]] = []
        self._object = _NOTHING
        self._wanted: int | None = None

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        stack = self.stack
        if tag == "coco" and len(stack) == 2:
            self.ours = self.ours or attributes
        elif tag == "coco" and len(stack) == 3 and stack[1] == "object":
            self._object = self._object[0], self._object[1] or attributes
        self._wanted = _PLACES.get("/".join(stack[1:])) if len(stack) < 5 else None

    def closed(self, tag: str) -> None:
        stack, wanted = self.stack, self._wanted
        if wanted is not None:
            text = "".join(self.pieces).strip()
            if stack[1] != "object":
                self.texts[wanted] = text if self.texts[wanted] is None else self.texts[wanted]
            else:
                if self._object[0] is _NOTHING[0]:
                    self._object = list(_NOTHING[0]), self._object[1]
                texts = self._object[0]
                texts[wanted] = text if texts[wanted] is None else texts[wanted]
            self._wanted = None
        elif tag == "object" and len(stack) == 2:
            self.objects.append(self._object)
            self._object = _NOTHING


def _object(texts: Texts, ours: dict[str, str], corners: Corners, file: VocFile) -> LabelledBox:
    name, flag, *given = texts
    if not name and not ours:
        raise Flaw("category", "has no name")
    name = name or ""
    try:
        numbers = [number_of(text) for text in given]
    except ValueError:
        what = (
            "no bndbox"
            if given == [None] * 4
            else f"a bndbox of {', '.join(str(text)[:20] for text in given)}: four numbers are wanted"
        )
        raise Flaw("no_box" if None in given else "unreadable", f"has {what}") from None
    difficult = (flag or "").lower() in ("1", "true")
    if not ours:
        file.from_zero = file.from_zero or numbers[0] == 0 or numbers[1] == 0
        return LabelledBox(name, box_of(numbers, corners), difficult)
    # What stands in <coco> is exact, but only as long as nobody has changed the elements beside it with a
    # labelling tool.
    crowd, ignore = ours.get("iscrowd") == "1", ours.get("ignore") == "1"
    if difficult != (crowd or ignore):
        crowd, ignore = False, difficult
    own, area, category = (
        json_value(ours.get("id")),
        plain_float(json_value(ours.get("area"))),
        json_value(ours.get("category_id")),
    )
    box = _exact(ours.get("bbox"))
    if box is None or list(corners_of(box, file.width, file.height)) != numbers:
        box, area = box_of(numbers, corners), None
    return LabelledBox(
        name,
        box,
        ignore,
        crowd,
        own if plain_int(own) else NO_ID,
        math.nan if area is None else area,
        category if plain_int(category) else None,
    )


def _exact(text: str | None) -> tuple[float, float, float, float] | None:
    values = json_value(text)
    numbers = [plain_float(v) for v in values] if isinstance(values, list) and len(values) == 4 else [None]
    return None if None in numbers else tuple(numbers)  # type: ignore[return-value]


def box_of(numbers: list[float], corners: Corners) -> tuple[float, float, float, float]:
    """Turn xmin, ymin, xmax, ymax into x, y, width, height; `VOCSource` describes both kinds of corners."""
    xmin, ymin, xmax, ymax = numbers
    first = 1 if corners == "one_based" else 0
    return xmin - first, ymin - first, xmax - xmin + first, ymax - ymin + first


def corners_of(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """Turn x, y, width, height into xmin, ymin, xmax, ymax as VOC has them.

    These are whole pixels of the image, counted from 1, both ends included.
    """
    x, y, w, h = box
    xmin, ymin = _within(x + 1, 1, width), _within(y + 1, 1, height)
    return xmin, ymin, _within(x + w, xmin, width), _within(y + h, ymin, height)


def _within(value: float, low: int, high: int) -> int:
    return min(max(round(value), low), max(high, low)) if math.isfinite(value) else low


def voc_text(name: str, width: int, height: int, image_id: int | str, objects: list[LabelledBox]) -> bytes:
    """Return a file's content.

    Beside VOC's own elements stand elements <coco>, which other readers skip, with what VOC cannot hold.
    """
    rows = [
        "<annotation>",
        "  <folder>JPEGImages</folder>",
        f"  <filename>{escape(xml_text(name))}</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        f"  <coco image_id={quoteattr(json.dumps(image_id))} file_name={quoteattr(json.dumps(name))}/>",
    ]
    for o in objects:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), corners_of(o.box, width, height))
        rows += [
            "  <object>",
            f"    <name>{escape(xml_text(o.name))}</name>",
            f"    <difficult>{int(o.ignore or o.crowd)}</difficult>",
            f"    <bndbox>{''.join(f'<{key}>{value}</{key}>' for key, value in corners)}</bndbox>",
            f'    <coco id="{o.id}" category_id="{o.category_id}" bbox="{json.dumps(o.box)}" '
            f'area="{json.dumps(o.area)}"'
            f' iscrowd="{int(o.crowd)}" ignore="{int(o.ignore)}"/>',
            "  </object>",
        ]
    return "\n".join([*rows, "</annotation>", ""]).encode()
