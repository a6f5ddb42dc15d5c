"""What the first batch of a run warns of."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from densedet.core.examples import example_batch
from densedet.core.training.first_batch import first_batch_warnings
from densedet.core.types import Batch


class Explains(nn.Module):
    """Its anchors are positive for the objects in these slots of every image."""

    def __init__(self, *slots: int) -> None:
        super().__init__()
        self.slots = slots

    def explain(self, batch: Batch) -> Any:
        index = torch.tensor([[-1, -2, *self.slots]]).repeat(len(batch), 1)
        assert not self.training
        return SimpleNamespace(targets=SimpleNamespace(matched_idxs=index))


def with_box(box: list[float]) -> Batch:
    """The example with another first box; its second image has an ignored object in slot 1."""
    batch = example_batch()
    batch.boxes[0, 0] = torch.tensor(box)
    return batch


def test_a_good_batch_gives_no_warning() -> None:
    detector = Explains(0, 1).train()
    assert first_batch_warnings(detector, example_batch()) == []
    assert first_batch_warnings(detector, example_batch(objects=0)) == []
    assert detector.training


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ([30.0, 20, 10, 40], r"1 object inverted .* \(image 11: \[30.0, 20.0, 10.0, 40.0\]\)"),
        ([0.1, 0.2, 0.4, 0.5], "1 object less than a pixel"),
        ([200.0, 10, 240, 40], "1 object outside of the image"),
        ([50.0, 10, 140, 40], "1 object outside of the image"),
    ],
)
def test_a_box_in_wrong_units_is_named_with_its_image(box: list[float], sentence: str) -> None:
    [warning] = first_batch_warnings(nn.Linear(1, 1), with_box(box))
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(warning)


def test_objects_without_a_positive_anchor_are_named_but_not_ignored_ones() -> None:
    [warning] = first_batch_warnings(Explains(0), example_batch())
    assert warning.startswith("first batch: 1 object without a positive anchor")
    assert "image 11" in warning
    assert "image 12" not in warning  # its object in slot 1 is ignored


def test_long_lists_are_cut() -> None:
    batch = example_batch(objects=4)
    [warning] = first_batch_warnings(nn.Linear(1, 1), replace(batch, boxes=batch.boxes + 1000))
    assert "; and 2 more" in warning  # 8 objects, of which one is ignored, 5 are named
