"""Which part of a data set each command takes, in every layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.conversion import open_source
from densedet.core.annotations.parts import training_sources
from densedet.core.errors import DataError, UsageError
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.sources.coco import CocoSource
from densedet.plugins.sources.voc import VOCSource
from densedet.plugins.sources.yolo import YOLOSource
from densedet.tools.main import main

COMPONENTS = load_plugins().components
COUNTS = {"train": 5, "val": 2}


def write(part: str, kind: type, folder: Path, images: Path) -> None:
    """As many images of 20 x 10 pixels as the part has, with a box each."""
    builder = TableBuilder("memory")
    builder.add_class(1, "thing")
    images.mkdir(parents=True, exist_ok=True)
    for number in range(COUNTS[part]):
        Image.new("L", (20, 10)).save(images / f"{part}{number}.png")
        builder.add_image(number, f"{part}{number}.png", 20, 10)
        builder.add_box(number, 1, (1, 1, 5, 5))
    kind.write(builder.finish(), folder, split=part)


def yolo(folder: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        write(part, YOLOSource, folder, folder.parent / "spare")
        shutil.copytree(folder.parent / "spare", folder / "images" / part, dirs_exist_ok=True)
        shutil.rmtree(folder.parent / "spare")


def voc(folder: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        write(part, VOCSource, folder, folder.parent / "spare")
        shutil.copytree(folder.parent / "spare", folder / "JPEGImages", dirs_exist_ok=True)


def coco(folder: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        write(part, CocoSource, folder / "annotations" / f"instances_{part}2017.json", folder / f"{part}2017")


def roboflow(folder: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        place = folder / {"val": "valid"}.get(part, part)
        write(part, CocoSource, place / "_annotations.coco.json", place)


Layout = Callable[[Path, tuple[str, ...]], None]
LAYOUTS = pytest.mark.parametrize("layout", [yolo, voc, coco, roboflow])


def sizes(train: str, val: str | None, **images: str | None) -> tuple[int, int | None, str]:
    """Return the numbers of training and validation images, and the sentence."""
    found, other, told = training_sources(
        train, val, COMPONENTS, **{"images": None, "val_images": None, **images}
    )
    return len(open_source(found, COMPONENTS)), other and len(open_source(other, COMPONENTS)), told


@LAYOUTS
def test_db_means_the_part_train_and_val_db_the_part_val(tmp_path: Path, layout: Layout) -> None:
    layout(tmp_path / "d", ("train", "val"))
    folder = str(tmp_path / "d")
    assert sizes(folder, folder) == (
        5,
        2,
        f"training on part train of {folder}; evaluating on part val of {folder}",
    )
    assert sizes(folder, None)[:2] == (5, 2)
    assert sizes(folder, None)[2].endswith("; no --val-db: evaluating on its part val")


@LAYOUTS
def test_a_tenth_is_held_out_only_where_there_is_no_part_val(tmp_path: Path, layout: Layout) -> None:
    layout(tmp_path / "d", ("train",))
    layout(tmp_path / "e", ("val",))
    one, other = str(tmp_path / "d"), str(tmp_path / "e")
    assert sizes(one, None) == (5, None, "")
    assert sizes(one, other)[:2] == (5, 2)
    with pytest.raises(UsageError, match="has no part val beside the one to train on"):
        sizes(one, one)
    with pytest.raises(UsageError, match="--val-images goes with --val-db"):
        sizes(one, None, val_images=one)


def test_one_file_for_both_is_told(tmp_path: Path) -> None:
    write("train", CocoSource, tmp_path / "a.json", tmp_path / "images")
    file = str(tmp_path / "a.json")
    assert sizes(file, None) == (5, None, "")
    assert sizes(file, file) == (5, 5, f"evaluating on {file} too, so AP says nothing about other images")


def test_a_folder_of_images_is_used_or_refused(tmp_path: Path) -> None:
    coco(tmp_path / "c", ("train", "val"))
    yolo(tmp_path / "y", ("train", "val"))
    (tmp_path / "other").mkdir()
    given = {"images": str(tmp_path / "other")}
    found, other, _ = training_sources(str(tmp_path / "c"), None, COMPONENTS, **given, val_images=None)
    assert found["images"] == other["images"] == given["images"]  # type: ignore[index]
    for option in ("images", "val_images"):
        name = f"--{option.replace('_', '-')}"
        with pytest.raises(
            UsageError, match=f"{name} /nonexistent is no folder: name the folder of the images"
        ):
            sizes(str(tmp_path / "c"), None, **{option: "/nonexistent"})
        with pytest.raises(UsageError, match=f"source yolo finds its images itself: leave {name} out"):
            sizes(str(tmp_path / "y"), None, **{option: "/nonexistent"})
    for path in ("c", "y"):
        with pytest.raises(DataError, match="there is nothing at"):
            sizes(str(tmp_path / path), "/nonexistent")


@LAYOUTS
def test_convert_and_check_say_which_part_they_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: Layout
) -> None:
    layout(tmp_path / "d", ("train", "val"))
    folder = str(tmp_path / "d")
    assert main(["check", "data", folder, "--json"]) == 0
    told = capsys.readouterr()
    [facts] = [row for row in json.loads(told.out).values() if isinstance(row, dict)]
    if layout is voc:  # no part is one of its own
        assert (facts["images"], "d has train, val: all are taken (--split takes one)" in told.err) == (
            7,
            True,
        )
    else:
        assert facts["images"] == 5
        assert "d has train, val: train is taken (--split takes another)" in told.err
    assert main(["convert", folder, str(tmp_path / "x.json")]) == 0
    assert "d has train, val" in capsys.readouterr().err
    assert main(["convert", folder, str(tmp_path / "y.json"), "--split", "val"]) == 0
    told = capsys.readouterr()
    assert ": 2 images" in told.out
    assert "taken" not in told.err
