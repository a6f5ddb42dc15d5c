"""Annotation databases written and read, damaged in every column, and from before."""

import ast
import base64
import re
import struct
import zlib
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.faults import Faults
from densedet.core.annotations.table import AnnotationTable, equal_tables
from densedet.core.errors import DataError
from densedet.plugins.sources import _annotations_generated as generated
from densedet.plugins.sources import _flatbuffers_file as flatbuffers_file
from densedet.plugins.sources._flatbuffers_file import COLUMNS, Database, write_database

SCHEMA = Path(flatbuffers_file.__file__).with_name("annotations.fbs")
GENERATED = SCHEMA.with_name("_annotations_generated.py")


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


def camel(name: str) -> str:
    """A field of the schema as the generated code calls it."""
    return "".join(word.title() for word in name.split("_"))


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "x.db"
    write_database(table(), path)
    return path


@pytest.mark.parametrize("texts", [False, True])
def test_what_is_written_is_read(tmp_path, texts):
    path = tmp_path / "x.db"
    write_database(table(texts), path)
    opened = Database(path)
    opened.checked(Faults())
    assert equal_tables(opened.table, table(texts)) == []
    assert opened.table.image_id(1) == ("7" if texts else 1 << 40)
    assert [p.name for p in tmp_path.iterdir()] == ["x.db"]


def test_columns_are_views_of_the_file(written):
    for name in ("names", "sizes", "xywh", "labels", "flags", "areas", "ids"):
        column = getattr(Database(written).table, name)
        assert not column.flags.owndata and not column.flags.writeable, name


def test_the_generated_code_is_of_this_schema():
    """Names, order and types of the fields."""
    rows = [line.split("//")[0].strip() for line in SCHEMA.read_text().splitlines()]
    rows = rows[rows.index("table Annotations {") + 1 : rows.index("}")]
    fields = [tuple(part.strip() for part in row.rstrip(";").split(":")) for row in rows]
    names = [camel(name) for name, _ in fields]
    added = [
        node.name.removeprefix("AnnotationsAdd")
        for node in ast.parse(GENERATED.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("AnnotationsAdd")
    ]
    assert added == names
    types = {
        "[ubyte]": "u1",
        "[int64]": "<i8",
        "[uint32]": "<u4",
        "[int32]": "<i4",
        "[double]": "<f8",
        "[uint16]": "<u2",
    }
    numbers = {name: types[kind] for name, (_, kind) in zip(names, fields) if kind in types}
    assert numbers == {"Fingerprint": "u1", **COLUMNS}


BEFORE = {
    False: (
        "e7be59e8033b340eda55a69ccdfd1ed0",
        "c-pgIU|?`@aSZ`d3`z_R3@i*B3_J`13?e|j41)rL3WElN4ub)M34;ZL4Fdw`05KyFgTw-WxCV$PK;>2d@fjd~0K|WQ"
        "SOBPS3J@;<;w3<Qf)S!l0EnOOi+sUsZNhgeblIG<f8{QK#F>DY1BgLx;09vH(vo}~h4iBQ!}G!XlKlLV427hk(&7vT"
        "nEJo}As`CLjm$vIiNpsv_%~D?h${!gNeYMe=w%h8r=+G9=%*IxCxSSsxdkPadIfpu5N#|_?I1UaLiK?F8xW@eu@Mlb"
        "Lg_RpjjWFm%7*a;7;u3|2MF!yFl#0Ve6)wqj1FmFzy%c-gs58(237yT9zvTy`5aJnJE8hd+C%g|vo{8V%k~KOF~V(U"
        "0rQxcVeVw;*z9oj3<$_U&GmD5SS7N~{oyINerBjrRy04eL1_RodufR",
    ),
    True: (
        "0c2b1bd1fd637e46f2b63995dd95bb71",
        "c-pgIU|?`@aSZ`d3`z_R3@i*B3_J`13?d8?3^EJ~3@Qv73_1)33?>W~3^oi1paaB=KnxNK0OBP;yaR|!p!6Le{s6>0"
        "Kt&2byab3h0Pz+ezQG7FLjWYNEq(ECa-G|!ZI)B-PTgGy5@!Np4j>i*Vs0RIEG@~`QAjV!KRh4IFUij@$xuitDlN_c"
        "o5Kt;2Wp-ORDW?Ils1RZnNa%ge+Y<TzyxwYoTPAgk6u<mdP-_)fqrU{ej<pInp;p(saKGf4pGMfRS$BbC{!N^umN!j"
        "5E}t;DwIxx(#ZN4p==mmfB_eXbb!#F4zp&0z(;!s&FGK@23$~aL5R8qVNmrS>>;!Xl+OWGw-c)Wq&-CcGkaq&xNMJb"
        "A0ym$7BG*A8Rkxgj?E5d&wzj&)LcJ@hgBl$+#jBT>t}{4WkvHd8<YkB49jE~",
    ),
}
"""`table` as densedet wrote it before it used the flatbuffers package, with the columns in another order: the
fingerprint, and the file compressed by zlib in base 85."""


@pytest.mark.parametrize("texts", [False, True])
def test_files_written_before_stay_readable(tmp_path, texts):
    fingerprint, packed = BEFORE[texts]
    (tmp_path / "x.db").write_bytes(zlib.decompress(base64.b85decode(packed)))
    opened = Database(tmp_path / "x.db")
    opened.checked(Faults())
    assert equal_tables(opened.table, table(texts)) == []
    assert opened.fingerprint == fingerprint


def test_equal_content_has_an_equal_fingerprint(tmp_path):
    write_database(table(), tmp_path / "a.db")
    write_database(table(), tmp_path / "b.db")
    other = table()
    other.areas[0] += 1
    write_database(other, tmp_path / "c.db")
    prints = [Database(tmp_path / f"{n}.db").fingerprint for n in "abc"]
    assert prints[0] == prints[1] != prints[2]


def at(path: Path, column: str, position: int, value: bytes) -> None:
    """Overwrite entry bytes of a column."""
    content = bytearray(path.read_bytes())
    fields = generated.Annotations.GetRootAs(content)
    view = getattr(fields, f"{camel(column)}AsNumpy")()
    start = view.ctypes.data - np.frombuffer(content, np.uint8).ctypes.data
    del fields, view
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
        ("names", 0, b"../b", "leaves the image folder"),
        ("names", 0, b"/", "leaves the image folder"),
        ("names", 0, b"C:", "leaves the image folder"),
        ("names", 1, b"\0", "NUL byte"),
        ("names", 0, b"\xff", "file names are not UTF-8"),
    ],
)
def test_a_wrong_value_is_refused_at_the_first_use(written, column, position, value, sentence):
    at(written, column, position, value)
    opened = Database(written)
    with pytest.raises(DataError, match=sentence):
        opened.checked(Faults())


