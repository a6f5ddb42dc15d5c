"""The reader against flatc's: generated/annotations_generated.py is ``flatc --python --gen-onefile
plugins/sources/annotations.fbs``."""

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.table import AnnotationTable, equal_tables
from densedet.core.errors import DataError
from densedet.plugins.sources import _flatbuffers_file as flatbuffers_file
from densedet.plugins.sources._flatbuffers_file import COLUMNS, Opened, write_database

GENERATED = Path(__file__).with_name("generated") / "annotations_generated.py"
SCHEMA = Path(flatbuffers_file.__file__).with_name("annotations.fbs")


def table(texts: bool = False) -> AnnotationTable:
    builder = TableBuilder("memory")
    builder.add_class(90, "tooth brush")
    builder.add_class(-3, "Auto, groß")
    ids = ("a", "7", 7) if texts else (9, 1 << 40, -5)
    for number, (image_id, name) in enumerate(zip(ids, ("b ü.jpg", "deep/er/a.jpg", "empty.png"))):
        builder.add_image(image_id, name, 100 + number, 50)
    builder.add_box(ids[1], 90, (1.1, 2.2, 3.3, 4.4), area=7.7, id=5)
    builder.add_box(ids[0], -3, (0, 0, 100, 50), crowd=True, id=3)
    builder.add_box(ids[1], -3, (90.5, 1, 20, 3), ignore=True, id=4)
    builder.add_box(ids[1], -3, (0.1, 0.2, 0.7, 0.3), crowd=True, ignore=True)
    return builder.finish()


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "x.db"
    write_database(table(), path)
    return path


@pytest.mark.parametrize("texts", [False, True])
def test_what_is_written_is_read(tmp_path, texts):
    path = tmp_path / "x.db"
    write_database(table(texts), path)
    opened = Opened(path)
    opened.check()
    assert equal_tables(opened.table, table(texts)) == []
    assert opened.table.image_id(1) == ("7" if texts else 1 << 40)
    assert [p.name for p in tmp_path.iterdir()] == ["x.db"]


def test_columns_are_views_of_the_file(written):
    for name in ("names", "sizes", "offsets", "xywh", "labels", "flags", "areas", "ids"):
        column = getattr(Opened(written).table, name)
        assert not column.flags.owndata and not column.flags.writeable, name


def test_flatcs_own_reader_sees_the_same(written):
    spec = importlib.util.spec_from_file_location("annotations_generated", GENERATED)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    content = written.read_bytes()
    assert module.Annotations.AnnotationsBufferHasIdentifier(content, 0)
    theirs, ours = module.Annotations.GetRootAs(content, 0), Opened(written).table
    assert theirs.Version() == 1
    assert bytes(theirs.FingerprintAsNumpy()).hex() == Opened(written).fingerprint
    assert (
        tuple(theirs.ClassNames(i).decode() for i in range(theirs.ClassNamesLength()))
        == ours.classes
        == ("Auto, groß", "tooth brush")
    )
    for method, column in {
        "CategoryIds": np.array(ours.category_ids),
        "ImageIds": ours.image_ids,
        "Names": ours.names,
        "NameOffsets": ours.name_offsets,
        "Sizes": ours.sizes.reshape(-1),
        "Offsets": ours.offsets,
        "Boxes": ours.xywh.reshape(-1),
        "Labels": ours.labels,
        "Flags": ours.flags,
        "Areas": ours.areas,
        "AnnotationIds": ours.ids,
    }.items():
        assert np.array_equal(getattr(theirs, method + "AsNumpy")(), column), method
    assert theirs.ImageTextsIsNone()


def test_a_text_column_is_flatcs_too(tmp_path):
    write_database(table(texts=True), tmp_path / "x.db")
    spec = importlib.util.spec_from_file_location("annotations_generated", GENERATED)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs = module.Annotations.GetRootAs((tmp_path / "x.db").read_bytes(), 0)
    assert [theirs.ImageTexts(i).decode() for i in range(theirs.ImageTextsLength())] == ["sa", "s7", "i7"]


