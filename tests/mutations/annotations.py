"""Annotation files of every format, changed, and read, filtered, checked and converted."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mutations import changes
from PIL import Image

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.conversion import convert, open_source, recognise
from densedet.core.annotations.faults import CLIPPED, box_faults
from densedet.core.annotations.filter_rules import FilterSection
from densedet.core.annotations.filters import filtered
from densedet.core.annotations.source import TableSource
from densedet.core.annotations.table import AnnotationTable
from densedet.core.data.checking import check_source
from densedet.core.data.decoding import Decoding
from densedet.core.errors import DensedetError
from densedet.core.placement import Placement
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.sources.coco import CocoSource
from densedet.plugins.sources.cvat import CVATSource
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource
from densedet.plugins.sources.labelme import LabelMeSource
from densedet.plugins.sources.sqlite import SQLiteSource
from densedet.plugins.sources.voc import VOCSource
from densedet.plugins.sources.yolo import YOLOSource

IMAGES = ("a.png", "deep/b.png", "empty.png")
WIDTH, HEIGHT = 100, 50
WRITTEN: dict[str, tuple[type[TableSource], str]] = {
    "database": (FlatBuffersSource, "x.db"),
    "sqlite": (SQLiteSource, "x.sqlite"),
    "coco": (CocoSource, "x.json"),
    "voc": (VOCSource, "voc"),
    "yolo": (YOLOSource, "yolo"),
    "labelme": (LabelMeSource, "labelme"),
    "cvat": (CVATSource, "x.xml"),
}
"""{kind: (what writes it, its name)}."""

WHERES = ("class = 'car' or width > 3", "class = 'car'", "width > 3", "x > 1 and class != 'car'", "area > 9")


def small_table() -> AnnotationTable:
    """Three images, five boxes; crowd, ignored, clipped."""
    builder = TableBuilder("mutate")
    builder.add_class(90, "toothbrush")
    builder.add_class(3, "car")
    for image_id, name in zip((9, 4, 7), IMAGES):
        builder.add_image(image_id, name, WIDTH, HEIGHT)
    for number, (image_id, label) in enumerate(((9, 90), (4, 3), (4, 90), (9, 3), (4, 3))):
        box = (number * 22, 1.5, 20, 3.25)
        crowd, ignore = number == 1, number == 2
        builder.add_box(image_id, label, box, area=60.5, crowd=crowd, ignore=ignore, id=number + 1)
    return builder.finish()


def resize(width: int, height: int) -> Placement:
    return Placement(32, 16, (32, 16))


class AnnotationKind:
    """Files of one format. corpus: a folder for the unchanged ones."""

    pieces: Sequence[str] = ()

    def __init__(self, name: str, corpus: Path) -> None:
        self.name = name
        kind, self.file = WRITTEN[name]
        self.corpus = corpus / name
        kind.write(small_table(), self.corpus / self.file)
        inside = {"voc": "voc/JPEGImages", "yolo": "yolo/images/train", "labelme": "labelme/train"}
        root = inside.get(name, "images")
        for number, image in enumerate(IMAGES):
            path = self.corpus / root / image
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (WIDTH, HEIGHT), 60 * number).save(path)
        self.files = sorted(path for path in (self.corpus / self.file).rglob("*") if path.is_file())
        self.files = self.files or [self.corpus / self.file]
        self.others = [path.read_bytes() for path in sorted(corpus.rglob("*")) if path.is_file()]
        self.components = load_plugins().components

    # -- making --------------------

    def make(self, draw: random.Random, folder: Path) -> None:
        """Copy the files into ``folder``, some of them changed."""
        shutil.copytree(self.corpus, folder, dirs_exist_ok=True)
        texts = [path for path in self.files if path.suffix != ".png"]
        path = folder / draw.choice(texts if draw.random() < 0.9 else self.files).relative_to(self.corpus)
        content = self.changed(path, draw)
        if content is not None:
            path.write_bytes(content)
        if draw.random() < (0.06 if path.is_relative_to(folder / self.file) else 0.01):
            self.replace(path, draw)

    def changed(self, path: Path, draw: random.Random) -> bytes | None:
        """Return the file's new bytes; None where it was changed in place."""
        content = path.read_bytes()
        if path.suffix == ".json" and draw.random() < 0.7:
            return changes.as_json(changes.changed_tree(json.loads(content), draw, changes.JSON_RAWS))
        if path.suffix == ".jsonl" and draw.random() < 0.7:
            lines = content.splitlines()
            at = draw.randrange(len(lines))
            lines[at] = changes.as_json(
                changes.changed_tree(json.loads(lines[at]), draw, changes.JSON_RAWS)
            ).replace(b"\n", b" ")
            return b"\n".join(lines)
        if path.suffix == ".yaml" and draw.random() < 0.7:
            return changes.as_json(changes.changed_tree(yaml.safe_load(content), draw, changes.YAML_RAWS))
        if path.suffix == ".xml" and draw.random() < 0.6:
            return changed_xml(content.decode(), draw).encode("utf-8", "surrogatepass")
        if path.suffix == ".sqlite" and draw.random() < 0.5:
            changed_rows(path, draw)
            return None
        return changes.changed_bytes(content, draw, self.others)

    def replace(self, path: Path, draw: random.Random) -> None:
        """Put something else than a file in a file's place."""
        path.unlink()
        kind = draw.randrange(6)
        if kind == 0:
            path.symlink_to(path.name)
        elif kind == 1:
            path.symlink_to("nowhere")
        elif kind == 2:
            path.mkdir()
        elif kind == 3:
            os.mkfifo(path)
        elif kind == 4:
            path.symlink_to("/dev/zero")
        else:
            path.symlink_to("..")

    # -- using --------------------

    def use(self, draw: random.Random, folder: Path) -> None:
        """Read strictly and leniently. Raises what the strict reading raises."""
        where = draw.choice(WHERES)
        rules = FilterSection(
            where=draw.choice((None, where)),
            crowd=draw.choice(("ignore", "drop", "count")),
            min_side=draw.choice((0.0, 4.0)),
            min_input_side=draw.choice((0.0, 2.0)),
            rest=draw.choice(("ignore", "drop")),
            empty=draw.choice(("keep", "drop")),
            limit=draw.choice((None, 2)),
        )
        target = WRITTEN[draw.choice(sorted(WRITTEN))]
        self._convert(folder, *target, where if draw.random() < 0.3 else None)
        source = self._source(folder)
        alone = [source.annotation(index) for index in range(min(len(source), 50))]
        sound(source.table)
        assert len(alone) == min(len(source.table), 50)
        assert len(source.sizes) == len(source)
        assert len(source.fingerprint()) == 32
        assert all(isinstance(sentence, str) for sentence in source.invalid())
        check_source(source, resize=resize, decoding=Decoding("grey"), decode_images=draw.random() < 0.05)
        chosen = filtered(source, rules, classes=draw.choice((None, ("car",))), resize=resize)
        for index in range(min(len(chosen), 50)):
            chosen.annotation(index)

    def _source(self, folder: Path) -> TableSource:
        path = folder / self.file
        return open_source(recognise(path, self.components, name=self.format), self.components)

    @property
    def format(self) -> str:
        return {"database": "flatbuffers", "sqlite": "sqlite"}.get(self.name, self.name)

    def _convert(self, folder: Path, kind: type[TableSource], name: str, where: str | None) -> None:
        """Convert to another format, and read what was written."""
        try:
            source = self._source(folder)
            report = convert(source, kind, folder / "out" / name, where=where)
        except DensedetError:
            return
        sound(source.table)
        spec: dict[str, Any] = {"annotations": str(folder / "out" / name), "images": str(folder)}
        if kind is YOLOSource:
            spec = {"root": str(folder / "out" / name)}
        elif kind is VOCSource:
            spec = {"annotations": str(folder / "out" / name / "Annotations"), "images": str(folder)}
        elif kind is LabelMeSource:
            spec = {"annotations": str(folder / "out" / name / "train"), "images": str(folder)}
        if report.images:
            again = kind(**spec)
            sound(again.table)
            assert (len(again.table), len(again.table.labels)) == (report.images, report.boxes), kind


