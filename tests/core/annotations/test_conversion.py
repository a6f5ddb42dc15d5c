"""Recognising a path, and one count of what is wrong, whatever the format and the command."""

import json
import math
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.conversion import open_source, recognise
from densedet.core.errors import DataError, UsageError
from densedet.core.recipe.loading import load_recipe
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.training.judging import Evaluation
from densedet.core.training.run import Run
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource
from densedet.plugins.sources.sqlite import SQLiteSource
from densedet.tools.main import main

SIZE = (100, 50)
BOXES = [
    (10, 10, 0, 5),  # flat
    (30, 10, -10, 5),  # inverted
    (30, 30, 5, -10),  # inverted
    (100.05, 10, 0.08, 5),  # outside
    (math.inf, 10, 5, 5),  # not finite
    (-5, 10, 20, 5),  # clipped
    (90, 10, 20, 5),  # clipped
    (10, 45, 5, 10),  # clipped
    (10, 10, 20, 20),
    (40, 10, 20, 20),
]
WRONG = {"flat": 1, "inverted": 2, "outside": 1, "not_finite": 1, "clipped": 3}
FORMATS = ("coco", "flatbuffers", "sqlite", "voc", "yolo")


def table(boxes):
    builder = TableBuilder("memory")
    builder.add_class(0, "cat")
    builder.add_image(1, "1.png", *SIZE)
    for box in boxes:
        builder.add_box(1, 0, box)
    return builder.finish()


def coco(folder, boxes):
    entries = [{"id": i, "image_id": 1, "category_id": 0, "bbox": list(box)} for i, box in enumerate(boxes)]
    image = {"id": 1, "file_name": "1.png", "width": SIZE[0], "height": SIZE[1]}
    content = {"images": [image], "categories": [{"id": 0, "name": "cat"}], "annotations": entries}
    (folder / "x.json").write_text(json.dumps(content))
    return folder / "x.json"


def flatbuffers(folder, boxes):
    sound = table([(1, 1, 2, 2)] * len(boxes))
    FlatBuffersSource.write(replace(sound, xywh=np.array(boxes, dtype=np.float64)), folder / "x.db")
    return folder / "x.db"


def sqlite(folder, boxes):
    SQLiteSource.write(table([(1, 1, 2, 2)] * len(boxes)), folder / "x.sqlite")
    connection = sqlite3.connect(folder / "x.sqlite")
    for number, box in zip(connection.execute("SELECT box FROM boxes ORDER BY box").fetchall(), boxes):
        connection.execute("UPDATE boxes SET x = ?, y = ?, w = ?, h = ? WHERE box = ?", (*box, *number))
    connection.commit()
    connection.close()
    return folder / "x.sqlite"


def voc(folder, boxes):
    rows = "".join(
        f"<object><name>cat</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for x, y, w, h in boxes
    )
    write_voc(folder, rows)
    return folder


def write_voc(folder, rows, name="1.xml"):
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
    (folder / "Annotations").mkdir(exist_ok=True)
    (folder / "Annotations" / name).write_text(f"<annotation>{size}{rows}</annotation>")


def yolo(folder, boxes):
    lines = [
        f"0 {(x + w / 2) / SIZE[0]} {(y + h / 2) / SIZE[1]} {w / SIZE[0]} {h / SIZE[1]}"
        for x, y, w, h in boxes
    ]
    write_yolo(folder, "\n".join(lines))
    return folder


def write_yolo(folder, text):
    (folder / "data.yaml").write_text("train: images\nnames: [cat]\n")
    for name in ("images", "labels"):
        (folder / name).mkdir(exist_ok=True)
    Image.new("L", SIZE).save(folder / "images" / "1.png")
    (folder / "labels" / "1.txt").write_text(text)


MAKERS = {"coco": coco, "flatbuffers": flatbuffers, "sqlite": sqlite, "voc": voc, "yolo": yolo}


