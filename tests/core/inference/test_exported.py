"""predict and evaluate with an exported file, which is made by hand here."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from densedet.core.inference.description import Description
from densedet.core.inference.evaluation import ExportedEvaluation
from densedet.core.inference.predictor import ExportedPredictor
from densedet.core.recipe.loading import load_recipe
from densedet.core.suppression import Suppression
from densedet.plugins.sources.digits import DigitsSource
from densedet.tools.main import main

RECIPE = {"data.val": {"name": "digits", "split": "val", "count": 3, "min_objects": 2}}


def written(file, **changes):
    """A file whose graph finds the digits of the first validation scene in every image, with scores .9, .8
    ..., and each once more, a pixel to the right, with half the score."""
    truth = DigitsSource(split="val", count=3, min_objects=2).truth(0)
    count = len(truth.boxes)
    boxes = np.concatenate([truth.boxes, truth.boxes + np.float32([1, 0, 1, 0])]).reshape(1, -1, 4)
    scores = np.zeros((1, 2 * count, 10), dtype=np.float32)
    for row, label in enumerate(truth.labels.tolist() * 2):
        scores[0, row, label] = (0.9 - 0.1 * (row % count)) / (1 + row // count)
    shapes = [
        helper.make_node("Shape", ["valid_hw"], ["batch"], end=1),
        helper.make_node("Concat", ["batch", "ones"], ["repeats"], axis=0),
        helper.make_node("Tile", ["all_boxes", "repeats"], ["boxes"]),
        helper.make_node("Tile", ["all_scores", "repeats"], ["scores"]),
    ]
    given = [
        helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 1, 64, 128]),
        helper.make_tensor_value_info("valid_hw", TensorProto.INT64, ["B", 2]),
    ]
    made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", "N", "n"]) for n in ("boxes", "scores")]
    constants = {"all_boxes": boxes, "all_scores": scores, "ones": np.array([1, 1])}
    values = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(
        helper.make_graph(shapes, "g", given, made, values), opset_imports=opset, ir_version=10
    )
    recipe = load_recipe("quickstart_ssd", RECIPE)
    told = {
        "densedet": "0.1.0",
        "recipe": recipe.to_yaml(),
        "recipe_name": recipe.name,
        "classes": [str(digit) for digit in range(10)],
        "category_ids": list(range(10)),
        "channels": 1,
        "image_type": "uint8",
        "height": 64,
        "width": 128,
        "mean": [0.0],
        "std": [1.0],
        "counts": [2 * count],
        "nms": False,
        "suppression": Suppression(score=0.05, top_k=99, per="level", iou=0.5, max_detections=99),
    }
    description = Description.model_validate({**told, **changes})
    helper.set_model_props(model, description.entries())
    onnx.save(model, str(file))
    return description


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written("tiny.onnx")
    return "tiny.onnx"


def test_a_description_survives_the_file(file):
    assert ExportedPredictor(file).description == written("again.onnx")


def test_evaluate_and_predict_do_not_import_torch(file):
    """Of the first scene's objects all are found and nothing else; none of the others', as boxes go."""
    Image.fromarray(DigitsSource(split="val", count=3, min_objects=2).image(0)).save("scene.png")
    code = (
        "import sys\nfrom densedet.tools.main import main\n"
        "assert main(['evaluate', 'tiny.onnx', '--json', '--output', 'all.json']) == 0\n"
        "assert main(['predict', 'tiny.onnx', 'scene.png', '--output', 'found']) == 0\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("False\n"), done.stdout + done.stderr
    numbers = json.loads(done.stdout.splitlines()[0])
    assert numbers["images"] == 3 and 0 < numbers["AP"] < 1
    with open("found/results.json", encoding="utf-8") as stream:
        rows = json.load(stream)
    truth = DigitsSource(split="val", count=3, min_objects=2).truth(0)
    assert [row["category_id"] for row in rows] == truth.labels.tolist()
    x1, y1, x2, y2 = truth.boxes[0].tolist()
    assert rows[0]["bbox"] == [x1, y1, x2 - x1, y2 - y1] and rows[0]["score"] == pytest.approx(0.9)
    with Image.open("found/00000_scene.jpg") as picture:
        assert picture.size == (512, 256)
    with open("all.json", encoding="utf-8") as stream:
        assert {row["image_id"] for row in json.load(stream)} == {0, 1, 2}


def test_the_first_scene_alone_is_found_whole(file):
    overrides = {"data.val": {"name": "digits", "split": "val", "count": 1, "min_objects": 2}}
    assert ExportedEvaluation(file, overrides).run()["AP"] == pytest.approx(1.0)
    assert ExportedEvaluation(file, limit=1).run().metric == pytest.approx(1.0)


def test_scores_that_nobody_asks_for_are_left_out_before_suppression(file):
    """The detections from a score on are the same as those of all scores that reach it."""
    predictor, scene = ExportedPredictor(file), DigitsSource(split="val", count=3, min_objects=2).image(0)
    [(_, everything)], [(_, best)] = (list(predictor.stream([scene], score=score)) for score in (None, 0.85))
    wanted = everything.scores >= np.float32(0.85)
    assert 0 < wanted.sum() < len(everything)
    for column in ("boxes", "scores", "labels", "anchors"):
        assert np.array_equal(getattr(best, column), getattr(everything, column)[wanted]), column
    images, valid_hw = predictor.input_of([predictor.picture(scene)])
    [left] = predictor.detect(images, valid_hw, 0.85)
    assert len(left) == wanted.sum(), "NMS met candidates that nobody asked for"


def test_thresholds_of_the_checkpoint_hold(tmp_path):
    """Scores .9 and .8 of two digits; what is below .85 is left out."""
    file = tmp_path / "tiny.onnx"
    written(file, thresholds={"scores": [0.85] * 10, "wish": "f1", "images": "3 images"})
    predictor = ExportedPredictor(file)
    image = DigitsSource(split="val").image(0)
    ((_, found),) = predictor.stream([image])
    assert np.asarray(found.scores).tolist() == pytest.approx([0.9]) and found.shown_from == 0.0
    assert predictor.score_thresholds() == ([0.85] * 10, "f1 on 3 images")
    ((_, found),) = predictor.stream([image], score=0.0)
    assert len(found) > 1


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        (["evaluate", "tiny.onnx", "data.color=rgb"], 2, "data.color is fixed in"),
        (["evaluate", "tiny.onnx", "--thresholds", "f1"], 2, "--thresholds takes the checkpoint"),
        (["evaluate", "tiny.onnx", "--device", "cuda"], 2, "this onnxruntime has no device 'cuda'"),
        (["evaluate", "missing.onnx"], 1, "there is no file missing.onnx: make one with densedet export"),
        (["evaluate", "broken.onnx"], 1, "broken.onnx cannot be read by onnxruntime"),
        (["evaluate", "other.onnx"], 1, "other.onnx tells nothing of densedet"),
        (
            ["evaluate", "changed.onnx"],
            1,
            "changed.onnx is no file of densedet export: channels: Input should",
        ),
    ],
)
def test_wrong_use_of_a_file(command, code, sentence, file, capsys):
    with open("broken.onnx", "wb") as stream:
        stream.write(b"not a graph")
    model = onnx.load(file)
    entry = next(entry for entry in model.metadata_props if entry.key == "densedet.channels")
    entry.value = "7"
    onnx.save(model, "changed.onnx")
    del model.metadata_props[:]
    onnx.save(model, "other.onnx")
    assert main(command) == code
    assert sentence in capsys.readouterr().err
