"""densedet show missed, evaluate --thresholds and predict by the saved thresholds, on one tiny run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import densedet
from densedet.core.judgement.missed import REASONS
from densedet.core.training import checkpoint
from densedet.core.training.judging import Evaluation
from densedet.tools.main import main

Texts = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs") / "tiny"
    changes = {
        "data.train.count": 16,
        "data.val.count": 4,
        "data.cache_gb": 0,
        "model.backbone.widths": [8, 8, 8],
        "train.batch_size": 8,
        "train.budget": {"steps": 2},
        "train.evaluations": 1,
        "run.hooks": [{"name": "checkpoint"}],
    }
    densedet.train("quickstart_ssd", changes, folder=folder)
    return folder


def objects_of(run: Path) -> int:
    return sum(len(Evaluation(run).source.annotation(index).labels) for index in range(4))


def test_show_missed_is_a_short_table(run: Path, capsys: Texts) -> None:
    assert main(["show", "missed", str(run), "--threshold", "1"]) == 0
    text = capsys.readouterr().out
    objects = objects_of(run)
    assert f"{run / 'best.pt'} misses {objects} of {objects} objects in 4 images of data.val" in text
    assert "(IoU 0.5, score threshold 1: given; at most 100 detections of a class in an image)" in text
    assert "reason" in text
    assert "small" in text
    assert len(text.splitlines()) < 30


def test_show_missed_lists_each_object_as_json(run: Path, capsys: Texts) -> None:
    assert main(["show", "missed", str(run), "--threshold", "1", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["missed"] == told["objects"] == len(told["list"]) == objects_of(run)
    assert sum(told["reasons"].values()) == told["missed"]
    assert sum(sum(row.values()) for row in told["classes"].values()) == told["missed"]
    assert sum(sum(row.values()) for row in told["sizes"].values()) == told["missed"]
    assert (told["images"], told["thresholds_from"], told["thresholds"]) == (4, "given", [1.0] * 10)
    for one in told["list"]:
        assert one["reason"] in REASONS
        assert len(one["box"]) == 4
        assert one["detail"]


def test_thresholds_are_told_saved_and_gone_by(run: Path, tmp_path: Path, capsys: Texts) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "best.pt").write_bytes((run / "best.pt").read_bytes())
    assert main(["evaluate", str(copy), "--thresholds", "f1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["thresholds"]["images"] == "4 images of data.val (digits)"
    rows = told["thresholds"]["classes"]
    assert list(rows) == [str(digit) for digit in range(10)]
    assert checkpoint.load(copy / "best.pt")["thresholds"] is None

    assert main(["evaluate", str(copy), "--thresholds", "f1", "--save"]) == 0
    text = capsys.readouterr()
    assert " thresholds (best F1) at IoU 0.5, found on 4 images of data.val (digits)" in text.out
    assert f"thresholds saved in {copy / 'best.pt'}" in text.err
    kept = checkpoint.load(copy / "best.pt")["thresholds"]["scores"]
    assert kept == [row["score"] for row in rows.values()]

    image = tmp_path / "a.png"
    Image.fromarray(Evaluation(run).source.image(0)).save(image)
    predict = ["predict", str(copy), str(image), "--no-pictures", "--json", "--output"]
    assert main([*predict, str(tmp_path / "one")]) == 0
    text = capsys.readouterr()
    assert "score thresholds: 0: " in text.err
    assert "(best F1 on 4 images of data.val (digits))" in text.err
    scores = [0.3 if score is None else score for score in kept]
    assert all(row["score"] >= scores[row["category_id"]] - 1e-6 for row in json.loads(text.out))
    assert json.loads((tmp_path / "one" / "results.json").read_text()) == json.loads(text.out)
    assert main([*predict, str(tmp_path / "two"), "--score", "0.01"]) == 0
    text = capsys.readouterr()
    assert "score thresholds: 0.01 for all classes (given)" in text.err
    assert len(json.loads(text.out)) > 0
    assert main(["predict", str(run), str(image), "--no-pictures", "--output", str(tmp_path / "three")]) == 0
    assert "score thresholds: 0.3 for all classes (default)" in capsys.readouterr().err


def test_thresholds_of_training_images_are_said_to_be_so(run: Path, capsys: Texts) -> None:
    assert main(["evaluate", str(run), "--thresholds", "recall=0.9", "--split", "train"]) == 0
    text = capsys.readouterr().out
    assert "found on 16 images of data.train (digits)" in text
    assert "these are training images" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "RUN", "--save"], "--save goes with --thresholds"),
        (["evaluate", "quickstart_ssd", "--thresholds", "f1", "--save"], "quickstart_ssd is a recipe"),
        (
            ["evaluate", "RUN", "model.postprocess.top_k=50", "--thresholds", "f1", "--save"],
            "here it is changed (model.postprocess.top_k)",
        ),
        (["evaluate", "RUN", "--thresholds", "ap"], "write f1, precision=0.9 or recall=0.8"),
        (["show", "missed", "RUN", "--threshold", "2"], "--threshold 2.0: give a number from 0 to 1"),
        (["show", "missed", "RUN", "--iou", "0"], "--iou 0.0: give a number above 0, up to 1"),
        (["show", "missed", "quickstart_ssd"], "is a recipe without trained weights"),
        (["show", "missed", "nowhere"], "there is no checkpoint at nowhere"),
    ],
)
def test_wrong_use_is_told_before_the_work(
    run: Path, arguments: list[str], message: str, capsys: Texts
) -> None:
    assert main([str(run) if text == "RUN" else text for text in arguments]) in (1, 2)
    assert message in capsys.readouterr().err
