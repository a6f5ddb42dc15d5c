"""CVAT's files by hand-computable boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from densedet.core import conformance
from densedet.core.annotations.conversion import open_source, recognise
from densedet.core.annotations.faults import Faults
from densedet.core.annotations.parts import parts_of
from densedet.core.errors import DataError
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.sources._xml import MAX_DEPTH
from densedet.plugins.sources.cvat import CVATSource

LABELS = (
    "<meta><job><labels><label><name>dog</name></label><label><name>cat</name></label></labels></job></meta>"
)


def image(*shapes: str, name: str = "a.png", more: str = "") -> str:
    return f'<image id="0" name="{name}" width="40" height="20" {more}>{"".join(shapes)}</image>'


def box(label: str, xtl: Any, ytl: Any, xbr: Any, ybr: Any, more: str = "", inside: str = "") -> str:
    corners = f'xtl="{xtl}" ytl="{ytl}" xbr="{xbr}" ybr="{ybr}"'
    return f'<box label="{label}" occluded="0" {corners} {more} z_order="0">{inside}</box>'


def write(folder: Path, *parts: str, images: tuple[str, ...] = ("a.png",)) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in images:
        (folder / "images" / name).parent.mkdir(exist_ok=True)
        Image.new("L", (40, 20), 90).save(folder / "images" / name)
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{"".join(parts)}'
    (folder / "annotations.xml").write_text(f"{text}</annotations>")
    return folder / "annotations.xml"


def boxes(source: Any, index: int = 0) -> list[Any]:
    return source.annotation(index).boxes.tolist()


def test_shapes_become_the_boxes_around_them(tmp_path: Path) -> None:
    """A box of 10 x 4 around (15, 10), turned by 90 degrees, is 4 x 10. An ellipse of radii 6 and 2 turned so
    has the radii 2 and 6; by 45 degrees both are sqrt((36 + 4) / 2) = 4.4721. A mask is where it lies."""
    corners = " ".join(
        f'x{name}="{x}" y{name}="{y}"'
        for name, x, y in zip(
            ("tl1", "bl1", "tr1", "br1", "tl2", "bl2", "tr2", "br2"),
            (1, 1, 5, 5, 3, 3, 9, 9),
            (2, 8, 2, 8, 1, 7, 1, 7),
        )
    )
    ignore, crowd = '<attribute name="difficult">true</attribute>', '<attribute name="iscrowd">1</attribute>'
    write(
        tmp_path,
        LABELS,
        image(
            box("cat", 1.5, 2, 4, 8),
            box("dog", 10, 8, 20, 12, 'rotation="90"'),
            '<polygon label="cat" points="1.00,2.00;9.50,3.00;4.00,7.25" z_order="1"></polygon>',
            '<polyline label="cat" points="1,2;30,6"></polyline>',
            '<ellipse label="cat" cx="20" cy="10" rx="6" ry="2" rotation="90"></ellipse>',
            '<ellipse label="cat" cx="20" cy="10" rx="6" ry="2" rotation="45"></ellipse>',
            '<mask label="dog" rle="1, 2" left="3" top="4" width="5" height="6"></mask>',
            f'<cuboid label="dog" {corners}></cuboid>',
            '<skeleton label="dog"><points label="1" outside="0" points="3,4"></points>'
            '<points label="2" outside="1" points="30,14"></points>'
            '<points label="3" outside="0" points="9,10"></points></skeleton>',
            box("cat", 0, 0, 4, 4, inside=ignore),
            box("cat", 0, 0, 4, 4, inside=crowd),
            '<tag label="cat"></tag>',
        ),
    )
    source = CVATSource(root=str(tmp_path))
    truth = source.annotation(0)
    assert (source.classes, source.category_ids) == (("dog", "cat"), (1, 2))
    root = 20**0.5
    assert boxes(source) == [
        [1.5, 2, 4, 8],
        [13, 5, 17, 15],
        [1, 2, 9.5, 7.25],
        [1, 2, 30, 6],
        [18, 4, 22, 16],
        pytest.approx([20 - root, 10 - root, 20 + root, 10 + root]),
        [3, 4, 8, 10],
        [1, 1, 9, 8],
        [3, 4, 9, 10],
        [0, 0, 4, 4],
        [0, 0, 4, 4],
    ]
    assert truth.labels.tolist() == [1, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1]
    assert truth.ignore.tolist() == [False] * 9 + [True, True]
    assert truth.crowd.tolist() == [False] * 10 + [True]
    conformance.check_part("source", CVATSource, root=str(tmp_path))


def test_the_frames_of_a_video_that_lie_as_files(tmp_path: Path) -> None:
    """The car leaves the picture in frame 2; nobody is in frame 1 of the images."""
    track = (
        '<track id="0" label="car">'
        '<box frame="0" outside="0" keyframe="1" xtl="1" ytl="2" xbr="5" ybr="6"></box>'
        '<box frame="2" outside="1" keyframe="1" xtl="2" ytl="2" xbr="6" ybr="6"></box></track>'
        '<track id="1" label="bus">'
        '<polygon frame="2" outside="0" keyframe="1" points="1,1;3,9;7,2"></polygon></track>'
    )
    names = tuple(f"frame_{number:06d}.png" for number in range(3))
    write(tmp_path, track, images=names)
    source = CVATSource(root=str(tmp_path))
    assert source.classes == ("bus", "car")
    assert [source.annotation(i).file_name for i in range(3)] == list(names)
    assert [boxes(source, i) for i in range(3)] == [[[1, 2, 5, 6]], [], [[1, 1, 7, 9]]]
    assert recognise(tmp_path, load_plugins([]).components)["name"] == "cvat"
    (tmp_path / "images" / names[2]).unlink()
    with pytest.raises(DataError, match=r"no image of frame 2 in .*: write the .* as frame_000002"):
        len(CVATSource(root=str(tmp_path)))


def test_subsets_of_a_project(tmp_path: Path) -> None:
    """Images of a project lie in a folder of their subset."""
    write(
        tmp_path,
        LABELS,
        image(box("cat", 1, 1, 3, 3), more='subset="Train"'),
        image(box("dog", 1, 1, 3, 3), name="b.png", more='subset="Validation"'),
        images=("Train/a.png", "Validation/b.png"),
    )
    components = load_plugins([]).components
    parts = parts_of(tmp_path, components)
    assert {part: spec["split"] for part, spec in parts.items()} == {"train": "Train", "val": "Validation"}
    val = open_source(parts["val"], components)
    assert (len(val), val.image(0)) == (1, str(tmp_path / "images" / "Validation" / "b.png"))
    assert len(open_source(recognise(tmp_path, components), components)) == 2
    with pytest.raises(DataError, match="has no subset 'test': there are Train, Validation"):
        recognise(tmp_path, components, split="test", name="cvat")


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (image(box("", 1, 1, 2, 2)), "category", r"image 'a.png': shape 1 \(\) has no label"),
        (image(box("cow", 1, 1, 2, 2)), "category", "there is no class 'cow' among dog, cat"),
        (image(box("cat", "x", 1, 2, 2)), "unreadable", "has x, 1, 2, 2: numbers are wanted"),
        (image(box("cat", 1, 1, 2, 2).replace('xbr="2"', "")), "no_box", "has no xbr"),
        (
            image('<polygon label="cat" points="1;2"></polygon>'),
            "unreadable",
            "has a point '1': x,y is wanted",
        ),
        (image('<polygon label="cat"></polygon>'), "no_box", "has no points"),
        (image(name="../gone.png"), "image", "leaves the image folder"),
        (image(name="gone.png").replace('width="40"', ""), "image", "does not give the size"),
        (
            '<track label="cat"><box frame="x" xtl="1" ytl="1" xbr="2" ybr="2"/></track>',
            "image_id",
            "no number",
        ),
    ],
)
def test_faults_are_told_and_counted(tmp_path: Path, content: str, kind: str, sentence: str) -> None:
    write(tmp_path, LABELS, image(box("cat", 0, 0, 4, 4), name="good.png"), content)
    with pytest.raises(DataError, match=sentence):
        len(CVATSource(root=str(tmp_path)))
    source = CVATSource(root=str(tmp_path))
    source.faults = Faults(strict=False)
    assert len(source.table.labels) == 1
    assert source.faults.counts == {kind: 1}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is not XML"),
        ("<annotations>", "is not XML"),
        ("<annotation/>", "its outermost element is <annotation>, not <annotations>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "declares a document type"),
        ("<annotations>" + "<a>" * MAX_DEPTH, f"more than {MAX_DEPTH} deep"),
        ("<annotations/>", "has no images"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: str, sentence: str) -> None:
    write(tmp_path).write_text(content)
    with pytest.raises(DataError, match=sentence):
        len(CVATSource(root=str(tmp_path)))
