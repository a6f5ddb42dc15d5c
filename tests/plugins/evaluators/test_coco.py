"""AP by COCO's rules, against pycocotools on a small case that has everything, and on real data where it is at hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densedet.core.coco_numbers import LINES, TWELVE, report_lines
from densedet.core.types import Annotation, Detections
from densedet.plugins.evaluators.coco import CocoEvaluator, judge

REFERENCES = Path(__file__).resolve().parents[4] / "shared" / "data" / "eval"


class Truth:
    """A source out of plain lists: per image a list of (label, x, y, w, h, crowd)."""

    def __init__(self, images: list[list[tuple[float, ...]]], classes: tuple[str, ...]) -> None:
        self.images, self.classes, self.category_ids = images, classes, tuple(range(1, len(classes) + 1))

    def __len__(self) -> int:
        return len(self.images)

    def annotation(self, index: int) -> Annotation:
        rows = torch.tensor(self.images[index], dtype=torch.float64).reshape(-1, 6)
        boxes = torch.cat([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], dim=1)
        crowd = rows[:, 5] > 0
        area = rows[:, 3] * rows[:, 4]
        return Annotation(boxes, rows[:, 0].long(), crowd.clone(), crowd, area, index + 1, f"{index}.jpg", 640, 480)


def pycoco(images: list[Any], found: list[np.ndarray], classes: int) -> tuple[list[float], list[str]]:
    """pycocotools' twelve numbers and the twelve lines that it prints."""
    truth = COCO()
    annotations = []
    for image, rows in enumerate(images):
        for label, x, y, w, h, crowd in rows:
            box = [x, y, w, h]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image + 1,
                    "category_id": int(label) + 1,
                    "bbox": box,
                    "area": w * h,
                    "iscrowd": int(crowd),
                }
            )
    truth.dataset = {
        "images": [{"id": i + 1} for i in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": c + 1, "name": str(c)} for c in range(classes)],
    }
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(np.concatenate(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist(), [line for line in text.getvalue().splitlines() if "Average" in line]


def random_case(seed: int) -> tuple[list[list[tuple[float, ...]]], list[np.ndarray], int]:
    """Crowds, ties in score, an empty class, empty images, sizes around COCO's area edges."""
    rng = np.random.default_rng(seed)
    classes, images, found = 4, [], []
    for image in range(8):
        rows, detections = [], []
        for _ in range(int(rng.integers(0, 7)) if image else 0):
            side = float(rng.choice([8, 31, 32, 33, 95, 96, 97, 150]))
            x, y = rng.uniform(0, 400, 2).round(1)
            label = int(rng.integers(0, classes - 1))
            rows.append((label, float(x), float(y), side, side, float(rng.random() < 0.15)))
            for _ in range(int(rng.integers(0, 4))):
                shift = rng.normal(0, side / 8, 4)
                score = float(rng.choice([0.1, 0.5, 0.5, 0.9]))
                detections.append(
                    [image + 1, x + shift[0], y + shift[1], side + shift[2], side + shift[3], score, int(rng.integers(0, classes)) + 1]
                )
        images.append(rows)
        found.append(np.array(detections).reshape(-1, 7))
    return images, found, classes


def detections_of(rows: np.ndarray) -> Detections:
    boxes = torch.from_numpy(np.concatenate([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], axis=1))
    return Detections(
        boxes, torch.from_numpy(rows[:, 5]), torch.from_numpy(rows[:, 6]).long() - 1, torch.zeros(len(rows), dtype=torch.int64)
    )


@pytest.mark.parametrize("seed", range(20))
def test_equal_to_pycocotools(seed: int) -> None:
    images, found, classes = random_case(seed)
    evaluator = CocoEvaluator(source=Truth(images, tuple(map(str, range(classes)))), classes=tuple(map(str, range(classes))))
    for index, rows in enumerate(found):
        evaluator.add(index, detections_of(rows))
    ours = evaluator.result()
    # xyxy and back costs the last bits of a float64; an IoU on the edge of a threshold could tip, none does here.
    assert [ours[key] for key in TWELVE] == pytest.approx(pycoco(images, found, classes)[0], abs=1e-9)


def test_perfect_and_hopeless() -> None:
    images = [[(0, 10.0, 10, 50, 50, 0), (1, 100.0, 100, 200, 200, 0)], []]
    source = Truth(images, ("a", "b", "never"))
    evaluator = CocoEvaluator(source=source, classes=source.classes)
    evaluator.add(0, Detections(torch.tensor([[10.0, 10, 60, 60]]), torch.tensor([0.9]), torch.tensor([0]), torch.tensor([0])))
    evaluator.add(1, Detections.empty())
    metrics = evaluator.result()
    assert metrics["classes"]["a"]["AP"] == pytest.approx(1.0)
    assert metrics["classes"]["b"]["AP"] == 0.0
    assert metrics["classes"]["never"] == {"AP": -1.0, "AP50": -1.0}
    assert metrics["AP"] == pytest.approx(0.5)  # (1 + 0) / 2: the class without objects does not count
    assert metrics["APs"] == -1.0  # no object below 32^2


def test_nothing_found_and_nothing_judged() -> None:
    source = Truth([[(0, 10.0, 10, 50, 50, 0)]], ("a",))
    evaluator = CocoEvaluator(source=source, classes=("a",))
    assert evaluator.result()["AP"] == -1.0
    evaluator.add(0, Detections.empty())
    assert evaluator.result()["AP"] == 0.0


def test_classes_that_the_recipe_left_out_do_not_count() -> None:
    source = Truth([[(0, 10.0, 10, 50, 50, 0), (1, 100.0, 100, 90, 90, 0)]], ("a", "b"))
    evaluator = CocoEvaluator(source=source, classes=("b",))
    evaluator.add(0, Detections(torch.tensor([[100.0, 100, 190, 190]]), torch.tensor([0.9]), torch.tensor([0]), torch.tensor([0])))
    assert evaluator.result()["AP"] == pytest.approx(1.0)


def test_two_processes_see_what_one_sees() -> None:
    images, found, classes = random_case(3)
    names = tuple(map(str, range(classes)))
    whole, *parts = (CocoEvaluator(source=Truth(images, names), classes=names) for _ in range(3))
    for index, rows in enumerate(found):
        whole.add(index, detections_of(rows))
        parts[index % 2].add(index, detections_of(rows))
    parts[0].merge([parts[1].state()])
    assert parts[0].result() == whole.result()


def test_the_lines_are_those_of_pycocotools() -> None:
    images, found, classes = random_case(1)
    names = tuple(map(str, range(classes)))
    evaluator = CocoEvaluator(source=Truth(images, names), classes=names)
    for index, rows in enumerate(found):
        evaluator.add(index, detections_of(rows))
    printed = pycoco(images, found, classes)[1]
    assert report_lines(evaluator.result())[: len(LINES)] == printed


@pytest.mark.skipif(not REFERENCES.exists(), reason="the reference data set is not beside the project")
def test_equal_to_the_published_numbers() -> None:
    """100 real COCO images with detections; pycocotools_bbox.txt holds its twelve numbers at full precision."""
    truth = hotcoco.COCO(str(REFERENCES / "instances_val2014_100.json"))
    results = json.loads((REFERENCES / "instances_val2014_fakebbox100_results.json").read_text())
    wanted = json.loads((REFERENCES / "pycocotools_bbox.txt").read_text().splitlines()[-1])
    names = tuple(category["name"] for _, category in sorted(truth.cats.items()))
    ours = judge(truth, results, names)
    assert [ours[key] for key in TWELVE] == pytest.approx(wanted, abs=1e-9)
