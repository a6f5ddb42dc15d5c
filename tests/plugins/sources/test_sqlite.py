"""A .sqlite file takes what a JSON file can hold, and bad rows of it are told as those of a JSON file are."""

import json
import sqlite3

import pytest

from densedet.core.annotations.faults import Faults
from densedet.core.errors import DataError
from densedet.plugins.sources.coco import CocoSource
from densedet.plugins.sources.sqlite import SQLiteSource
from densedet.tools.main import main

TEXTS = [
    "a",
    "",
    "7",
    " ",
    "\ud83d",
    "\udc00 x",
    "\ude00\ud83d",
    "größe",
    "a\0b",
    "'\"\\;--",
    "\U0001f600",
    "x'61'",
    "NULL",
    "1e5",
]


def coco(texts, names):
    """A COCO file's content: texts as class names and image ids, names as file names, a box of each class in
    each image."""
    images = [{"id": text, "file_name": name, "width": 100, "height": 50} for text, name in zip(texts, names)]
    boxes = [
        {
            "id": n,
            "image_id": text,
            "category_id": n - 5,
            "bbox": [0.1, 1e-3, 7, 1 / 3],
            "area": 1e300,
            "iscrowd": n % 2,
        }
        for n, text in enumerate(texts)
    ]
    return {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": n - 5, "name": text} for n, text in enumerate(texts)],
    }


def test_what_a_json_file_holds_comes_back(tmp_path):
    classes = [text for text in TEXTS if text]
    names = [f"{text}.jpg".replace("\0", "") for text in classes]
    (tmp_path / "x.json").write_text(json.dumps(coco(classes, names)))
    for source, target in (
        ("x.json", "a.json"),
        ("x.json", "y.sqlite"),
        ("y.sqlite", "z.sqlite"),
        ("z.sqlite", "b.json"),
    ):
        assert main(["convert", str(tmp_path / source), str(tmp_path / target)]) == 0
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()
    assert json.loads((tmp_path / "b.json").read_text())["categories"] == coco(classes, names)["categories"]
    source = SQLiteSource(annotations="y.sqlite", images=".", root=str(tmp_path))
    assert [source.annotation(i).file_name for i in range(len(source))] == names
    assert source.where_masks("width > 1 and class = 'größe'")[1].sum() == 1


def test_ids_that_do_not_fit(tmp_path):
    content = coco(["a"], ["a.jpg"])
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = 1 << 70
    (tmp_path / "x.json").write_text(json.dumps(content))
    source = CocoSource(annotations="x.json", images=".", root=str(tmp_path))
    with pytest.raises(DataError, match="does not fit in 64 bits: give the images smaller ids, or texts"):
        SQLiteSource.write(source.table, tmp_path / "x.sqlite")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def entries(bad):
    """Two images with a box each, and with ``bad`` an image and boxes that cannot be used, as JSON and as
    SQL."""
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 50} for n in (1, 2)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25} for n in (1, 2)
        ],
        "categories": [{"id": 1, "name": "car"}],
    }
    if bad:
        content["images"] += [{"id": 3, "file_name": "3.jpg", "width": -1, "height": 50}]
        content["annotations"] += [
            {"id": 3, "image_id": 3, "category_id": 1, "bbox": [1, 1, 5, 5]},
            {"id": 4, "image_id": 1, "category_id": 9, "bbox": [1, 1, 5, 5]},
            {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, "nan", 5, 5]},
            {"id": 6, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 2},
            {"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 1, -5, 5]},
            {"id": 8, "image_id": 1, "category_id": 1, "bbox": [90, 1, 50, 5]},
        ]
    return content


BAD = """
INSERT INTO images VALUES (-5, 3, '3.jpg', -1, 50);
INSERT INTO boxes VALUES (-9, -5, 0, 3, 1, 1, 5, 5, 25, 0, 0), (11, 0, 8, 4, 1, 1, 5, 5, 25, 0, 0), (12, 0, 0, 5, 1, 'nan', 5, 5, 25, 0, 0),
    (13, 0, 0, 6, 1, 1, 5, 5, 25, 2, 0), (14, 0, 0, 7, 1, 1, -5, 5, 25, 0, 0), (15, 0, 0, 8, 90, 1, 50, 5, 250, 0, 0)
"""  # noqa: E501


