"""The images that cost most AP, and labels that may be wrong, on judgements made by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.matching import evaluated
from densedet.core.judgement.worst import (
    NO_OBJECT,
    NOTHING_THERE,
    OTHER_CLASS,
    Suspect,
    suspects,
    worst_images,
)

Make = Callable[..., Judgement]
A, B, C = (0.0, 0, 20, 10), (40.0, 0, 60, 20), (0.0, 40, 20, 60)


def test_costs_by_hand(judged: Make) -> None:
    """Cats: a false alarm of image 1, then the hit in image 0, and B of image 1 is missed. The precision is
    1/2 to recall 1/2, which 51 of 101 recalls are within. Dogs have no object and do not count."""
    made = judged(
        [(0, A, 0), (1, B, 0)],
        [(0, A, 0.9, 0), (0, C, 0.1, 1), (1, C, 0.95, 0), (2, C, 0.01, 0)],
        images=3,
    )
    ap, worst = worst_images(made)
    assert ap == pytest.approx(51 / 2 / 101)
    # With image 1 mended, both objects are found before the false alarm of image 2: 1. With image 0 mended, A
    # stands before the false alarm of image 1: precision 1 to recall 1/2.
    assert [(one.image, one.cost) for one in worst] == [
        (1, pytest.approx(1 - 51 / 2 / 101)),
        (0, pytest.approx(51 / 2 / 101)),
    ]
    assert [(one.found, one.missed, one.false_alarms) for one in worst] == [(0, 1, 1), (1, 0, 0)]
    assert worst_images(made, count=1)[1] == worst[:1]
    assert worst_images(made, threshold=0.96)[1][0].false_alarms == 0


def test_costs_are_those_of_another_evaluation(judged: Make) -> None:
    """Many images, of which each in turn is replaced by a perfect one and evaluated anew by hotcoco."""
    draw = np.random.default_rng(0)
    objects = [
        (i, (float(x), 0.0, float(x) + 10, 10.0), int(k)) for i in range(8) for x, k in ((0, 0), (40, 1))
    ]
    detections = [
        (image, (box[0] + float(draw.choice([0, 3, 60])), 0.0, box[2] + 2, 10.0), float(draw.random()), label)
        for image, box, label in objects
        for _ in range(2)
    ]
    detections = [(i, (min(b[0], b[2] - 1), *b[1:]), s, k) for i, b, s, k in detections]

    def ap_of(rows: list[tuple[int, tuple[float, ...], float, int]]) -> float:
        evaluation = evaluated(judged(objects, rows, images=8), [0.5])
        assert evaluation.eval is not None
        return float(np.asarray(evaluation.eval["precision"]).mean())

    ap, worst = worst_images(judged(objects, detections, images=8), count=8)
    assert ap == pytest.approx(ap_of(detections), abs=1e-9)
    assert worst
    for one in worst:
        perfect = [(i, box, 1.0, label) for i, box, label in objects if i == one.image]
        rows = sorted([row for row in detections if row[0] != one.image] + perfect, key=lambda row: row[0])
        assert one.cost == pytest.approx(ap_of(rows) - ap, abs=1e-9)
    assert [one.cost for one in worst] == sorted((one.cost for one in worst), reverse=True)


def test_suspects_by_hand(judged: Make) -> None:
    made = judged(
        [(0, A, 0), (0, B, 1), (1, C, 0)],
        [
            (0, A, 0.9, 0),  # right
            (0, (40.0, 0, 60, 18), 0.8, 0),  # B, a dog, as a cat: IoU 18 / 20
            (0, (40.0, 0, 60, 16), 0.6, 0),  # the same again, less sure
            (0, C, 0.7, 1),  # nothing is labelled there
            (1, A, 0.2, 0),  # below the threshold
        ],
        images=2,
        traced=np.array([True, True, True]),
        best_score=np.array([0.9, 0.4, 0.01], dtype=np.float32),
    )
    found = suspects(made)
    assert found == [
        Suspect(0, OTHER_CLASS, 1, 1, pytest.approx(0.8), pytest.approx(0.9)),  # type: ignore[arg-type]
        Suspect(0, NO_OBJECT, 3, -1, pytest.approx(0.7), 0.0),  # type: ignore[arg-type]
        Suspect(1, NOTHING_THERE, -1, 2, pytest.approx(0.01), 0.0),  # type: ignore[arg-type]
    ]
    assert {one.kind for one in suspects(made, threshold=0.75)} == {OTHER_CLASS, NOTHING_THERE}
    untraced = judged([(0, A, 0)], [(0, A, 0.1, 0)])
    assert suspects(untraced) == []


def test_images_without_objects_or_detections(judged: Make) -> None:
    assert worst_images(judged([], [], images=2)) == (0.0, [])
    assert suspects(judged([], [], images=2)) == []
    only = judged([(0, A, 0)], [])
    ap, worst = worst_images(only)
    assert (ap, [one.cost for one in worst]) == (0.0, [1.0])
