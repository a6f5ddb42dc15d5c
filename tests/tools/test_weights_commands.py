"""torchvision's weights on the command line, as a user types it: evaluate, predict and train with
model.weights=FILE, convert weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from densedet.tools.main import main

RECIPE = "torchvision/ssdlite320_mobilenet_v3_large"
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]
SLOTS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
"""COCO's ids 1..90 that stand for nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """theirs.pth, two images, and annotations of them."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    images, boxes = [], []
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 60})
        boxes.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 18,
                "bbox": [10, 10, 30, 30],
                "area": 900,
                "iscrowd": 0,
            }
        )
    (folder / "a.json").write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": CATEGORIES})
    )
    return folder


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(folder: Path) -> str:
    return f"model.weights={folder / 'theirs.pth'}"


def data(folder: Path, split: str) -> str:
    return f"data.{split}={{name: coco, annotations: '{folder / 'a.json'}', images: '{folder}'}}"


def test_predict_needs_no_data_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels become COCO's ids by the recipe's own table; slots without a category never show."""
    assert (
        main(
            [
                "predict",
                RECIPE,
                str(folder / "1.png"),
                weights(folder),
                "--output",
                "out",
                "--score",
                "0",
                "--json",
            ]
        )
        == 0
    )
    rows = json.loads(capsys.readouterr().out)
    ids = {row["category_id"] for row in rows}
    assert len(rows) > 50
    assert len(ids) > 10
    assert ids <= set(range(1, 91)) - SLOTS
    assert len(list(Path("out").glob("*.jpg"))) == 1


def test_a_plugin_file_named_beside_the_recipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(
        "import densedet\n"
        "from densedet.plugins.postprocess.nms import NMSPostprocess\n\n"
        "@densedet.register('postprocess', 'only_one')\n"
        "class OnlyOne(NMSPostprocess):\n"
        "    def __init__(self):\n"
        "        super().__init__(score=0.0, max_detections=1)\n"
    )
    command = [
        "predict",
        RECIPE,
        str(folder / "1.png"),
        weights(folder),
        "model.postprocess={name: only_one}",
        "--score",
        "0",
        "--json",
    ]
    assert main(command) == 2
    assert "only_one" in capsys.readouterr().err
    assert main([*command, "--plugin", "mine.py"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_evaluate_opens_the_images_to_judge_on_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", RECIPE, weights(folder), data(folder, "val"), "--output", "found.json", "--json"]
    assert main(command) == 0
    metrics = json.loads(capsys.readouterr().out)
    rows = json.loads(Path("found.json").read_text())
    assert {row["category_id"] for row in rows} <= {1, 18, 90}
    assert set(metrics["classes"]) >= {"person", "dog", "toothbrush"}
    assert "" not in metrics["classes"]
    assert metrics["images"] == 2


def test_train_starts_from_them_and_says_what_starts_anew(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [
        "data.classes=null",
        "data.category_ids=null",
        "data.input_size_wh=[64, 64]",
        "data.transforms=[]",
        "data.workers=0",
    ]
    steps = ["train.budget={steps: 1}", "train.batch_size=2", "train.device=cpu"]
    assert (
        main(["train", RECIPE, weights(folder), data(folder, "train"), data(folder, "val"), *few, *steps])
        == 0
    )
    said = "".join(capsys.readouterr())
    assert "names of torchvision_ssdlite" in " ".join(said.split())
    assert "start anew: head.logits.convs.0.weight" in " ".join(said.split())
    [run] = Path("runs").glob("*/1")
    assert (run / "last.pt").is_file()
    (folder / "theirs.pth").rename(folder / "moved.pth")
    try:
        assert main(["evaluate", str(run)]) == 0  # the checkpoint has its own weights
    finally:
        (folder / "moved.pth").rename(folder / "theirs.pth")


def test_convert_there_and_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "weights", str(folder / "theirs.pth"), "ours.pth"]) == 0
    assert "476 entries under the names of densedet (by torchvision_ssdlite)" in capsys.readouterr().out
    assert main(["convert", "weights", "ours.pth", "back.pth", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "weight_map": "torchvision_ssdlite",
        "names": "torchvision_ssdlite",
        "entries": 476,
        "target": "back.pth",
    }
    theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    theirs.load_state_dict(torch.load("back.pth", weights_only=True))
    assert main(["convert", "weights", "ours.pth", "back.pth"]) == 2
    assert "back.pth is there already: give another name or --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (
            ["predict", RECIPE, "{folder}/1.png"],
            2,
            "is a recipe without trained weights: add model.weights=FILE",
        ),
        (["evaluate", RECIPE], 2, "is a recipe without trained weights: add model.weights=FILE"),
        (["predict", RECIPE, "{folder}/1.png", "model.weights=no.pth"], 2, "'no.pth' are neither a file"),
        (["predict", RECIPE, "{folder}/1.png", "model.wieghts=no.pth"], 2, "Did you mean 'weights'?"),
        (
            ["predict", RECIPE, "{folder}/1.png", "{weights}", "data.classes=[a, b]"],
            2,
            "data.category_ids: has 90 ids for 2 classes",
        ),
        (
            ["predict", RECIPE, "{folder}/1.png", "{weights}", "data.classes=[null]"],
            2,
            "name at least one class",
        ),
        (
            ["predict", RECIPE, "{folder}/1.png", "{weights}", "--plugin", "no.py"],
            2,
            "plug-in no.py does not load",
        ),
        (["convert", "weights", "no.pth", "b.pth"], 2, "'no.pth' are neither a file"),
        (["convert", "a", "b", "c"], 2, "c is one name too many"),
    ],
)
def test_mistakes_are_sentences(
    command: list[str], code: int, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(folder=folder, weights=weights(folder)) for word in command]) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
