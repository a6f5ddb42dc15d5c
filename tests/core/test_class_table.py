import numpy as np
import pytest

from densedet.core.class_table import label_map
from densedet.core.errors import DataError


def test_label_map_goes_by_name():
    assert label_map(("cat", "dog", "cow"), ("cow", "cat")).tolist() == [1, -1, 0, -1]
    assert label_map(("cat",), ("cat", "never seen")).tolist() == [0, -1]


def test_nothing_in_common_is_refused():
    with pytest.raises(DataError, match=r"none of the classes person; it has cat, dog"):
        label_map(("cat", "dog"), ("person",))


@pytest.mark.parametrize("classes", [("", "cat"), ("cat", "dog", "cat")])
def test_each_class_of_a_source_has_a_name_of_its_own(classes):
    """An empty name in a class table is a slot of the network, which stands for no class."""
    with pytest.raises(DataError, match="the source has (an empty name|two classes of one name): give each"):
        label_map(classes, ("cat",))


def test_a_slot_without_a_class_gets_no_label():
    assert label_map(("cat", "dog"), ("", "dog", "cat")).tolist() == [2, 1, -1]


def test_the_table_keeps_what_is_ignored():
    """Labels 0 and 1 change places, label 2 is not in the table; -1 stays -1, not label 0's."""
    table = label_map(("cat", "dog", "cow"), ("dog", "cat"))
    assert table[np.array([1, 0, -1, 2])].tolist() == [0, 1, -1, -1]
