"""AP equal to pycocotools' to 1e-9: on random cases that try every rule, through a source and its file, on
real data where at hand, and for resamples of the images."""

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

from densedet.core.types import Detections
from densedet.plugins.evaluators._coco_lines import TWELVE
from densedet.plugins.evaluators.coco import CocoEvaluator, coco_metrics
from densedet.plugins.sources.coco import CocoSource

pytest.importorskip("pycocotools", reason="the reference is not installed: pip install pycocotools")
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

REFERENCES = Path(__file__).resolve().parents[4] / "shared" / "data" / "eval"
SIDES = [
    (8.0, 8.0),
    (32.0, 32.0),
    (31.75, 32.0),
    (32.25, 32.0),
    (16.0, 64.0),
    (96.0, 96.0),
    (95.75, 96.0),
    (96.25, 96.0),
    (48.0, 192.0),
]
"""On COCO's edges of 32^2 and 96^2, a quarter pixel to either side, and other shapes of the same area."""


def random_case(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO file and its results.

    Crowds, four scores only (so most tie, within and across images), a class without objects and one without
    detections, images without objects, without detections and without either, areas on COCO's edges and areas
    that are not width * height, image ids and category ids in no order and with gaps. Coordinates are
    quarters of a pixel, so IoUs of exactly 0.5 or 0.75 occur. Every fifth case has one crowded image of some
    130 detections of one class.
    """
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 6))
    image_ids = (rng.permutation(50)[:count] + 1).tolist()
    categories = (rng.permutation(20)[:4] + 1).tolist()
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []

    def detect(image: int, category: int, box: list[float]) -> None:
        results.append(
            {
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "score": float(rng.choice([0.125, 0.5, 0.75, 0.875])),
            }
        )

    for image in image_ids:
        for _ in range(int(rng.integers(0, 6))):
            width, height = SIDES[int(rng.integers(len(SIDES)))]
            x, y = (rng.integers(0, 1600, 2) / 4).tolist()
            area = width * height * (1 if rng.random() < 0.7 else float(rng.choice([0.5, 0.75])))
            category, crowd = categories[int(rng.integers(0, 3))], int(rng.random() < 0.15)
            annotations.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": [x, y, width, height],
                    "area": area,
                    "iscrowd": crowd,
                }
            )
            for _ in range(int(rng.integers(0, 4))):
                step = rng.integers(-8, 9, 4) * rng.choice([0.0, 0.25, 1.0])
                shifted = [x + step[0], y + step[1], max(width + step[2], 0.25), max(height + step[3], 0.25)]
                detect(
                    image,
                    categories[int(rng.choice([1, 2, 3]))] if rng.random() < 0.3 else category,
                    [float(v) for v in shifted],
                )
            if rng.random() < 0.2:
                detect(image, category, [x, y, width / 2, height])  # IoU exactly 0.5
                detect(image, category, [x, y, width, height * 0.75])  # and 0.75
    # the first class is never detected, the last has no object
    results = [row for row in results if row["category_id"] != categories[0] or seed % 2]
    if seed % 5 == 0:
        for _ in range(130):
            x, y = (rng.integers(0, 1600, 2) / 4).tolist()
            detect(image_ids[0], categories[1], [x, y, 32.0, 32.0])
    rng.shuffle(results)  # type: ignore[arg-type]
    data = {
        "images": [
            {"id": image, "file_name": f"{image}.jpg", "width": 640, "height": 640} for image in image_ids
        ],
        "categories": [{"id": category, "name": f"c{category}"} for category in categories],
        "annotations": [{"id": number, **row} for number, row in enumerate(annotations, start=1)],
    }
    return data, results


def reference(
    data: dict[str, Any], results: list[dict[str, Any]], max_detections: int = 100
) -> tuple[dict[str, Any], list[str]]:
    """pycocotools' twelve numbers, AP and AP50 per class (in the order of the category ids), and the lines
    that it prints."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(data))
        truth.createIndex()
        evaluation = COCOeval(
            truth, truth.loadRes(json.loads(json.dumps(results))) if results else COCO(), "bbox"
        )
        evaluation.params.maxDets = [1, 10, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
        if max_detections == 100:  # the summary looks for 100 by name
            evaluation.summarize()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    limits = [
        evaluation.params.maxDets.index(limit) for limit in (1, 10, max_detections)
    ]  # pycocotools sorted them
    most = limits[2]
    # precision: IoU, recall, class, size, limit. recall: IoU, class, size, limit.
    twelve = [
        mean(precision[..., 0, most]),
        mean(precision[0, ..., 0, most]),
        mean(precision[5, ..., 0, most]),
    ]
    twelve += [mean(precision[..., size, most]) for size in (1, 2, 3)]
    twelve += [mean(recall[..., 0, limit]) for limit in limits] + [
        mean(recall[..., size, most]) for size in (1, 2, 3)
    ]
    if max_detections == 100:
        assert twelve == pytest.approx(evaluation.stats.tolist(), abs=1e-12)
    names = [category["name"] for category in sorted(data["categories"], key=lambda category: category["id"])]
    classes = {
        name: {"AP": mean(precision[:, :, c, 0, most]), "AP50": mean(precision[0, :, c, 0, most])}
        for c, name in enumerate(names)
    }
    return {**dict(zip(TWELVE, twelve)), "classes": classes}, [
        line for line in text.getvalue().splitlines() if "Average" in line
    ]


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any], what: object) -> None:
    for key in TWELVE:
        assert ours[key] == pytest.approx(theirs[key], abs=1e-9), f"{key} of {what}"
    assert list(ours["classes"]) == list(theirs["classes"])
    for name, numbers in theirs["classes"].items():
        assert ours["classes"][name] == pytest.approx(numbers, abs=1e-9), f"class {name} of {what}"