@pytest.mark.parametrize("name", FORMATS)
def test_one_count_of_wrong_boxes(name, tmp_path, capsys):
    Image.new("L", SIZE).save(tmp_path / "1.png")
    path = MAKERS[name](tmp_path, BOXES)
    assert main(["check", "data", str(path), "--json"]) == 3
    checked = json.loads(capsys.readouterr().out)
    assert checked["data"]["faults"] == WRONG
    assert (checked["data"]["dropped_boxes"], checked["data"]["clipped_boxes"]) == (5, 3)
    assert checked["problems"] == 5
    assert main(["check", "data", str(path)]) == 3
    words = (
        "5 boxes left out (1 not finite, 2 drawn from right to left or upwards, 1 without width or "
        "height, 1 outside their image), 3 boxes clipped"
    )
    told = " ".join(capsys.readouterr().out.split())
    assert words in told
    assert "5 boxes or images cannot be used" in told
    assert main(["convert", str(path), str(tmp_path / "y.json"), "--json"]) == 0
    converted = json.loads(capsys.readouterr().out)
    assert converted["boxes"] == 5
    for key in ("dropped_boxes", "clipped_boxes", "left_out_images", "faults"):
        assert converted[key] == checked["data"][key]
    assert main(["convert", str(path), str(tmp_path / "z.json")]) == 0
    assert words in " ".join(capsys.readouterr().out.split())
    # train and evaluate
    spec = recognise(path, load_plugins([]).components)
    recipe = load_recipe("quickstart_ssd", [f"data.train={json.dumps(spec)}", f"data.val={json.dumps(spec)}"])
    run = Run(recipe)
    assert f"training data: {words}; densedet check data names them" in run.notes
    evaluation = Evaluation(run)
    for facts in (*run.data_facts.values(), evaluation.facts):
        assert facts["boxes"] == 5
        for key in ("dropped_boxes", "clipped_boxes", "left_out_images", "faults"):
            assert facts[key] == checked["data"][key]


def no_box_of_coco(folder):
    text = coco(folder, BOXES[-2:]).read_text()
    box = '"bbox": [10, 10, 20, 20]'
    for number, other in enumerate(
        ['"bbox": []', '"bbox": [1, 2, 3]', '"b": 0', '"bbox": ["1", "2", 3, 4]'], 1
    ):
        (folder / f"{number}.json").write_text(text.replace(box, other))
    entries = json.loads(text)
    for number in range(1, 5):
        entries["annotations"] += json.loads((folder / f"{number}.json").read_text())["annotations"][:1]
    for number, entry in enumerate(entries["annotations"]):
        entry["id"] = number
    (folder / "x.json").write_text(json.dumps(entries))
    return folder / "x.json"


def no_label_of_yolo(folder):
    lines = ["0 .5 .5 .2 .2", "0,.5,.5,.2,.2", "0 .5 .5 .2 .2 .9", "0 .5 .5", "7 .5 .5 .2 .2", "0 50 25 9 9"]
    write_yolo(folder, "\n".join(lines))
    return folder


def no_object_of_voc(folder):
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox>"
    rows = [f"<name>cat</name>{box.format(9)}", "<name>cat</name>", f"<name>cat</name>{box.format('x')}"]
    rows += [box.format(9), "<name>cat</name><bndbox></bndbox>"]
    write_voc(folder, "".join(f"<object>{row}</object>" for row in rows))
    write_voc(folder, "<object>", "2.xml")
    return folder


@pytest.mark.parametrize(
    ("make", "boxes", "faults"),
    [
        (no_box_of_coco, 2, {"no_box": 3, "unreadable": 1}),
        (no_label_of_yolo, 1, {"unreadable": 1, "columns": 2, "category": 1, "out_of_range": 1}),
        (no_object_of_voc, 1, {"no_box": 2, "unreadable": 1, "category": 1, "image": 1}),
    ],
)
def test_one_count_of_what_cannot_be_read(make, boxes, faults, tmp_path, capsys):
    Image.new("L", SIZE).save(tmp_path / "1.png")
    path = make(tmp_path)
    total = sum(faults.values())
    assert main(["check", "data", str(path), "--json"]) == 3
    checked = json.loads(capsys.readouterr().out)
    assert checked["data"]["faults"] == faults
    assert checked["data"]["boxes"] == boxes
    assert checked["problems"] == total
    assert main(["convert", str(path), str(tmp_path / "y.db"), "--json"]) == 0
    converted = json.loads(capsys.readouterr().out)
    assert (converted["faults"], converted["boxes"]) == (faults, boxes)
    components = load_plugins([]).components
    with pytest.raises(DataError, match=rf"; {total - 1} more cannot be used \(in all "):
        len(open_source(recognise(path, components), components).table)


# -- recognising --------------------


def refusal(path, **arguments):
    with pytest.raises(DataError) as caught:
        recognise(path, load_plugins([]).components, **arguments)
    return str(caught.value)


@pytest.mark.parametrize("arguments", [{}, {"name": "yolo"}, {"split": "val"}])
def test_the_reason_of_the_source_that_knows_the_layout(tmp_path, arguments):
    write_yolo(tmp_path, "")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cat]\nnc: 2\n")
    wanted = f"data file {tmp_path / 'data.yaml'}: 'nc' is 2, but 'names' has 1: correct one of them"
    assert refusal(tmp_path, **arguments) == wanted
    assert refusal(tmp_path / "data.yaml", **arguments) == wanted


