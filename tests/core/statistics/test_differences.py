"""Differences of arms, Holm's correction, what would tell them apart, and the sentences."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from densedet.core.statistics.differences import (
    Difference,
    Interaction,
    compare_pairs,
    difference,
    holm,
    interaction,
    over_all_sets,
    over_sets,
)
from densedet.core.statistics.power import need
from densedet.core.statistics.samples import Sample, Spread


def arm(name: str, *values: float) -> Sample:
    """Runs whose number is the same on all images."""
    table = np.array(values)
    return Sample(name, table, np.repeat(table[:, None], 50, axis=1), 100)


def test_a_difference_by_hand() -> None:
    # Means .5 and .4, variances .01 of the seeds each, of the means .01 / 3: t = .1 / sqrt(.02 / 3) = 1.2247
    # with 4 degrees of freedom: p = .2879; half the width is 2.7764 * .08165.
    told = difference(arm("A", 0.4, 0.5, 0.6), arm("B", 0.3, 0.4, 0.5), metric="AP", kind="these images")
    assert told.value == pytest.approx(0.1)
    assert told.p == pytest.approx(0.2879, abs=1e-4)
    assert told.high == pytest.approx(0.1 + 2.7764451 * math.sqrt(0.02 / 3), abs=1e-6)
    assert told.verdict == "not distinguishable"
    # n seeds: 2 (n - 1) degrees, variance .02 / n; below .02 from t^2 * .02 / n <= .0004: n > 192, too many
    assert told.words() == (
        "A and B are not distinguishable in AP at 3 seeds: the difference is .100 (-.127 to .327) for these "
        "images alone; no number of seeds on these images would tell a difference of .02"
    )
    # asked .1: t^2 * .02 / n <= .01. n = 9: 2.1199^2 * .00222 = .00999, enough; n = 8 has .0115.
    other = difference(arm("A", 0.4, 0.5, 0.6), arm("B", 0.3, 0.4, 0.5), kind="these images", asked=0.1)
    assert other.words().endswith("; 9 seeds would tell a difference of .1")


def test_the_better_arm_in_words() -> None:
    first, second = arm("A", 0.45, 0.451, 0.452), arm("B", 0.42, 0.421, 0.422)
    # the seeds' variance is 1e-6, of the means' difference 2e-6 / 3: half the width is 2.776 * .000816
    assert (
        difference(first, second).words() == "A is better by .030 (.028 to .032) at 3 seeds, for new images"
    )
    turned = difference(second, first, metric="AP50")
    assert turned.words() == "A is better in AP50 by .030 (.028 to .032) at 3 seeds, for new images"
    assert (turned.verdict, turned.first_ahead) == ("second", False)
    lower = difference(first, second, metric="misses", higher_is_better=False)
    assert lower.verdict == "second"
    assert lower.words() == (
        "B is better in misses by .030 (.028 to .032), lower being better, at 3 seeds, for new images"
    )


def test_one_seed_does_not_tell_which_is_better() -> None:
    told = difference(arm("A", 0.5), arm("B", 0.3, 0.31))
    assert told.verdict == "unknown"
    assert told.words() == (
        "whether A or B is better is unknown: the difference is .195 (.195 to .195) at 1 and 2 seeds, for "
        "new images and these runs: how much seeds vary is unknown"
    )
    bare = difference(
        Sample("A", np.array([0.5]), None, 9), Sample("B", np.array([0.3]), None, 9), metric="AP"
    )
    assert bare.words() == (
        "the difference of A and B in AP is .200; whether that is chance is unknown: one seed does not tell "
        "how much seeds vary"
    )
    nothing = difference(arm("A", 0.5, 0.6), arm("B", math.nan, 0.4))
    assert nothing.verdict == "unknown"
    assert nothing.words().endswith("unknown: a run has nothing that counts")
    json.dumps(nothing.to_dict(), allow_nan=False)


def test_arms_of_other_images_do_not_compare() -> None:
    with pytest.raises(ValueError, match="A has 100 images and B 99"):
        difference(arm("A", 0.5, 0.6), replace(arm("B", 0.5, 0.6), images=99))
    with pytest.raises(ValueError, match="different numbers of resamples"):
        difference(arm("A", 0.5), Sample("B", np.array([0.5]), np.ones((1, 7)), 100))


def of(p: float | None, value: float = 0.1, **fields: object) -> Difference:
    plain = Difference(
        "A",
        "B",
        "AP",
        value,
        value - 0.05,
        value + 0.05,
        p,
        p,
        1,
        "new images",
        (3, 3),
        100,
        True,
        True,
        None,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def test_holms_correction_by_hand() -> None:
    # Sorted .01, .02, .03: 3 * .01, then 2 * .02 and 1 * .03, none below the one before it
    corrected = holm([of(0.03), of(None), of(0.01), of(0.02)])
    assert [each.adjusted for each in corrected] == pytest.approx([0.04, None, 0.03, 0.04])
    assert [each.family for each in corrected] == [3, 1, 3, 3]
    # .02, .03: 2 * .02 = .04 and .03, raised to .04. Three of .4: 1, not 1.2
    assert [each.adjusted for each in holm([of(0.4)] * 3)] == [1.0] * 3
    told = holm([of(0.04), of(0.04)])[0]
    assert (told.adjusted, told.verdict) == (0.08, "not distinguishable")
    assert told.words() == (
        "A and B are not distinguishable in AP at 3 seeds: the difference is .100 (.050 to .150) for new "
        "images, which chance brings about among 2 comparisons (Holm)"
    )


def test_pairs_are_corrected_together() -> None:
    arms = [arm("A", 0.5, 0.51), arm("B", 0.4, 0.41), arm("C", 0.1, 0.11)]
    pairs = compare_pairs(combinations(arms, 2), metric="AP")
    assert [(each.first, each.second, each.family) for each in pairs] == [
        ("A", "B", 3), ("A", "C", 3), ("B", "C", 3)
    ]  # fmt: skip


def test_three_sets_tell_of_others() -> None:
    # Differences .1, .2, .3: mean .2, variance .01 / 3, t with 2 degrees 4.3027: .2 +- .2484
    told = over_sets({"x": of(0.5, 0.1), "y": of(0.5, 0.2), "z": of(0.5, 0.3)})
    assert told.low == pytest.approx(0.2 - 4.30265273 * 0.1 / math.sqrt(3), abs=1e-8)
    # t = .2 / .057735 = 3.4641 with 2 degrees: p = 1 - t / sqrt(2 + t^2) = .0742
    assert told.p == pytest.approx(1 - 3.4641016 / math.sqrt(14), abs=1e-7)
    assert told.words() == (
        "A and B are not distinguishable in AP over 3 sets: the mean difference is .200 (-.048 to .448); A "
        "is ahead on 3 of them"
    )
    less = over_sets({"x": of(0.5, -0.1), "y": of(0.5, -0.11), "z": of(0.5, -0.12), "w": of(0.5, -0.11)})
    assert less.verdict == "second"
    assert less.words() == (
        "B is better in AP by .110 (.097 to .123) in the mean over 4 sets, and ahead on 4 of them"
    )
    json.dumps(less.to_dict(), allow_nan=False)


def test_two_sets_are_told_one_by_one() -> None:
    told = over_sets({"x": of(0.01, 0.1), "y": of(0.01, -0.2)})
    assert told.verdict == "unknown"
    assert told.words() == (
        "Two sets do not tell about other sets: on x A is better in AP by .100 (.050 to .150) at 3 seeds, "
        "for new images; on y B is better in AP by .200 (.150 to .250) at 3 seeds, for new images"
    )
    with pytest.raises(ValueError, match="same two arms"):
        over_sets({"x": of(0.1), "y": replace(of(0.1), first="C")})


def test_pairs_over_sets_are_corrected_together() -> None:
    """Three pairs, the third on two sets alone; Holm's correction is for the two that have a p value."""

    def pair(first: str, value: float) -> Difference:
        return replace(of(0.5, value), first=first)

    sets = {
        "x": [pair("A", 0.10), pair("C", 0.1), pair("D", 0.1)],
        "y": [pair("A", 0.11), pair("C", 0.2), pair("D", 0.1)],
        "z": [pair("A", 0.12), pair("C", 0.3)],
    }
    told = over_all_sets(sets)
    assert [one.pair for one in told] == [("A", "B"), ("C", "B"), ("D", "B")]
    # A: t = .11 / (.01 / sqrt(3)) = 19.05, p = .00274, twice that; C: p = .0742 as above
    assert [one.adjusted for one in told] == pytest.approx([0.00548, 0.0742, None], abs=5e-5)
    assert [one.family for one in told] == [2, 2, 1]
    assert list(told[2].sets) == ["x", "y"]


