"""YOLO's data.yaml: where the images of a split are, and the names of the classes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from densedet.core.errors import DataError
from densedet.core.sources import Fault, RecipeError, parse_yaml
from densedet.plugins.sources._label_files import read_small

MAX_YAML = 1 << 20
"""Bytes; a thousand classes take about 20 KB."""

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""The keys of each split."""

ALWAYS_NAMED = {"val": ("../valid/images",), "test": ("../test/images",)}
"""Entries that Roboflow writes into every data.yaml, whether the export has these splits or not."""

FIRST = ("path", "names", "nc", "kpt_shape", *(key for keys in SPLITS.values() for key in keys))
"""The keys that are read; what is wrong elsewhere in the file is no business of ours."""


@dataclass(frozen=True)
class YoloData:
    """The content of a data.yaml."""

    file: Path
    path: str  # "" where the file has none
    names: tuple[str, ...]  # index = label
    entries: dict[str, tuple[str, ...]]  # {split: its folders and lists}
    keypoints: int  # how many numbers follow the box in a label

    @property
    def bases(self) -> list[Path]:
        """The folders that entries may be relative to: 'path' (relative to the file), then the file's own."""
        own = self.file.parent
        return [own / Path(self.path).expanduser(), own] if self.path else [own]

    def places(self, split: str) -> list[Path]:
        """Return the folders and lists (files) of a split. Raises DataError where they are not there."""
        if split not in self.entries:
            there = f"; it has {', '.join(self.entries)}" if self.entries else ""
            raise DataError(
                f"data file {self.file} has no {split!r}: name its folder of images there, or another "
                f"split{there}"
            )
        return [self._place(split, entry) for entry in self.entries[split]]

    def has(self, split: str) -> bool:
        """Return whether the data set has a split."""
        named = self.entries[split]
        return named != ALWAYS_NAMED.get(split) or any(map(os.path.isdir, self._tried(*named)))

    def _tried(self, entry: str) -> list[Path]:
        # Roboflow's files say ../train/images where train/images is meant, as Ultralytics' trainer allows.
        texts = [entry, entry[3:]] if entry.startswith("../") else [entry]
        return [base / text for base in self.bases for text in texts]

    def _place(self, split: str, entry: str) -> Path:
        tried = self._tried(entry)
        found = next((place for place in tried if os.path.isdir(place) or os.path.isfile(place)), None)
        if found is None:
            raise DataError(
                f"data file {self.file}: {split!r} is {entry[:80]!r}, but there is no "
                f"{' and no '.join(str(p)[:200] for p in tried)}: "
                "correct it or 'path'"
            )
        if (
            os.path.isdir(found)
            and Path(os.path.abspath(found)) in Path(os.path.abspath(self.file)).parent.parents
        ):
            raise DataError(
                f"data file {self.file}: {split!r} is {found}, a folder around the data set itself: "
                f"name the folder of its images"
            )
        return found


def looks_like_yolo(file: Path) -> bool:
    """Return whether a YAML file is meant as YOLO's: by its name, or by a key at its outermost level."""
    if file.name in ("data.yaml", "dataset.yaml"):
        return True
    try:
        return re.search(rb"^(names|nc)[ \t]*:", read_small(file, MAX_YAML), re.M) is not None
    except (DataError, FileNotFoundError):  # the latter: a link that leads nowhere
        return False


def read_yolo_data(file: Path) -> YoloData:
    """Read a data.yaml. Raises DataError."""
    try:
        text = read_small(file, MAX_YAML).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"data file {file} does not exist") from error
    except UnicodeDecodeError as error:
        raise DataError(f"data file {file} is not UTF-8: save it as UTF-8") from error
    faults: list[Fault] = []
    try:
        content = parse_yaml(text, str(file), faults=faults).plain()
    except RecipeError as error:
        raise DataError(f"data file {error}") from error
    for fault in faults:
        if fault.path.split(".")[0] in FIRST:
            raise DataError(f"data file {fault}")
    if not isinstance(content, dict):
        raise DataError(
            f"data file {file} is no mapping: it needs 'train' (the folder of images) and 'names' (of "
            f"the classes)"
        )
    path = content.get("path")
    if path is not None and not isinstance(path, str):
        raise DataError(f"data file {file}: 'path' must be the folder of the data set, not {str(path)[:40]}")
    entries = {}
    for split, keys in SPLITS.items():
        key = next((key for key in keys if content.get(key) not in (None, "", [])), None)
        if key is not None:
            entries[split] = _entries(file, key, content[key])
    data = YoloData(file, path or "", _names(file, content), entries, _keypoints(content.get("kpt_shape")))
    return replace(data, entries={split: named for split, named in entries.items() if data.has(split)})


