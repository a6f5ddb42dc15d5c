"""convert, check data and the short form of train on real small files, as a user types them."""

import json

import numpy as np
import pytest
from PIL import Image

from densedet.core.annotations.builder import TableBuilder
from densedet.core.types import Extra
from densedet.plugins.sources.coco import CocoSource
from densedet.tools.main import main

COUNT = 12


@pytest.fixture
def data(tmp_path):
    """Twelve pictures with one or two rectangles; the last is broken, numbers 3 and 4 are the same."""
    random = np.random.default_rng(0)
    builder = TableBuilder("memory")
    for category_id, name in ((1, "light"), (7, "dark")):
        builder.add_class(category_id, name)
    (tmp_path / "images").mkdir()
    for index in range(COUNT):
        seed = 3 if index == 4 else index
        pixels = np.full((48, 96), 120, np.uint8)
        pixels[8:28, 10 + seed : 40 + seed] = 250
        Image.fromarray(pixels + random.integers(0, 1, (48, 96), dtype=np.uint8)).save(
            tmp_path / "images" / f"{index}.png"
        )
        builder.add_image(index, f"{index}.png", 96, 48)
        builder.add_box(index, 1, (10 + seed, 8, 30, 20), id=index)
    builder.add_box(0, 7, (50, 8, 3, 3), id=90)
    builder.add_box(0, 7, (50, 8, 3, 3), id=91)
    (tmp_path / "images" / f"{COUNT - 1}.png").write_bytes(b"no picture")
    CocoSource.write(builder.finish(), tmp_path / "a.json")
    return tmp_path


def test_convert_reports_what_was_wrong(data, capsys):
    text = (data / "a.json").read_text().replace('"bbox": [10, 8, 30, 20]', '"bbox": [10, 8, 0, 20]')
    (data / "b.json").write_text(text.replace('"category_id": 7', '"category_id": 8', 1))
    code = main(
        ["convert", str(data / "b.json"), str(data / "b.db"), "--report", str(data / "report.txt"), "--json"]
    )
    told = capsys.readouterr()
    assert code == 0
    found = json.loads(told.out)
    assert (found["images"], found["boxes"], found["dropped_boxes"]) == (COUNT, COUNT, 2)
    assert found["faults"] == {"category": 1, "flat": 1}
    lines = (data / "report.txt").read_text().splitlines()
    assert len(lines) == 2
    assert "'category_id' is 8" in lines[0]
    assert "no width or height above 0" in lines[1]
    assert lines[0] in told.err


def test_convert_replaces_no_report_and_no_file_of_its_own_accord(data, capsys, monkeypatch):
    monkeypatch.chdir(data)
    assert main(["convert", "a.json", "x.db", "--report", "r.txt"]) == 0
    (data / "r.txt").write_text("kept")
    assert main(["convert", "a.json", "y.db", "--report", "r.txt"]) == 2
    assert "r.txt is there already: give another name or --overwrite" in capsys.readouterr().err
    assert (data / "r.txt").read_text() == "kept"
    assert not (data / "y.db").exists()
    assert main(["convert", "a.json", "x.db", "--report", "r.txt", "--overwrite"]) == 0
    assert (data / "r.txt").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["none.json", "x.db"], 3, "there is nothing at"),
        (["a.json", "x"], 2, "does not determine a format: add --to NAME"),
        (["a.json", "x", "--to", "digits"], 2, "no source 'digits' writes annotations"),
        (["a.json", "x.txt", "--to", "sqlite"], 2, "sqlite writes files that end in"),
        (["a.json", "a.json"], 2, "is there already: give another name or --overwrite"),
        (["a.json", "x.db", "--where", "clas = 'x'"], 2, "Did you mean 'class'?"),
        (["a.json", "x.db", "--where", "class = 'x'"], 2, "no class is called 'x'"),
        (["a.json", "x.db", "--where", "width > 99999"], 3, "means none of the"),
        (["a.json", "x.db", "--copy-images"], 2, "does not hold images"),
        (["images", "x.db"], 3, "is a folder that none of"),
        (["a.json", "images", "--to", "voc"], 2, "is there already: give another name"),
    ],
)
def test_convert_refuses(data, capsys, monkeypatch, arguments, code, sentence):
    monkeypatch.chdir(data)
    assert main(["convert", *arguments]) == code
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "code", "left"),
    [
        ("lower(class) = 'dark'", 0, "1 image, 2 boxes that count"),  # both in image 0
        ("lower(class) = 'drak'", 3, "0 images, 0 boxes that count"),
    ],
)
def test_check_data_tells_what_a_filter_leaves(data, capsys, monkeypatch, where, code, left):
    monkeypatch.chdir(data)
    source = "{name: coco, annotations: a.json, images: images}"
    given = ["data.root=.", f"data.train={source}", "data.val=null", f"data.filter.where={where}"]
    assert main(["check", "data", "quickstart_ssd", *given, "--no-images"]) == code
    assert f"left by data.filter (where: {where}): {left}\n" in capsys.readouterr().out