def test_seeds_and_images_that_would_tell() -> None:
    seeds = Spread(0.0, (3, 3), (1e-4, 1e-4), (0.0, 0.0), 1e-6, 1000, 1000)
    told = need(seeds, "new images", 0.02)
    assert told is not None and told.seeds is not None and not told.enough
    widths = [seeds.half_width("new images", seeds=n) for n in (told.seeds - 1, told.seeds)]
    assert widths[0] is not None and widths[1] is not None
    assert widths[0] > 0.02 >= widths[1]
    asked = seeds.half_width("new images", seeds=4)
    assert asked is not None
    told = need(seeds, "new images", asked)
    assert told is not None and told.seeds == 4  # one more than there are
    wide = need(seeds, "new images", 0.2)
    assert wide is not None and wide.enough
    assert wide.words() == "a difference of .2 would have shown"
    # The images' part alone, sd .0316, is too wide: 1.96^2 * .001 * 1000 / I <= .0004 needs I = 9604
    images = Spread(0.0, (3, 3), (1e-9, 1e-9), (0.0, 0.0), 1e-3, 1000, 1000)
    told = need(images, "new images", 0.02)
    assert told is not None and told.seeds is None
    assert told.words() == (
        "no number of seeds on these images would tell a difference of .02, 9700 images with 3 seeds would"
    )
    assert need(Spread(0.0, (1, 3), (), (), 1e-3, 1000, 1000), "new images", 0.02) is None
    # Seeds' part at 3 of each: t(4) = 2.776 times sqrt(.0001), .0278, and a difference of .031 asked.
    # That leaves the images less than half of the variance: a fourth seed, with 2.45^2 * .0003 / 4 = .00045
    # of .00096.
    both = Spread(0.0, (3, 3), (5e-5, 5e-5), (0.0, 0.0), 1e-3, 1000, 1000)
    told = need(both, "new images", 0.031)
    assert told is not None and told.seeds is None and told.images is not None
    assert told.with_seeds == 4


