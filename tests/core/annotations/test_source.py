"""What all sources have in common."""

import numpy as np
import pytest
import torch

from densedet.core.annotations.source import sizes_of
from densedet.core.errors import PartError
from densedet.core.types import Annotation


class Plain:
    """Three images of 10x5, 11x5 and 12x5 pixels with a box each, and nothing that is optional."""

    classes = ("thing",)

    def __len__(self):
        return 3

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
