"""One Pascal VOC XML file, read and written."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from densedet.core.errors import DataError
from densedet.core.sources import NO_ID, Faults
from densedet.plugins.sources._label_files import FLAWS, Flaw, plain_float, plain_int
from densedet.plugins.sources._labelled import LabelledBox

Corners = Literal["one_based", "zero_based"]

MAX_DEPTH = 40
"""Elements inside one another; VOC has 5."""

OF_IMAGE = ("filename", "size/width", "size/height")
OF_OBJECT = ("name", "difficult", "bndbox/xmin", "bndbox/ymin", "bndbox/xmax", "bndbox/ymax")
"""The elements that are read, below <annotation> and below <object>. Of several in one place the first
counts."""

_PLACES = {name: i for i, name in enumerate(OF_IMAGE)} | {
    f"object/{name}": i for i, name in enumerate(OF_OBJECT)
}
_FOREIGN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
    try:
        raw.parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(f"annotation file {path} is not XML: {error}") from error
    except (ValueError, LookupError, RecursionError) as error:
        raise DataError(
            f"annotation file {path} cannot be read as XML ({error}): save it as UTF-8"
        ) from error
    filename, width, height = raw.texts
    found = VocFile((filename or "").replace("\\", "/"), _side(width), _side(height))
    name, image_id = _json(raw.ours.get("file_name")), _json(raw.ours.get("image_id"))
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


class _Elements:
    """The texts of a file that are read.

    They are those of `OF_IMAGE` and the attributes of the image's <coco>, and of each object those of
    `OF_OBJECT` and the attributes of its <coco>.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: Texts = [None] * len(OF_IMAGE)
        self.ours: dict[str, str] = {}
        self.objects: list[tuple[Texts, dict[str, str]]] = []
        self._object = _NOTHING
        self._stack: list[str] = []
        self._wanted: int | None = None
        self._pieces: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _doctype(self, *declaration: Any) -> None:
        # Entities are how an XML file makes its reader read other files or fill the memory.
        raise DataError(
            f"annotation file {self.path} declares a document type (<!DOCTYPE>): Pascal VOC files do "
            f"not; delete it"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        stack = self._stack
        if not stack and tag != "annotation":
            raise DataError(
                f"{self.path} is no Pascal VOC file: its outermost element is <{tag[:40]}>, not <annotation>"
            )
        if len(stack) == MAX_DEPTH:
            raise DataError(
                f"annotation file {self.path} has elements nested more than {MAX_DEPTH} deep: Pascal "
                f"VOC files do not"
            )
        stack.append(tag)
        if tag == "coco" and len(stack) == 2:
            self.ours = self.ours or attributes
        elif tag == "coco" and len(stack) == 3 and stack[1] == "object":
            self._object = self._object[0], self._object[1] or attributes
        self._pieces.clear()
        self._wanted = _PLACES.get("/".join(stack[1:])) if len(stack) < 5 else None

    def _end(self, tag: str) -> None:
        stack, wanted = self._stack, self._wanted
        if wanted is not None:
            text = "".join(self._pieces).strip()
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
        stack.pop()

    def _data(self, text: str) -> None:
        if self._wanted is not None:
            self._pieces.append(text)


def _object(texts: Texts, ours: dict[str, str], corners: Corners, file: VocFile) -> LabelledBox:
    name, flag, *given = texts
    if not name and not ours:
        raise Flaw("category", "has no name")
    name = name or ""
    try:
        numbers = [_number(text) for text in given]
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
        _json(ours.get("id")),
        plain_float(_json(ours.get("area"))),
        _json(ours.get("category_id")),
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


def _number(text: str | None) -> float:
    if text is None or "_" in text:  # Python would read 1_000
        raise ValueError
    return float(text)


def _exact(text: str | None) -> tuple[float, float, float, float] | None:
    values = _json(text)
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


def xml_text(text: str) -> str:
    """Return ``text`` as an XML element gives it back: stripped, and with impossible characters replaced."""
    return _FOREIGN.sub("\ufffd", text).strip()


def _side(text: str | None) -> int:
    try:
        value = _number(text)
    except ValueError:
        return 0
    return int(value) if 0 < value < 1 << 24 else 0


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