@pytest.fixture
def folder(tmp_path):
    """bad.json and bad.sqlite with the same bad entries."""
    (tmp_path / "good.json").write_text(json.dumps(entries(False)))
    (tmp_path / "bad.json").write_text(json.dumps(entries(True)))
    SQLiteSource.write(
        CocoSource(annotations="good.json", images=".", root=str(tmp_path)).table, tmp_path / "bad.sqlite"
    )
    connection = sqlite3.connect(tmp_path / "bad.sqlite")
    connection.executescript(BAD)
    connection.close()
    return tmp_path


def test_bad_rows_are_left_out_and_told_as_bad_entries_of_json(folder):
    sources = [
        kind(annotations=name, images=".", root=str(folder))
        for kind, name in ((CocoSource, "bad.json"), (SQLiteSource, "bad.sqlite"))
    ]
    for source in sources:
        source.faults = Faults(strict=False)
        assert len(source) == 2
        assert [source.annotation(i).image_id for i in range(2)] == [1, 2]
        assert [source.image(i)[-5:] for i in range(2)] == ["1.jpg", "2.jpg"]
        assert source.annotation(0).boxes.tolist() == [[1, 1, 6, 6], [90, 1, 100, 6]]
    one, other = (source.faults.counts for source in sources)
    # a box is inverted, of the wrong type, of no image and of no class; an image is none; a flag is 2; a box
    # is clipped
    wrong = {
        "image": 1,
        "image_id": 1,
        "category": 1,
        "inverted": 1,
        "unreadable": 1,
        "flag": 1,
        "clipped": 1,
    }
    assert one == other == wrong
    assert len(sources[1].invalid()) == 7
    masks = sources[1].where_masks("x >= 0")
    assert [mask.tolist() for mask in masks] == [[True, True], [True, True, True]]


def test_training_stops_at_them(folder):
    source = SQLiteSource(annotations="bad.sqlite", images=".", root=str(folder))
    with pytest.raises(DataError, match="table images, row -5"):
        len(source.table)
    with pytest.raises(DataError, match="table images, row -5 .*width is -1"):
        _ = source.sizes


def test_convert_and_check_tell_them(folder, capsys):
    assert (
        main(
            [
                "convert",
                str(folder / "bad.sqlite"),
                str(folder / "a.json"),
                "--report",
                str(folder / "report.txt"),
            ]
        )
        == 0
    )
    assert main(["convert", str(folder / "bad.json"), str(folder / "b.json")]) == 0
    assert (folder / "a.json").read_text() == (folder / "b.json").read_text()
    report = (folder / "report.txt").read_text()
    for sentence in (
        "y is 'nan', not a number; left out",
        "crowd is 2, not 0 or 1; left out",
        "label 8 is not in table classes; left out",
    ):
        assert sentence in report
    capsys.readouterr()
    assert main(["check", "data", str(folder / "bad.sqlite"), "--no-images"]) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 images" in shown
    assert "not a number; left out" in shown


def test_reports_take_any_name(folder, capsys):
    content = entries(False)
    content["annotations"][0]["image_id"] = "\ud83d"
    (folder / "x.json").write_text(json.dumps(content))
    assert (
        main(
            [
                "convert",
                str(folder / "x.json"),
                str(folder / "x.sqlite"),
                "--report",
                str(folder / "report.txt"),
            ]
        )
        == 0
    )
    assert "of image \\ud83d" in (folder / "report.txt").read_text()
    content["categories"][0]["name"] = "\udc00 x"
    (folder / "x.json").write_text(json.dumps(content))
    main(["check", "data", str(folder / "x.json"), "--no-images"])
    assert "\\udc00 x" in capsys.readouterr().out