def judged(data: dict[str, Any], results: list[dict[str, Any]], max_detections: int = 100) -> dict[str, Any]:
    """By `coco_metrics` alone, on float64 boxes as the file has them."""
    rows = sorted(data["categories"], key=lambda category: category["id"])
    truth = hotcoco.COCO.from_arrays(
        [{key: image[key] for key in ("id", "width", "height")} for image in data["images"]],
        rows,
        *(
            np.array([a[key] for a in data["annotations"]], dtype=np.int64)
            for key in ("image_id", "category_id")
        ),
        np.array([a["bbox"] for a in data["annotations"]], dtype=np.float64).reshape(-1, 4),
        ids=np.arange(1, len(data["annotations"]) + 1),
        area=np.array([a["area"] for a in data["annotations"]], dtype=np.float64),
        iscrowd=np.array([a["iscrowd"] for a in data["annotations"]], dtype=np.int64),
    )
    found = np.array(
        [[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in results], dtype=np.float64
    ).reshape(-1, 7)
    groups = [([row["id"] for row in rows], truth.load_res(found if len(found) else []))]
    return coco_metrics(truth, groups, tuple(row["name"] for row in rows), max_detections=max_detections)


def check(seeds: range) -> None:
    for seed in seeds:
        data, results = random_case(seed)
        limit = (100, 100, 100, 20, 5, 1)[seed % 6]
        assert_equal(
            judged(data, results, limit), reference(data, results, limit)[0], f"seed {seed}, maxDets {limit}"
        )


def test_100_random_cases() -> None:
    check(range(100))


@pytest.mark.long
def test_200_more_random_cases() -> None:
    """The first 1,000 were equal when the rules were last changed; each takes pycocotools 25 ms."""
    check(range(100, 300))


def test_the_cases_have_what_they_promise() -> None:
    """Over the 100: a crowd, an image without objects, one without detections, a class without either, areas
    on both edges, a tie."""
    seen: set[str] = set()
    for seed in range(100):
        data, results = random_case(seed)
        truths = data["annotations"]
        images, categories = ({row["id"] for row in data[key]} for key in ("images", "categories"))
        pairs = [(row["image_id"], row["category_id"]) for row in results]
        found = {
            "crowd": any(a["iscrowd"] for a in truths),
            "no objects": images - {a["image_id"] for a in truths},
            "no detections": images - {r["image_id"] for r in results},
            "class without objects": categories - {a["category_id"] for a in truths},
            "class without detections": categories - {r["category_id"] for r in results},
            "32": any(a["area"] == 32**2 for a in truths),
            "96": any(a["area"] == 96**2 for a in truths),
            "more than 100 of an image and class": any(pairs.count(pair) > 100 for pair in set(pairs)),
            "tie across images": any(
                a["score"] == b["score"] and a["image_id"] != b["image_id"]
                for a in results
                for b in results[:5]
            ),
            "ids out of order": [i["id"] for i in data["images"]] != sorted(images),
        }
        seen |= {what for what, there in found.items() if there}
        missing = set(found) - seen
    assert not missing


def detections(results: list[dict[str, Any]], image: int, category_ids: tuple[int, ...]) -> Detections:
    """The results of an image as a detector gives them: float32 corners."""
    rows = [row for row in results if row["image_id"] == image]
    boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float64).reshape(-1, 4)
    return Detections(
        torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1).float(),
        torch.tensor([row["score"] for row in rows]),
        torch.tensor([category_ids.index(row["category_id"]) for row in rows], dtype=torch.int64),
        torch.zeros(len(rows), dtype=torch.int64),
    )