def test_columns_follow_the_schema():
    rows = [line.split("//")[0].strip() for line in SCHEMA.read_text().splitlines()]
    table = rows[rows.index("table Annotations {") + 1 : rows.index("}")]
    types = {
        "[ubyte]": "u1",
        "[int64]": "<i8",
        "[uint32]": "<u4",
        "uint32": "<u4",
        "[int32]": "<i4",
        "[double]": "<f8",
        "[uint16]": "<u2",
    }
    fields = [tuple(part.strip() for part in row.rstrip(";").split(":")) for row in table]
    assert [(c.name, c.dtype) for c in COLUMNS] == [(name, types.get(kind)) for name, kind in fields]


def test_equal_content_has_an_equal_fingerprint(tmp_path):
    write_database(table(), tmp_path / "a.db")
    write_database(table(), tmp_path / "b.db")
    other = table()
    other.areas[0] += 1
    write_database(other, tmp_path / "c.db")
    prints = [Opened(tmp_path / f"{n}.db").fingerprint for n in "abc"]
    assert prints[0] == prints[1] != prints[2]


def at(path: Path, column: str, position: int, value: bytes) -> None:
    """Overwrite entry bytes of a column."""
    opened = Opened(path)
    start, _ = opened._span(column, 1)
    content = bytearray(path.read_bytes())
    content[start + position : start + position + len(value)] = value
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("column", "position", "value", "sentence"),
    [
        ("offsets", 4, struct.pack("<I", 9), "offsets does not ascend"),
        ("name_offsets", 4, struct.pack("<I", 2**32 - 1), "name_offsets does not ascend"),
        ("sizes", 0, struct.pack("<i", 0), "width or height is not within"),
        ("sizes", 0, struct.pack("<i", -7), "width or height is not within"),
        ("image_ids", 0, struct.pack("<q", -5), "image id occurs twice"),
        ("labels", 0, struct.pack("<H", 2), "label is 2 with 2 classes"),
        ("flags", 0, b"\x04", "flag is none of"),
        ("areas", 0, struct.pack("<d", float("nan")), "area is negative or not finite"),
        ("areas", 0, struct.pack("<d", -1.0), "area is negative or not finite"),
        (
            "boxes",
            0,
            struct.pack("<d", float("inf")),
            r"box \[inf, 0, 100, 50\].* annotation 3 of image 9, is not finite",
        ),
        ("boxes", 16, struct.pack("<d", 0.0), "has no width or height above 0"),
        ("boxes", 0, struct.pack("<d", 100.0), "lies outside its image of 100 x 50"),
        ("names", 0, b"../b", "leaves the image folder"),
        ("names", 0, b"/", "leaves the image folder"),
        ("names", 0, b"C:", "leaves the image folder"),
        ("names", 1, b"\0", "NUL byte"),
        ("names", 0, b"\xff", "file names are not UTF-8"),
    ],
)
def test_a_wrong_value_is_refused_at_the_first_use(written, column, position, value, sentence):
    at(written, column, position, value)
    opened = Opened(written)
    with pytest.raises(DataError, match=sentence):
        opened.check()


def test_other_files_are_refused(tmp_path, written):
    good = written.read_bytes()
    cases = {
        b"": "is empty",
        b"{}": "does not carry the mark DDET",
        good[:4] + b"JSON" + good[8:]: "does not carry the mark",
        good[:-20]: "damaged or cut short",
        good[:30]: "damaged or cut short",
        struct.pack("<I", 2**32 - 1) + good[4:]: "damaged or cut short",
    }
    for content, sentence in cases.items():
        (tmp_path / "y.db").write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            Opened(tmp_path / "y.db")


def test_another_version_is_refused(tmp_path, written, monkeypatch):
    monkeypatch.setattr(flatbuffers_file, "VERSION", 2)
    with pytest.raises(DataError, match="is of version 1, this densedet reads version 2"):
        Opened(written)


def test_limits_of_the_format(tmp_path, monkeypatch):
    monkeypatch.setattr(flatbuffers_file, "MAX_BYTES", 300)
    with pytest.raises(DataError, match="above FlatBuffers' 2 GB: use .sqlite"):
        write_database(table(), tmp_path / "x.db")
    assert list(tmp_path.iterdir()) == []
