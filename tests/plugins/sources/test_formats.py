"""All formats hold the same: what is written is read back bit for bit, through every one of them."""

import random
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.conversion import convert, open_source, recognise
from densedet.core.annotations.faults import Faults
from densedet.core.annotations.table import equal_tables
from densedet.core.errors import DataError
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.sources.coco import CocoSource
from densedet.plugins.sources.cvat import CVATSource
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource
from densedet.plugins.sources.labelme import LabelMeSource
from densedet.plugins.sources.sqlite import SQLiteSource
from densedet.plugins.sources.voc import VOCSource
from densedet.plugins.sources.yolo import YOLOSource

TARGETS = {
    "x.json": CocoSource,
    "x.db": FlatBuffersSource,
    "x.sqlite": SQLiteSource,
    "voc": VOCSource,
    "yolo": YOLOSource,
    "x.xml": CVATSource,
    "labelme": LabelMeSource,
}
NAMES = ["größe ü.jpg", "deep/er/a b.jpg", "deep/c.png", "no_objects.jpg", "x'\"&<>.jpg"]


def table(seed, texts=False):
    """Random boxes with all flags, odd class names and ids."""
    draw = random.Random(seed)
    builder = TableBuilder("memory")
    for category_id, name in ((90, 'tooth <brush> & "co"'), (-3, "groß, 1"), (0, "null")):
        builder.add_class(category_id, name)
    ids = ["a", "7", 7, "ü b", -1] if texts else [9, 1 << 40, -5, 0, 3]
    for image_id, name in zip(ids, NAMES):
        builder.add_image(image_id, name, draw.randint(50, 700), draw.randint(50, 700))
    numbers = draw.sample(range(10_000), 40)
    for number in numbers:
        box = [
            draw.choice([round(draw.uniform(0, 40), 2), draw.uniform(0, 40), draw.randint(0, 40)])
            for _ in range(2)
        ]
        box += [
            draw.choice([round(draw.uniform(1, 9), 2), draw.uniform(1e-3, 9), draw.randint(1, 9)])
            for _ in range(2)
        ]
        image = draw.choice([0, 1, 2, 4])
        flags = {"crowd": draw.random() < 0.2, "ignore": draw.random() < 0.2}
        builder.add_box(
            ids[image], draw.choice([90, -3, 0]), box, area=draw.uniform(0, 99), id=number, **flags
        )
    return builder.finish()


def test_writing_tells_its_progress(tmp_path):
    CocoSource.write(table(0), tmp_path / "x.json")
    source = CocoSource(annotations="x.json", images=".", root=str(tmp_path))
    told = []
    source.on_progress = lambda done, total: told.append((done, total))
    convert(source, VOCSource, tmp_path / "voc")
    assert told[-5:] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]  # a file an image


@pytest.mark.parametrize("texts", [False, True], ids=["numbers", "texts"])
@pytest.mark.parametrize("name", TARGETS)
def test_there_and_back(tmp_path, name, texts):
    components = load_plugins([]).components
    for seed in range(5):
        expected = table(seed, texts)
        target = tmp_path / str(seed) / name
        TARGETS[name].write(expected, target, split="train")
        spec = recognise(target, components)
        assert components.get("source", spec["name"]).load() is TARGETS[name]
        source = open_source(spec, components)
        assert source.sizes.tolist() == expected.sizes.tolist()
        assert equal_tables(source.table, expected) == []
        assert source.sizes.tolist() == expected.sizes.tolist()
        assert [p.name for p in target.parent.iterdir()] == [name]  # nothing temporary is left


def test_through_all_of_them(tmp_path):
    components = load_plugins([]).components
    expected = current = table(11)
    for name, kind in TARGETS.items():
        kind.write(current, tmp_path / name)
        current = open_source(recognise(tmp_path / name, components), components).table
    assert equal_tables(current, expected) == []


def test_a_damaged_box_is_left_out_and_told_by_all(tmp_path):
    for name, kind in list(TARGETS.items())[:1] + [("x.sqlite", SQLiteSource)]:
        kind.write(table(1), tmp_path / name)
    text = (tmp_path / "x.json").read_text()
    (tmp_path / "y.json").write_text(text.replace('"category_id": 90', '"category_id": 77', 1))
    source = CocoSource(annotations="y.json", images=".", root=str(tmp_path))
    source.faults = Faults(strict=False)
    assert len(source.table.labels) == 39
    assert "'category_id' is 77" in source.invalid()[0]
    with pytest.raises(DataError, match="'category_id' is 77"):
        len(CocoSource(annotations="y.json", images=".", root=str(tmp_path)))


def test_what_is_nothing_known(tmp_path):
    components = load_plugins([]).components
    (tmp_path / "a.bin").write_bytes(b"\0" * 100)
    for path in (tmp_path, tmp_path / "a.bin"):
        with pytest.raises(
            DataError,
            match="none of coco, cvat, flatbuffers, labelme, roboflow, sqlite, voc, yolo recognises",
        ):
            recognise(path, components)
    with pytest.raises(DataError, match="there is nothing at"):
        recognise(tmp_path / "none", components)


