"""The mean of an arm over its seeds, with an interval, and in words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from densedet.core.statistics.samples import CONFIDENCE, Kind, Sample, Spread


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval.

    Attributes:
        value: the mean.
        low: lower end; None where the interval is unknown.
        high: upper end; None where the interval is unknown.
        kind: what it is for.
        seeds: number of seeds.
        images: number of images.
        seeds_known: False where there is one seed: the interval does not hold what seeds add.
        df: degrees of freedom of its variance, infinite where that is 0; None where the interval is unknown.
    """

    value: float
    low: float | None
    high: float | None
    kind: Kind
    seeds: int
    images: int
    seeds_known: bool
    df: float | None

    def words(self) -> str:
        """Write it as ".412 (.395 to .429) at 3 seeds, for new images"."""
        if self.low is None or self.high is None:
            return f"{number(self.value)} (interval unknown: {why_unknown(self.value, self.seeds_known)})"
        ends = f"{number(self.low)} to {number(self.high)}"
        return f"{number(self.value)} ({ends}) {scope(self.kind, (self.seeds,), self.seeds_known)}"

    def to_dict(self) -> dict[str, Any]:
        """All attributes and the words, as JSON can hold them."""
        values = {name: for_json(value) for name, value in asdict(self).items()}
        return {**values, "confidence": CONFIDENCE, "words": self.words()}


def estimate(sample: Sample, kind: Kind = "new images") -> Interval:
    """Estimate the mean over seeds.

    Args:
        sample: a number of an arm.
        kind: what the interval is for; where images cannot be told it is for these images all the same.

    Returns:
        The mean and its interval, without ends where nothing can be told.
    """
    spread = Spread.of(sample)
    kind = "these images" if spread.kind == "these images" else kind
    half, total = spread.half_width(kind), spread.total(kind)
    return Interval(
        value=spread.value,
        low=spread.value - half if half is not None else None,
        high=spread.value + half if half is not None else None,
        kind=kind,
        seeds=spread.counts[0],
        images=spread.image_count,
        seeds_known=bool(spread.seeds),
        df=None if half is None or total is None else total[1],
    )


def scope(kind: Kind, seeds: tuple[int, ...], seeds_known: bool) -> str:
    """Say what an interval holds: "at 3 seeds, for new images"."""
    counts = " and ".join(str(count) for count in dict.fromkeys(seeds))
    at = f"at {counts} {'seed' if max(seeds) == 1 else 'seeds'}"
    if not seeds_known:
        return f"{at}, for {kind} and these runs: how much seeds vary is unknown"
    return f"{at}, for {kind}{' alone' if kind == 'these images' else ''}"


def why_unknown(value: float, seeds_known: bool) -> str:
    """Say why there is no interval."""
    if math.isnan(value):
        return "a run has nothing that counts"
    return "too little counts" if seeds_known else "one seed does not tell how much seeds vary"


def number(value: float) -> str:
    """Write a number with three digits after the point and no 0 before it: ".031", "-.010", "1.000"."""
    if math.isnan(value):
        return "unknown"
    text = f"{round(value, 3) + 0.0:.3f}" if abs(value) < 1000 else f"{value:.4g}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def for_json(value: Any) -> Any:
    """Return None for a number that JSON cannot hold, and anything else as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
