import pytest

from densedet.core.errors import PartError
from densedet.plugins.backbones._taps import check_taps


def test_any_increasing_choice_is_fine():
    check_taps((2, 5), (2, 3, 4, 5))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ((), "out is empty: name at least one of 2, 3"),
        ((2, 7), "out has 7, which does not exist: choose from 2, 3"),
        ((3, 2), r"write each once, fine to coarse: \[2, 3\]"),
        ((2, 2), r"write each once, fine to coarse: \[2\]"),
    ],
)
def test_others_are_refused(out, message):
    with pytest.raises(PartError, match=message):
        check_taps(out, (2, 3))
