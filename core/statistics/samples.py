"""One number of an arm's runs, on the images and on resamples of them, and its variance by origin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from densedet.core.statistics.student import t_quantile

Kind = Literal["these images", "new images"]
"""What an interval is for: other seeds on these images, or other seeds on new images of the same kind."""

CONFIDENCE = 0.95

FEWEST_KNOWN = 0.8
"""Share of resamples that must hold an object that counts. With all objects in one image it is 0.63, and
nothing can be told about other images."""


def bootstrap_weights(images: int, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Draw the weights of the images for a balanced bootstrap (Davison, Hinkley and Schechtman 1986).

    Args:
        images: number of images, I.
        resamples: number of resamples, R.
        seed: of the draws; all arms and seeds of a comparison must use the same.

    Returns:
        float64 (R + 1,I): the first row is 1 for each image, the images as they are; in the others an image's
        weight is the number of times that it was drawn, I draws a row. In all rows together each image is
        drawn R times, so that their mean differs from the first row by the number's bias alone.
    """
    deck = np.random.default_rng(seed).permutation(np.repeat(np.arange(images), resamples))
    cells = deck.reshape(resamples, images) + images * np.arange(resamples)[:, None]
    drawn = np.bincount(cells.ravel(), minlength=resamples * images).reshape(resamples, images)
    return np.concatenate([np.ones((1, images)), drawn])


@dataclass(frozen=True)
class Sample:
    """One number of S runs of an arm that differ in the seed alone.

    Attributes:
        name: of the arm.
        values: float64 (S,), on the images as they are; NaN where nothing counts.
        resampled: float64 (S,R), on resamples of the images, the same for all arms; None where the evaluator
            cannot tell.
        images: number of images.
    """

    name: str
    values: np.ndarray
    resampled: np.ndarray | None
    images: int

    @classmethod
    def of(cls, name: str, runs: Sequence[Mapping[str, np.ndarray]], metric: str, images: int) -> Sample:
        """Collect a number of an arm's runs.

        Args:
            name: of the arm.
            runs: of each seed, what the evaluator's ``resampled`` gave for `bootstrap_weights`.
            metric: the number, as ``evaluate.metric`` names it.
            images: number of images.

        Raises:
            KeyError: a run lacks the number.
        """
        table = np.stack([np.asarray(run[metric], dtype=np.float64) for run in runs])
        table = np.where(table == -1, np.nan, table)
        return cls(name, table[:, 0], table[:, 1:], images)


