"""The evaluator by itself: numbers worked out by hand, and a small case whose twelve numbers pycocotools gave
(it need not be here)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from densedet.core.types import Annotation, Detections
from densedet.plugins.evaluators import coco
from densedet.plugins.evaluators._coco_lines import TWELVE
from densedet.plugins.evaluators.coco import CocoEvaluator
from densedet.plugins.sources.coco import CocoSource

BUNDLED = Path(__file__).parent / "small_case.json"


class Truth:
    """A source out of plain lists: per image a list of (label, x, y, w, h, crowd)."""

    def __init__(
        self, images: list[list[tuple[float, ...]]], classes: tuple[str, ...], ids: tuple[int | str, ...] = ()
    ) -> None:
        self.images, self.classes, self.category_ids = images, classes, tuple(range(1, len(classes) + 1))
        self.ids = ids or tuple(range(1, len(images) + 1))

    def __len__(self) -> int:
        return len(self.images)

    def annotation(self, index: int) -> Annotation:
        rows = torch.tensor(self.images[index], dtype=torch.float64).reshape(-1, 6)
        boxes = torch.cat([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], dim=1)
        crowd = rows[:, 5] > 0
        area = rows[:, 3] * rows[:, 4]
        return Annotation(
            boxes, rows[:, 0].long(), crowd.clone(), crowd, area, self.ids[index], f"{index}.jpg", 640, 480
        )


@pytest.mark.parametrize("limit", [5, 100, 300])
def test_the_lines_name_the_limit_that_was_used(limit: int) -> None:
    source = Truth([[(0, 10, 10, 20, 20, 0)]], ("thing",))
    evaluator = CocoEvaluator(source=source, classes=source.classes, max_detections=limit)
    lines = evaluator.report(evaluator.result())[:12]
    assert [int(line.split("maxDets=")[1].split("]")[0]) for line in lines] == [
        *[limit] * 6,
        1,
        10,
        *[limit] * 4,
    ]


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
                    [
                        image + 1,
                        x + shift[0],
                        y + shift[1],
                        side + shift[2],
                        side + shift[3],
                        score,
                        int(rng.integers(0, classes)) + 1,
                    ]
                )
        images.append(rows)
        found.append(np.array(detections).reshape(-1, 7))
    return images, found, classes


def detections_of(rows: np.ndarray) -> Detections:
    boxes = torch.from_numpy(np.concatenate([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], axis=1))
    return Detections(
        boxes,
        torch.from_numpy(rows[:, 5]),
        torch.from_numpy(rows[:, 6]).long() - 1,
        torch.zeros(len(rows), dtype=torch.int64),
    )


def test_perfect_and_hopeless() -> None:
    images = [[(0, 10.0, 10, 50, 50, 0), (1, 100.0, 100, 200, 200, 0)], []]
    source = Truth(images, ("a", "b", "never"))
    evaluator = CocoEvaluator(source=source, classes=source.classes)
    evaluator.add(
        0,
        Detections(
            torch.tensor([[10.0, 10, 60, 60]]), torch.tensor([0.9]), torch.tensor([0]), torch.tensor([0])
        ),
    )
    evaluator.add(1, Detections.empty())
    metrics = evaluator.result()
    assert metrics["classes"]["a"]["AP"] == pytest.approx(1.0)
    assert metrics["classes"]["b"]["AP"] == 0.0
    assert metrics["classes"]["never"] == {"AP": -1.0, "AP50": -1.0}
    assert metrics["AP"] == pytest.approx(0.5)  # (1 + 0) / 2: the class without objects does not count
    assert metrics["APs"] == -1.0  # no object below 32^2


@pytest.mark.parametrize("at_once", [1, 30])
def test_class_after_class_gives_what_all_at_once_do(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """More detections than hotcoco is to have at once; the third slot stands for no class."""
    images, found, classes = random_case(3)
    source = Truth(images, tuple(f"class {label}" for label in range(classes)))
    evaluator = CocoEvaluator(source=source, classes=("class 0", "class 1", "", "class 2", "class 3"))
    for index, rows in enumerate(found):
        rows[:, 6] += rows[:, 6] > 2
        evaluator.add(index, detections_of(rows))
    whole = evaluator.result()
    assert 0 < whole["AP"] < 1
    given: list[list[int]] = []
    curves = coco._curves
    monkeypatch.setattr(coco, "AT_ONCE", at_once)
    monkeypatch.setattr(coco, "_curves", lambda *args: (given.append(args[1]), curves(*args))[1])
    assert evaluator.result() == whole
    assert [category for some in given for category in some] == [1, 2, 4, 5]
    assert len(given) == 4 if at_once == 1 else 1 < len(given) < 4


def test_the_truth_is_made_once_for_the_same_images_and_classes() -> None:
    """Two images with an object each, of which the first is found. Over both the recall is 1 / 2, over the
    first alone 1; class b has no object in it."""
    source = Truth([[(0, 10.0, 10, 50, 50, 0)], [(0, 9.0, 9, 70, 70, 0)]], ("a", "b"))
    read: list[int] = []

    def counted(index: int) -> Annotation:
        read.append(index)
        return Truth.annotation(source, index)

    source.annotation = counted  # type: ignore[method-assign]
    found = detections_of(np.array([[1, 10.0, 10, 50, 50, 0.9, 1]]))

    def recall(images: int, classes: tuple[str, ...] = ("a", "b")) -> float:
        evaluator = CocoEvaluator(source=source, classes=classes)
        for index in range(images):
            evaluator.add(index, Detections.empty() if index else found)
        return float(evaluator.result()["AR100"])

    assert [recall(2), recall(2)] == [0.5, 0.5]
    assert read == [0, 1]
    assert recall(1) == 1.0
    assert recall(1, ("b", "a")) == 0.0  # label 0 is b now
    assert read == [0, 1, 0, 0]


def test_nothing_found_and_nothing_judged() -> None:
    source = Truth([[(0, 10.0, 10, 50, 50, 0)]], ("a",))
    evaluator = CocoEvaluator(source=source, classes=("a",))
    assert evaluator.result()["AP"] == -1.0
    evaluator.add(0, Detections.empty())
    assert evaluator.result()["AP"] == 0.0


def test_classes_that_the_recipe_left_out_do_not_count() -> None:
    source = Truth([[(0, 10.0, 10, 50, 50, 0), (1, 100.0, 100, 90, 90, 0)]], ("a", "b"))
    evaluator = CocoEvaluator(source=source, classes=("b",))
    evaluator.add(
        0,
        Detections(
            torch.tensor([[100.0, 100, 190, 190]]), torch.tensor([0.9]), torch.tensor([0]), torch.tensor([0])
        ),
    )
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


def test_equal_scores_are_ranked_by_image_id() -> None:
    # Two objects in two images, one found, one missed; both detections score 0.5. Ranked hit, miss: precision
    # 1 up to recall 1/2, that is at 51 of 101 recalls, AP 51/101. Ranked miss, hit: precision 1/2 there, AP
    # 51/202. The file has image 9 before image 2.
    hit, miss = torch.tensor([[10.0, 10, 60, 60]]), torch.tensor([[300.0, 300, 360, 360]])
    for ids, ap in (
        ((9, 2), 51 / 202),
        ((2, 9), 51 / 101),
        (("b", "a"), 51 / 202),
        (("a", "b"), 51 / 101),
        ((9, "a"), 51 / 101),
    ):
        source = Truth([[(0, 10.0, 10, 50, 50, 0)], [(0, 10.0, 10, 50, 50, 0)]], ("a",), ids)
        evaluator = CocoEvaluator(source=source, classes=("a",))
        for index, box in enumerate((hit, miss)):
            evaluator.add(index, Detections(box, torch.tensor([0.5]), torch.tensor([0]), torch.tensor([0])))
        assert evaluator.result()["AP"] == pytest.approx(ap, abs=1e-12)


def test_the_bundled_case(tmp_path: Path) -> None:
    """The twelve numbers, and AP per class, that pycocotools 2.0 gave for these boxes are written in the
    file."""
    case = json.loads(BUNDLED.read_text())
    (tmp_path / "truth.json").write_text(json.dumps(case["truth"]))
    source = CocoSource(annotations="truth.json", images=".", root=str(tmp_path))
    evaluator = CocoEvaluator(source=source, classes=source.classes)
    for index in range(len(source)):
        rows = [row for row in case["results"] if row["image_id"] == source.annotation(index).image_id]
        boxes = torch.tensor([row["bbox"] for row in rows]).reshape(
            -1, 4
        )  # quarters of a pixel: exact in float32
        evaluator.add(
            index,
            Detections(
                torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1),
                torch.tensor([row["score"] for row in rows]),
                torch.tensor(
                    [source.category_ids.index(row["category_id"]) for row in rows], dtype=torch.int64
                ),
                torch.zeros(len(rows), dtype=torch.int64),
            ),
        )
    ours = evaluator.result()
    assert [ours[key] for key in TWELVE] == pytest.approx(case["pycocotools"]["twelve"], abs=1e-9)
    assert {name: numbers["AP"] for name, numbers in ours["classes"].items()} == pytest.approx(
        case["pycocotools"]["classes"], abs=1e-9
    )
