from dataclasses import replace

import numpy as np
import pytest

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.table import equal_tables, name_fault


@pytest.mark.parametrize("name", ["a.jpg", "a/b..c.jpg", "a b/ü.png", "..a", "a:b.jpg"[:1]])
def test_names(name):
    assert name_fault(name) is None


@pytest.mark.parametrize(
    "name", ["", "/a", "../a", "a/../b", "..", "a\\..\\b", "C:/a", "C:a", "\\\\host\\a", "a\0"]
)
def test_names_that_lead_elsewhere(name):
    assert name_fault(name)


def table():
    builder = TableBuilder("memory")
    builder.add_class(1, "a")
    for index, name in enumerate(("x.jpg", "yy.jpg", "z.jpg")):
        builder.add_image(index, name, 10, 10)
    for number, image in enumerate((2, 0, 2, 0)):
        builder.add_box(image, 1, (number, 0, 1, 1), id=number)
    return builder.finish()


def test_boxes_stand_in_the_order_of_their_images():
    assert table().ids.tolist() == [1, 3, 0, 2]
    assert table().offsets.tolist() == [0, 2, 2, 4]
    assert table().owners().tolist() == [0, 0, 2, 2]


def test_select():
    part = table().select(np.array([1, 2]), np.array([True, True, False, True]))
    assert (len(part), part.ids.tolist(), part.offsets.tolist()) == (2, [2], [0, 0, 1])
    assert [part.name(i) for i in range(2)] == ["yy.jpg", "z.jpg"]
    assert part.image_ids.tolist() == [1, 2]
    assert equal_tables(table().select(np.arange(3)), table()) == []
    none = table().select(np.zeros(0, dtype=np.int64))
    assert (len(none), len(none.ids), none.offsets.tolist()) == (0, 0, [0])


def test_offsets_of_32_bits_are_selected_as_whole_numbers():
    narrow = replace(table(), name_offsets=table().name_offsets.astype(np.uint32))
    part = narrow.select(np.array([1, 2]))
    assert [part.name(i) for i in range(2)] == ["yy.jpg", "z.jpg"]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int32])
def test_offsets_of_any_integers_select_the_same(kind):
    builder = TableBuilder("memory")
    builder.add_class(1, "thing")
    for image, boxes in enumerate((2, 0, 1)):
        builder.add_image(image, "abc"[: image + 1], 20, 10)
        for left in range(boxes):
            builder.add_box(image, 1, (left, 0, 5, 5))
    table = builder.finish()
    mapped = replace(table, offsets=table.offsets.astype(kind), name_offsets=table.name_offsets.astype(kind))
    chosen = mapped.select(np.array([1, 2]))
    assert chosen.offsets.tolist() == [0, 0, 1]
    assert chosen.name_offsets.tolist() == [0, 2, 5]
    assert [chosen.name(0), chosen.name(1)] == ["ab", "abc"]
    assert chosen.offsets.dtype == chosen.name_offsets.dtype == mapped.offsets.dtype == np.int64
    assert equal_tables(chosen.select(np.arange(2)), chosen) == []