def test_convert_tells_where_a_filter_leaves_no_object(data, capsys, monkeypatch):
    monkeypatch.chdir(data)
    value = json.loads((data / "a.json").read_text())
    value["annotations"] = value["annotations"][1:3]  # both of image 0
    (data / "b.json").write_text(json.dumps(value))
    assert main(["convert", "b.json", "c.json", "--where", "class is null"]) == 0
    told = capsys.readouterr()
    assert "c.json: 11 images, 0 boxes" in told.out
    assert "--where 'class is null' means none of the 2 boxes: the images have no object" in told.err


def test_convert_tells_which_values_it_leaves_out(data, capsys, monkeypatch):
    monkeypatch.setattr(CocoSource, "extras", {"distance": Extra(), "age": Extra()}, raising=False)
    target = data / "c.db"
    assert main(["convert", str(data / "a.json"), str(target)]) == 0
    assert "age, distance of the objects are left out: annotation files keep" in capsys.readouterr().err
    assert main(["convert", str(target), str(data / "d.sqlite"), "--where", "image_id < 2"]) == 0
    told = capsys.readouterr()
    assert "left out" not in told.err, "a .db file carries none"
    assert "d.sqlite: 2 images, 4 boxes" in told.out  # image 0 has three


def test_convert_with_where_and_images(data, capsys, monkeypatch):
    monkeypatch.chdir(data)
    assert (
        main(
            [
                "convert",
                "a.json",
                "v",
                "--to",
                "voc",
                "--where",
                "class = 'dark'",
                "--copy-images",
                "--images",
                "images",
            ]
        )
        == 0
    )
    assert "1 image, 2 boxes" in capsys.readouterr().out
    assert (data / "v" / "JPEGImages" / "0.png").read_bytes() == (data / "images" / "0.png").read_bytes()
    assert main(["convert", "v", "a.json", "--overwrite"]) == 0
    assert len(json.loads((data / "a.json").read_text())["annotations"]) == 2


@pytest.mark.parametrize(
    ("name", "images"), [("voc", "JPEGImages/{name}"), ("yolo", "images/{split}/{name}")]
)
def test_splits_are_written_into_one_folder_one_by_one(data, capsys, monkeypatch, name, images):
    monkeypatch.chdir(data)
    common = ["--to", name, "--copy-images", "--images", "images"]
    assert main(["convert", "a.json", "out", *common, "--where", "image_id < 8", "--split", "train"]) == 0
    before = {
        path: path.read_bytes()
        for path in (data / "out").rglob("*")
        if path.is_file() and path.name != "data.yaml"
    }
    assert main(["convert", "a.json", "out", *common, "--where", "image_id in (8, 9)", "--split", "val"]) == 0
    assert before == {path: path.read_bytes() for path in before}
    assert {path.name for path in (data / "out").iterdir() if path.name.startswith(".")} == set()
    for split, count in (("train", 8), ("val", 2)):
        assert main(["convert", "out", f"{split}.json", "--split", split]) == 0
        table = CocoSource(annotations=f"{split}.json", images="images").table
        assert [table.name(i) for i in range(len(table))] == [
            f"{i}.png" for i in range(8 * (split == "val"), 8 * (split == "val") + count)
        ]
        assert table.classes == ("light", "dark")
        assert all(
            (data / "out" / images.format(split=split, name=table.name(i))).is_file() for i in range(count)
        )
    capsys.readouterr()
    whole = {path: path.is_file() and path.read_bytes() for path in (data / "out").rglob("*")}
    assert main(["convert", "a.json", "out", *common, "--where", "image_id = 10", "--split", "val"]) == 3
    assert "has a split 'val' already: write another with --split NAME" in capsys.readouterr().err
    (data / "b.json").write_text((data / "a.json").read_text().replace('"name": "dark"', '"name": "dim"'))
    assert main(["convert", "b.json", "out", *common, "--split", "test"]) == 3
    told = capsys.readouterr().err
    assert "has other classes than the new split" in told
    assert "dim" in told
    assert whole == {path: path.is_file() and path.read_bytes() for path in (data / "out").rglob("*")}


