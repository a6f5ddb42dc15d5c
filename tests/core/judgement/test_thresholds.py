"""Thresholds by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from densedet.core.errors import UsageError
from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.matching import evaluated
from densedet.core.judgement.thresholds import Wish, find_thresholds, score_curves

Make = Callable[..., Judgement]

BOX = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]


def example(judged: Make) -> Judgement:
    """Cats: 4 objects; hits at .9, .7, .5 and .25, misses at .8, .5 and .125. A dog without detection, a
    detection of a cow without object, a hen whose only detection is wrong."""
    return judged(
        [*((0, box, 0) for box in BOX), (0, BOX[0], 1), (0, BOX[0], 3)],
        [
            (0, BOX[0], 0.9, 0),
            (0, [0, 50, 10, 60], 0.8, 0),
            (0, BOX[1], 0.7, 0),
            (0, BOX[2], 0.5, 0),
            (0, [0, 70, 10, 80], 0.5, 0),
            (0, BOX[3], 0.25, 0),
            (0, [0, 90, 10, 99], 0.125, 0),
            (0, BOX[0], 0.5, 2),
            (0, BOX[3], 0.5, 3),
        ],
        classes=("cat", "dog", "cow", "hen"),
    )


def test_the_curve_by_hand(judged: Make) -> None:
    """Two detections share .5, so that both count or none."""
    curve = score_curves(example(judged))["cat"]
    assert curve.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.5, 0.25, 0.125])
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 5, 4 / 6, 4 / 7])
    assert curve.recall.tolist() == pytest.approx([1 / 4, 1 / 4, 2 / 4, 3 / 4, 1, 1])
    # 2 TP / (2 TP + FP + FN) = 2 TP / (detections + objects)
    assert curve.f1.tolist() == pytest.approx([2 / 5, 2 / 6, 4 / 7, 6 / 9, 8 / 10, 8 / 11])


@pytest.mark.parametrize(
    ("wish", "score", "precision", "recall"),
    [
        ("f1", 0.25, 4 / 6, 1),
        ("precision=0.65", 0.25, 4 / 6, 1),  # .9 and .7 reach it too, with less recall
        ("precision=0.9", 0.9, 1, 1 / 4),
        ("recall=0.5", 0.7, 2 / 3, 1 / 2),  # .25 has the same precision: the highest score counts
        ("recall=1", 0.25, 4 / 6, 1),
    ],
)
def test_the_wish_is_reached(judged: Make, wish: str, score: float, precision: float, recall: float) -> None:
    cat = find_thresholds(example(judged), Wish.parse(wish))[0]
    assert (cat.score, cat.precision, cat.recall) == pytest.approx((score, precision, recall))
    assert cat.objects == 4
    assert not cat.note


def test_a_class_without_a_threshold_says_why(judged: Make) -> None:
    _, dog, cow, hen = find_thresholds(example(judged), Wish("f1"))
    assert [one.score for one in (dog, cow, hen)] == [None] * 3
    assert dog.note == "there is no detection of it"
    assert cow.note == "these images have no object of it"
    assert hen.note == "no detection of it is right"
    cat = find_thresholds(example(judged), Wish("recall", 1.0))[0]
    assert cat.score == 0.25
    note = find_thresholds(
        judged([(0, BOX[0], 0), (0, BOX[1], 0)], [(0, BOX[0], 0.9, 0)]), Wish("recall", 0.8)
    )[0].note
    assert note == "its recall is 0.500 at most"


def test_the_best_f1_is_hotcocos(judged: Make) -> None:
    """hotcoco takes the best F1 over 101 recalls of the interpolated precision; the best ones here lie on
    such recalls: cats .8, dogs and hens 0, mean over the classes with objects."""
    curves = score_curves(example(judged))
    own = sum(curves[name].f1.max(initial=0) for name in ("cat", "dog", "hen")) / 3
    assert evaluated(example(judged)).f_scores()["F1_50"] == pytest.approx(own)


@pytest.mark.parametrize("text", ["f2", "f1=0.5", "precision", "precision=0", "recall=1.5", "recall=x", ""])
def test_other_wishes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write f1, precision=0.9 or recall=0.8"):
        Wish.parse(text)
