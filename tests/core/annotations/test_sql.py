import gc
import os
import pickle
import sqlite3
import sys
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from densedet.core.annotations import sql as annotation_sql
from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.faults import Faults
from densedet.core.annotations.sql import database_uri
from densedet.core.annotations.where import WhereError, where_masks
from densedet.core.errors import DataError
from densedet.plugins.sources.sqlite import SQLiteSource


@pytest.fixture
def file(tmp_path):
    builder = TableBuilder("memory")
    builder.add_class(1, "person")
    builder.add_class(3, "car")
    for index in range(3):
        builder.add_image(index, f"{index}.jpg", 100, 50)
        builder.add_box(index, 1, (index, 0, 5, 5), id=index)
    builder.add_box(0, 3, (0, 0, 9, 9), id=7)
    SQLiteSource.write(builder.finish(), tmp_path / "x #1 ?%.sqlite")
    return tmp_path / "x #1 ?%.sqlite"


def opened(file):
    return SQLiteSource(annotations=str(file), images=str(file.parent))


def read_all(source):
    for index in range(len(source)):
        source.annotation(index)
        source.image(index)


def change(file, script):
    with sqlite3.connect(file) as connection:
        connection.executescript(script)
    connection.close()
    return opened(file)


def test_a_query_without_end_is_stopped(file, monkeypatch):
    monkeypatch.setattr(annotation_sql, "SPARE_STEPS", 100_000)
    monkeypatch.setattr(annotation_sql, "STEPS_PER_ROW", 0)
    many = (
        "(select count(*) from boxes a, boxes b, boxes c, boxes d, boxes e, boxes f, boxes g, boxes "
        "h, boxes i, boxes j, boxes k, boxes l) > 1"
    )
    with pytest.raises(WhereError, match="it takes too many steps"):
        where_masks(opened(file), many)


def test_the_budget_is_each_statement_s_own(file, monkeypatch):
    monkeypatch.setattr(annotation_sql, "STEPS", 10)
    monkeypatch.setattr(annotation_sql, "SPARE_STEPS", 5_000)
    monkeypatch.setattr(annotation_sql, "STEPS_PER_ROW", 0)
    source = opened(file)
    for _ in range(300):  # an image's two queries take some hundred steps
        source.annotation(0)
    with pytest.raises(WhereError, match="it takes too many steps"):
        where_masks(source, "(select count(*) from boxes a, boxes b, boxes c, boxes d, boxes e, boxes f) > 1")


def test_columns_and_rows_of_ones_own(file):
    source = change(
        file,
        "ALTER TABLE images ADD COLUMN night; UPDATE images SET night = 1 WHERE image = 2; DELETE FROM "
        "images WHERE image = 1;"
        "DELETE FROM boxes WHERE image_row = 1",
    )
    assert len(source) == 2
    assert [source.annotation(i).image_id for i in range(2)] == [0, 2]
    images, boxes = source.where_masks("night")
    assert images.tolist() == [False, True]
    assert boxes.tolist() == [False, False, True]


def test_each_image_alone_is_as_in_the_table(file):
    one, other = opened(file), opened(file)
    len(other.table)
    for index in range(3):
        first, second = one.annotation(index), other.annotation(index)
        assert one._table is None
        for name in ("boxes", "labels", "ignore", "crowd", "area", "xywh"):
            assert getattr(first, name).tolist() == getattr(second, name).tolist()


