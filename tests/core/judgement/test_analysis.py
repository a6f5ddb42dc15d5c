"""Analyses of hand-made judgements, by arithmetic and beside hotcoco's own numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from densedet.core.errors import UsageError
from densedet.core.judgement import analysis
from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.matching import evaluated

Make = Callable[..., Judgement]
A, B, C = [0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60]


def errors(judged: Make) -> Judgement:
    """One error of each kind beside a hit: cats at A, B and C, a dog at (80, 80, 100, 100)."""
    return judged(
        [(0, A, 0), (0, B, 0), (0, C, 0), (0, [80, 80, 100, 100], 1)],
        [
            (0, A, 0.9, 0),  # right
            (0, [0, 0, 20, 19], 0.8, 0),  # a second one of A: IoU 0.95
            (0, [40, 0, 60, 8], 0.7, 0),  # B too far off: 8 of 20, IoU 0.4
            (0, [80, 80, 100, 100], 0.6, 0),  # the dog as a cat
            (0, [40, 40, 50, 50], 0.5, 0),  # background
        ],
    )


def test_error_types_by_hand(judged: Make) -> None:
    """C is missed outright; the wrong class and the far box account for B and the dog."""
    found = analysis.error_types(errors(judged))
    assert found.counts == {"Cls": 1, "Loc": 1, "Both": 0, "Dupe": 1, "Bkg": 1, "Miss": 1}
    # Cats: one hit of three objects, first: precision 1 to recall 1/3, which 34 of 101 recalls are within.
    # Dogs: nothing.
    assert found.ap == pytest.approx((34 / 101 + 0) / 2)
    # Without the duplicate, or without the background at the end, the precision at recall 1/3 stays 1.
    assert found.gains["Dupe"] == pytest.approx(0)
    assert found.gains["Bkg"] == pytest.approx(0)
    # The far box in place makes cats 2 of 3: hits at ranks 1 and 3, precision 2/3 from recall 34 to 66.
    assert found.gains["Loc"] == pytest.approx(33 * 2 / 3 / 101 / 2)


def test_confusion_by_hand(judged: Make) -> None:
    made = errors(judged)
    found = analysis.confusion(made, threshold=0.0)
    assert found.classes == ("cat", "dog")
    # Rows cat, dog, background. Cats: A is found, B and C are not. The dog is taken for a cat. False alarms:
    # the duplicate, the far box and the background.
    assert found.matrix.tolist() == [[1, 0, 2], [1, 0, 0], [3, 0, 0]]
    assert analysis.confusion(made, threshold=0.75).matrix.tolist() == [[1, 0, 2], [0, 0, 1], [1, 0, 0]]
    assert analysis.confusion(made, threshold=[0.95, 0.0]).matrix.sum() == 4
    ignoring = judged([(0, A, 0)], [(0, A, 0.9, 0)], ignored=[True])
    assert analysis.confusion(ignoring).matrix.sum() == 0


def test_calibration_by_hand(judged: Make) -> None:
    """Two bins: 0.3, wrong; 0.9, 0.8, 0.7, 0.6, of which one is right: mean 0.75 against 1/4."""
    made = errors(judged)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.3], dtype=np.float32)
    found = analysis.calibration(replace(made, found=replace(made.found, scores=scores)), bins=2)
    low, high = found.bins
    assert (low.low, low.high, low.detections, low.right) == (0, 0.5, 1, 0)
    assert low.score == pytest.approx(0.3)
    assert (high.detections, high.right, high.score) == (4, 0.25, pytest.approx(0.75))
    assert found.error == pytest.approx((1 * 0.3 + 4 * 0.5) / 5)
    assert found.largest == pytest.approx(0.5)
    assert found.classes["cat"] == pytest.approx(found.error)
    assert analysis.calibration(judged([(0, A, 0)], [])).error is None


def test_detections_on_ignored_objects_are_neither_right_nor_wrong(judged: Make) -> None:
    made = judged([(0, A, 0), (0, B, 0)], [(0, A, 0.9, 0), (0, B, 0.8, 0)], ignored=[False, True])
    assert sum(row.detections for row in analysis.calibration(made).bins) == 1
    assert set(analysis.error_types(made).counts.values()) == {0}
    assert analysis.image_scores(made).false_alarms.tolist() == [0]


def test_f1_over_score_by_hand(judged: Make) -> None:
    """At .9: one hit of one detection, 4 objects: 2 / 5; at .5 one of 5: 2 / 9; at 1 nothing."""
    values = analysis.f1_over_score(errors(judged), points=3)
    assert values == [(0.0, pytest.approx(2 / 9)), (0.5, pytest.approx(2 / 9)), (1.0, 0.0)]
    assert analysis.f1_over_score(judged([(0, A, 0)], []), points=2) == [(0.0, 0.0), (1.0, 0.0)]


def test_precision_recall_by_hand(judged: Make) -> None:
    curves = analysis.precision_recall(errors(judged))
    assert curves["cat"] == pytest.approx([1.0] * 34 + [0.0] * 67)
    assert curves["dog"] == [0.0] * 101


def crowd_of(judged: Make, **changes: Any) -> Judgement:
    rng = np.random.default_rng(3)
    objects, found = [], []
    for image in range(8):
        for x, side in ((0, 10), (20, 20), (45, 40)):
            label = int(rng.integers(2))
            objects.append((image, [x, 5, x + side, 5 + side], label))
            for _ in range(3):
                dx, dy = rng.integers(-4, 5, 2)
                box = [max(x + dx, 0), 5 + dy, x + side + dx, 5 + side + dy]
                found.append((image, box, float(rng.random()), int(rng.random() < 0.2) ^ label))
        found.append((image, [60, 60, 70, 95], float(rng.random()), 0))
    ignored = [number % 7 == 0 for number in range(len(objects))]
    return judged(objects, found, images=8, ignored=ignored, **changes)


@pytest.mark.parametrize("pixels", ["source", "network"])
def test_sizes_are_cocos(judged: Make, pixels: str) -> None:
    """Ranges of sides as COCO's ranges of areas, which hotcoco evaluates itself."""
    made = crowd_of(judged)
    factor = {"source": 1.0, "network": 0.5}[pixels]
    edges = [0, 15.5 * factor, 30.5 * factor, np.inf]
    ranges = [(low**2, min(high**2, 1e10)) for low, high in pairwise(edges)]
    evaluation = evaluated(made, pixels=pixels, ranges=ranges)
    precision = np.asarray(evaluation.eval["precision"])  # type: ignore[index]
    found = analysis.by_size(made, pixels=pixels, edges=edges)
    assert sum(row.objects for row in found) == 20  # 24, of which every seventh is ignored
    for place, row in enumerate(found):
        values = precision[:, :, :, place, 0]
        assert row.ap == pytest.approx(values[values > -1].mean(), abs=1e-9)
        assert row.ap50 == pytest.approx(values[0][values[0] > -1].mean(), abs=1e-9)
        assert row.recall is not None
        assert 0 < row.recall <= 1
    assert [row.middle for row in found] == [10 * factor, 20 * factor, 40 * factor]


