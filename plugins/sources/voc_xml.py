"""One Pascal VOC XML file, read and written."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from densedet.core.errors import DataError

Corners = Literal["one_based", "zero_based"]
MAX_BYTES = 1 << 24
"""Of one file; a crowded image takes a few dozen KB."""


@dataclass
class VocObject:
    """box: x, y, width, height. The rest as in COCO; id and area are None where the file does not say."""

    name: str
    box: list[float]
    ignore: bool = False
    crowd: bool = False
    id: int | None = None
    area: float | None = None


@dataclass
class VocFile:
    """filename, width, height: as the file says, "" and 0 where it does not. image_id: None where it has none. faults: sentences."""

    filename: str
    width: int = 0
    height: int = 0
    image_id: int | str | None = None
    objects: list[VocObject] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_voc_file(path: Path, corners: Corners) -> VocFile:
    """Raises DataError where it is no VOC file; what is wrong with one object is among its faults."""
    root = _parse(path)
    if root.tag != "annotation":
        raise DataError(f"{path} is no Pascal VOC file: its outermost element is <{root.tag[:40]}>, not <annotation>")
    size, ours = root.find("size"), root.find("coco")
    found = VocFile((root.findtext("filename") or "").strip().replace("\\", "/"))
    if size is not None:
        found.width, found.height = (_side(size.findtext(key)) for key in ("width", "height"))
    if ours is not None:
        found.image_id = _json(ours.get("image_id", "null"), (int, str))
    for number, element in enumerate(root.iterfind("object")):
        name, box = (element.findtext("name") or "").strip(), element.find("bndbox")
        try:
            if not name:
                raise ValueError("has no name")
            if box is None:
                raise ValueError("has no bndbox")
            texts = [(box.findtext(key) or "").strip() for key in ("xmin", "ymin", "xmax", "ymax")]
            found.objects.append(_object(element, name, texts, corners))
        except ValueError as error:
            found.faults.append(f"{path}: object {number + 1} ({name[:40]}) {error}")
    return found


def _parse(path: Path) -> ElementTree.Element:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"annotation file {path} cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"annotation file {path} has {len(content):,} bytes: more than any image's annotations")
    # Entities are how an XML file makes a reader read other files or fill the memory; VOC has none. NUL: UTF-16 would hide them.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:
        raise DataError(f"annotation file {path} declares a document type or is not UTF-8: Pascal VOC files do neither")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"annotation file {path} is not XML: {error}") from error
    except (ValueError, LookupError, RecursionError) as error:
        raise DataError(f"annotation file {path} cannot be read as XML: {error}") from error


def _object(element: ElementTree.Element, name: str, texts: list[str], corners: Corners) -> VocObject:
    found = VocObject(name, box_of(texts, corners), ignore=(element.findtext("difficult") or "0").strip() == "1")
    ours = element.find("coco")
    if ours is None:
        return found
    found.id = _json(ours.get("id", "null"), (int,))  # type: ignore[assignment]
    found.crowd, found.ignore = ours.get("iscrowd") == "1", ours.get("ignore") == "1"
    exact = _json(ours.get("bbox", "null"), (list,))
    # Somebody may have moved the box in a labelling tool since: then <bndbox> holds, and the area is the new box's.
    if isinstance(exact, list) and len(exact) == 4 and all(type(v) in (int, float) for v in exact) and corner_texts(exact, corners) == texts:
        found.box = [float(v) for v in exact]
        found.area = _json(ours.get("area", "null"), (int, float))  # type: ignore[assignment]
    return found


def box_of(texts: list[str], corners: Corners) -> list[float]:
    """x, y, width, height of xmin, ymin, xmax, ymax. one_based: pixels counted from 1, both ends belonging to the object, as in the VOC
    development kit; zero_based: edges counted from 0, as most tools write them. Raises ValueError."""
    try:
        xmin, ymin, xmax, ymax = map(float, texts)
    except ValueError:
        raise ValueError(f"has a bndbox of {texts}: four numbers are wanted") from None
    if corners == "zero_based":
        return [xmin, ymin, xmax - xmin, ymax - ymin]
    return [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]


def corner_texts(box: list[float], corners: Corners) -> list[str]:
    """xmin, ymin, xmax, ymax as `write_voc_file` writes them."""
    x, y, w, h = box
    start = 1 if corners == "one_based" else 0
    return [f"{v:.15g}" for v in (x + start, y + start, x + w, y + h)]


def voc_text(name: str, width: int, height: int, image_id: int | str, objects: list[VocObject], corners: Corners) -> str:
    """A file's content. Beside VOC's own elements stands <coco>, which other readers skip, with what VOC cannot hold."""
    rows = [
        "<annotation>",
        f"  <filename>{escape(name)}</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        f"  <coco image_id={quoteattr(json.dumps(image_id))}/>",
    ]
    for o in objects:
        box = "".join(f"<{key}>{text}</{key}>" for key, text in zip(("xmin", "ymin", "xmax", "ymax"), corner_texts(o.box, corners)))
        rows += [
            "  <object>",
            f"    <name>{escape(o.name)}</name>",
            f"    <difficult>{int(o.ignore or o.crowd)}</difficult>",
            f"    <bndbox>{box}</bndbox>",
            f'    <coco id="{o.id}" bbox="{json.dumps(o.box)}" area="{json.dumps(o.area)}" iscrowd="{int(o.crowd)}" ignore="{int(o.ignore)}"/>',
            "  </object>",
        ]
    return "\n".join([*rows, "</annotation>", ""])


def _side(text: str | None) -> int:
    try:
        value = float(text or 0)
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) and 0 < value < 1 << 24 else 0


def _json(text: str, kinds: tuple[type, ...]) -> object:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if type(value) in kinds else None
