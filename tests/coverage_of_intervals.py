"""Count how often the intervals of a comparison hold the truth, on detections whose truth is known.

python tests/coverage_of_intervals.py --repetitions 1000 --seed 0                 # all cells
python tests/coverage_of_intervals.py --repetitions 100 --images 50 --ratios 1    # a few cells

The population: an image has objects and a difficulty, which all detectors meet alike; a seed gives a detector
a quality. Whether an object is found and how high it scores depends on quality, difficulty and chance, and
each image has false detections. A seed's true AP is that on a very large population; qualities are drawn so
that the true AP is normal over the seeds, with a standard deviation of ``ratio`` times that of one seed's AP
over sets of the cell's images. An arm's truth is the mean over all seeds and images.

Three arms: A, A again under other seeds, and B, which is better. Counted of each cell: the intervals of A for
new images that hold its truth, the intervals of A - B that hold theirs, and how often A is found different
from itself; and the mean width of A's intervals.

With few images (--largest-ap) the number is AP, from the matches of each resample. With more it is the share
of objects that are found, from sums per image: a thousand repetitions of AP on 5,000 images take half an
hour of a core for each ratio.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np

from densedet.core.statistics.differences import difference
from densedet.core.statistics.intervals import estimate
from densedet.core.statistics.matches import RECALLS_101, ClassMatches, MatchStore
from densedet.core.statistics.samples import Sample, bootstrap_weights

SEEDS = (2, 3, 5, 10)
"""Numbers of seeds of an arm; each repetition draws the most and takes the first ones."""

POPULATION = 100_000
"""Images of the population in which a quality's true AP is computed."""

QUALITIES = np.linspace(-6, 6, 49)
MEANS = (0.50, 0.50, 0.55)
"""Mean true AP of the arms A, A again, and B. Those of the share of found objects are the same."""


@dataclass(frozen=True)
class Images:
    """Objects and difficulty of I images."""

    objects: np.ndarray
    difficulty: np.ndarray

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> Images:
        return cls(1 + rng.poisson(2.0, count), 0.6 * rng.normal(size=count))