PLAIN = (
    "DROP VIEW objects; CREATE TABLE b AS SELECT * FROM boxes; DROP TABLE boxes; ALTER TABLE b "
    "RENAME TO boxes;"
)
"""Without constraints."""


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("UPDATE boxes SET x = 'abc'", "table boxes, row 0: x is 'abc', not a number"),
        ("UPDATE boxes SET y = 'nan' WHERE box = 1", "table boxes, row 1: y is 'nan', not a number"),
        ("UPDATE boxes SET w = x'3132'", "table boxes, row 0: w is a blob of 2 bytes, not a number"),
        ("UPDATE boxes SET area = CAST(x'3ff0' AS TEXT)", "area is a text that is not UTF-8"),
        (PLAIN + "UPDATE boxes SET h = NULL WHERE box = 2", "table boxes, row 2: h is NULL, not a number"),
        (PLAIN + "UPDATE boxes SET area = NULL", "area is NULL, not a number"),
        ("UPDATE boxes SET label = 0.5", "table boxes, row 0: label is 0.5, not a whole number"),
        ("UPDATE boxes SET annotation_id = 'x'", "annotation_id is 'x', not a whole number"),
        ("UPDATE boxes SET crowd = 0.5", "crowd is 0.5, not 0 or 1"),
        ("UPDATE boxes SET ignored = 2", "ignored is 2, not 0 or 1"),
        ("UPDATE boxes SET crowd = x''", "crowd is a blob of 0 bytes, not 0 or 1"),
        ("UPDATE images SET file_name = x'61'", "file_name is a blob of 1 bytes, not a text"),
        ("UPDATE images SET file_name = CAST(x'ff' AS TEXT)", "file_name is a text that is not UTF-8"),
        (
            "UPDATE classes SET class = x'61' WHERE label = 1",
            "table classes, row 1: class is a blob of 1 bytes, not a text",
        ),
        ("UPDATE boxes SET label = 9", "label 9 is not in table classes"),
        ("UPDATE images SET file_name = '../x.jpg'", "leaves the image folder"),
        ("UPDATE images SET width = -4", "not a whole number of pixels above 0"),
        ("UPDATE images SET height = 'x'", "not a whole number of pixels above 0"),
        ("UPDATE images SET image_id = 1.5", "not a whole number or a text"),
        (
            "UPDATE classes SET category_id = 'x'",
            "table classes, row 0: category_id is 'x', not a whole number",
        ),
        ("PRAGMA user_version = 9", "is of version 9, this densedet reads version 1"),
        ("PRAGMA application_id = 1", "is a SQLite file of another program"),
        ("ALTER TABLE boxes RENAME TO other", "has no table 'boxes'"),
        ("DROP VIEW objects; ALTER TABLE images RENAME COLUMN width TO breadth", "has no column 'width'"),
        (
            "DROP VIEW objects; DROP TABLE images; CREATE VIEW images AS WITH RECURSIVE c(image) AS "
            "(SELECT 1 UNION ALL SELECT image + 1 FROM c) "
            "SELECT image, image AS image_id, 'a' AS file_name, 1 AS width, 1 AS height FROM c",
            "has no table 'images'",
        ),
    ],
)
def test_what_a_database_may_not_hold(file, script, sentence):
    source = change(file, script)
    with pytest.raises(DataError, match=sentence):
        read_all(source)
    with pytest.raises(DataError, match=sentence):
        len(opened(file).table)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("UPDATE images SET image_id = 1", "image_id 1 occurs twice"),
        ("UPDATE boxes SET image_row = 99", "which is not in table images"),
        ("DELETE FROM images", "which is not in table images"),
    ],
)
def test_what_only_the_whole_shows(file, script, sentence):
    source = change(file, script)
    with pytest.raises(DataError, match=sentence):
        len(source.table)


def test_boxes_that_cannot_be_are_dropped(file):
    source = change(
        file,
        "UPDATE boxes SET w = -1 WHERE annotation_id = 7; UPDATE boxes SET x = 98 WHERE annotation_id = 1",
    )
    assert source.annotation(0).boxes.tolist() == [[0, 0, 5, 5]]
    assert source.annotation(1).boxes.tolist() == [[98, 0, 100, 5]]
    sentences = (len(source.table), source.invalid())[1]
    assert [s.split(": ", 1)[1].split(" of image")[0] for s in sentences] == ["annotation 7", "annotation 1"]
    assert (source.table.faults.dropped_boxes, source.table.faults.clipped_boxes) == (1, 1)


