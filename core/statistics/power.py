"""How many seeds or images it takes to tell a difference that is asked for."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import asdict, dataclass
from typing import Any

from densedet.core.statistics.samples import Kind, Spread

MOST_SEEDS = 100
"""Nobody trains more runs for one comparison."""

MOST_IMAGES = 1e9


@dataclass(frozen=True)
class Need:
    """What would tell a difference: the 95 % interval is expected to be no wider than that to either side.

    Attributes:
        asked: the difference.
        seeds: smallest number of seeds of each arm on these images; None where none would do.
        images: where no number of seeds would do, the number of images that would, with ``with_seeds``; None
            where these images do, or no number would.
        with_seeds: the number of seeds of each arm that ``images`` is for.
        enough: whether the seeds and images at hand tell it already.
    """

    asked: float
    seeds: int | None
    images: int | None
    with_seeds: int | None
    enough: bool

    def words(self) -> str:
        """Write it as "8 seeds would tell a difference of .02"."""
        asked = f"{self.asked:g}".replace("0.", ".", 1)
        if self.enough:
            return f"a difference of {asked} would have shown"
        if self.seeds is not None:
            return f"{self.seeds} seeds would tell a difference of {asked}"
        text = f"no number of seeds on these images would tell a difference of {asked}"
        if self.images is None:
            return text
        return f"{text}, {self.images} images with {self.with_seeds} seeds would"

    def to_dict(self) -> dict[str, Any]:
        """All attributes and the words, as JSON can hold them."""
        return {**asdict(self), "words": self.words()}


def need(spread: Spread, kind: Kind, asked: float) -> Need | None:
    """Compute how many seeds, else images, would tell a difference.

    Args:
        spread: of the difference at hand.
        kind: what the interval is for.
        asked: the difference, above 0.

    Returns:
        The need; None where the variance of the seeds is unknown.
    """
    width = spread.half_width(kind)
    if width is None or not spread.seeds:
        return None
    if width <= asked:
        return Need(asked, min(spread.counts), None, None, True)

    def enough(seeds: int, images: float | None = None, share: float = 1.0) -> bool:
        expected = spread.half_width(kind, seeds=seeds, images=images)
        return expected is not None and expected <= share * asked

    more = range(min(spread.counts) + 1, MOST_SEEDS + 1)
    place = bisect_left(more, True, key=enough)
    if place < len(more):
        return Need(asked, more[place], None, None, False)
    if kind == "these images":
        return Need(asked, None, None, None, False)
    # Images are cheap beside runs: the fewest seeds that leave the images half of the variance.
    more = range(min(spread.counts), MOST_SEEDS + 1)
    place = bisect_left(more, True, key=lambda seeds: enough(seeds, MOST_IMAGES, math.sqrt(0.5)))
    if place == len(more):
        return Need(asked, None, None, None, False)
    return Need(asked, None, _images(spread, kind, more[place], asked), more[place], False)


def _images(spread: Spread, kind: Kind, seeds: int, asked: float) -> int:
    """The smallest number of images with so many seeds, to two digits, rounded up."""
    low, high = float(spread.image_count), MOST_IMAGES
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        width = spread.half_width(kind, seeds=seeds, images=middle)
        low, high = (low, middle) if width is not None and width <= asked else (middle, high)
    step = 10 ** max(math.floor(math.log10(high)) - 1, 0)
    return int(math.ceil(high / step) * step)
