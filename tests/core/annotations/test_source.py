"""What all sources have in common."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.source import sizes_of
from densedet.core.errors import DensedetError, PartError
from densedet.core.types import Annotation
from densedet.plugins.sources.coco import CocoSource
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource
from densedet.plugins.sources.sqlite import SQLiteSource
from densedet.plugins.sources.voc import VOCSource
from densedet.plugins.sources.yolo import YOLOSource


class Plain:
    """Three images of 10x5, 11x5 and 12x5 pixels with a box each, and nothing that is optional."""

    classes, category_ids = ("thing",), (1,)

    def __len__(self):
        return 3

    def invalid(self):
        return []

    def annotation(self, index):
        no = torch.zeros(1, dtype=torch.bool)
        return Annotation(
            boxes=torch.tensor([[0.0, 0, 5, 5]]),
            labels=torch.zeros(1, dtype=torch.int64),
            ignore=no,
            crowd=no,
            area=torch.tensor([25.0]),
            image_id=index,
            file_name=f"{index}.png",
            width=10 + index,
            height=5,
        )


def test_sizes_come_from_the_annotations_where_a_source_has_none():
    assert sizes_of(Plain()).tolist() == [[10, 5], [11, 5], [12, 5]]


def test_a_sources_own_sizes_are_used():
    source = Plain()
    source.sizes = [(10, 5), (11, 5), (12, 5)]
    source.table = None  # would be read otherwise
    assert sizes_of(source).tolist() == [[10, 5], [11, 5], [12, 5]]


def test_sizes_of_a_wrong_shape_are_refused():
    source = Plain()
    source.sizes = np.ones((2, 3))
    with pytest.raises(PartError, match=r"Plain.sizes has shape \(2, 3\), not \(3, 2\): give the \(width"):
        sizes_of(source)


def test_sizes_that_contradict_an_annotation_are_refused():
    source = Plain()
    source.sizes = np.array([[10, 5], [11, 5], [5, 12]])  # the last is (height, width)
    with pytest.raises(
        PartError, match=r"sizes has \(5, 12\) for image 2, but its annotation has .*\(12, 5\)"
    ):
        sizes_of(source)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (CocoSource, "x.json"),
        (FlatBuffersSource, "x.db"),
        (SQLiteSource, "x.sqlite"),
        (YOLOSource, "yolo"),
        (VOCSource, "voc"),
    ],
)
def test_of_four_writers_of_one_new_file_or_folder_one_succeeds(tmp_path, kind, name):
    together = Barrier(4)

    class Waiting(kind):
        @classmethod
        def _write(cls, table, path, split, faults, on_progress):
            def waiting(done, total):
                together.wait(10)

            if cls.suffixes:
                super()._write(table, path, split, faults, on_progress)
                together.wait(10)
            else:
                super()._write(table, path, split, faults, waiting)

    def write(number):
        builder = TableBuilder("memory")
        builder.add_class(1, "thing")
        builder.add_image(0, f"{number}.png", 20, 10)
        builder.add_box(0, 1, (1, 1, 5, 5))
        try:
            Waiting.write(builder.finish(), tmp_path / name)
        except DensedetError as error:
            return str(error)
        return number

    with ThreadPoolExecutor(4) as threads:
        ends = list(threads.map(write, range(4)))
    [first] = [end for end in ends if isinstance(end, int)]
    assert sum(f"{name} is there already" in str(end) for end in ends) == 3, ends
    assert [path.name for path in tmp_path.iterdir()] == [name]
    found = tmp_path / name
    kept = found.read_bytes() if found.is_file() else b"".join(map(str.encode, map(str, found.rglob("*"))))
    assert [n for n in range(4) if f"{n}.".encode() in kept] == [first]