def test_other_files(tmp_path, file):
    for content, sentence in (
        (b"", "is no SQLite file"),
        (b"hello", "is no SQLite file"),
        (file.read_bytes()[:3000], "damaged|malformed|cannot be used"),
    ):
        (tmp_path / "y.sqlite").write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            len(opened(tmp_path / "y.sqlite"))
    sqlite3.connect(tmp_path / "z.sqlite").executescript("CREATE TABLE a(b)")
    with pytest.raises(DataError, match="another program"):
        len(opened(tmp_path / "z.sqlite"))


def test_changes_that_are_not_in_the_file_yet(file):
    file.with_name(file.name + "-wal").write_bytes(b"x")
    with pytest.raises(DataError, match="holds changes that are not in"):
        len(opened(file))


def test_nothing_can_be_written(file):
    connection = opened(file)._open()
    before = file.read_bytes()
    for statement in (
        "DELETE FROM boxes",
        "CREATE TABLE a(b)",
        "ATTACH ':memory:' AS m",
        "PRAGMA writable_schema = ON",
        "INSERT INTO classes VALUES (9, 9, 'x')",
    ):
        with pytest.raises(sqlite3.DatabaseError):
            connection.execute(statement)
    assert file.read_bytes() == before


def test_pickled(file):
    source = opened(file)
    source.annotation(0)
    assert pickle.loads(pickle.dumps(source)).annotation(0).labels.tolist() == [0, 1]


def test_what_was_left_out_stays_out_of_a_pickle(file):
    source = change(file, "UPDATE images SET width = 0 WHERE image = 0")
    source.faults = Faults(strict=False)
    assert [source.annotation(i).image_id for i in range(len(source))] == [1, 2]
    other = pickle.loads(pickle.dumps(source))
    assert [other.annotation(i).image_id for i in range(len(other))] == [1, 2]
    assert other.where_masks("image_id = 2")[0].tolist() == [False, True]


def in_a_child(question):
    """What ``question`` answers in a forked process."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writer, b"1" if question() else b"0")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    answer = os.read(reader, 1)
    os.close(reader)
    return answer == b"1"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_forked_child_leaves_its_parent_s_connection_alone(file):
    source = opened(file)
    source.annotation(0)
    ours = id(source._open())
    [descriptor] = [
        int(n)
        for n in os.listdir("/proc/self/fd")
        if os.path.realpath(f"/proc/self/fd/{n}") == str(file.resolve())
    ]

    def uses_its_own():
        return source.annotation(0).labels.tolist() == [0, 1] and id(source._open()) != ours

    def leaves_the_other_open():
        nonlocal source
        source.annotation(0)
        source = None
        gc.collect()
        return os.path.realpath(f"/proc/self/fd/{descriptor}") == str(file.resolve())

    def does_not_even_use_it():
        nonlocal source
        source = None
        gc.collect()
        return os.path.realpath(f"/proc/self/fd/{descriptor}") == str(file.resolve())

    assert in_a_child(uses_its_own)
    assert in_a_child(leaves_the_other_open)
    assert in_a_child(does_not_even_use_it)
    assert source.annotation(0).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (PurePosixPath("/home/a b/x #1?%.sqlite"), "file:///home/a%20b/x%20%231%3F%25.sqlite"),
        (PurePosixPath("/home/\udcff.sqlite"), "file:///home/%FF.sqlite"),
        (PureWindowsPath("C:\\data\\x 1.sqlite"), "file:///C:/data/x%201.sqlite"),
        (PureWindowsPath("\\\\server\\share\\x.sqlite"), "file:////server/share/x.sqlite"),
    ],
)
def test_uris(path, uri):
    if sys.platform == "win32" and "\udcff" in str(path):
        pytest.skip("file names are no bytes there")
    assert database_uri(path) == uri + "?mode=ro&immutable=1"