def through_the_source(
    data: dict[str, Any], results: list[dict[str, Any]], folder: Path, limit: int = 100
) -> tuple[CocoSource, CocoEvaluator]:
    (folder / "truth.json").write_text(json.dumps(data))
    source = CocoSource(annotations="truth.json", images=".", root=str(folder))
    evaluator = CocoEvaluator(source=source, classes=source.classes, max_detections=limit)
    for index in range(len(source)):
        evaluator.add(index, detections(results, int(source.annotation(index).image_id), source.category_ids))
    return source, evaluator


def test_through_a_source_and_its_file(tmp_path: Path) -> None:
    """Quarters of a pixel are exact in float32, so the file's boxes, the source's and the detector's are the
    same numbers."""
    for seed in range(1000, 1040):
        data, results = random_case(seed)
        for row in data["annotations"][::3]:
            # Half of it leaves the image. The source clips what is trained on, not what is judged: a
            # detection of the inner half has IoU 0.5.
            row["bbox"][0] = 640 - row["bbox"][2] / 2
            inner = [row["bbox"][0], row["bbox"][1], row["bbox"][2] / 2, row["bbox"][3]]
            results.append(
                {"image_id": row["image_id"], "category_id": row["category_id"], "bbox": inner, "score": 1.0}
            )
        _, evaluator = through_the_source(data, results, tmp_path)
        assert_equal(evaluator.result(), reference(data, results)[0], f"seed {seed}")


def test_decimal_boxes_through_a_source_and_its_file(tmp_path: Path) -> None:
    """Hundredths, as in COCO, which no float32 has; the detector's float32 corners are written to the results
    file as they are."""
    rng = np.random.default_rng(0)
    for seed in range(1040, 1060):
        data, results = random_case(seed)
        for row in data["annotations"]:
            row["bbox"] = np.round(np.array(row["bbox"]) + rng.uniform(0, 0.2, 4), 2).tolist()
        for row in results:
            corner = np.array(row["bbox"]) + rng.uniform(0, 0.2, 4)
            corner = (
                np.concatenate([corner[:2], corner[:2] + corner[2:]]).astype(np.float32).astype(np.float64)
            )
            row["bbox"] = [*corner[:2].tolist(), *(corner[2:] - corner[:2]).tolist()]
        _, evaluator = through_the_source(data, results, tmp_path)
        assert_equal(evaluator.result(), reference(data, results)[0], f"seed {seed}")


def test_the_files_float64_boxes_are_judged(tmp_path: Path) -> None:
    # 40.00000004 wide against 20: IoU 0.4999999995, a miss. As float32 it is 40 wide, IoU 0.5, a hit.
    data, _ = random_case(0)
    image, category = data["images"][0]["id"], data["categories"][0]["id"]
    row = {"image_id": image, "category_id": category, "bbox": [8.0, 8.0, 40.00000004, 10.0]}
    data["annotations"] = [{"id": 1, **row, "area": 400.0, "iscrowd": 0}]
    results = [{**row, "bbox": [8.0, 8.0, 20.0, 10.0], "score": 0.5}]
    _, evaluator = through_the_source(data, results, tmp_path)
    assert evaluator.result()["AP50"] == reference(data, results)[0]["AP50"] == 0.0


def test_ignored_objects_are_crowds(tmp_path: Path) -> None:
    """pycocotools overwrites the file's ``ignore`` with iscrowd; here ``ignore`` is heeded, and means what
    iscrowd means."""
    for seed in range(1060, 1070):
        data, results = random_case(seed)
        marked = json.loads(json.dumps(data))
        for ours, theirs in list(zip(marked["annotations"], data["annotations"]))[::2]:
            ours["ignore"], theirs["iscrowd"] = 1, 1
        _, evaluator = through_the_source(marked, results, tmp_path)
        assert_equal(evaluator.result(), reference(data, results)[0], f"seed {seed}")


def test_the_lines_are_those_of_pycocotools(tmp_path: Path) -> None:
    data, results = random_case(1)
    _, evaluator = through_the_source(data, results, tmp_path)
    assert evaluator.report(evaluator.result())[:12] == reference(data, results)[1]


