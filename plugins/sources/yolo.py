"""YOLO: data.yaml, and a text file an image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from densedet.core.annotation_table import CROWD, IGNORE, AnnotationTable
from densedet.core.errors import DataError
from densedet.core.files import write_text
from densedet.core.folders import new_folder
from densedet.core.image_header import image_size
from densedet.core.recipe_faults import RecipeError
from densedet.core.table_builder import NO_ID, Faults, TableBuilder
from densedet.core.table_source import TableSource, existing_file
from densedet.core.yaml_marks import parse_yaml

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
EXTRA = "densedet_extra"
"""Beside data.yaml, {EXTRA}_SPLIT.jsonl holds what label files cannot: see `Yolo.write`."""

SLACK = 1e-3
"""Normalised coordinates this far outside 0..1 were only rounded."""


class Yolo(TableSource):
    """YOLO's layout as Ultralytics documents it: a data.yaml, ``images/SPLIT/NAME.jpg`` and ``labels/SPLIT/NAME.txt``.

    data: the yaml file. split: "train", "val" or "test". Both relative to root, which is wired from data.root. In the file, ``path`` is
    relative to the file's folder, and each split, relative to that, a folder of images, a .txt list of images, or a list of these; ``names``
    is a list or a mapping from numbers. The last ``images`` folder in an image's path becomes ``labels`` for its label file; an image
    without one has no objects.

    A line is ``class x y width height``, centre and size as shares of the image's, or a polygon ``class x1 y1 x2 y2 x3 y3 ...``, of which the
    upright box is taken. Images' sizes come from their headers. Category ids are the class numbers, image ids count from 1 in sorted order.

    Raises DataError: a file is missing, not YOLO's, or, where strict, a line is wrong.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    image_folder: ClassVar[str] = "images/{split}"

    def __init__(self, *, data: str = "data.yaml", split: Literal["train", "val", "test"] = "train", root: str = ".") -> None:
        self.file = existing_file("source yolo", "data", Path(root).expanduser(), data)
        self.split = split
        self._digests = hashlib.blake2b(self.file.read_bytes(), digest_size=16)
        self._yaml = _read_yaml(self.file)
        self._roots = self._split_places()
        self.files = (self.file, Path(split))
        super().__init__(Path(os.path.commonpath([str(_folder_of(place)) for place in self._roots])))

    def __getstate__(self) -> dict[str, Any]:
        digest = hashlib.blake2b(self._digest().encode(), digest_size=16).hexdigest()
        return super().__getstate__() | {"_digests": digest}

    def _split_places(self) -> list[Path]:
        """Folders and .txt lists of the split."""
        values = self._yaml
        given = next((values[key] for key in SPLITS[self.split] if values.get(key)), None)
        if given is None:
            raise DataError(f"{self.file} names no {self.split} images: it has {', '.join(k for k in values if k not in ('names', 'nc', 'path')) or 'none'}")
        base = self.file.parent / str(values.get("path") or "")
        places = []
        for text in given if isinstance(given, list) else [given]:
            # Roboflow writes ../train/images from wherever the file was meant to lie.
            tries = [base / str(text), self.file.parent / str(text), self.file.parent / str(text).removeprefix("../")]
            found = next((place for place in tries if place.exists()), None)
            if found is None:
                raise DataError(f"{self.file}: {self.split} images {str(text)[:80]!r} are not at {tries[0]}: correct 'path' or {self.split!r} there")
            places.append(found.resolve())
        return places

    def _images(self) -> list[Path]:
        found: list[Path] = []
        for place in self._roots:
            if place.is_dir():
                found += (path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
            else:
                lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
                found += [place.parent / line.strip() for line in lines if line.strip()]
        return sorted(found)

    def _read(self) -> AnnotationTable:
        names, ids = _classes(self._yaml, self.file)
        builder = TableBuilder(str(self.file), self.faults)
        for category_id, name in zip(ids, names):
            builder.add_class(category_id, name)
        extra = _read_extra(self.file, self.split)
        images = {_below(path, self.images_folder): path for path in self._images()}
        order = [*extra, *(name for name in images if name not in extra)]
        for number, name in enumerate(order, start=1):
            known = extra.get(name) or _Extra(number, 0, 0, [])
            path = images.get(name, self.images_folder / name)
            if extra and name not in extra:
                known.image_id = name
            self._add(builder, path, name, known, ids)
            if self.on_progress is not None and number % 100 == 0:
                self.on_progress(number, len(order))
        if not order:
            raise DataError(f"{self.file}: there are no images in {', '.join(map(str, self._roots))}")
        return builder.finish()

    def _add(self, builder: TableBuilder, path: Path, name: str, known: _Extra, ids: list[int]) -> None:
        width, height = known.width, known.height
        if not (width and height):
            try:
                width, height = image_size(path)
            except DataError as error:
                self.faults.entry("image", str(error))
                return
        builder.origin = str(_label_file(path))
        if not builder.add_image(known.image_id, name, width, height):
            return
        lines = self._lines(_label_file(path))
        # Labels that were edited since the side file was written hold; then its objects of this image do not.
        if known.objects and [row["line"] for row in known.objects if not row["hidden"]] == lines:
            for row in known.objects:
                flags = {"crowd": bool(row["crowd"]), "ignore": bool(row["ignore"])}
                builder.add_box(known.image_id, row["category_id"], row["bbox"], area=row["area"], id=row["id"], **flags)
            return
        for number, line in enumerate(lines, start=1):
            try:
                label, box = parse_line(line, len(ids), width, height)
                builder.add_box(known.image_id, ids[label], box, id=NO_ID)
            except ValueError as error:
                self.faults.entry("line", f"{_label_file(path)}, line {number}: {error}")

    def _lines(self, path: Path) -> list[str]:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"label file {path} cannot be read: {error.strerror or error}") from error
        self._digests.update(content)
        return [line.strip() for line in content.decode("utf-8", "replace").split("\n") if line.strip()]

    def _digest(self) -> str:
        len(self.table)  # the digest is made while reading
        digest = self._digests
        return (digest if isinstance(digest, str) else digest.hexdigest()) + self.split

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """A yaml file with ``names``, or a folder with a data.yaml."""
        file = path / "data.yaml" if path.is_dir() else path
        if file.suffix not in (".yaml", ".yml") or not file.is_file() or "names" not in _read_yaml(file):
            return None
        name = next((key for key, words in SPLITS.items() if split in words), "train")
        return {"data": str(file), "split": name}

    @classmethod
    def write(
        cls,
        table: AnnotationTable,
        path: Path,
        *,
        split: str = "train",
        faults: Faults | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """A folder in YOLO's layout; the images are expected in images/SPLIT. Made under a temporary name and renamed.

        Crowd and ignored objects stand only in the side file, since other trainers would learn them as ordinary ones. That file also
        holds ids, areas and the exact boxes, so that nothing of a table is lost as long as the label files stay as they are.
        """
        split = next((key for key, words in SPLITS.items() if split in words), split)
        with new_folder(path) as folder:
            (folder / "images" / split).mkdir(parents=True)
            with open(folder / f"{EXTRA}_{split}.jsonl", "w", encoding="utf-8") as extra:
                for index in range(len(table)):
                    lines, row = _rows_of(table, index)
                    print(json.dumps(row), file=extra)
                    label = folder / "labels" / split / (os.path.splitext(table.name(index))[0] + ".txt")
                    label.parent.mkdir(parents=True, exist_ok=True)
                    label.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            rows = ["path: .", f"train: images/{'train' if split == 'test' else split}"]
            rows += [f"{key}: images/{key}" for key in ("val", "test") if key == split] or ["val: images/val"]
            rows.append("names:")
            rows += [f"  {label}: {json.dumps(name)}" for label, name in enumerate(table.classes)]
            rows.append(f"category_ids: {json.dumps(list(table.category_ids))}  # densedet's: the original ids")
            write_text(folder / "data.yaml", "\n".join(rows) + "\n")


@dataclass
class _Extra:
    """A line of the side file: one image."""

    image_id: int | str
    width: int
    height: int
    objects: list[dict[str, Any]]


def _rows_of(table: AnnotationTable, index: int) -> tuple[list[str], dict[str, Any]]:
    """(label lines, the side file's row) of an image."""
    width, height = table.sizes[index].tolist()
    _, xywh, labels, flags, areas = table.objects(index)
    ids = table.ids[int(table.offsets[index]) : int(table.offsets[index + 1])]
    lines, objects = [], []
    for label, (x, y, w, h), flag, area, own in zip(*(column.tolist() for column in (labels, xywh, flags, areas, ids))):
        numbers = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
        line = f"{label} " + " ".join(f"{v:.9g}" for v in numbers)
        if not flag:
            lines.append(line)
        objects.append(
            {
                "line": line,
                "hidden": bool(flag),
                "id": own,
                "category_id": table.category_ids[label],
                "bbox": [x, y, w, h],
                "area": area,
                "crowd": bool(flag & CROWD),
                "ignore": bool(flag & IGNORE),
            }
        )
    return lines, {"image_id": table.image_id(index), "file_name": table.name(index), "width": width, "height": height, "objects": objects}


def _read_extra(file: Path, split: str) -> dict[str, _Extra]:
    path = file.parent / f"{EXTRA}_{split}.jsonl"
    if not path.is_file():
        return {}
    found = {}
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                objects = [{**o, "id": int(o["id"]), "bbox": [float(v) for v in o["bbox"]], "area": float(o["area"])} for o in row["objects"]]
                if any(len(o["bbox"]) != 4 or not isinstance(o["category_id"], int) for o in objects):
                    raise ValueError("an object's numbers")
                image_id = row["image_id"] if isinstance(row["image_id"], int) else str(row["image_id"])
                found[str(row["file_name"])] = _Extra(image_id, int(row["width"]), int(row["height"]), objects)
                for o in objects:
                    o["line"], o["hidden"], o["crowd"], o["ignore"]  # noqa: B018 looked at so that a lack shows here
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise DataError(f"{path} is not what densedet wrote ({error}): delete it, and the label files alone are read") from error
    return found


def parse_line(line: str, classes: int, width: int, height: int) -> tuple[int, list[float]]:
    """-> (class, [x, y, width, height] in pixels). Raises ValueError."""
    words = line.split()
    try:
        label, numbers = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError(f"{line[:60]!r} is not a class and numbers") from None
    if not label.is_integer() or not 0 <= label < classes:
        raise ValueError(f"class {words[0][:20]} is not one of 0..{classes - 1}")
    if not all(-SLACK <= v <= 1 + SLACK for v in numbers):
        raise ValueError(f"{line[:60]!r}: coordinates are shares of the image, 0 to 1 (pixels are not)")
    if len(numbers) == 4:
        x, y, w, h = numbers
        return int(label), [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"{len(numbers)} numbers after the class: a box has 4, a polygon 6 or more, two a point")
    xs, ys = numbers[::2], numbers[1::2]
    return int(label), [min(xs) * width, min(ys) * height, (max(xs) - min(xs)) * width, (max(ys) - min(ys)) * height]


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        value = parse_yaml(file.read_text(encoding="utf-8"), str(file)).plain()
    except (RecipeError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{file} is no mapping: YOLO's data file has path, train, val and names")
    return value


def _classes(values: dict[str, Any], file: Path) -> tuple[list[str], list[int]]:
    """(names, category ids) in label order."""
    names = values.get("names")
    if isinstance(names, dict):
        try:
            numbered = {int(key): str(name) for key, name in names.items()}
        except ValueError:
            raise DataError(f"{file}: 'names' must go from numbers to names") from None
        if sorted(numbered) != list(range(len(numbered))):
            raise DataError(f"{file}: 'names' must count from 0 without gaps")
        names = [numbered[i] for i in range(len(numbered))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file}: 'names' is missing or empty: it lists the classes")
    count = values.get("nc")
    if count is not None and count != len(names):
        raise DataError(f"{file}: 'nc' is {count} and 'names' has {len(names)}: correct one of them")
    ids = values.get("category_ids")
    usable = isinstance(ids, list) and len(ids) == len(names) and all(type(i) is int for i in ids)
    return [str(name) for name in names], list(ids) if usable else list(range(len(names)))  # type: ignore[arg-type]


def _folder_of(place: Path) -> Path:
    return place if place.is_dir() else place.parent


def _below(path: Path, folder: Path) -> str:
    """The name relative to ``folder``; one that leads out of it keeps its dots, which the table refuses."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _label_file(image: Path) -> Path:
    parts = list(image.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")
