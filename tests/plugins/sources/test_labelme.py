"""LabelMe's files as people and LabelMe write them, by hand-computable boxes."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from densedet.core import conformance
from densedet.core.annotations.conversion import convert, open_source, recognise
from densedet.core.annotations.faults import Faults
from densedet.core.annotations.parts import parts_of
from densedet.core.errors import DataError
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.sources.labelme import LabelMeSource


def shape(label: str, points: Any, kind: str = "rectangle", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def write(folder: Path, stem: str, *shapes: Any, image: bool = True, **more: Any) -> Path:
    """An image of 40 x 20 and its file."""
    folder.mkdir(parents=True, exist_ok=True)
    if image:
        Image.new("L", (40, 20), 90).save(folder / f"{stem}.png")
    values = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": f"{stem}.png",
        "imageData": None,
        "imageHeight": 20,
        "imageWidth": 40,
        **more,
    }
    (folder / f"{stem}.json").write_text(json.dumps(values))
    return folder / f"{stem}.json"


def boxes(source: Any, index: int = 0) -> list[list[float]]:
    return source.annotation(index).boxes.tolist()


def test_shapes_become_the_boxes_around_them(tmp_path: Path) -> None:
    """A rectangle may be drawn from any corner. A circle around (20, 10) through (23, 14) has the radius 5.
    The points of a mask are its first and its last pixel."""
    write(
        tmp_path,
        "a",
        shape("cat", [[12, 8], [2, 4.5]]),
        shape("dog", [[1, 1], [9, 3], [5, 7]], "polygon"),
        shape("dog", [[20, 10], [23, 14]], "circle"),
        shape("cat", [[1, 2], [30, 2], [30, 6]], "linestrip"),
        shape("cat", [[3, 4], [5, 6]], "mask"),
        shape("cat", [[3, 4], [8, 9]], "points"),
        shape("cat", [[0, 0], [4, 4]], flags={"difficult": True}),
        shape("cat", [[0, 0], [4, 4]], flags={"crowd": True, "blurred": True}),
    )
    source = LabelMeSource(root=str(tmp_path))
    truth = source.annotation(0)
    assert source.classes == ("cat", "dog")
    assert boxes(source) == [
        [2, 4.5, 12, 8],
        [1, 1, 9, 7],
        [15, 5, 25, 15],
        [1, 2, 30, 6],
        [3, 4, 6, 7],
        [3, 4, 8, 9],
        [0, 0, 4, 4],
        [0, 0, 4, 4],
    ]
    assert truth.labels.tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert truth.ignore.tolist() == [False] * 6 + [True, True]
    assert truth.crowd.tolist() == [False] * 7 + [True]
    conformance.check_part("source", LabelMeSource, root=str(tmp_path))


def test_images_where_people_have_them(tmp_path: Path) -> None:
    """In another folder, by Windows' path, by the name of the JSON file, and without a size in the file."""
    write(
        tmp_path / "labels", "a", shape("cat", [[0, 0], [4, 4]]), image=False, imagePath="..\\photos\\a.png"
    )
    write(tmp_path / "labels", "b", image=False, imagePath="C:\\far\\away\\b.png", imageWidth=None)
    (tmp_path / "photos").mkdir()
    for stem in "ab":
        Image.new("L", (40, 20)).save(tmp_path / "photos" / f"{stem}.png")
    components = load_plugins([]).components
    spec = recognise(tmp_path / "labels", components)
    assert (spec["name"], spec["images"]) == ("labelme", str(tmp_path))
    source = LabelMeSource(annotations="labels", images="photos", root=str(tmp_path))
    assert [source.image(i) for i in range(2)] == [str(tmp_path / "photos" / f"{s}.png") for s in "ab"]
    assert source.sizes.tolist() == [[40, 20], [40, 20]]


