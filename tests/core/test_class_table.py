import pytest
import torch

from densedet.core.class_table import label_map, relabel
from densedet.core.errors import DataError


def test_label_map_goes_by_name():
    assert label_map(("cat", "dog", "cow"), ("cow", "cat")).tolist() == [1, -1, 0]
    assert label_map(("cat",), ("cat", "never seen")).tolist() == [0]


def test_nothing_in_common_is_refused():
    with pytest.raises(DataError, match=r"none of the classes person; it has cat, dog"):
        label_map(("cat", "dog"), ("person",))


def test_relabel_keeps_what_is_ignored():
    """Labels 0 and 1 change places, label 2 is not in the table; -1 stays -1, not label 0's."""
    assert relabel(torch.tensor([1, 0, -1, 2]), torch.tensor([1, 0, -1])).tolist() == [0, 1, -1, -1]
