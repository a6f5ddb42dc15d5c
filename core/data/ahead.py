"""Work ahead of its use, in threads: pictures are decoded while the network runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(
    make: Callable[[Item], Made], items: Iterable[Item], *, threads: int, count: int
) -> Generator[Made, None, None]:
    """Call ``make`` for each item in threads, some items ahead of the result that is asked for.

    Args:
        make: is called from several threads at once where there is more than one.
        items: taken by the caller's thread; may be endless.
        threads: number of threads.
        count: calls that may be under way or wait to be taken, so that memory stays flat.

    Yields:
        The results in the order of the items. What ``make`` raises is raised in the place of its result.
    """
    rest = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="densedet-ahead")
    waiting: deque[Future[Made]] = deque()
    try:
        waiting.extend(pool.submit(make, item) for item in islice(rest, count))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, item) for item in islice(rest, 1))
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
