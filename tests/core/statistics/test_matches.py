"""Average precision for a weight per image, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from densedet.core.statistics import matches as module
from densedet.core.statistics.matches import RECALLS_11, ClassMatches, MatchStore, mean_of_known


def store(
    rows: list[tuple[int, float, str]], objects: list[int], recalls: np.ndarray | None = None
) -> MatchStore:
    """One class, size range and IoU threshold, of rows (image, score, "true", "false" or "ignored")."""
    rows = sorted(rows, key=lambda row: -row[1])
    kind = np.array([row[2] for row in rows])
    image = np.array([row[0] for row in rows], dtype=np.int64)
    place = np.array([sum(other[0] == row[0] for other in rows[:k]) for k, row in enumerate(rows)])
    matches = ClassMatches(
        image,
        np.array([row[1] for row in rows]),
        place,
        (kind == "true")[None, None],
        (kind == "ignored")[None, None],
        np.array([objects]),
    )
    return MatchStore(len(objects), [matches], recalls, (1, 100))


ROWS = [(0, 0.9, "true"), (1, 0.8, "false"), (0, 0.7, "ignored"), (1, 0.6, "true"), (0, 0.5, "false")]


def area(rows: list[tuple[int, float, str]], objects: list[int], weights: list[float]) -> float:
    return float(store(rows, objects).measure(np.array([weights])).precision[0, 0, 0, 0])


def test_the_area_by_hand() -> None:
    # 3 objects. true at precision 1/1, recall 1/3; true at precision 2/3, recall 2/3: 1/3 + 2/3 * 1/3 = 5/9
    assert area(ROWS, [2, 1], [1, 1]) == pytest.approx(5 / 9, abs=1e-12)
    # image 1 twice: 4 objects; precision 1/1 at recall 1/4, then 3/5 at recall 3/4 (and 2/4 between, below
    # the best of what follows): 1/4 + 3/5 * 1/2 = .55
    assert area(ROWS, [2, 1], [1, 2]) == pytest.approx(0.55, abs=1e-12)
    # image 1 alone: 1 object; false, true: precision 1/2 at recall 1
    assert area(ROWS, [2, 1], [0, 1]) == pytest.approx(0.5, abs=1e-12)
    # Weights of .5 and 1 are those of 1 and 2: the area has no unit.
    assert area(ROWS, [2, 1], [0.5, 1]) == pytest.approx(0.55, abs=1e-12)


def test_recall_thresholds_by_hand() -> None:
    # As above with 1 and 1: recalls 0, .1, .2, .3 have precision 1, .4, .5, .6 have 2/3, others 0
    measured = store(ROWS, [2, 1], RECALLS_11).measure(np.ones((1, 2)))
    assert measured.precision[0, 0, 0, 0] == pytest.approx((4 + 3 * 2 / 3) / 11, abs=1e-12)
    # Both detections are true within 100; the second of image 1 is not within 1.
    assert measured.recall[0, 0, 0, 0] == pytest.approx([1 / 3, 2 / 3], abs=1e-12)


def test_a_resample_without_objects_has_no_number() -> None:
    measured = store(ROWS, [2, 0]).measure(np.array([[0, 3], [0, 0], [1, 0]]))
    assert np.isnan(measured.precision[:, 0, 0, 0]).tolist() == [True, True, False]
    assert np.isnan(measured.recall[:, 0, 0, 0]).tolist() == [[True] * 2, [True] * 2, [False] * 2]
    assert mean_of_known(np.array([[np.nan, 0.5, 0.7], [np.nan] * 3]), 1).tolist() == [0.6, -1.0]


def test_copies_of_an_image_tie_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    # One image twice, with a false and a true detection of one score: false, true, false, true, and not
    # false, false, true, true. Precision at the true ones: 1/2, 2/4, so 1/2; the other order has 2/4 too.
    assert area([(0, 0.5, "false"), (0, 0.5, "true")], [1], [2]) == pytest.approx(0.5, abs=1e-12)
    # true, false, true, false: 1 at recall 1/2, 2/3 at recall 1; true, true, false, false would have 1.
    tied = [(0, 0.5, "true"), (0, 0.5, "false")]
    assert area(tied, [1], [2]) == pytest.approx(1 / 2 + 2 / 3 / 2, abs=1e-12)
    # Half a copy more: 2.5 objects, true at 1, 2 and then 2.5 of 2, 4 and 4.5: 1, 2/3 and 2.5 / 4.5
    assert area(tied, [1], [2.5]) == pytest.approx((1 + 2 / 3 + 0.5 * 2.5 / 4.5) / 2.5, abs=1e-12)
    # Beyond the limit the last copy has the rest: true 1, false 1, then true 2, false 2: 1 and 3/4
    monkeypatch.setattr(module, "MOST_COPIES", 2)
    assert area(tied, [1], [3]) == pytest.approx(1 / 3 + 3 / 4 * 2 / 3, abs=1e-12)


def test_chunks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    kinds = rng.choice(["true", "false", "ignored"], 60)
    rows = [(int(rng.integers(6)), round(float(rng.random()), 1), str(kind)) for kind in kinds]
    rows.sort(key=lambda row: (-row[1], row[0]))
    weights = rng.integers(0, 4, (50, 6))
    whole = store(rows, [9] * 6).measure(weights).precision
    monkeypatch.setattr(module, "CHUNK", 500)
    assert np.array_equal(store(rows, [9] * 6).measure(weights).precision, whole, equal_nan=True)


@pytest.mark.parametrize("weights", [[[1.0]], [[-1.0, 1.0]], [[np.nan, 1.0]], [[np.inf, 1.0]], [1.0, 1.0]])
def test_wrong_weights(weights: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="weights"):
        store(ROWS, [2, 1]).measure(np.array(weights))