def test_heights_by_hand(judged: Make) -> None:
    """A flat object is found, a tall one is not: a tall false alarm of the better score hurts it alone."""
    made = judged(
        [(0, [0, 0, 40, 10], 0), (0, [50, 0, 60, 40], 0)],
        [(0, [0, 0, 40, 10], 0.5, 0), (0, [70, 50, 80, 90], 0.9, 0)],
    )
    low, high = analysis.by_size(made, measure="height", edges=[0, 20, 100], ious=[0.5])
    assert (low.objects, low.ap, low.recall, low.middle) == (1, 1.0, 1.0, 10)
    assert (high.objects, high.ap, high.recall, high.middle) == (1, 0.0, 0.0, 40)
    [half] = analysis.by_size(made, measure="height", pixels="network", edges=[0, 10])
    assert (half.objects, half.middle, half.high) == (1, 5, 10)
    rows = analysis.by_size(crowd_of(judged), measure="height")
    assert sum(row.objects for row in rows) == 20
    assert (rows[0].low, rows[-1].high) == (0, np.inf)
    assert analysis.by_size(judged([], [(0, A, 0.5, 0)]), measure="height")[0].ap is None


def test_scores_of_images_are_hotcocos(judged: Make) -> None:
    made = crowd_of(judged, thresholds=(0.0, 0.0))
    own = analysis.image_scores(made)
    told = evaluated(made, [0.5]).image_diagnostics(iou_thr=0.5)["img_summary"]
    for image in range(8):
        summary = told[image + 1]
        assert (own.found[image], own.missed[image], own.false_alarms[image]) == (
            *(summary["tp"], summary["fn"]),
            summary["fp"],
        )
        assert own.f1[image] == pytest.approx(summary["f1"])


def test_images_without_anything_are_right(judged: Make) -> None:
    """No object at all, and no detection at all."""
    assert analysis.image_scores(judged([], [])).f1.tolist() == [1]
    scores = analysis.image_scores(judged([], [(1, A, 0.9, 0)], images=2))
    assert scores.f1.tolist() == [1, 0]


def test_disagreements_by_hand(judged: Make) -> None:
    objects = [(0, A, 0), (1, A, 0), (1, B, 0), (2, A, 0), (3, A, 0)]
    first = judged(objects, [(0, A, 0.9, 0), (1, A, 0.9, 0), (3, A, 0.9, 0)], images=4)
    second = judged(objects, [(0, A, 0.9, 0), (0, C, 0.9, 0), (1, B, 0.9, 0), (3, A, 0.2, 0)], images=4)
    found = analysis.disagreements(first, second)
    # Image 1: each finds one that the other misses. Image 3: below the second's threshold. Image 0: a false
    # alarm. Image 2: both find nothing.
    assert [(one.image, one.only_first, one.only_second, one.false_alarms) for one in found] == [
        (1, 1, 1, (0, 0)),
        (3, 1, 0, (0, 0)),
        (0, 0, 0, (0, 1)),
    ]
    assert found[0].f1 == pytest.approx((2 / 3, 2 / 3))
    assert (found[0].image_id, found[0].file_name) == (11, "1.png")
    assert [one.image for one in analysis.disagreements(first, second, count=1)] == [1]
    assert [one.image for one in analysis.disagreements(first, second, threshold=0.1)] == [1, 0]
    with pytest.raises(UsageError, match="other images"):
        analysis.disagreements(first, judged(objects[:-1], [], images=4))
