"""COCO's matching and average precision, by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.matching import average_precision, evaluated, match, overlaps

Make = Callable[..., Judgement]


def test_the_best_detection_takes_the_nearest_object(judged: Make) -> None:
    """Detection 1 (.9) lies on object 1 (IoU 1) and, by 80 of 120, on object 0 (0.667): it takes 1. Detection
    0 (.8) takes what is left. Detection 2 is of another class, detection 3 lies on the ignored object, which
    others may lie on too."""
    made = judged(
        [(0, [0, 0, 10, 10], 0), (0, [2, 0, 12, 10], 0), (0, [50, 50, 90, 90], 0)],
        [
            (0, [1, 0, 11, 10], 0.8, 0),
            (0, [2, 0, 12, 10], 0.9, 0),
            (0, [0, 0, 10, 10], 0.7, 1),
            (0, [50, 50, 90, 90], 0.6, 0),
            (0, [50, 50, 90, 90], 0.5, 0),
        ],
        ignored=[False, False, True],
    )
    matches = match(made)
    assert matches.detection.tolist() == [0, 1, -1]
    assert matches.found_object.tolist() == [0, 1, -1, -1, -1]
    assert matches.counted.tolist() == [True, True, True, False, False]
    assert matches.within.all()
    assert match(made, 0.9).detection.tolist() == [-1, 1, -1]  # detection 0 and object 0: 90 / 110 = 0.82
    limited = match(made, max_detections=1)
    assert limited.within.tolist() == [False, True, True, False, False]
    assert limited.detection.tolist() == [-1, 1, -1]


def test_overlaps_by_hand() -> None:
    pairs = overlaps(np.array([[0, 0, 10, 10]]), np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0]]))
    np.testing.assert_allclose(pairs, [[1 / 3, 0, 0]])


def test_average_precision_by_hand() -> None:
    """Hit, miss, hit of 2 objects: precision 1 up to recall .5 (51 of the 101 recalls), then 2/3 (50)."""
    scores, hits = np.array([0.5, 0.9, 0.7]), np.array([True, True, False])
    assert average_precision(scores, hits, 2) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision(scores, hits, 4) == pytest.approx((26 + 25 * 2 / 3) / 101)  # recalls to .25, .5
    assert average_precision(scores, hits, 0) == -1
    assert average_precision(np.zeros(0), np.zeros(0, dtype=bool), 2) == 0


@pytest.mark.parametrize("iou", [0.5, 0.75])
@pytest.mark.parametrize("limit", [3, 100])
def test_matches_are_hotcocos(judged: Make, iou: float, limit: int) -> None:
    """Many boxes on a grid of whole pixels, so that scores and IoUs tie; every fifth object is a crowd."""
    rng = np.random.default_rng(1)

    def box() -> list[int]:
        x, y, w, h = (int(v) for v in (*rng.integers(0, 3, 2), *rng.integers(5, 8, 2)))
        return [x, y, x + w, y + h]

    objects = [(image, box(), int(rng.integers(2))) for image in range(12) for _ in range(8)]
    detections = [
        (image, box(), round(float(rng.random()), 1), int(rng.integers(2)))
        for image in range(12)
        for _ in range(30)
    ]
    ignored = [number % 5 == 0 for number in range(len(objects))]
    made = judged(objects, detections, images=12, ignored=ignored, max_detections=limit)
    own, told = match(made, iou), evaluated(made, [iou]).eval_imgs
    assert (own.detection >= 0).sum() >= 10
    seen = np.zeros(len(detections), dtype=bool)
    for cell in filter(None, told):
        rows = np.array(cell["dtIds"]) - 1
        seen[rows] = True
        partners = np.array(cell["dtMatches"][0]) - 1
        crowd = np.append(made.truth.ignored, False)[partners]
        np.testing.assert_array_equal(own.found_object[rows], np.where(crowd, -1, partners))
        np.testing.assert_array_equal(own.counted[rows], ~np.array(cell["dtIgnore"][0]))
        for row, partner in zip(rows, partners):
            if partner >= 0 and not made.truth.ignored[partner]:
                assert own.detection[partner] == row
    np.testing.assert_array_equal(own.within, seen)


def test_average_precision_is_hotcocos(judged: Make) -> None:
    rng = np.random.default_rng(0)
    objects = [(i, [x, x, x + 20, x + 20], i % 2) for i in range(6) for x in (0, 30, 60)]
    found = [
        (i, [x + d, x, x + 20 + d, x + 20], float(rng.random()), int(rng.integers(2)))
        for i, [x, *_], _ in objects
        for d in rng.integers(0, 20, 4)
    ]
    made = judged(objects, found, images=6)
    precision = np.asarray(evaluated(made, [0.5]).eval["precision"])[0, :, :, 0, 0].mean(axis=0)
    matches = match(made)
    for label in (0, 1):
        rows = made.found.labels == label
        own = average_precision(made.found.scores[rows], matches.found_object[rows] >= 0, 9)
        assert own == pytest.approx(precision[label], abs=1e-9)