def changed_xml(text: str, draw: random.Random) -> str:
    """Change a value, an element or the head of an XML file."""
    kind = draw.randrange(6)
    values = list(re.finditer(r">([^<>]+)<", text))
    found = draw.choice(values)
    new = draw.choice(
        (*map(str, changes.SCALARS), *changes.TEXTS, *changes.JSON_RAWS[:9], "1_0", "&#0;", "&lt;")
    )
    if kind == 0:
        declarations = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "x" * 10}">' for i in range(10))
        bomb = draw.choice((declarations, '<!ENTITY e9 SYSTEM "file:///etc/hostname">', '<!ENTITY % e9 "">'))
        text = text[: found.start(1)] + "&e9;" + text[found.end(1) :]
        return f"<!DOCTYPE annotation [{bomb}]>{text}"
    if kind == 1:
        depth = draw.choice((10, 1000, 100_000))
        start = "<object>" if "<object>" in text else "<labels>"
        return text.replace(start, start + "<part>" * depth + "</part>" * draw.choice((0, depth)), 1)
    if kind == 2:
        elements = list(re.finditer(r"<(\w+)[ >].*?</\1>|<coco.*?/>", text, re.DOTALL))
        one, other = draw.choice(elements), draw.choice(elements)
        return text[: one.start()] + draw.choice(("", other[0] * draw.choice((1, 500)))) + text[one.end() :]
    if kind == 3:
        attributes = list(re.finditer(r'="([^"]*)"', text))
        found = draw.choice(attributes) if attributes else found
        new = new.replace('"', "")
    if kind == 4:
        tags = list(re.finditer(r"</?(\w+)", text))
        found = draw.choice(tags)
        new = draw.choice(("coco", "object", "name", "x:y", "1"))
    return text[: found.start(1)] + new + text[found.end(1) :]


