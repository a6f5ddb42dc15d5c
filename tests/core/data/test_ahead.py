"""Work ahead of its use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count, islice

import pytest

from densedet.core.data.ahead import made_ahead


def test_results_come_in_the_order_of_the_items() -> None:
    """The first result is made last, since it waits for the second."""
    second = threading.Event()

    def make(item: int) -> int:
        if item == 0:
            assert second.wait(20)
        if item == 1:
            second.set()
        return 10 * item

    assert list(made_ahead(make, range(4), threads=2, count=3)) == [0, 10, 20, 30]


def test_no_more_items_are_taken_than_asked_for() -> None:
    """Of an endless iterable three are taken at first, and one more with each result."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in count():
            taken.append(item)
            yield item

    made = made_ahead(abs, items(), threads=2, count=3)
    assert list(islice(made, 2)) == [0, 1]
    assert taken == [0, 1, 2, 3, 4]
    made.close()


def test_an_error_is_raised_in_its_place() -> None:
    made = made_ahead(lambda item: 6 // item, [3, 0, 2], threads=1, count=3)
    assert next(made) == 2
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert not [one for one in threading.enumerate() if one.name.startswith("densedet-ahead")]
