import numpy as np
import pytest

from densedet.core.annotations.faults import (
    CLIPPED,
    FLAT,
    INVERTED,
    NOT_FINITE,
    OUTSIDE,
    Faults,
    box_faults,
)
from densedet.core.annotations.table import corners
from densedet.core.errors import DataError


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ((0, 0, 100, 50), 0),
        ((0, 0, 1e-3, 1e-3), 0),
        ((99, 49, 1.04, 1.04), 0),  # rounding: 0.04 pixels beyond
        ((99, 49, 1.06, 1), CLIPPED),
        ((-3, 5, 10, 10), CLIPPED),
        ((100, 0, 5, 5), OUTSIDE),
        ((-5, 0, 5, 5), OUTSIDE),
        ((0, 0, 5e-324, 5), OUTSIDE),  # nothing of it is left in float32
        ((50, 0, 1e-9, 5), OUTSIDE),
        ((0, 0, 0, 5), FLAT),
        ((0, 0, 5, -1), INVERTED),
        ((9, 0, -5, 0), INVERTED),
        ((float("nan"), 0, 5, 5), NOT_FINITE),
        ((0, 0, float("inf"), 5), NOT_FINITE),
        ((0, 0, 1e30, 5), CLIPPED),
        ((0, 0, 1e39, 5), NOT_FINITE),  # beyond float32's 3.4e38
        ((0, 0, 1e30, 1e30), NOT_FINITE),  # an area of 1e60
    ],
)
def test_box_faults(box, fault):
    sizes = np.array([[100, 50]])
    assert box_faults(np.array([box], dtype=np.float64), sizes).tolist() == [fault]
    # the quick look, which a sound neighbour does not change
    both = np.array([(1, 1, 2, 2), box], dtype=np.float64)
    assert box_faults(both, sizes, np.zeros(2, dtype=np.int64)).tolist() == [0, fault]
    if fault in (0, CLIPPED):
        x1, y1, x2, y2 = corners(both[1:], sizes[0])[0]
        assert 0 <= x1 < x2 <= 100
        assert 0 <= y1 < y2 <= 50


def test_counts_go_on_when_sentences_end():
    faults = Faults(strict=False)
    xywh = np.array([(9, 9, -3, 3)] * 1500 + [(0, 0, 200, 5)] * 700 + [(1, 1, 2, 2)], dtype=np.float64)
    keep = faults.check_boxes(xywh, np.array([[100, 50]]), np.zeros(2201, np.int64), lambda row: f"box {row}")
    assert keep.sum() == 701  # the clipped ones and the sound one
    assert (faults.dropped_boxes, faults.clipped_boxes, faults.left_out_images) == (1500, 700, 0)
    assert len(faults.sentences) == 1000
    assert faults.told()[-1] == "... and 1200 more"
    words = "1,500 boxes left out (1,500 drawn from right to left or upwards), 700 boxes clipped"
    assert faults.words() == words


def test_notes_go_on_when_sentences_end():
    told = []
    faults = Faults(strict=False, on_fault=told.append)
    for number in range(1002):
        faults.entry("columns", f"line {number}", count=2)
    assert (faults.dropped_boxes, len(faults.sentences), len(told)) == (2004, 1000, 1002)
    assert faults.told()[-1] == "... and 4 more"


def test_a_strict_collector_refuses_by_the_first_entry_and_the_number_of_all():
    faults = Faults()
    faults.refuse()
    faults.note("polygon", "worth knowing")
    faults.refuse()
    faults.entry("no_box", "a.json: entry 3 has no box")
    with pytest.raises(DataError, match="^a.json: entry 3 has no box$"):
        faults.refuse()
    faults.entry("image", "a.json: image 7 has no name")
    faults.entry("no_box", "a.json: entry 4 has no box", count=3)
    with pytest.raises(DataError) as caught:
        faults.refuse()
    assert str(caught.value).startswith(
        "a.json: entry 3 has no box; 4 more cannot be used (in all 4 without four numbers, 1 as images that "
        "cannot be used)"
    )
    faults.strict = False
    faults.refuse()