@pytest.mark.parametrize(
    ("position", "value", "kind", "sentence"),
    [
        (0, float("inf"), "not_finite", r"annotation 3 of image 9: box \[inf, 0, 100, 50\]"),
        (2, 0.0, "flat", "has no width or height above 0 and was dropped"),
        (3, -1.0, "inverted", "is drawn from right to left or upwards"),
        (0, 100.0, "outside", "lies outside its image of 100 x 50"),
    ],
)
def test_a_wrong_box_is_left_out_as_from_any_other_format(written, position, value, kind, sentence):
    at(written, "boxes", 8 * position, struct.pack("<d", value))
    faults = Faults()
    found = Database(written).checked(faults)
    assert found.faults is faults
    assert faults.counts == {kind: 1, "clipped": 1}  # another box leaves its image
    assert re.search(sentence, faults.sentences[0])
    assert found.xywh.tolist() == table().xywh[1:].tolist()
    assert found.offsets.tolist() == [max(offset - 1, 0) for offset in table().offsets.tolist()]


def test_other_files_are_refused(tmp_path, written):
    good = written.read_bytes()
    cases = {
        b"": "is empty",
        b"{}": "does not carry the mark DDET",
        good[:4] + b"JSON" + good[8:]: "does not carry the mark",
        good[:-1]: "damaged or cut short",
        good[:-20]: "damaged or cut short",
        good[:30]: "damaged or cut short",
        struct.pack("<I", 2**32 - 1) + good[4:]: "damaged or cut short",
    }
    for content, sentence in cases.items():
        (tmp_path / "y.db").write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            Database(tmp_path / "y.db")


def test_texts_that_share_their_bytes_do_not_fill_the_memory(tmp_path):
    """300 entries of 1,000 bytes in a file of a few thousand."""
    builder = flatbuffers.Builder()
    name = builder.CreateString("x" * 1000)
    builder.StartVector(4, 300, 4)
    for _ in range(300):
        builder.PrependUOffsetTRelative(name)
    texts = builder.EndVector()
    offsets = builder.CreateNumpyVector(np.zeros(301, np.uint32))
    fingerprint = builder.CreateNumpyVector(np.zeros(16, np.uint8))
    generated.AnnotationsStart(builder)
    generated.AnnotationsAddVersion(builder, 1)
    generated.AnnotationsAddFingerprint(builder, fingerprint)
    generated.AnnotationsAddImageTexts(builder, texts)
    generated.AnnotationsAddOffsets(builder, offsets)
    builder.Finish(generated.AnnotationsEnd(builder), b"DDET")
    (tmp_path / "x.db").write_bytes(builder.Output())
    with pytest.raises(DataError, match="the entries of ImageTexts overlap"):
        Database(tmp_path / "x.db")


def test_another_version_is_refused(tmp_path, written, monkeypatch):
    monkeypatch.setattr(flatbuffers_file, "VERSION", 2)
    with pytest.raises(DataError, match="is of version 1, this densedet reads version 2"):
        Database(written)


def test_limits_of_the_format(tmp_path, monkeypatch):
    monkeypatch.setattr(flatbuffers_file, "MAX_BYTES", 300)
    with pytest.raises(DataError, match="above FlatBuffers' 2 GB: use .sqlite"):
        write_database(table(), tmp_path / "x.db")
    assert list(tmp_path.iterdir()) == []