VALUES = ("NULL", "-1", "0", "1e999", "-1e308", "9223372036854775807", "-9223372036854775808", "'x'", "x'ff'")
VALUES += ("''", "'../secret.jpg'", "CAST(x'ff' AS TEXT)", "zeroblob(100000)", "1.5", "2", "70000", "char(0)")
VALUES += ("CAST(x'eda080' AS TEXT)", "printf('%.*c', 300000, 'a')", "'1'", "'/etc/hostname'", "1e-320")
BLOATED = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
STATEMENTS = (
    *(
        "DROP TABLE {table}",
        "DELETE FROM {table}",
        "ALTER TABLE {table} RENAME TO y",
        "PRAGMA user_version = 2",
    ),
    *("ALTER TABLE {table} RENAME COLUMN {column} TO y", "ALTER TABLE {table} ADD COLUMN y DEFAULT {value}"),
    *("ALTER TABLE {table} ADD COLUMN y AS (randomblob(1000000000))", "PRAGMA application_id = 1"),
    "ALTER TABLE {table} RENAME TO y; CREATE VIEW {table} AS SELECT * FROM y",
    "ALTER TABLE {table} RENAME TO y; CREATE TABLE {table} AS SELECT * FROM y, y AS z",
    "ALTER TABLE boxes RENAME TO y; CREATE VIEW boxes AS " + BLOATED + " i AS box, 1 AS image_row FROM n",
    "CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM boxes; END",
    "INSERT INTO boxes SELECT box + 9, image_row, label, annotation_id, x, y, w, h, area, crowd, ignored "
    "FROM boxes",
    "INSERT INTO images SELECT image + 9, image_id, file_name, width, height FROM images",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = {value} WHERE name = '{table}'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 2 WHERE name = '{table}'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'INTEGER', 'TEXT')",
    *("UPDATE {table} SET {column} = {value}",) * 8,
    *("UPDATE {table} SET {column} = {value} WHERE rowid = (SELECT max(rowid) FROM {table})",) * 8,
    *("UPDATE {table} SET {column} = -{column}", "UPDATE {table} SET {column} = {column} * 1e200"),
)
TABLES = {
    "classes": ("label", "category_id", "class"),
    "images": ("image", "image_id", "file_name", "width", "height"),
    "boxes": (
        "box",
        "image_row",
        "label",
        "annotation_id",
        *("x", "y", "w", "h", "area", "crowd", "ignored"),
    ),
}


def changed_rows(path: Path, draw: random.Random) -> None:
    """Change a database by SQL."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for _ in range(draw.choice((1, 1, 2))):
            table = draw.choice(sorted(TABLES))
            column, value = draw.choice(TABLES[table]), draw.choice(VALUES)
            statement = draw.choice(STATEMENTS).format(table=table, column=column, value=value)
            try:
                connection.executescript(statement)
            except sqlite3.Error:
                continue
    finally:
        connection.close()


def sound(found: AnnotationTable) -> None:
    """Check what holds for every table that was read."""
    boxes = len(found.xywh)
    assert boxes == len(found.labels) == len(found.flags) == len(found.areas) == len(found.ids)
    assert boxes == found.offsets[-1]
    assert (np.diff(found.offsets.astype(np.int64)) >= 0).all()
    assert not boxes or int(found.labels.max()) < len(found.classes)
    assert np.isfinite(found.areas).all()
    assert set(np.unique(box_faults(found.xywh, found.sizes, found.owners())).tolist()) <= {0, CLIPPED}
    for index in range(min(len(found), 50)):
        name = found.name(index)
        parts = name.replace("\\", "/").split("/")
        assert "\0" not in name and not name.startswith(("/", "\\")) and ".." not in parts, name
        corners = found.objects(index).boxes
        assert (corners[:, 2:] > corners[:, :2]).all()
        assert (corners >= 0).all()
