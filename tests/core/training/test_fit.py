"""A recipe that training would refuse is refused when it is loaded, shown or checked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import densedet
from densedet.core.recipe.loading import RecipeError, load_recipe
from densedet.core.training.fit import check_fit
from densedet.tools.main import main

# (override, the part that is at fault, phrase)
MISFITS = [
    ("model.neck=identity", "model.anchors", "scales has 5 entries, but the neck has 3 levels"),
    ("model.head=retinanet", "model.head", "shared by all levels"),
    ("train.parameter_groups={bakbone.*: {lr: 0.1}}", "train.parameter_groups", "'bakbone.*'"),
    (
        "train.frozen=[bakbone.*]",
        "train.frozen.0",
        r"no parameter is called 'bakbone\.\*'.*start with backbone",
    ),
    ("train.optimizer={name: sgd, momentum: 0, nesterov: true}", "train.optimizer", "esterov"),
    ("data.batch_transforms=[{name: crop, scale: [2, 1]}]", "data.batch_transforms.0", "crop"),
]


@pytest.mark.parametrize(("override", "path", "phrase"), MISFITS, ids=[row[1] for row in MISFITS])
def test_what_training_refuses_is_refused_before(override: str, path: str, phrase: str) -> None:
    load_recipe("quickstart_ssd", [override])  # its text is in order
    with pytest.raises(RecipeError, match=phrase) as refused:
        densedet.load_recipe("quickstart_ssd", [override])
    assert refused.value.faults[0].path.startswith(path)


def test_a_check_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("quickstart_ssd", ["train=null"])
    before = torch.get_rng_state()
    check_fit(recipe)
    check_fit(recipe.with_overrides(["data=null"]))
    assert torch.equal(torch.get_rng_state(), before)
    assert not list(tmp_path.iterdir())


def test_show_and_check_refuse_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("show", "check"):
        assert main([command, "recipe", "quickstart_ssd", "model.neck=identity"]) == 2
        assert "model.anchors: anchors 'default_boxes'" in capsys.readouterr().err


def test_check_recipe_builds_all_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["data.train.count=20", "data.val.count=4", "train.batch_size=4", "data.cache_gb=0"]
    assert main(["check", "recipe", "quickstart_ssd", *small]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "20 training images, 4 validation images, 10 classes"
    assert "losses of the first batch: class " in lines[1]
    assert lines[-1] == "quickstart_ssd can be trained"
    assert not list(tmp_path.iterdir())
    assert main(["check", "recipe", "quickstart_ssd", *small, "evaluate.metric=APx"]) == 2
    assert "evaluate.metric: the evaluator gives no number 'APx'" in capsys.readouterr().err
    missing = ["data.train={name: coco, annotations: gone.json, images: gone}"]
    assert main(["check", "recipe", "quickstart_ssd", *missing]) == 3
    assert "no file gone.json" in capsys.readouterr().err
    assert main(["check", "recipe", "quickstart_ssd", *missing, "--no-data"]) == 0
