"""Variances, degrees of freedom and intervals, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densedet.core.statistics.intervals import estimate, number
from densedet.core.statistics.samples import Sample, Spread, bootstrap_weights
from densedet.core.statistics.student import t_quantile

# Two seeds .4 and .6 on 10 images; three resamples, in which the seeds are .1, .2, .3 off their own number,
# alike; and such that they are off against each other.
VALUES = np.array([0.4, 0.6])
ALIKE = np.array([[0.3, 0.4, 0.5], [0.5, 0.6, 0.7]])
APART = np.array([[0.3, 0.4, 0.5], [0.7, 0.6, 0.5]])


def test_weights_of_a_bootstrap() -> None:
    weights = bootstrap_weights(7, resamples=5, seed=3)
    assert weights.shape == (6, 7)
    assert weights[0].tolist() == [1.0] * 7
    assert weights.sum(axis=1).tolist() == [7.0] * 6
    assert weights.sum(axis=0).tolist() == [6.0] * 7  # balanced
    assert np.array_equal(weights, bootstrap_weights(7, resamples=5, seed=3))
    assert not np.array_equal(weights, bootstrap_weights(7, resamples=5, seed=4))


def test_a_sample_of_runs() -> None:
    runs = [{"AP": np.array([0.4, 0.3, -1.0])}, {"AP": np.array([-1.0, 0.5, 0.6])}]
    sample = Sample.of("a", runs, "AP", 10)
    assert sample.resampled is not None
    assert np.array_equal(sample.values, [0.4, np.nan], equal_nan=True)
    assert np.array_equal(sample.resampled, [[0.3, np.nan], [0.5, 0.6]], equal_nan=True)


def test_variances_by_origin() -> None:
    spread = Spread.of(Sample("a", VALUES, ALIKE, 10))
    # Seeds: the variance of .4 and .6 is .02, of their mean .01. Images: the mean is .4, .5, .6, variance
    # .01, times 10 / 9 since a resample of 10 images has 9 degrees of freedom. The seeds move alike.
    assert spread.value == 0.5
    assert spread.seeds == pytest.approx((0.01,))
    assert spread.images == pytest.approx(0.01 * 10 / 9)
    assert spread.interactions == pytest.approx((0.0,), abs=1e-15)
    total = spread.total("new images")
    assert total is not None
    # df: 4 parts .01 for the seeds' 1 degree (1 + 3 / 1^4), and .0111 for the images' 9, would be less than 1
    assert total[0] == pytest.approx(0.01 + 0.01 * 10 / 9)
    assert total[1] == 1
    three = Spread(0.5, (3,), (0.01,), (0.004,), 0.012, 10, 10).total("new images")
    assert three is not None
    # df: (1 + 3 / 2^4) parts .01 less half of .004 for 2 degrees, .0099, and .012 for 9
    assert three[0] == pytest.approx(0.012 + 0.01 - 0.004)
    assert three[1] == pytest.approx(0.018**2 / (0.009875**2 / 2 + 0.012**2 / 9))
    assert spread.total("these images") == pytest.approx((0.01, 1.0))


def test_the_bias_of_few_images() -> None:
    # Resamples lie .1 above the number, and show half of the bias: .2, squared .04. That of two arms cancels.
    spread = Spread.of(Sample("a", VALUES, ALIKE + 0.1, 10))
    assert spread.value == 0.5
    assert spread.images == pytest.approx(0.01 * 10 / 9 + 0.04)
    second = Sample("b", VALUES, ALIKE + 0.1, 10)
    assert Spread.of(Sample("a", VALUES, ALIKE + 0.1, 10), second).images == pytest.approx(0, abs=1e-15)


def test_the_interaction_counts_once() -> None:
    spread = Spread.of(Sample("a", VALUES, APART, 10))
    # The mean never moves; each seed moves by .1 around it: variance .01 each, so .02 / (2 - 1) for one seed
    # and .01 for the mean of two, times 10 / 9. That is all of the seeds' variance (.01).
    assert spread.images == pytest.approx(0.0, abs=1e-15)
    assert spread.interactions == pytest.approx((0.01 * 10 / 9,))
    total = spread.total("new images")
    assert total is not None
    assert total[0] == pytest.approx(0.0, abs=1e-15)
    # With 8 seeds the expected variance over images is that of the interaction, a quarter.
    expected = spread.total("new images", seeds=8)
    assert expected is not None
    assert expected[0] == pytest.approx(0.01 * 10 / 9 / 4)


def test_what_more_seeds_would_leave() -> None:
    # Two seeds: interaction .004 of the images' .01 and of the seeds' .01. Eight leave a quarter of it, .001,
    # beside the images' own .006 and a quarter of the seeds' own .006; twice the images halve what varies
    # with them.
    spread = Spread(0.5, (2,), (0.01,), (0.004,), 0.01, 100, 100)
    eight, twice = spread.total("new images", seeds=8), spread.total("new images", seeds=8, images=200)
    assert eight is not None and twice is not None
    assert eight[0] == pytest.approx(0.006 + 0.001 + 0.0015)
    assert twice[0] == pytest.approx(0.007 / 2 + 0.0015)


def test_the_difference_pairs_images_and_not_seeds() -> None:
    first, second = (
        Sample("a", VALUES, ALIKE, 10),
        Sample("b", np.array([0.1, 0.3, 0.5]), ALIKE[[0] * 3] - 0.1, 10),
    )
    spread = Spread.of(first, second)
    assert spread.value == pytest.approx(0.2)
    assert spread.seeds == pytest.approx((0.01, 0.04 / 3))
    assert spread.images == pytest.approx(0.0, abs=1e-15)  # both move alike
    total = spread.total("these images")
    assert total is not None
    # Welch: (.01 + .01333)^2 / (.01^2 / 1 + .01333^2 / 2)
    assert total[1] == pytest.approx((0.01 + 0.04 / 3) ** 2 / (0.01**2 + (0.04 / 3) ** 2 / 2))


def test_an_interval_and_its_words() -> None:
    interval = estimate(Sample("a", VALUES, ALIKE, 10), "these images")
    # t with one degree of freedom is 12.706: .5 +- 12.706 * .1
    assert interval.low == pytest.approx(0.5 - 12.7062047 * 0.1, abs=1e-6)
    assert interval.words() == ".500 (-.771 to 1.771) at 2 seeds, for these images alone"
    both = estimate(Sample("a", VALUES, ALIKE, 10))
    total = Spread.of(Sample("a", VALUES, ALIKE, 10)).total("new images")
    assert total is not None and both.high is not None
    assert both.high - 0.5 == pytest.approx(t_quantile(0.975, total[1]) * math.sqrt(total[0]))
    assert both.to_dict()["words"].endswith("at 2 seeds, for new images")


def test_one_seed_tells_of_images_alone_and_says_so() -> None:
    one = estimate(Sample("a", VALUES[:1], ALIKE[:1], 10))
    # t with 9 degrees is 2.262; the variance is .01 * 10 / 9
    assert one.high == pytest.approx(0.4 + 2.2621571627 * math.sqrt(0.1 / 9), abs=1e-9)
    assert not one.seeds_known
    assert one.words().endswith("at 1 seed, for new images and these runs: how much seeds vary is unknown")
    seeds = estimate(Sample("a", VALUES[:1], ALIKE[:1], 10), "these images")
    assert seeds.low is seeds.high is None
    assert seeds.words() == ".400 (interval unknown: one seed does not tell how much seeds vary)"


def test_an_evaluator_without_resamples_tells_of_these_images() -> None:
    interval = estimate(Sample("a", VALUES, None, 10))
    assert interval.kind == "these images"
    assert interval.words().endswith("at 2 seeds, for these images alone")
    assert estimate(Sample("a", VALUES[:1], None, 10)).low is None
    assert estimate(Sample("a", VALUES, ALIKE, 1)).kind == "these images"  # one image


def test_a_number_that_nothing_counts_for() -> None:
    interval = estimate(Sample("a", np.array([0.4, np.nan]), ALIKE, 10))
    assert interval.low is None
    assert interval.words() == "unknown (interval unknown: a run has nothing that counts)"
    assert interval.to_dict()["value"] is None


def test_objects_in_few_images() -> None:
    # 135 of 1000 resamples have no object, as e^-2 says of two images that hold one: 1 degree of freedom, and
    # a variance twice the resamples'.
    table = np.concatenate([np.full(135, np.nan), np.tile([0.3, 0.5], 433)[:865]])[None]
    spread = Spread.of(Sample("a", np.array([0.4]), table, 500))
    assert spread.holding == pytest.approx(-math.log(0.135))
    assert spread.images == pytest.approx(0.01 * 2, rel=0.02)
    total = spread.total("new images")
    assert total is not None
    assert total[1] == pytest.approx(-math.log(0.135) - 1)
    # All in one image: 37 % have none, and nothing can be told.
    table = np.where(np.arange(1000) < 368, np.nan, 0.5)[None]
    assert Spread.of(Sample("a", np.array([0.5]), table, 500)).images is None


def test_no_variance_at_all() -> None:
    interval = estimate(Sample("a", np.ones(3), np.ones((3, 20)), 10))
    assert (interval.low, interval.high, interval.df) == (1.0, 1.0, math.inf)
    assert interval.to_dict()["df"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0314, ".031"), (-0.01, "-.010"), (1.0, "1.000"), (-0.0001, ".000"), (0.0, ".000"), (12.5, "12.500"),
     (12345.6, "1.235e+04"), (10.0314, "10.031"), (math.nan, "unknown")],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