def detect(images: Images, quality: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Run a detector: image, score and truth of each detection, best first."""
    owner = np.repeat(np.arange(len(images.objects)), images.objects)
    ease = quality - images.difficulty[owner]
    found = rng.random(len(owner)) < 1 / (1 + np.exp(-1 - ease))
    false = np.repeat(np.arange(len(images.objects)), rng.poisson(1.0, len(images.objects)))
    score = rng.normal(size=found.sum() + len(false))
    score[: found.sum()] += 1 + 0.3 * ease[found]
    image = np.concatenate([owner[found], false])
    order = np.argsort(-score)
    return image[order], score[order], (np.arange(len(score)) < found.sum())[order]


def store_of(images: Images, detectors: list[tuple[np.ndarray, ...]]) -> MatchStore:
    """The matches of several detectors on the same images, one "class" for each."""
    parts = []
    for image, score, true in detectors:
        none, place = np.zeros((1, 1, len(image)), dtype=bool), np.zeros(len(image), dtype=np.int64)
        parts.append(ClassMatches(image, score, place, true[None, None], none, images.objects[None]))
    return MatchStore(len(images.objects), parts, RECALLS_101, (1,))


def numbers(
    images: Images, detectors: list[tuple[np.ndarray, ...]], weights: np.ndarray, ap: bool
) -> np.ndarray:
    """AP, or the share of found objects, of each detector and resample: (detectors, resamples)."""
    if ap:
        return np.asarray(store_of(images, detectors).measure(weights).precision[:, :, 0, 0].T)
    count = len(images.objects)
    hits = np.stack([np.bincount(image[true], minlength=count) for image, _, true in detectors])
    return np.asarray((hits @ weights.T) / (images.objects @ weights.T))


@dataclass(frozen=True)
class World:
    """True numbers by quality.

    Attributes:
        ap: whether the number is AP or the share of found objects.
        truth: the number in the population for each of `QUALITIES`, rising.
    """

    ap: bool
    truth: np.ndarray

    @classmethod
    def make(cls, ap: bool, rng: np.random.Generator) -> World:
        images = Images.draw(POPULATION, rng)
        one, state = np.ones((1, POPULATION)), rng.bit_generator.state
        truth = []
        for quality in QUALITIES:  # with the same random numbers, so that the curve is smooth
            rng.bit_generator.state = state
            truth.append(float(numbers(images, [detect(images, quality, rng)], one, ap)[0, 0]))
        return cls(ap, np.maximum.accumulate(np.array(truth)))

    def noise(self, count: int, rng: np.random.Generator) -> float:
        """Standard deviation of one seed's number over sets of so many images."""
        quality, one = float(np.interp(MEANS[0], self.truth, QUALITIES)), np.ones((1, count))
        sets = [Images.draw(count, rng) for _ in range(400)]
        values = [numbers(images, [detect(images, quality, rng)], one, self.ap)[0, 0] for images in sets]
        return float(np.std(values, ddof=1))

    def qualities(self, mean: float, deviation: float, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw seeds whose true number is normal, cut off evenly at both sides."""
        reach = min(mean - self.truth[0], self.truth[-1] - mean)
        wished = mean + np.clip(deviation * rng.normal(size=count), -reach, reach)
        return np.asarray(np.interp(wished, self.truth, QUALITIES))


def cell(
    world: World, count: int, ratio: float, repetitions: int, resamples: int, rng: np.random.Generator
) -> dict[int, np.ndarray]:
    """Count the hits of one number of images and one ratio.

    Returns:
        For each number of seeds the last four columns of the table, summed over the repetitions.
    """
    deviation, most = ratio * world.noise(count, rng), max(SEEDS)
    weights = bootstrap_weights(count, resamples=resamples)
    counts = {seeds: np.zeros(4) for seeds in SEEDS}
    for _ in range(repetitions):
        images = Images.draw(count, rng)
        drawn = np.concatenate([world.qualities(mean, deviation, most, rng) for mean in MEANS])
        table = numbers(images, [detect(images, quality, rng) for quality in drawn], weights, world.ap)
        arms = np.split(table, len(MEANS))
        for seeds, sums in counts.items():
            first, again, better = (
                Sample(name, arm[:seeds, 0], arm[:seeds, 1:], count) for name, arm in zip("ACB", arms)
            )
            interval, gap = estimate(first), difference(first, better)
            assert interval.low is not None and interval.high is not None
            assert gap.low is not None and gap.high is not None
            sums += (
                interval.low <= MEANS[0] <= interval.high,
                gap.low <= MEANS[0] - MEANS[2] <= gap.high,
                difference(first, again).verdict != "not distinguishable",
                interval.high - interval.low,
            )
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.25, 1, 4])
    parser.add_argument("--largest-ap", type=int, default=500, help="most images for which AP is computed")
    options = parser.parse_args()
    began, outside = time.process_time(), 0
    worlds: dict[bool, World] = {}
    print("| images | number | seed : image noise | seeds | A holds | A - B holds | A is not A | width |")
    print("|---|---|---|---|---|---|---|---|")
    for count in options.images:
        ap = count <= options.largest_ap
        if ap not in worlds:
            worlds[ap] = World.make(ap, np.random.default_rng((options.seed, ap)))
        for ratio in options.ratios:
            rng = np.random.default_rng((options.seed, count, int(1000 * ratio)))
            counts = cell(worlds[ap], count, ratio, options.repetitions, options.resamples, rng)
            for seeds, sums in counts.items():
                one, two, wrong, width = sums / options.repetitions
                bad = not (0.92 <= one <= 0.98 and 0.92 <= two <= 0.98 and wrong <= 0.07)
                outside += bad
                name = "AP" if ap else "share found"
                shares = " | ".join(f"{100 * share:.1f} %" for share in (one, two, wrong))
                row = f"| {count} | {name} | {ratio:g} : 1 | {seeds} | {shares} | {width:.3f} |"
                print(row + (" outside" if bad else ""), flush=True)
    minutes = (time.process_time() - began) / 60
    print(f"\n{outside} cells lie outside of 92 to 98 %, or find A different from A in more than 7 %.")
    print(f"{options.repetitions} repetitions took {minutes:.1f} minutes of one core.")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