def resample(
    data: dict[str, Any], results: list[dict[str, Any]], copies: dict[int, int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO file and results in which each image comes so many times, with ids of their own: copies follow
    one another, in the order of the images' ids."""
    images, annotations, found = [], [], []
    for image in sorted(data["images"], key=lambda row: row["id"]):
        for _ in range(copies[image["id"]]):
            number = len(images) + 1
            images.append({**image, "id": number})
            for rows, into in ((data["annotations"], annotations), (results, found)):
                into.extend({**row, "image_id": number} for row in rows if row["image_id"] == image["id"])
    for number, row in enumerate(annotations, start=1):
        row["id"] = number
    return {"images": images, "annotations": annotations, "categories": data["categories"]}, found


def check_resamples(
    data: dict[str, Any], results: list[dict[str, Any]], folder: Path, weights: np.ndarray, limit: int = 100
) -> None:
    """Compare all numbers of each resample; ``weights`` are in the order of the file's images."""
    source, evaluator = through_the_source(data, results, folder, limit)
    ids = [int(source.annotation(index).image_id) for index in range(len(source))]
    numbers = evaluator.resampled(weights)
    for row, drawn in enumerate(weights.astype(int).tolist()):
        theirs = reference(*resample(data, results, dict(zip(ids, drawn))), limit)[0]
        ours: dict[str, Any] = {key: float(numbers[key][row]) for key in TWELVE}
        ours["classes"] = {
            name: {key: float(numbers[f"classes.{name}.{key}"][row]) for key in ("AP", "AP50")}
            for name in source.classes
        }
        assert_equal(ours, theirs, f"resample {drawn}, maxDets {limit}")


def test_resamples_of_random_cases(tmp_path: Path) -> None:
    """Four scores only, so that most detections tie: within an image, across images and across copies."""
    for seed in range(2000, 2018):
        data, results = random_case(seed)
        count = len(data["images"])
        weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=3)
        weights[0] = 1
        check_resamples(data, results, tmp_path, weights, (100, 100, 100, 20, 5, 1)[seed % 6])


@pytest.mark.skipif(not REFERENCES.exists(), reason="the reference data set is not beside the project")
def test_resamples_of_real_data(tmp_path: Path) -> None:
    data = json.loads((REFERENCES / "instances_val2014_100.json").read_text())
    results = json.loads((REFERENCES / "instances_val2014_fakebbox100_results.json").read_text())
    # What a detector gives: float32 corners and scores.
    for row in results:
        corner = np.array(row["bbox"])
        corner[2:] += corner[:2]
        corner = corner.astype(np.float32).astype(np.float64)
        row["bbox"] = [*corner[:2].tolist(), *(corner[2:] - corner[:2]).tolist()]
        row["score"] = float(np.float32(row["score"]))
    weights = np.random.default_rng(0).multinomial(100, np.full(100, 0.01), size=1)
    check_resamples(data, results, tmp_path, weights)


def test_matches_are_made_anew_after_more_detections(tmp_path: Path) -> None:
    data, results = random_case(1)
    source, evaluator = through_the_source(data, results, tmp_path)
    ones = np.ones((1, len(source)))
    evaluator.resampled(ones)
    for index in range(len(source)):
        evaluator.add(index, Detections.empty())
    assert evaluator.resampled(ones)["AP"][0] == evaluator.result()["AP"] == 0.0
    other = CocoEvaluator(source=source, classes=source.classes)
    assert other.resampled(np.ones((2, 0)))["AP"].tolist() == [-1.0, -1.0]
    other.merge([through_the_source(data, results, tmp_path)[1].state()])
    assert other.resampled(ones)["AP"][0] == pytest.approx(other.result()["AP"], abs=1e-12)


@pytest.mark.skipif(not REFERENCES.exists(), reason="the reference data set is not beside the project")
def test_real_data(tmp_path: Path) -> None:
    """100 real COCO images: by `coco_metrics` and through the source, against pycocotools now and as
    written down."""
    data = json.loads((REFERENCES / "instances_val2014_100.json").read_text())
    results = json.loads((REFERENCES / "instances_val2014_fakebbox100_results.json").read_text())
    written = dict(
        zip(TWELVE, json.loads((REFERENCES / "pycocotools_bbox.txt").read_text().splitlines()[-1]))
    )
    theirs, _ = reference(data, results)
    assert {key: theirs[key] for key in TWELVE} == pytest.approx(written, abs=1e-9)
    assert_equal(judged(data, results), theirs, "coco_metrics")
    source = CocoSource(annotations="instances_val2014_100.json", images=".", root=str(REFERENCES))
    evaluator = CocoEvaluator(source=source, classes=source.classes)
    for index in range(len(source)):
        # float64 corners: the file's boxes are decimals, which a float32 detector could not have given
        rows = [row for row in results if row["image_id"] == source.annotation(index).image_id]
        box = torch.tensor([row["bbox"] for row in rows], dtype=torch.float64).reshape(-1, 4)
        given = detections(rows, int(source.annotation(index).image_id), source.category_ids)
        given.boxes = torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], dim=1)
        given.scores = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
        evaluator.add(index, given)
    assert_equal(evaluator.result(), theirs, "the source")
