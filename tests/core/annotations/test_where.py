import sqlite3

import numpy as np
import pytest

from densedet.core.annotations import sql as annotation_sql
from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.where import WhereError, among, check_where_syntax, where_masks
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource
from densedet.plugins.sources.sqlite import SQLiteSource


@pytest.mark.parametrize(
    "where",
    [
        "width > 500 and class in ('person','car')",
        "widht > 3",
        "x > 1 -- why",
        "(1)",
        "w between 1 and 2",
        "night = 1",
    ]
    + [
        "image_id in (" + ", ".join(map(str, range(10_000))) + ")",
        "label = 3",
        "class in ('select', 'with', 'x')",
    ]
    + [
        "((select count(*) from boxes b where b.image_row = images.image) > 3) and not exists (select "
        "1 from classes)"
    ],
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
        (
            "(with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c) > 1",
            "holds no other subquery",
        ),
        ("(with c as (select 1 as x) select x from c) = 1", "holds no other subquery"),
        (
            "(select v || v from (select file_name || file_name as v from images)) = ''",
            "holds no other subquery",
        ),
        ("exists (select 1 from boxes, ((select 1)))", "holds no other subquery"),
        ("length(replace(file_name, 'a', file_name)) > 1", "only columns and the functions"),
        ("group_concat(file_name) > 1", "only columns and the functions"),
        ("(select group_concat(file_name) from images) > 1", "only columns and the functions"),
        ("printf('%1000000d', 1) > 1", "only columns and the functions"),
        ("(select (select x + x as b where b + b) as c where c + c) > 1", "holds no other subquery"),
        (" + ".join(["x"] * 300), "300 words"),
        ("(select 1) + (select 2) + (select 3) + (select 4)", "4 subqueries"),
        ("exists (select 1 from sqlite_master)", "only columns and the functions"),
        ("exists (select 1 from pragma_database_list)", "."),
        ("1" + " + 1" * 5000, "."),
        ("a" * 200_000, "the limit is"),
    ],
)
def test_what_is_none(where, sentence):
    with pytest.raises(WhereError, match=sentence):
        check_where_syntax(where)


@pytest.fixture
def folder(tmp_path):
    """x.sqlite and x.db. Image 0: person, car. 1: person. 2: no boxes. 3: car."""
    builder = TableBuilder("memory")
    builder.add_class(1, "person")
    builder.add_class(3, "car")
    for index in range(4):
        builder.add_image(index, f"{index}.jpg", 100 + index, 50)
    for image, category in ((0, 1), (0, 3), (1, 1), (3, 3)):
        builder.add_box(image, category, (0, 0, 5 + image, 5))
    table = builder.finish()
    SQLiteSource.write(table, tmp_path / "x.sqlite")
    FlatBuffersSource.write(table, tmp_path / "x.db")
    return tmp_path


def changed(folder, script):
    connection = sqlite3.connect(folder / "x.sqlite")
    connection.executescript(script)
    connection.close()
    return SQLiteSource(annotations="x.sqlite", images=".", root=str(folder))


def found(source, where):
    return [np.flatnonzero(mask).tolist() for mask in where_masks(source, where)]


MOVED = (
    "UPDATE boxes SET box = -9223372036854775807 WHERE box = 3; UPDATE boxes SET box = "
    "9223372036854775807 WHERE box = 0;"
    "UPDATE images SET image = image * 1000000; UPDATE boxes SET image_row = image_row * 1000000;"
    "UPDATE classes SET label = 77 WHERE label = 1; UPDATE boxes SET label = 77 WHERE label = 1"
)


@pytest.mark.parametrize("script", ["", MOVED], ids=["as written", "other row numbers"])
@pytest.mark.parametrize(
    ("where", "images", "kinds"),
    [
        ("class = 'car'", [0, 3], [1, 1]),  # asked of classes
        ("width > 101", [2, 3], [1]),  # of images
        ("w > 5", [1, 3], [0, 1]),  # of boxes
        ("width = 100 and class = 'car'", [0], [1]),
        ("w is null and width > 1", [2], []),
    ],
)
def test_row_numbers_need_not_be_positions(folder, script, where, images, kinds):
    source = changed(folder, script)
    masks = where_masks(source, where)
    assert np.flatnonzero(masks[0]).tolist() == images
    assert source.table.labels[masks[1]].tolist() == kinds


def test_an_image_all_of_whose_boxes_were_dropped_has_none(folder):
    source = changed(folder, "UPDATE boxes SET w = -1 WHERE image_row = 3")
    assert found(source, "class is null") == [[2, 3], []]
    assert found(source, "width > 101") == [[2, 3], []]
    assert found(source, "class = 'car'") == [[0], [1]]
    assert found(source, "w < 0") == [[], []]


def test_a_column_of_two_tables_must_be_said_whose(folder):
    source = changed(
        folder,
        "ALTER TABLE images ADD COLUMN note; ALTER TABLE boxes ADD COLUMN note; UPDATE boxes SET note "
        "= 1 WHERE box = 2",
    )
    with pytest.raises(
        WhereError, match=r"several tables have a column note: write images\.note, boxes\.note"
    ):
        where_masks(source, "note = 1")
    assert found(source, "boxes.note = 1") == [[1], [2]]


def test_what_a_file_lets_through_only_with_its_own_columns_is_harmless_too(folder):
    source = changed(folder, "ALTER TABLE images ADD COLUMN night")
    for where in (
        "night = 1 or group_concat(x) > 1",
        "night = 1 or (select group_concat(file_name) from images) > 1",
    ):
        with pytest.raises(WhereError, match="only columns and the functions"):
            where_masks(source, where)


def test_only_what_is_read_goes_into_memory(folder, monkeypatch):
    source = FlatBuffersSource(annotations="x.db", images=".", root=str(folder))
    assert found(source, "w > 5 and width > 0") == [[1, 3], [2, 3]]
    monkeypatch.setattr(annotation_sql, "_box_columns", None)
    assert found(source, "class = 'car'") == [[0, 3], [1, 3]]
    assert found(source, "width = 101") == [[1], [2]]
    with pytest.raises(TypeError):
        found(source, "w > 5")


def test_among():
    for rows in ([3, 1, 2], [0, 1, 2, 3], [-(1 << 63), 1, (1 << 63) - 1], []):
        for chosen in ([1, 3], [], [9, -9, 1], [(1 << 63) - 1]):
            assert among(np.array(rows, np.int64), np.array(chosen, np.int64)).tolist() == [
                row in chosen for row in rows
            ]