def test_an_interaction_by_hand() -> None:
    # .60 - .40 - .35 + .30 = .15. Each arm's seeds are .02 apart: the variance of a mean is .0002 / 2 = 1e-4,
    # of the sum 4e-4, with (4e-4)^2 / (4 * 1e-8) = 4 degrees of freedom: half the width is 2.7764 * .02.
    arms = [arm("n", 0.29, 0.31), arm("a", 0.39, 0.41), arm("b", 0.34, 0.36), arm("ab", 0.59, 0.61)]
    told = interaction(*arms, names=("neck", "head"), metric="AP", kind="these images")
    assert told.value == pytest.approx(0.15)
    assert told.high == pytest.approx(0.15 + 2.7764451 * 0.02, abs=1e-6)
    assert told.seeds == (2, 2, 2, 2)
    assert told.words() == (
        "neck and head interact in AP: each adds .150 (.094 to .206) more on top of the other than alone, at "
        "2 seeds, for these images alone"
    )
    # It is the gain of b on top of a minus its gain alone, and the same the other way round.
    neither, first, second, both = arms
    assert interaction(neither, second, first, both, names=("head", "neck")).value == pytest.approx(0.15)
    less = interaction(first, neither, both, second, names=("neck", "head"), kind="these images")
    assert less.words().startswith("neck and head interact: each adds .150 (.094 to .206) less on top")


def test_no_interaction_in_words() -> None:
    arms = [arm("n", 0.2, 0.4), arm("a", 0.3, 0.5), arm("b", 0.3, 0.5), arm("ab", 0.41, 0.61)]
    told = interaction(*arms, names=("neck", "head"), kind="these images")
    assert told.verdict == "not distinguishable"
    # The variance of a mean is .02 / 2: half the width is 2.7764 * .2 = .555 around .01.
    assert told.words().startswith(
        "no interaction of neck and head is distinguishable: each adds .010 (-.545 to .565) more on top of "
        "the other than alone, at 2 seeds"
    )
    one = interaction(*(arm(name, 0.1) for name in "nabc"), names=("neck", "head"), kind="these images")
    assert one.words() == (
        "whether neck and head interact is unknown: one seed does not tell how much seeds vary"
    )
    with pytest.raises(ValueError, match="ab has 7 images and n 100"):
        interaction(*arms[:3], replace(arms[3], images=7), names=("neck", "head"))


def test_interactions_are_corrected_together() -> None:
    arms = [arm("n", 0.29, 0.31), arm("a", 0.39, 0.41), arm("b", 0.34, 0.36), arm("ab", 0.59, 0.61)]
    one = interaction(*arms, names=("neck", "head"), kind="these images")
    first, second = holm([one, one])
    assert isinstance(first, Interaction)
    assert first.p is not None
    assert first.adjusted == second.adjusted == pytest.approx(2 * first.p)