def test_a_split_that_is_not_there(tmp_path):
    write_yolo(tmp_path, "")
    assert refusal(tmp_path, split="val").endswith("or another split; it has train")
    (tmp_path / "data.yaml").unlink()
    write_voc(tmp_path, "")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("1\n")
    assert refusal(tmp_path, split="val").endswith("correct 'split' (there are train)")


def test_another_format_beside_a_faulty_one_is_found(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [cat]\nnc: 2\n")
    coco(tmp_path, BOXES[-1:]).rename(tmp_path / "annotations.json")
    assert recognise(tmp_path, load_plugins([]).components)["name"] == "coco"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("yolo", "yolo does not recognise: it looks for data.yaml, or a folder with data.yaml"),
        ("voc", "voc does not recognise: it looks for a folder with Annotations in it"),
        ("coco", "coco does not recognise: it looks for a .json file with images"),
        ("roboflow", "roboflow does not recognise: it looks for a folder with train"),
        ("sqlite", "sqlite does not recognise: it looks for a .sqlite file"),
    ],
)
def test_a_named_source_says_what_it_looks_for(tmp_path, name, sentence):
    assert sentence in refusal(tmp_path, name=name)


def test_an_unknown_name(tmp_path):
    with pytest.raises(UsageError, match=r"no source 'yolov5' reads annotations\. Did you mean 'yolo'\?"):
        recognise(tmp_path, load_plugins([]).components, name="yolov5")


@pytest.mark.parametrize("content", [b"", b"DDET", b"SQLite format 3\0" + bytes(100)])
@pytest.mark.parametrize("suffix", [".db", ".sqlite"])
def test_a_database_without_its_mark(tmp_path, content, suffix):
    (tmp_path / f"x{suffix}").write_bytes(content)
    assert "does not begin as densedet's" in refusal(tmp_path / f"x{suffix}")


def test_what_macos_and_windows_add_is_no_data(tmp_path):
    """A copy of a VOC and of a YOLO folder as they come out of an archive made by a Mac."""
    apple = bytes.fromhex("00051607") + b"Mac OS X" + bytes(60)
    for kind, write in (("voc", write_voc), ("yolo", write_yolo)):
        folder = tmp_path / kind
        folder.mkdir()
        write(folder, "")
        if kind == "voc":
            Image.new("L", SIZE).save(folder / "1.png")
            write_voc(
                folder,
                "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
                "<ymax>9</ymax></bndbox></object>",
            )
            (folder / "ImageSets" / "Main").mkdir(parents=True)
            (folder / "ImageSets" / "Main" / "train.txt").write_bytes("\ufeff1\r\n\r\n".encode())
            (folder / "ImageSets" / "Main" / "._train.txt").write_bytes(apple)
        else:
            (folder / "labels" / "1.txt").write_bytes("\ufeff0 .5 .5 .2 .2\r\n".encode())
            (folder / "data.yaml").write_bytes("\ufefftrain: list.txt\r\nnames: [cat]\r\n".encode())
            (folder / "list.txt").write_bytes("\ufeffimages/1.png\r\n".encode())
        places = [folder, *(place for place in folder.rglob("*") if place.is_dir())]
        for place in places:
            for name in (
                "._1.xml",
                "._1.png",
                "._1.txt",
                "._data.yaml",
                "._a.json",
                ".DS_Store",
                "Thumbs.db",
            ):
                (place / name).write_bytes(apple)
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "1.xml").write_bytes(apple)
        components = load_plugins([]).components
        found = recognise(folder, components)
        assert found.get("split") == "train"  # the only one: ._train.txt is none
        source = open_source(found, components)
        assert [source.table.name(i)[-5:] for i in range(len(source))] == ["1.png"]
        assert len(source.table.labels) == 1
        assert not source.table.faults.counts


def test_check_data_tells_a_recipe_from_a_data_yaml_of_any_name(tmp_path, capsys):
    write_yolo(tmp_path, "0 .5 .5 .2 .2")
    other = tmp_path / "coco8.yaml"
    (tmp_path / "data.yaml").rename(other)
    assert main(["check", "data", str(other)]) == 0
    assert "1 image (0 without a box), 1 box\n" in capsys.readouterr().out
    other.write_text("train: images\nnames: [cat]\nnc: 3\n")
    assert main(["check", "data", str(other)]) == 3
    assert "'nc' is 3, but 'names' has 1" in capsys.readouterr().err
    other.write_text("base: densedet:quickstart_ssd.yaml\ndata:\n  train: {name: coco, annotation: x}\n")
    assert main(["check", "data", str(other)]) == 2
    assert "coco8.yaml:3" in capsys.readouterr().err