def _entries(file: Path, key: str, value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise DataError(
            f"data file {file}: {key!r} must be a folder, a .txt file or a list of these, not "
            f"{str(value)[:40]}"
        )
    return tuple(values)


def _names(file: Path, content: dict[str, Any]) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if count is not None and (type(count) is not int or count < 0):
        raise DataError(f"data file {file}: 'nc' must be the number of classes, not {str(count)[:40]}")
    if names is None and count is not None and count <= MAX_YAML:
        names = [f"class_{label}" for label in range(count)]
    if isinstance(names, dict):
        if set(names) != {str(label) for label in range(len(names))}:
            raise DataError(
                f"data file {file}: the keys of 'names' must be 0 to {len(names) - 1}, one for each class"
            )
        names = [names[str(label)] for label in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(
            f"data file {file}: 'names' must list the classes, by themselves or as 0: NAME, 1: NAME"
        )
    for label, name in enumerate(names):
        if name is None or isinstance(name, (dict, list)):
            raise DataError(
                f"data file {file}: name {label} is {str(name)[:40]}, no text: put it into quotes"
            )
    if count is not None and count != len(names):
        raise DataError(
            f"data file {file}: 'nc' is {count}, but 'names' has {len(names)}: correct one of them"
        )
    return tuple(str(name).lower() if isinstance(name, bool) else str(name) for name in names)


def _keypoints(shape: Any) -> int:
    if isinstance(shape, list) and len(shape) == 2 and all(type(v) is int and 0 < v < 10_000 for v in shape):
        return int(shape[0] * shape[1])
    return 0


def data_text(split: str, names: Sequence[str]) -> str:
    """Return a data.yaml for images/SPLIT; without 'path' everything is relative to the file."""
    rows = [f"{split}: images/{split}", "", "names:" if names else "names: []"]
    return "\n".join([*rows, *(f"  {label}: {yaml_text(name)}" for label, name in enumerate(names)), ""])


def extended_text(file: Path, split: str, names: Sequence[str]) -> str:
    """Return a data.yaml with images/SPLIT as one more split and all else as it was.

    Raises DataError where it is no data.yaml, has the split or other classes, or is relative to another
    folder.
    """
    if not os.path.isfile(file):
        raise DataError(
            f"{file.parent} is there already and not empty, but has no data.yaml: give another name"
        )
    data = read_yolo_data(file)
    if split in data.entries:
        raise DataError(
            f"{file} has a split {split!r} already: write another with --split NAME, or another folder"
        )
    if data.path:
        raise DataError(
            f"{file} has 'path' {data.path[:80]!r}, and images/{split} would be sought there: delete "
            f"it, or write another folder"
        )
    if data.names != tuple(map(yaml_name, names)):
        shown = "; ".join(
            ", ".join(some[:10]) + (", ..." if len(some) > 10 else "") for some in (data.names, tuple(names))
        )
        raise DataError(
            f"{file} has other classes than the new split ({shown}): give both the same, or "
            f"write another folder"
        )
    text = file.read_text(encoding="utf-8-sig")
    if re.match(r"\s*(\{|---|%)", text):
        raise DataError(
            f"{file} is not a plain list of 'key: value' lines, to which one could be added: write "
            f"another folder"
        )
    return f"{split}: images/{split}\n{text}"


def yaml_text(text: str) -> str:
    """Return a text in double quotes; what YAML cannot hold is replaced, see `yaml_name`."""
    return (
        '"'
        + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in yaml_name(text))
        + '"'
    )


def yaml_name(text: str) -> str:
    """Return ``text`` as a YAML file gives it back: halves of character pairs are replaced."""
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