def test_a_split_that_would_overwrite_is_not_added(data, capsys, monkeypatch):
    monkeypatch.chdir(data)
    assert main(["convert", "a.json", "out", "--to", "voc", "--where", "image_id < 3"]) == 0
    whole = {path: path.is_file() and path.read_bytes() for path in (data / "out").rglob("*")}
    assert (
        main(["convert", "a.json", "out", "--to", "voc", "--where", "image_id in (2, 3)", "--split", "val"])
        == 3
    )
    assert "2.xml is there already, and nothing is overwritten" in capsys.readouterr().err
    assert whole == {path: path.is_file() and path.read_bytes() for path in (data / "out").rglob("*")}
    (data / "out" / "JPEGImages" / "5.png").write_bytes(b"other")
    code = main(
        [
            "convert",
            "a.json",
            "out",
            "--to",
            "voc",
            "--where",
            "image_id = 5",
            "--split",
            "val",
            "--copy-images",
            "--images",
            "images",
        ]
    )
    assert code == 3
    assert "another image is at" in capsys.readouterr().err
    assert (data / "out" / "JPEGImages" / "5.png").read_bytes() == b"other"


def test_check_data_finds_it_all(data, capsys, monkeypatch):
    monkeypatch.chdir(data)
    assert main(["check", "data", "a.json", "--images", "images", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    facts = found["data"]
    assert found["problems"] == 1
    assert (facts["images"], facts["boxes"], facts["empty_images"]) == (COUNT, COUNT + 2, 0)
    light, dark = facts["classes"]
    assert (light["category_id"], light["boxes"], light["images"], light["share"]) == (
        1,
        12,
        12,
        round(12 / 14, 5),
    )
    assert (dark["category_id"], dark["boxes"], dark["images"]) == (7, 2, 1)
    assert facts["duplicate_images"] == [["3.png", "4.png"]]
    assert "annotations 90 and 91 are the same dark" in facts["duplicate_boxes"][0]
    assert facts["broken_count"] == 1
    assert "11.png is in no known format" in facts["broken_images"][0]
    # 96 x 48 -> 128 x 64: 3 x 3 is 4 x 4 there, 30 x 20 is 40 x 26.7
    assert facts["sides"]["classes"] == {"light": [32.7] * 5, "dark": [4.0] * 5}
    assert facts["sides"]["below"] == {"4": 0, "8": 2, "16": 2, "32": 2, "64": 14}
    assert main(["check", "data", "a.json", "--images", "images", "--no-images"]) == 0
    text = capsys.readouterr().out
    assert "12 images (0 without a box), 14 boxes" in text
    assert "dark" in text


@pytest.mark.parametrize("name", ["a.db", "a.sqlite"])
def test_train_on_a_database_without_a_recipe(data, capsys, monkeypatch, name):
    monkeypatch.chdir(data)
    assert main(["convert", "a.json", name]) == 0
    capsys.readouterr()
    command = [
        "train",
        "--db",
        name,
        "--images",
        "images",
        "--epochs",
        "1",
        "--batch_size",
        "4",
        "--resize",
        "64",
        "32",
    ]
    assert (
        main(
            [
                *command,
                "--where",
                "width > 50",
                "--limit",
                "12",
                "--skip-broken",
                "--json",
                "train.threads=1",
                "train.evaluations=1",
            ]
        )
        == 0
    )
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert summary["status"] == "done"
    assert len(summary["broken_images"]) == 1
    assert "11.png is in no known format" in summary["broken_images"][0]
    assert "left out 1 image that could not be read" in told.err
    assert "cache:" in told.err
    assert main([*command, "--where", "widht > 50"]) == 2
    assert (
        "data.filter.where: where 'widht > 50': the database has no column 'widht'" in capsys.readouterr().err
    )
    assert main([*command, "--where", "width >"]) == 2
    assert main(command) == 3  # the broken image stops it
    assert "11.png is in no known format" in capsys.readouterr().err
