"""A recipe chosen for data: sizes by hand, and a choice that trains."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densedet.core import assembly
from densedet.core.checking.anchor_check import check_anchors
from densedet.core.errors import DataError
from densedet.core.recipe.loading import load_recipe
from densedet.core.study import auto
from densedet.tools.main import main

DIGITS = [
    "data.train={name: digits, count: 40}",
    "data.val={name: digits, split: val, count: 4}",
    "data.holdout=null",
    "data.cache_gb=0",
]


def test_a_size_has_the_images_shape_and_is_no_larger() -> None:
    # A root of 320 of 640x480 images: 640 * 320 / sqrt(640 * 480) = 369.5 and 277.1, in multiples of 32.
    assert auto.size_for(320.0, 640, 480) == (384, 288)
    assert auto.size_for(1e9, 640, 480) == (640, 480)
    assert auto.size_for(1e9, 4000, 1000) == (1280, 320)  # 640 * sqrt(4), 640 / sqrt(4)
    assert auto.size_for(10.0, 640, 480) == (256, 192)  # the least: 224 * sqrt(4 / 3) = 258.7, 194
    assert auto.size_for(10.0, 100, 60) == (96, 64)
    assert auto.size_for(10.0, 5, 4000) == (32, 4000)  # at least one multiple, however narrow


def test_a_class_with_small_objects_stands_for_all() -> None:
    sides = {name: np.array([side] * 3) for name, side in zip("abcde", (0.5, 0.1, 0.4, 0.2, 0.3))}
    assert auto.small_class(sides) == ("d", 0.2)  # .1 .2 .3 .4 .5: place (5 - 1) // 4 = 1
    assert auto.small_class({"a": np.array([0.1, 0.3, 0.2])}) == ("a", 0.2)


def test_ssds_boxes_follow_the_datas() -> None:
    # 0, .01, ..., 1 have quantiles .02 .25 .5 .75 .98; in the shorter side of 128x32 twice as much.
    spread = np.linspace(0, 1, 101)
    wanted = "model.anchors.scales=[0.040, 0.500, 1.000, 1.500, 1.960]"
    assert auto.scales_of(spread, (128, 32)) == wanted
    # Boxes of one size: each scale a quarter larger than the one before.
    wanted = "model.anchors.scales=[0.400, 0.500, 0.625, 0.781, 0.977]"
    assert auto.scales_of(np.array([0.4]), (64, 64)) == wanted


@pytest.mark.parametrize("head", ["ssd", "retinanet"])
def test_anchors_of_a_classic_head_are_fitted(head: str) -> None:
    """Digits of 8 to 10 pixels, far below the anchors of the recipes."""
    given = ["data.train={name: digits, count: 60, min_side: 8, max_side: 10}", "data.holdout=null"]
    given.append("data.input_size_wh=[128, 64]")
    recipe = load_recipe(auto.HEADS[head], given)
    source, _ = assembly.build_sources(recipe)
    sides = auto.box_sides(source, assembly.class_table(recipe, source))
    changes, [reason] = auto.fitted_anchors(head, given, sides)
    assert len({change.partition("=")[0] for change in changes}) == len(changes), "a path is given twice"
    assert "anchors are fitted to the boxes: one fits " in reason
    fits = [
        check_anchors(load_recipe(auto.HEADS[head], [*given, *more]), 60).before.share()["fitting"]
        for more in ([], changes)
    ]
    assert fits[1] > fits[0] + 0.3
    assert auto.fitted_anchors(head, [*given, "model.anchors.ratios=[1.5]"], sides) == ([], [])


def test_a_classic_head_takes_the_members_backbone() -> None:
    changes = auto.backbone_of("laptop_medium", "laptop_ssd", [])
    wanted = load_recipe("laptop_medium").values["model"]["backbone"]
    assert load_recipe("laptop_ssd", changes).values["model"]["backbone"] == wanted
    assert auto.backbone_of("laptop_fine", "laptop_ssd", []) == []
    assert auto.backbone_of("laptop_medium", "laptop_ssd", ["model.backbone.stem=8"]) == []


def test_a_picture_without_colour_is_grey(tmp_path: Path) -> None:
    entries = [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(3)]
    boxes = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}]
    content = {"images": entries, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    for entry in entries:
        Image.effect_noise((64, 48), 80).convert("RGB").save(tmp_path / str(entry["file_name"]))
    given = [f"data.root={tmp_path}", "data.train={name: coco, annotations: a.json, images: .}"]
    given.append("data.holdout=null")
    recipe = load_recipe("laptop_nano", given)
    source, _ = assembly.build_sources(recipe)
    assert auto.looks_grey(recipe, source)
    Image.new("RGB", (64, 48), (200, 60, 60)).save(tmp_path / "2.jpg")
    assert not auto.looks_grey(recipe, source)


def test_what_is_chosen_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Digits of 16 to 30 pixels in grey 128x64: their own size, and the member without a map at stride 4."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(auto, "seconds_per_image", lambda recipe, changes: 0.06)  # 10 in .01 minutes
    assert main(["train", "auto", *DIGITS, "--minutes", "0.01", "run.hooks=[{name: metrics}]"]) == 0
    told = capsys.readouterr().err
    assert "auto: laptop_small 'train.budget={minutes: 0.01}' data.color=grey" in told
    assert "auto: laptop_medium would see 10 images in 0.01 minutes here, too few for its size" in told
    assert "auto: at 128x64 it would see fewer than 4,000 images" in told
    # A quarter of the area at most, since fewer images than that would be seen: 64x32.
    found = load_recipe(tmp_path / "runs/laptop_small/1/recipe.yaml")
    assert (found.data.input_size_wh, found.data.color) == ((64, 32), "grey")
    assert found.train.budget.minutes == 0.01


def test_speed_is_measured_and_memory_of_it_is_gone(tmp_path: Path) -> None:
    seconds = auto.seconds_per_image("laptop_nano", [*DIGITS, "data.input_size_wh=[64, 32]"])
    assert 0 < seconds < math.inf


def test_wishes_stay() -> None:
    fixed = [*DIGITS, "data.input_size_wh=[64, 32]", "data.color=rgb"]
    choice = auto.choose(fixed, 1e4, "ssd")
    assert choice.recipe == "laptop_ssd"
    assert "data.input_size_wh=[64, 32]" in choice.changes
    assert not any(change.startswith("data.color") for change in choice.changes)
    assert any(change.startswith("model.anchors.scales=") for change in choice.changes)


def test_images_that_are_seen_often_are_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """800 images, 12,000 of which are 15 times each."""
    digits = ["data.train={name: digits, count: 800}", "data.holdout=null", "data.input_size_wh=[64, 32]"]
    monkeypatch.setattr(auto, "seconds_per_image", lambda recipe, changes: 60 / 1000)
    few = ["data.train={name: digits, count: 4}", *digits[1:]]
    for seldom in (auto.choose(digits, 11.9), auto.choose(few, 11.9)):
        assert not any("mixup" in change or "ema" in change for change in seldom.changes)
    often = auto.choose(digits, 12.1)
    assert {"train.schedule.final=0.5", "train.ema_decay=0.998"} < set(often.changes)
    found = load_recipe(often.recipe, [*digits, *often.changes])
    transforms = found.values["data"]["batch_transforms"]
    assert [one["name"] for one in transforms] == ["flip", "crop", "photometric", "mixup"]
    assert transforms[-1]["p"] == 0.3
    assert any('"p": 0.6' in change for change in auto.choose(digits, 32.1).changes)
    assert any("by heart" in reason and "data.batch_transforms" in reason for reason in often.reasons)
    wishes = ["data.batch_transforms=[]", "train.schedule={name: constant}", "train.ema_decay=null"]
    mine = auto.choose([*digits, *wishes], 12.1)
    assert not any("mixup" in change or "final" in change or "ema" in change for change in mine.changes)
    assert not any("by heart" in reason for reason in mine.reasons)
    other = auto.choose([*digits, "train.schedule.name=constant"], 12.1)
    assert "train.ema_decay=0.998" in other.changes
    assert load_recipe(other.recipe, [*digits, "train.schedule.name=constant", *other.changes])


def test_data_without_boxes_are_refused() -> None:
    with pytest.raises(DataError, match="no box counts"):
        auto.choose(["data.train={name: digits, count: 4, max_objects: 0}", "data.holdout=null"], 1.0)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--minutes", "10"], "train auto needs data"),
        (["--minutes", "0", *DIGITS], "--minutes 0 is no time"),
        (["--epochs", "3", *DIGITS], "write --minutes N"),
        (["--resume", "runs/a/1", *DIGITS], "write densedet train --resume RUN"),
    ],
)
def test_what_has_no_meaning_is_refused(
    given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "auto", *given]) == 2
    assert sentence in capsys.readouterr().err
