"""VOC's average precision: by hand, and against the development kit's loop written out."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch

from densedet.core.types import Annotation, Detections
from densedet.plugins.evaluators.voc import VocEvaluator

Rows = list[list[tuple[float, ...]]]
Points = Literal[11, "all"]


class Truth:
    """A source out of plain lists: per image a list of (label, x1, y1, x2, y2, difficult)."""

    def __init__(self, images: Rows, classes: tuple[str, ...]) -> None:
        self.images, self.classes, self.category_ids = images, classes, tuple(range(len(classes)))

    def __len__(self) -> int:
        return len(self.images)

    def annotation(self, index: int) -> Annotation:
        rows = torch.tensor(self.images[index], dtype=torch.float64).reshape(-1, 6)
        boxes, difficult = rows[:, 1:5].float(), rows[:, 5] > 0
        return Annotation(
            boxes=boxes, labels=rows[:, 0].long(), ignore=difficult, crowd=torch.zeros_like(difficult),
            area=(boxes[:, 2:] - boxes[:, :2]).prod(1), image_id=index, file_name=f"{index}.jpg",
            width=640, height=480,
        )  # fmt: skip


def evaluator(images: Rows, found: Rows, classes: tuple[str, ...] = ("cat",), **options: Any) -> VocEvaluator:
    """With detections (label, x1, y1, x2, y2, score)."""
    part = VocEvaluator(source=Truth(images, classes), classes=classes, **options)  # type: ignore[arg-type]
    for index, rows in enumerate(found):
        table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
        part.add(
            index,
            Detections(
                table[:, 1:5].float(), table[:, 5].float(), table[:, 0].long(), torch.zeros(len(rows)).long()
            ),
        )
    return part


A, B = (0, 0, 10, 10), (20, 0, 30, 10)


@pytest.mark.parametrize(("points", "ap"), [(11, (4 + 3 * 2 / 3) / 11), ("all", 1 / 3 + 2 / 3 / 3)])
def test_by_hand(points: Points, ap: float) -> None:
    # Three objects; true, false, true: precision 1 at recall 1/3, 2/3 at recall 2/3. Recalls 0 to .3 have 1,
    # .4 to .6 have 2/3, others 0.
    images: Rows = [[(0, *A, 0), (0, *B, 0)], [(0, *A, 0)]]
    found: Rows = [[(0, *A, 0.9), (0, 50, 50, 60, 60, 0.8), (0, *B, 0.7)], []]
    result = evaluator(images, found, points=points).result()
    assert result["AP"] == result["classes"]["cat"]["AP"] == pytest.approx(ap, abs=1e-12)
    assert result["AR"] == result["classes"]["cat"]["AR"] == pytest.approx(2 / 3, abs=1e-12)


def test_the_object_of_most_overlap_is_taken_first() -> None:
    # Objects 0..10 and 3..13. The second detection overlaps the first object by 9/11 and the second by 8/12,
    # but the first detection has it: false by VOC's rule, true by COCO's. AP: precision 1 at recall 1/2.
    images: Rows = [[(0, 0, 0, 10, 10, 0), (0, 3, 0, 13, 10, 0)]]
    found: Rows = [[(0, 0, 0, 10, 10, 0.9), (0, 1, 0, 11, 10, 0.8)]]
    assert evaluator(images, found).result()["AP"] == pytest.approx(0.5, abs=1e-12)


def test_difficult_objects_neither_count_nor_hurt() -> None:
    # Two detections of the difficult object are left out, also the one of best score.
    images: Rows = [[(0, *A, 0), (0, *B, 1)]]
    found: Rows = [[(0, *B, 0.9), (0, *B, 0.8), (0, *A, 0.7)]]
    assert evaluator(images, found).result()["AP"] == pytest.approx(1.0, abs=1e-12)
    only_difficult = evaluator([[(0, *B, 1)]], [[(0, *A, 0.9)]]).result()
    assert only_difficult["AP"] == only_difficult["AR"] == -1.0


def test_the_overlap_has_no_pixel_added_and_its_bound_counts() -> None:
    # 10 x 10 and 5 x 10: IoU .5 exactly, which is enough; with the kit's 1 added it would be 66 / 121.
    images: Rows = [[(0, *A, 0)]]
    half: Rows = [[(0, 0, 0, 5, 10, 0.9)]]
    assert evaluator(images, half).result()["AP"] == pytest.approx(1.0, abs=1e-12)
    assert evaluator(images, half, iou=0.51).result()["AP"] == 0.0


def kit(images: Rows, found: Rows, label: int, points: Points, iou: float) -> float:
    """VOCevaldet.m, line by line: one class."""
    rows = [
        (score, image, box)
        for image, detections in enumerate(found)
        for (number, *box, score) in detections
        if number == label
    ]
    rows.sort(key=lambda row: -row[0])
    objects = [[row[1:] for row in rows if row[0] == label] for rows in images]
    taken = [[False] * len(rows) for rows in objects]
    positives = sum(not row[4] for rows in objects for row in rows)
    true, false = [], []
    for _, image, box in rows:
        best, which = -np.inf, -1
        for j, truth in enumerate(objects[image]):
            width = min(box[2], truth[2]) - max(box[0], truth[0])
            height = min(box[3], truth[3]) - max(box[1], truth[1])
            if width > 0 and height > 0:
                union = (
                    (box[2] - box[0]) * (box[3] - box[1])
                    + (truth[2] - truth[0]) * (truth[3] - truth[1])
                    - width * height
                )
                if width * height / union > best:
                    best, which = width * height / union, j
        true.append(0)
        false.append(0)
        if best < iou:
            false[-1] = 1
        elif not objects[image][which][4]:
            true[-1], false[-1] = (0, 1) if taken[image][which] else (1, 0)
            taken[image][which] = True
    if not positives:
        return -1.0
    tp, fp = np.cumsum(true), np.cumsum(false)
    recall, precision = tp / positives, tp / np.maximum(tp + fp, 1e-30)
    if points == 11:
        return sum(max(precision[recall >= k / 10], default=0.0) for k in range(11)) / 11
    mrec, mpre = np.r_[0, recall, 1], np.r_[0, precision, 0]
    for k in range(len(mpre) - 2, -1, -1):
        mpre[k] = max(mpre[k], mpre[k + 1])
    steps = np.flatnonzero(mrec[1:] != mrec[:-1]) + 1
    return float(((mrec[steps] - mrec[steps - 1]) * mpre[steps]).sum())


def random_case(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Crowded images of quarter pixels, so that overlaps of exactly .5 occur; four scores, so most tie."""
    images, found = [], []
    for _ in range(int(rng.integers(1, 6))):
        truth, rows = [], []
        for _ in range(int(rng.integers(0, 7))):
            x, y, w, h = rng.integers([0, 0, 20, 20], [160, 160, 80, 80]) / 4
            truth.append((int(rng.integers(0, 3)), x, y, x + w, y + h, float(rng.random() < 0.2)))
            for _ in range(int(rng.integers(0, 4))):
                step = rng.integers(-8, 9, 4) / 4 * (rng.random() < 0.7)
                label = int(rng.integers(0, 4)) if rng.random() < 0.2 else truth[-1][0]
                score = float(rng.choice([0.125, 0.5, 0.75, 0.875]))
                rows.append(
                    (label, x + step[0], y + step[1], x + w + step[2], y + h * rng.choice([0.5, 1]), score)
                )
        images.append(truth)
        found.append(rows)
    return images, found


