import pickle

import numpy as np
import pytest
import torch

from densedet.core.annotations.border import CheckedSource, checked
from densedet.core.annotations.faults import Faults
from densedet.core.contracts import Source
from densedet.core.errors import DataError, PartError
from densedet.core.types import Annotation, Extra
from densedet.plugins.sources.coco import CocoSource

NAN = float("nan")
BOXES = [
    [0, 0, 10, 10],
    [5, 5, 5, 9],  # flat
    [20, 5, 10, 9],  # inverted
    [NAN, 0, 5, 5],
    [200, 0, 300, 5],  # outside
    [-5, -5, 20, 20],  # clipped
]


class Given:
    """Two images of 100 x 50 pixels with the objects that it is given."""

    classes = ("cat", "dog")
    category_ids = (3, 7)
    extras = {"age": Extra()}

    def __init__(self, boxes, labels=None, **fields):
        self.boxes = boxes if isinstance(boxes, torch.Tensor) else torch.tensor(boxes, dtype=torch.float32)
        self.labels, self.fields = labels, fields

    def __len__(self):
        return 2

    def annotation(self, index):
        count = len(self.boxes)
        none = torch.zeros(count, dtype=torch.bool)
        fields = {
            "boxes": self.boxes,
            "labels": torch.zeros(count, dtype=torch.int64) if self.labels is None else self.labels,
            "ignore": none,
            "crowd": none,
            "area": torch.ones(count),
            "image_id": index,
            "file_name": f"{index}.png",
            "width": 100,
            "height": 50,
            "extra": {"age": torch.arange(count)},
        }
        return Annotation(**{**fields, **self.fields})

    def image(self, index):
        return np.zeros((50, 100), np.uint8)

    def fingerprint(self):
        return "given"

    def invalid(self):
        return ["line 7 was left out"]


def test_boxes_that_cannot_be_used_are_dropped_and_counted():
    source = checked(Given(BOXES))
    assert isinstance(source, Source)
    truth = source.annotation(1)
    assert truth.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 20, 20]]
    assert truth.extra["age"].tolist() == [0, 5]
    assert len(truth.labels) == len(truth.ignore) == len(truth.area) == 2
    kinds = {"flat": 2, "inverted": 2, "not_finite": 2, "outside": 2, "clipped": 2, "reported": 1}
    assert source.table.faults.counts == kinds
    assert source.table.offsets.tolist() == [0, 2, 4]  # in the order of the annotations' objects
    assert source.table.xywh.tolist() == [[0, 0, 10, 10], [-5, -5, 25, 25]] * 2
    assert source.invalid()[:2] == [
        "line 7 was left out",
        "Given: object 2 of image 0 (0.png): box [5, 5, 0, 4] (x, y, width, height) has no width or height "
        "above 0 and was dropped",
    ]


def test_sound_annotations_pass_as_they_are():
    source = Given(BOXES[:1])
    truth = source.annotation(0)
    source.annotation = lambda index: truth
    assert checked(source).annotation(0) is truth


def test_a_border_is_put_once_and_not_around_files(tmp_path):
    source = checked(Given(BOXES))
    assert checked(source) is source
    (tmp_path / "a.json").write_text("{}")
    files = CocoSource(annotations="a.json", images=".", root=str(tmp_path))
    assert checked(files) is files


def test_the_source_shines_through_and_travels():
    source = Given(BOXES[:1])
    source.sizes = np.array([[100, 50]] * 2)
    behind = pickle.loads(pickle.dumps(checked(source)))
    assert (len(behind), behind.classes, behind.category_ids) == (2, ("cat", "dog"), (3, 7))
    assert behind.sizes.tolist() == [[100, 50]] * 2
    assert (behind.fingerprint(), behind.extras) == ("given", Given.extras)
    assert not hasattr(behind, "where_masks")


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        (2, "its label is 2, not one of 0 to 1"),
        (-2, "its label is -2"),
        (-1, "its label is -1, which only an ignored"),
    ],
)
def test_a_label_of_no_class_is_refused(label, sentence):
    source = CheckedSource(Given(BOXES[:1] * 2, torch.tensor([0, label])))
    with pytest.raises(DataError, match=rf"Given: object 2 of image 0 \(0.png\): {sentence}"):
        source.annotation(0)
    with pytest.raises(
        DataError, match=rf"{sentence}.*; 1 more cannot be used \(in all 2 of no known class\)"
    ):
        len(source.table)
    source.faults = Faults(strict=False)
    assert source.table.labels.tolist() == [0, 0]
    assert source.annotation(0).labels.tolist() == [0]
    assert source.faults.counts["category"] == 2


def test_an_ignored_object_may_have_no_class():
    source = CheckedSource(Given(BOXES[:1], torch.tensor([-1]), ignore=torch.tensor([True])))
    assert source.annotation(0).labels.tolist() == [-1]
    assert source.table.labels.tolist() == [-1, -1]


def test_the_numbers_of_a_file_are_checked_where_a_source_gives_them():
    wrong = CheckedSource(Given(BOXES[:1] * 2, xywh=torch.tensor([[0.0, 0, 10, 10], [0, 0, -1, 10]])))
    assert wrong.annotation(0).xywh.tolist() == [[0, 0, 10, 10]]
    assert wrong.table.faults.counts["inverted"] == 2


def test_other_types_that_mean_the_same_are_converted():
    boxes = torch.tensor(BOXES[:1], dtype=torch.float64)
    source = CheckedSource(Given(boxes, torch.tensor([1], dtype=torch.int32), area=torch.tensor([NAN])))
    truth = source.annotation(0)
    assert (truth.boxes.dtype, truth.labels.dtype) == (torch.float32, torch.int64)
    assert truth.area.tolist() == [100]


@pytest.mark.parametrize(
    ("boxes", "fields", "sentence"),
    [
        (torch.tensor([]), {}, r"boxes are float32 \(G,4\).*also \(0,4\), not torch.float32 \(0,\)"),
        (torch.tensor([[0, 0, 1, 1]]), {}, r"not torch.int64 \(1, 4\)"),
        (BOXES[:1], {"labels": torch.tensor([0.0])}, "labels are int64, not torch.float32"),
        (BOXES[:1], {"labels": torch.tensor([0, 1])}, r"boxes are float32 \(G,4\) xyxy for the 2 labels"),
        (BOXES[:1], {"labels": [0]}, "labels is a tensor, not list"),
        (BOXES[:1], {"ignore": torch.tensor([0])}, "ignore is bool, not torch.int64"),
        (BOXES[:1], {"area": torch.ones(2)}, r"area has shape \(2,\) for 1 box"),
        (BOXES[:1], {"xywh": torch.ones(4)}, "xywh is None or"),
        (
            BOXES[:1],
            {"extra": {"age": torch.ones(3)}},
            "extra 'age' is a tensor with a value for each of its boxes, 1 in all",
        ),
        (BOXES[:1], {"width": 0}, "whole pixels above 0, not 0 x 50"),
        (BOXES[:1], {"height": 50.0}, "whole pixels above 0, not 100 x 50.0"),
        (BOXES[:1], {"image_id": None}, "image_id is a whole number or a text, not None"),
    ],
)
def test_what_is_no_annotation_is_refused(boxes, fields, sentence):
    source = CheckedSource(Given(boxes))
    source.source.fields = fields
    with pytest.raises(PartError, match=rf"Given.annotation\(0\): .*{sentence}"):
        source.annotation(0)


def test_image_ids_are_unique():
    with pytest.raises(DataError, match="Given: image id 5 occurs twice"):
        len(CheckedSource(Given(BOXES[:1], image_id=5)).table)
