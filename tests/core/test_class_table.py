import pytest

from densedet.core.class_table import label_map
from densedet.core.errors import DataError


def test_label_map_goes_by_name():
    assert label_map(("cat", "dog", "cow"), ("cow", "cat")).tolist() == [1, -1, 0]
    assert label_map(("cat",), ("cat", "never seen")).tolist() == [0]


def test_nothing_in_common_is_refused():
    with pytest.raises(DataError, match=r"none of the classes person; it has cat, dog"):
        label_map(("cat", "dog"), ("person",))