@dataclass(frozen=True)
class Spread:
    """The variance of an estimate, by origin: a mean over seeds, or the difference of such means.

    Attributes:
        value: the estimate.
        counts: number of seeds of each arm.
        seeds: of each arm the variance of its mean over the seeds, on these images: of the seeds themselves
            and of their interaction with the images. Empty where an arm has one seed: unknown.
        interactions: of each arm the share of ``seeds`` that is interaction: it would be another one on other
            images. ``images`` holds it too.
        images: variance of the estimate over new images, these seeds; None: unknown.
        image_count: number of images.
        holding: estimated number of images with objects that count, at most ``image_count``.
    """

    value: float
    counts: tuple[int, ...]
    seeds: tuple[float, ...]
    interactions: tuple[float, ...]
    images: float | None
    image_count: int
    holding: float

    @classmethod
    def of(cls, first: Sample, second: Sample | None = None) -> Spread:
        """Estimate the variance of the mean of an arm, or of the difference of two arms' means."""
        return cls.of_sum([first], [] if second is None else [second])

    @classmethod
    def of_sum(cls, added: Sequence[Sample], taken: Sequence[Sample]) -> Spread:
        """Estimate the variance of a sum of arms' means, from which the means of others are taken.

        Args:
            added: arms whose means are added; at least one.
            taken: arms whose means are subtracted.

        Raises:
            ValueError: the arms have other images or resamples.
        """
        arms = [*added, *taken]
        signs = [1.0] * len(added) + [-1.0] * len(taken)
        _check_same_images(arms)
        value = float(sum(sign * arm.values.mean() for sign, arm in zip(signs, arms)))
        counts = tuple(len(arm.values) for arm in arms)
        known = min(counts) > 1
        seeds = tuple(float(arm.values.var(ddof=1)) / len(arm.values) for arm in arms) if known else ()
        tables = [arm.resampled for arm in arms if arm.resampled is not None]
        count = arms[0].images
        if len(tables) < len(arms) or count < 2:
            return cls(value, counts, seeds, (0.0,) * len(seeds), None, count, count)
        complete = ~np.isnan(np.concatenate(tables)).any(axis=0)
        share = float(complete.mean()) if complete.size else 0.0
        if share < FEWEST_KNOWN or complete.sum() < 2:
            return cls(value, counts, seeds, (0.0,) * len(seeds), None, count, count)
        # With objects in m of I images, a resample has none with the probability (1 - m / I)^I, about e^-m.
        holding = min(count, max(2.0, -math.log(1 - share))) if share < 1 else float(count)
        small = holding / (holding - 1)  # a resample's variance is that of m - 1 degrees of freedom
        tables = [table[:, complete] for table in tables]
        means = sum(sign * table.mean(axis=0) for sign, table in zip(signs, tables))
        # A resample holds two thirds of the images, and shows about half of the bias that a number on few
        # images has. It cancels in most differences.
        bias = 2 * (float(np.mean(means)) - value)
        images = float(np.var(means, ddof=1)) * small + bias**2
        apart = [
            float((table - table.mean(axis=0)).var(axis=1, ddof=1).sum()) * small for table in tables if known
        ]
        shares = tuple(part / (n * (n - 1)) for part, n in zip(apart, counts))
        return cls(value, counts, seeds, shares, images, count, holding)

    @property
    def kind(self) -> Kind:
        """What the widest interval that can be told is for."""
        return "these images" if self.images is None else "new images"

    def total(
        self, kind: Kind, *, seeds: int | None = None, images: float | None = None
    ) -> tuple[float, float] | None:
        """Add up the variance, with the degrees of freedom of the sum.

        On new images the interaction of seeds and images is counted once. Degrees of freedom are
        Satterthwaite's (1946). They are too many where few seeds happen to lie close together: the seeds'
        part is taken 1 + 3 / d^4 times larger for them, where it has d degrees of freedom in all, and half of
        the interaction is left in it.

        Args:
            kind: what it is for.
            seeds: as it would be expected with so many seeds in each arm; None: as many as there are.
            images: as it would be expected with so many images; None: as many as there are.

        Returns:
            Variance and degrees of freedom; None where they are unknown.
        """
        counts = [seeds or count for count in self.counts]
        factors = [old / new for old, new in zip(self.counts, counts)]
        means = [part * factor for part, factor in zip(self.seeds, factors)]
        if kind == "these images":
            parts = [(mean, count - 1) for mean, count in zip(means, counts)]
            return (sum(means), _satterthwaite(parts, sum(means))) if parts else None
        if self.images is None:
            return None
        larger = (images or self.image_count) / self.image_count
        shares = [part * factor for part, factor in zip(self.interactions, factors)]
        over_images = (max(self.images - sum(self.interactions), 0.0) + sum(shares)) / larger
        if seeds is None and images is None:
            over_images = self.images
        rest = [max(mean - share, 0.0) for mean, share in zip(means, shares)]
        degrees = sum(count - 1 for count in counts)
        cautious = [
            (max((1 + 3 / degrees**4) * mean - share / 2, 0.0), count - 1)
            for mean, share, count in zip(means, shares, counts)
        ]
        total = over_images + sum(rest)
        holding = max(self.holding * larger - 1, 1.0)
        df = _satterthwaite([*cautious, (over_images, holding)], total)
        return total, max(df, min(holding, *(count - 1 for count in counts)))

    def half_width(
        self, kind: Kind, *, seeds: int | None = None, images: float | None = None
    ) -> float | None:
        """Compute half the width of the 95 % interval; the arguments are those of `total`."""
        total = self.total(kind, seeds=seeds, images=images)
        if total is None or math.isnan(total[0]):
            return None
        return t_quantile(0.5 + CONFIDENCE / 2, total[1]) * math.sqrt(total[0])


def _check_same_images(arms: Sequence[Sample]) -> None:
    first, *others = arms
    for other in others:
        if first.images != other.images:
            raise ValueError(f"{first.name} has {first.images} images and {other.name} {other.images}")
    tables = [arm.resampled for arm in arms if arm.resampled is not None]
    if len({table.shape[1] for table in tables}) > 1:
        raise ValueError(f"{' and '.join(arm.name for arm in arms)} have different numbers of resamples")


def _satterthwaite(parts: Sequence[tuple[float, float]], total: float) -> float:
    """Degrees of freedom of a variance with these parts, each with its own; infinite where it is 0."""
    # Relative to the total: the squares of tiny variances would vanish.
    inverse = sum((part / total) ** 2 / df for part, df in parts) if total > 0 else 0.0
    return 1 / inverse if inverse > 0 else math.inf
