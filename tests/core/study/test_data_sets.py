"""--on NAME=PATH: data sets that every recipe of a study is trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from densedet.core.errors import DataError, UsageError
from densedet.core.recipe.loading import load_recipe
from densedet.core.study.data_sets import data_sets


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("train", "val"):
        Image.new("L", (32, 16)).save(tmp_path / "pictures" / f"{name}.png")
        document = {
            "images": [{"id": 1, "file_name": f"{name}.png", "width": 32, "height": 16}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 8], "area": 64, "iscrowd": 0}
            ],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return tmp_path


def on(*given: str, images: tuple[str, ...] = (), recipe: str = "quickstart_ssd") -> dict[str, Any]:
    """The section data of a recipe on the last of the data sets."""
    data = data_sets(given, images, ())[-1]
    values: dict[str, Any] = load_recipe(recipe, data.overrides, plugins=data.plugins).values["data"]
    return values


def test_a_file_for_training_and_one_for_evaluation(here: Path) -> None:
    data = on("cats=train.json,val.json", images=("cats=pictures",))
    assert (data["train"]["name"], data["train"]["images"]) == ("coco", "pictures")
    assert data["train"]["annotations"].endswith("train.json")
    assert data["val"]["annotations"].endswith("val.json")
    assert data["val"]["images"] == "pictures"
    assert (data["root"], data["holdout"], data["classes"]) == (".", None, None)


def test_a_set_without_a_part_for_evaluation_holds_out_a_tenth(here: Path) -> None:
    (data,) = data_sets(["cats=train.json"], ["cats=pictures"], ())
    assert "a tenth of its images" in data.note
    assert "data.holdout=0.1" in data.overrides
    # A finished detector has not seen any of it, and is evaluated on all of it.
    assert any(text.startswith("data.val=") and "train.json" in text for text in data.to_judge)


def test_a_recipe_with_a_section_data_is_a_data_set(here: Path) -> None:
    Path("cells.yaml").write_text(
        "data:\n  root: pictures\n  train: {name: coco, annotations: ../train.json, images: .}\n"
        "  input_size_wh: [640, 640]\n"
    )
    data = on("cells=cells.yaml")
    assert (data["root"], data["train"]["annotations"]) == ("pictures", "../train.json")
    assert data["input_size_wh"] == [128, 64]  # the arms' own
    assert on("digits=quickstart_retinanet")["train"]["name"] == "digits"


def test_nothing_of_the_recipes_own_data_stays(here: Path) -> None:
    Path("own.yaml").write_text(
        "base: densedet:quickstart_ssd.yaml\ndata:\n  classes: [dog]\n"
        "  train: {name: coco, annotations: dogs.json, images: dogs}\n"
        "  val: {name: coco, annotations: dogs.json, images: dogs}\n"
    )
    Path("cells.yaml").write_text("data:\n  train: {name: coco, annotations: train.json, images: pictures}\n")
    data = on("cells=cells.yaml", recipe="own.yaml")
    assert "dogs" not in json.dumps(data)
    assert (data["val"], data["classes"]) == (None, None)


@pytest.mark.parametrize(
    ("given", "images", "sentence"),
    [
        (["BCCD"], [], "write a name for the tables and a path"),
        (["=x"], [], "write a name"),
        (["a=train.json", "a=val.json"], [], "two data sets a"),
        (["a=train.json"], ["b=pictures"], "there is no --on b"),
        (["a=quickstart_ssd"], ["a=pictures"], "says where its images are"),
        (["a=train.json"], ["a=nowhere"], "is no folder"),
        (["a=nowhere.json"], [], "there is nothing at nowhere.json"),
    ],
)
def test_wrong_use_gets_a_sentence(here: Path, given: list[str], images: list[str], sentence: str) -> None:
    with pytest.raises((UsageError, DataError), match=sentence):
        data_sets(given, images, ())
