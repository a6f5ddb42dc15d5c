import pickle
import sqlite3
import sys

import pytest

from densedet.core import annotation_sql
from densedet.core.annotation_where import WhereError, check_where_syntax, where_masks
from densedet.core.errors import DataError
from densedet.core.table_builder import TableBuilder
from densedet.plugins.sources.sqlite import Sqlite


@pytest.fixture
def file(tmp_path):
    builder = TableBuilder("memory")
    builder.add_class(1, "person")
    builder.add_class(3, "car")
    for index in range(3):
        builder.add_image(index, f"{index}.jpg", 100, 50)
        builder.add_box(index, 1, (index, 0, 5, 5), id=index)
    builder.add_box(0, 3, (0, 0, 9, 9), id=7)
    Sqlite.write(builder.finish(), tmp_path / "x #1 ?%.sqlite")
    return tmp_path / "x #1 ?%.sqlite"


def opened(file):
    return Sqlite(annotations=str(file), images=str(file.parent))


def read_all(source):
    for index in range(len(source)):
        source.annotation(index)
        source.image(index)


def change(file, script):
    with sqlite3.connect(file) as connection:
        connection.executescript(script)
    connection.close()
    return opened(file)


@pytest.mark.parametrize(
    "where", ["width > 500 and class in ('person','car')", "widht > 3", "x > 1 -- why", "(1)", "w between 1 and 2", "night = 1"]
)
def test_expressions(where):
    check_where_syntax(where)


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("", "is empty"),
        ("width >", "ends too early"),
        ("1) union select 1, 2 from images --", "character 2"),
        ("1) or (1", "character 2"),
        ("select 1", "character 1"),
        ("1; drop table images", "more than one statement"),
        ("x > ?", "have no values here"),
        ("x > :a", "have no values here"),
        ("1, 2", "."),
        ("*", "."),
        ("1 limit 3", "."),
        ("/* x", "incomplete"),
        ("load_extension('x')", "only columns and the functions"),
        ("randomblob(1000000000) is null", "only columns and the functions"),
        ("(with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c) > 1", "not from another query"),
        ("exists (select 1 from sqlite_master)", "only columns and the functions"),
        ("exists (select 1 from pragma_database_list)", "."),
        ("1" + " + 1" * 5000, "."),
        ("a" * 200_000, "the limit is"),
    ],
)
def test_what_is_none(where, sentence):
    with pytest.raises(WhereError, match=sentence):
        check_where_syntax(where)


def test_a_query_without_end_is_stopped(file, monkeypatch):
    monkeypatch.setattr(annotation_sql, "SPARE_STEPS", 100_000)
    monkeypatch.setattr(annotation_sql, "STEPS_PER_ROW", 0)
    many = "(select count(*) from boxes a, boxes b, boxes c, boxes d, boxes e, boxes f, boxes g, boxes h, boxes i, boxes j, boxes k, boxes l) > 1"
    with pytest.raises(WhereError, match="longer than any honest one"):
        where_masks(opened(file), many)


def test_columns_and_rows_of_ones_own(file):
    source = change(
        file,
        "ALTER TABLE images ADD COLUMN night; UPDATE images SET night = 1 WHERE image = 2; DELETE FROM images WHERE image = 1;"
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


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("UPDATE boxes SET x = 'abc'", "table boxes, row 0: x is 'abc', not a number"),
        ("UPDATE boxes SET label = 9", "label 9 is not in table classes"),
        ("UPDATE images SET file_name = '../x.jpg'", "leaves the image folder"),
        ("UPDATE images SET width = -4", "not a whole number of pixels above 0"),
        ("UPDATE images SET height = 'x'", "not a whole number of pixels above 0"),
        ("UPDATE images SET image_id = 1.5", "not a whole number or a text"),
        ("UPDATE classes SET category_id = 'x'", "table classes, row 0: category_id is 'x', not a whole number"),
        ("PRAGMA user_version = 9", "is of version 9, this densedet reads version 1"),
        ("PRAGMA application_id = 1", "is a SQLite file of another program"),
        ("ALTER TABLE boxes RENAME TO other", "has no table 'boxes'"),
        ("DROP VIEW objects; ALTER TABLE images RENAME COLUMN width TO breadth", "has no column 'width'"),
        (
            "DROP VIEW objects; DROP TABLE images; CREATE VIEW images AS WITH RECURSIVE c(image) AS (SELECT 1 UNION ALL SELECT image + 1 FROM c) "
            "SELECT image, image AS image_id, 'a' AS file_name, 1 AS width, 1 AS height FROM c",
            "has no table 'images'",
        ),
    ],
)
def test_what_a_database_may_not_hold(file, script, sentence):
    source = change(file, script)
    with pytest.raises(DataError, match=sentence):
        read_all(source)


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
    source = change(file, "UPDATE boxes SET w = -1 WHERE annotation_id = 7; UPDATE boxes SET x = 98 WHERE annotation_id = 1")
    assert source.annotation(0).boxes.tolist() == [[0, 0, 5, 5]]
    assert source.annotation(1).boxes.tolist() == [[98, 0, 100, 5]]
    sentences = (len(source.table), source.invalid())[1]
    assert [s.split(": ", 1)[1].split(" of image")[0] for s in sentences] == ["annotation 7", "annotation 1"]
    assert (source.table.dropped, source.table.clipped) == (1, 1)


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


def test_pickled_and_forked(file):
    source = opened(file)
    source.annotation(0)
    assert pickle.loads(pickle.dumps(source)).annotation(0).labels.tolist() == [0, 1]
    if sys.platform == "linux":
        import os

        ours = source._open()
        reader, writer = os.pipe()
        if not (child := os.fork()):
            os.write(writer, b"1" if source._open() is not ours and source.annotation(0).labels.tolist() == [0, 1] else b"0")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 1) == b"1"