def test_an_image_within_its_file(tmp_path: Path) -> None:
    held = io.BytesIO()
    Image.new("L", (40, 20), 7).save(held, "PNG")
    data = base64.b64encode(held.getvalue()).decode()
    write(tmp_path / "in", "a", shape("cat", [[0, 0], [4, 4]]), image=False, imageData=data)
    write(tmp_path / "in", "b", shape("cat", [[0, 0], [4, 4]]), imageData=data)  # the file counts
    source = LabelMeSource(annotations="in", root=str(tmp_path))
    assert source.image(0) == held.getvalue()
    assert source.image(1) == str(tmp_path / "in" / "b.png")
    conformance.check_part("source", LabelMeSource, annotations="in", root=str(tmp_path))
    write(tmp_path / "bad", "a", shape("cat", [[0, 0], [4, 4]]), image=False, imageData="%%%")
    with pytest.raises(DataError, match=r"a\.json: 'imageData' is no image in base 64"):
        LabelMeSource(annotations="bad", root=str(tmp_path)).image(0)


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"shapes": [shape("", [[0, 0], [1, 1]])]}, "category", r"shape 1 \(\) has no label"),
        ({"shapes": [shape("cat", [])]}, "no_box", r"shape 1 \(cat\) has no points"),
        ({"shapes": [shape("cat", [[0, "x"], [1, 1]])]}, "unreadable", r"has a point \[0, 'x'\]"),
        ({"shapes": [shape("cat", [[0, 0]], "circle")]}, "no_box", "is a circle of 1 points"),
        ({"shapes": ["cat"]}, "unreadable", "is no mapping"),
        ({"shapes": {}}, "image", "it has no list 'shapes'"),
        ({"imagePath": "../../a.png", "imageWidth": -1, "imageHeight": 0}, "image", "size"),
    ],
)
def test_faults_are_told_and_counted(tmp_path: Path, change: Any, kind: str, sentence: str) -> None:
    write(tmp_path, "good", shape("cat", [[0, 0], [4, 4]]))
    write(tmp_path, "wrong", image="size" not in sentence, **change)
    with pytest.raises(DataError, match=sentence):
        len(LabelMeSource(root=str(tmp_path)))
    source = LabelMeSource(root=str(tmp_path))
    source.faults = Faults(strict=False)
    assert len(source.table.labels) == 1
    assert source.faults.counts == {kind: 1}


def test_boxes_that_cannot_be_used_are_dropped(tmp_path: Path) -> None:
    write(
        tmp_path,
        "a",
        shape("cat", [[5, 5]], "point"),
        shape("cat", [[50, 5], [60, 9]]),
        shape("cat", [[float("nan"), 5], [6, 9]]),
        shape("cat", [[30, 10], [50, 15]]),
    )
    source = LabelMeSource(root=str(tmp_path))
    assert boxes(source) == [[30, 10, 40, 15]]
    assert source.table.faults.counts == {"flat": 1, "outside": 1, "not_finite": 1, "clipped": 1}


def test_parts_of_a_data_set(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write(tmp_path / part, part, shape("cat", [[0, 0], [4, 4]]))
    components = load_plugins([]).components
    parts = parts_of(tmp_path, components)
    assert [Path(spec["annotations"]).name for spec in parts.values()] == ["train", "val"]
    assert len(open_source(recognise(tmp_path, components), components)) == 2
    assert parts_of(tmp_path / "train", components) == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_among_the_files_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, "b", shape("cat", [[0, 0], [4, 4]]))
    os.mkfifo(tmp_path / "a.json")
    assert recognise(tmp_path, load_plugins([]).components)["name"] == "labelme"
    with pytest.raises(DataError, match=r"a\.json cannot be read: it is no file"):
        len(LabelMeSource(root=str(tmp_path)))


def test_what_was_changed_in_the_tool_counts(tmp_path: Path) -> None:
    write(tmp_path / "in", "a", shape("cat", [[0.1, 0.2], [4.3, 4.7]]), shape("cat", [[1, 1], [2, 2]]))
    source = LabelMeSource(annotations="in", root=str(tmp_path))
    convert(source, LabelMeSource, tmp_path / "out")
    file = tmp_path / "out" / "train" / "a.json"
    values = json.loads(file.read_text())
    values["shapes"][0]["points"][1] = [8, 9]
    values["shapes"][1]["label"] = "dog"
    file.write_text(json.dumps(values))
    components = load_plugins([]).components
    with pytest.raises(DataError, match=r"there is no class 'dog' among cat"):
        len(open_source(recognise(tmp_path / "out", components), components))
    (tmp_path / "out" / "categories.json").unlink()
    again = open_source(recognise(tmp_path / "out", components), components)
    assert again.classes == ("cat", "dog")
    assert again.table.xywh.tolist() == [[0.1, 0.2, 8 - 0.1, 9 - 0.2], [1, 1, 1, 1]]
    assert again.table.areas[0] == pytest.approx((8 - 0.1) * (9 - 0.2))
