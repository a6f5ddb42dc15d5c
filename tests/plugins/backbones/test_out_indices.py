import pytest

from densedet.core.errors import PartError
from densedet.plugins.backbones._out_indices import check_out_indices


def test_any_increasing_choice_is_fine():
    check_out_indices((2, 5), (2, 3, 4, 5))


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ((), "out_indices is empty: name at least one of 2, 3"),
        ((2, 7), "out_indices has 7, which does not exist: choose from 2, 3"),
        ((3, 2), r"write each once, fine to coarse: \[2, 3\]"),
        ((2, 2), r"write each once, fine to coarse: \[2\]"),
    ],
)
def test_others_are_refused(indices, message):
    with pytest.raises(PartError, match=message):
        check_out_indices(indices, (2, 3))
