"""One file of LabelMe, read and written."""

from __future__ import annotations

import base64
import binascii
import json
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densedet.core.errors import DataError
from densedet.core.sources import Faults
from densedet.plugins.sources import _shapes as shapes
from densedet.plugins.sources._label_files import FLAWS, Flaw, plain_float, plain_int, read_small
from densedet.plugins.sources._labelled import LabelledBox, exact_box, exact_text

MAX_EMBEDDED = 1 << 28
"""Bytes of a file, which may hold its image as text."""


@dataclass
class LabelMeFile:
    """A file's content.

    Attributes:
        image: where its image is, as the file has it, "/" between folders; "" where it has none.
        width: 0 where the file has none.
        height: 0 where the file has none.
        embedded: whether the file holds the pixels of its image.
        objects: its objects.
        name: of the image in the table that was written, if it still belongs to ``image``.
        image_id: of that table.
        position: of the image in that table, -1 where it was not written by `labelme_text`.
    """

    image: str
    width: int
    height: int
    embedded: bool
    objects: list[LabelledBox] = field(default_factory=list)
    name: str | None = None
    image_id: int | str | None = None
    position: int = -1


def _parsed(content: bytes, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"annotation file {path} is not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("shapes"), list):
        raise DataError(f"{path} is no file of LabelMe: it has no list 'shapes'")
    return values


def read_labelme(content: bytes, path: Path, faults: Faults) -> LabelMeFile:
    """Read a file; ``faults`` gets each broken shape. Raises DataError if it is none of LabelMe's."""
    values = _parsed(content, path)
    image = values.get("imagePath")
    found = LabelMeFile(
        image.replace("\\", "/") if isinstance(image, str) else "",
        _side(values.get("imageWidth")),
        _side(values.get("imageHeight")),
        isinstance(values.get("imageData"), str) and bool(values["imageData"]),
    )
    ours = values.get("densedet")
    if isinstance(ours, dict):
        name, image_id = ours.get("file_name"), ours.get("image_id")
        position: Any = ours.get("position")
        same = isinstance(name, str) and posixpath.basename(name) == posixpath.basename(found.image)
        found.name = name if same else None
        found.image_id = image_id if type(image_id) in (int, str) else None
        found.position = position if plain_int(position) and position >= 0 else -1
    flaws = 0
    for number, shape in enumerate(values["shapes"], start=1):
        try:
            found.objects.append(_object(shape))
        except Flaw as flaw:
            flaws += 1
            label = shape.get("label") if isinstance(shape, dict) else ""
            faults.entry(flaw.kind, f"{path}: shape {number} ({str(label)[:40]}) {flaw}")
            if flaws == FLAWS and (rest := len(values["shapes"]) - number):
                sentence = f"{path}: {FLAWS} shapes are wrong: the rest of the file was not read"
                faults.entry("unreadable", sentence, count=rest)
                break
    return found


def _object(shape: Any) -> LabelledBox:
    if not isinstance(shape, dict):
        raise Flaw("unreadable", "is no mapping")
    label, kind, given = shape.get("label"), shape.get("shape_type"), shape.get("points")
    if not isinstance(label, str) or not label.strip():
        raise Flaw("category", "has no label")
    if not isinstance(given, list) or not given:
        raise Flaw("no_box", "has no points")
    points = []
    for point in given:
        numbers = [plain_float(value) for value in point] if isinstance(point, list) else []
        if len(numbers) != 2 or None in numbers:
            raise Flaw("unreadable", f"has a point {str(point)[:40]}: two numbers are wanted")
        points.append((numbers[0], numbers[1]))
    if kind == "circle":
        if len(points) != 2:
            raise Flaw("no_box", f"is a circle of {len(points)} points: its centre and one on it are wanted")
        corners = shapes.around_circle(*points)  # type: ignore[arg-type]
    else:
        corners = shapes.around(points)  # type: ignore[arg-type]
    if kind == "mask":  # its points are the first and the last pixel
        corners = (*corners[:2], corners[2] + 1, corners[3] + 1)
    flags = shape["flags"] if isinstance(shape.get("flags"), dict) else {}
    flags = {**flags, "difficult": flags.get("difficult") or shape.get("difficult")}
    ignore, crowd = (shapes.marked(flags, names) for names in (shapes.IGNORED, shapes.CROWDED))
    return exact_box(label.strip(), corners, ignore, crowd, shape.get("densedet"))


def _side(value: Any) -> int:
    return int(value) if type(value) in (int, float) and 0 < value < 1 << 24 else 0


def embedded_image(path: Path) -> bytes:
    """Return the encoded image that a file holds. Raises DataError."""
    try:
        values = _parsed(read_small(path, MAX_EMBEDDED), path)
        return base64.b64decode(values.get("imageData") or "", validate=True)
    except FileNotFoundError as error:
        raise DataError(f"annotation file {path} does not exist") from error
    except (TypeError, ValueError, binascii.Error) as error:
        raise DataError(f"annotation file {path}: 'imageData' is no image in base 64: {error}") from error


def labelme_text(
    image: str,
    name: str,
    size: tuple[int, int],
    image_id: int | str,
    position: int,
    objects: list[LabelledBox],
) -> bytes:
    """Return a file's content, as LabelMe 5 writes it.

    Keys "densedet", which LabelMe keeps, hold what it has no place for.

    Args:
        image: where the image is, from the file's folder.
        name: of the image in the table.
        size: (width, height).
        image_id: of the table.
        position: of the image in the table.
        objects: its objects.
    """
    rows = []
    for o in objects:
        x, y, w, h = o.box
        row = {
            "label": o.name,
            "points": [[x, y], [x + w, y + h]],
            "group_id": None,
            "description": "" if o.score is None else f"score {o.score:.3f}",
            "shape_type": "rectangle",
            "flags": {**({"difficult": True} if o.ignore else {}), **({"crowd": True} if o.crowd else {})},
            "densedet": exact_text(o),
        }
        rows.append(row if o.score is None else {**row, "score": o.score})
    values = {
        "version": "5.5.0",
        "flags": {},
        "shapes": rows,
        "imagePath": image,
        "imageData": None,
        "imageHeight": size[1],
        "imageWidth": size[0],
        "densedet": {"file_name": name, "image_id": image_id, "position": position},
    }
    return json.dumps(values, indent=1).encode()