def test_converting_needs_no_torch(tmp_path):
    CocoSource.write(table(0), tmp_path / "x.json")
    code = (
        "import sys; from densedet.tools.main import main;"
        f"code = main(['convert', r'{tmp_path / 'x.json'}', r'{tmp_path / 'x.db'}']);"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("0 False")
    assert (tmp_path / "x.db").is_file()


VOC = """<annotation><filename>{name}</filename>{size}
<object><name>dog</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>
<object><name>cat</name><bndbox><xmin>11</xmin><ymin>5</ymin><xmax>11</xmax><ymax>5</ymax></bndbox></object>
</annotation>"""
SIZE = "<size><width>20</width><height>10</height></size>"


@pytest.fixture
def voc(tmp_path):
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    for stem, size in (("b", SIZE), ("a", "")):
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(VOC.format(name=f"{stem}.png", size=size))
        Image.fromarray(np.zeros((10, 20), np.uint8)).save(tmp_path / "JPEGImages" / f"{stem}.png")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("b\n")
    return tmp_path


def test_voc_numbers(voc):
    source = VOCSource(root=str(voc))
    assert source.classes == ("cat", "dog")
    assert [source.annotation(i).file_name for i in range(2)] == ["a.png", "b.png"]
    truth = source.annotation(0)
    # one-based, both ends included: 1..20 x 1..10 is the whole image of 20 x 10, 11..11 x 5..5 one pixel
    assert truth.boxes.tolist() == [[0, 0, 20, 10], [10, 4, 11, 5]]
    assert truth.labels.tolist() == [1, 0]
    assert truth.ignore.tolist() == [True, False]
    assert (truth.width, truth.height) == (20, 10)  # of "a": from the image itself
    assert len(VOCSource(root=str(voc), split="train")) == 1
    zero = VOCSource(root=str(voc), corners="zero_based")
    assert zero.annotation(0).boxes.tolist() == [[1, 1, 20, 10]]  # the one of one pixel has no width then
    assert "has no width or height above 0" in zero.invalid()[0]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is not XML"),
        ("<annotation>", "is not XML"),
        ("<html/>", "its outermost element is <html>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares a document type"),
        (VOC.format(name="b.png", size=SIZE).replace("<xmin>1<", "<xmin>one<"), "four numbers are wanted"),
        (VOC.format(name="b.png", size=SIZE).replace("<name>dog</name>", ""), "has no name"),
        (VOC.format(name="b.png", size=SIZE).replace("bndbox", "box"), "has no bndbox"),
        (VOC.format(name="../../b.png", size=SIZE).replace("b.png", "none.png"), "."),
    ],
)
def test_voc_faults(voc, content, sentence):
    (voc / "Annotations" / "b.xml").write_text(content)
    if sentence == ".":  # a name that leads out of the folder is not followed: the XML file's own is taken
        assert VOCSource(root=str(voc)).annotation(1).file_name == "b.png"
        return
    with pytest.raises(DataError, match=sentence):
        len(VOCSource(root=str(voc)))


@pytest.fixture
def yolo(tmp_path):
    for name in ("images/train", "labels/train"):
        (tmp_path / name).mkdir(parents=True)
    for stem in "ab":
        Image.fromarray(np.zeros((10, 20), np.uint8)).save(tmp_path / "images" / "train" / f"{stem}.png")
    (tmp_path / "labels" / "train" / "b.txt").write_text("1 0.5 0.5 0.5 0.4 \n\n0 0.1 0.2 0.3 0.2 0.3 0.7\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnc: 2\nnames: [cat, dog]\n")
    return tmp_path


def test_yolo_numbers(yolo):
    source = YOLOSource(root=str(yolo))
    assert (source.classes, source.category_ids) == (("cat", "dog"), (0, 1))
    assert source.annotation(0).boxes.shape == (0, 4)  # no label file
    truth = source.annotation(1)
    # centre (10, 5), 10 x 4; a triangle from x .1 to .3 of 20 and y .2 to .7 of 10
    assert np.allclose(truth.boxes, [[5, 3, 15, 7], [2, 2, 6, 7]])
    assert truth.labels.tolist() == [1, 0]
    assert source.image(1) == str(yolo / "images" / "train" / "b.png")


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("labels/train/b.txt", "2 .5 .5 .1 .1", r"b\.txt, line 1: .*class 2"),
        ("labels/train/b.txt", "0 .5 .5 .1 .1\n0 .5 .5", r"b\.txt, line 2: "),
        ("labels/train/b.txt", "0 50 50 10 10", r"b\.txt, line 1: "),
        ("labels/train/b.txt", "cat .5 .5 .1 .1", r"b\.txt, line 1: "),
        ("labels/train/b.txt", "\0\xff\xfe", r"b\.txt"),
        ("data.yaml", "train: images/train\nnc: 3\nnames: [cat, dog]\n", "'nc' is 3"),
        ("data.yaml", "train: images/train\n", "'names'"),
        ("data.yaml", "train: images/none\nnames: [cat]\n", "images/none"),
        ("data.yaml", "names: [cat]\n", "train"),
        ("data.yaml", "- 1\n", "mapping"),
        ("data.yaml", "a: &a [1,1]\nb: &b [*a,*a]\nc: " + "[*b" + ",*b" * 60000 + "]", "data.yaml"),
    ],
)
def test_yolo_faults(yolo, file, content, sentence):
    (yolo / file).write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=sentence):
        len(YOLOSource(root=str(yolo)))
