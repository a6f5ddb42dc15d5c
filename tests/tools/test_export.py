"""densedet export, from a recipe with weights to a file that is checked."""

from __future__ import annotations

import pytest
import torch

from densedet.core.api import build, evaluate
from densedet.core.export.exporting import export
from densedet.core.inference.evaluation import ExportedEvaluation
from densedet.core.inference.predictor import ExportedPredictor
from densedet.tools.main import main

TINY = [
    *("model.backbone.widths=[4,8,8]", "model.backbone.out_indices=[1,2]", "model.neck.channels=8"),
    *("model.neck.extra_levels=0", "model.head.depth=1", "model.postprocess.score=0.001"),
    *("data.val.count=6", "evaluate.batch_size=4"),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Overrides of a tiny RetinaNet whose scores are spread."""
    file = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.manual_seed(0)
    detector = build("quickstart_retinanet", TINY)
    for name, value in detector.state_dict().items():
        if name.startswith("head") and value.ndim == 4:
            value.mul_(20)
    torch.save(detector.state_dict(), file)
    return [*TINY, f"model.weights={file}"]


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    return export("quickstart_retinanet", weights, output=tmp_path_factory.mktemp("onnx") / "tiny.onnx")


@pytest.mark.long
def test_the_file_finds_what_pytorch_finds(exported):
    assert exported.difference.detections > 50 and exported.difference.largest < 1e-5
    assert exported.images == "images of data.val" and exported.difference.images == 6


@pytest.mark.long
def test_the_file_tells_how_to_use_it(exported):
    told = ExportedPredictor(exported.file).description
    assert told == exported.description
    assert (told.channels, told.height, told.width, told.image_type) == (1, 64, 128, "uint8")
    assert told.classes == [str(digit) for digit in range(10)] and told.nms and told.opset >= 18
    assert told.checked == {"images": 6, "difference": exported.difference.largest}


@pytest.mark.long
def test_the_numbers_of_the_file_are_those_of_pytorch(exported, weights):
    ours, theirs = evaluate("quickstart_retinanet", weights), ExportedEvaluation(exported.file).run()
    assert theirs["AP"] == pytest.approx(ours["AP"], abs=1e-9)
    assert theirs.classes["3"] == pytest.approx(ours.classes["3"], abs=1e-9)


@pytest.mark.long
def test_a_file_is_refused_whose_detections_differ(weights, tmp_path, monkeypatch, capsys):
    """The exported network is spoiled after its detector was taken: a bias of the box regression differs."""
    from densedet.core.export import exporting

    def spoiled(predictor, description, file):
        state = predictor.detector.state_dict()
        name = next(n for n in state if "box" in n and n.endswith("bias"))
        kept = state[name].clone()
        state[name].add_(0.01)
        real(predictor, description, file)
        state[name].copy_(kept)

    real = exporting.save_program
    monkeypatch.setattr(exporting, "save_program", spoiled)
    file = tmp_path / "x.pt2"
    code = main(["export", "quickstart_retinanet", *weights, "--format", "torch", "--output", str(file)])
    assert code == 1 and not file.exists() and not list(tmp_path.iterdir())
    assert "x.pt2 is not kept: largest difference to PyTorch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--format", "torch", "--nms"], "--nms goes with --format onnx: leave it out"),
        (
            ["--nms", "model.postprocess={name: soft_nms}"],
            "--nms: model.postprocess 'soft_nms' lowers scores",
        ),
        (
            ["data.resize={name: short_side}"],
            "data.resize 'short_side' gives each image an input of its own size",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_before_the_work(options, sentence, weights, tmp_path, capsys):
    arguments = ["export", "quickstart_retinanet", *weights, "--output", str(tmp_path / "x.onnx"), *options]
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.long
def test_int8_tells_what_it_costs(weights, tmp_path, capsys):
    recipe = ["quickstart_retinanet", *weights, "data.train.count=8", "--int8", "--output"]
    assert main(["export", *recipe, str(tmp_path / "x.onnx")]) == 0
    told = capsys.readouterr().out
    assert "in float32 0.0000: loss 0.0000" in told and ", int8, " in told
    assert ExportedPredictor(tmp_path / "x.onnx").description.weights == "int8"
    assert main(["export", *recipe, str(tmp_path / "y.onnx"), "--max-loss", "-1"]) == 1
    assert "the int8 file is not kept: it loses" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["x.onnx"]