@pytest.mark.parametrize("points", [11, "all"])
def test_against_the_kits_loop(points: Points) -> None:
    classes = ("a", "b", "c", "d")  # d has no object
    for seed in range(60):
        rng = np.random.default_rng(seed)
        images, found = random_case(rng)
        iou = (0.5, 0.5, 0.75)[seed % 3]
        part = evaluator(images, found, classes, points=points, iou=iou)
        expected = [kit(images, found, label, points, iou) for label in range(4)]
        result = part.result()
        assert [result["classes"][name]["AP"] for name in classes] == pytest.approx(expected, abs=1e-12)
        known = [value for value in expected if value >= 0]
        assert result["AP"] == pytest.approx(float(np.mean(known)) if known else -1.0, abs=1e-12)
        # A resample is the kit's loop over its images, copies one after the other.
        drawn = rng.integers(0, 4, len(images))
        copies = np.repeat(np.arange(len(images)), drawn).tolist()
        expected = [
            kit([images[i] for i in copies], [found[i] for i in copies], label, points, iou)
            for label in range(4)
        ]
        numbers = part.resampled(drawn[None].astype(float))
        ours = [float(numbers[f"classes.{name}.AP"][0]) for name in classes]
        assert ours == pytest.approx(expected, abs=1e-12), f"seed {seed}"


def test_the_lines() -> None:
    part = evaluator([[(0, *A, 0)]], [[(0, *A, 0.9)]], points=11)
    assert part.report(part.result()) == [
        " Average Precision (AP) @[ IoU=0.5 | 11 recalls ] = 1.000",
        " Average Recall    (AR) @[ IoU=0.5 | all detections ] = 1.000",
        "",
        " class     AP     AR",
        " cat    1.000  1.000",
    ]
