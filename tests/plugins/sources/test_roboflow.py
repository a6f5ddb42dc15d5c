import json

import pytest
from PIL import Image

from densedet.core.annotations.conversion import open_source, recognise
from densedet.core.annotations.faults import Faults
from densedet.core.annotations.parts import parts_of, training_sources
from densedet.core.contracts import Source
from densedet.core.errors import DataError
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.sources.roboflow import RoboflowSource
from densedet.tools.main import main

XML = """<annotation><filename>a.jpg</filename><size><width>20</width><height>10</height></size><object><name>cat</name>
<bndbox><xmin>2</xmin><xmax>12</xmax><ymin>3</ymin><ymax>8</ymax></bndbox></object></annotation>"""  # noqa: E501
GROUPED = [
    {"id": 0, "name": "pets", "supercategory": "none"},
    {"id": 1, "name": "cat", "supercategory": "pets"},
    {"id": 2, "name": "dog", "supercategory": "pets"},
]


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (20, 10)).save(path)


def coco(folder, categories=GROUPED, category_id=2):
    image(folder / "a.jpg")
    box = {
        "id": 0,
        "image_id": 0,
        "category_id": category_id,
        "bbox": [2, 3, 10, 5],
        "area": 50,
        "iscrowd": 0,
    }
    content = {
        "categories": categories,
        "images": [{"id": 0, "file_name": "a.jpg", "width": 20, "height": 10}],
        "annotations": [box],
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


def yolo(base, *splits):
    (base / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n"
    )
    for split in splits:
        image(base / split / "images" / "a.jpg")
        (base / split / "labels").mkdir()
        (base / split / "labels" / "a.txt").write_text("1 0.35 0.55 0.5 0.5")


def voc(folder):
    image(folder / "a.jpg")
    (folder / "a.xml").write_text(XML)


def test_coco(tmp_path):
    coco(tmp_path / "train")
    source = RoboflowSource(folder=str(tmp_path))
    assert isinstance(source, Source)
    assert (source.classes, source.category_ids) == (("cat", "dog"), (1, 2))
    truth = source.annotation(0)
    assert truth.labels.tolist() == [1]
    assert truth.xywh.tolist() == [[2, 3, 10, 5]]
    assert source.image(0) == str(tmp_path / "train" / "a.jpg")


@pytest.mark.parametrize(
    ("categories", "category_id", "classes"),
    [
        (GROUPED, 0, ("pets", "cat", "dog")),  # a box is of it
        (GROUPED[:2] + [{"id": 2, "name": "dog", "supercategory": "beasts"}], 2, ("pets", "cat", "dog")),
        ([{"id": 0, "name": "pets", "supercategory": "none"}, {"id": 1, "name": "cat"}], 1, ("pets", "cat")),
        ([{"id": 0, "name": "pets", "supercategory": "none"}], 0, ("pets",)),
        (
            [
                {"id": 5, "name": "pets", "supercategory": "none"},
                {"id": 6, "name": "cat", "supercategory": "pets"},
            ],
            6,
            ("pets", "cat"),
        ),
    ],
)
def test_a_category_that_may_be_a_class_is_kept(tmp_path, categories, category_id, classes):
    coco(tmp_path / "train", categories, category_id)
    assert RoboflowSource(folder=str(tmp_path)).classes == classes


def test_a_project_may_be_named_like_one_of_its_classes(tmp_path):
    named = [{"id": 0, "name": "cat", "supercategory": "none"}] + [
        {**row, "supercategory": "cat"} for row in GROUPED[1:]
    ]
    coco(tmp_path / "train", named, 1)
    source = RoboflowSource(folder=str(tmp_path))
    assert (source.classes, source.category_ids) == (("cat", "dog"), (1, 2))
    assert source.annotation(0).labels.tolist() == [0]
    coco(tmp_path / "train", named, 0)
    with pytest.raises(
        DataError, match="categories 0 and 1 are both called 'cat' and there are boxes of both: rename one"
    ):
        len(RoboflowSource(folder=str(tmp_path)))


def test_coco_without_folders_of_splits(tmp_path):
    coco(tmp_path)
    assert RoboflowSource(folder=str(tmp_path)).classes == ("cat", "dog")
    with pytest.raises(DataError, match="has no split 'val'"):
        RoboflowSource(folder=str(tmp_path), split="val")


@pytest.mark.parametrize(
    ("place", "typed", "split", "found"),
    [
        ("train", ".", None, {"folder": ".", "split": "train"}),
        ("valid", ".", "val", {"folder": ".", "split": "val"}),
        ("valid", "valid", None, {"folder": ".", "split": "val"}),
        ("valid", "valid/_annotations.coco.json", None, {"folder": ".", "split": "val"}),
        (
            "valid",
            "valid/_annotations.coco.json",
            "train",
            {"folder": ".", "split": "val"},
        ),  # split: of what is written
        ("mine", "mine", None, {"folder": "mine", "split": "train"}),
        ("mine", "mine", "val", {"folder": "mine", "split": "train"}),  # it has but one
        ("mine", "mine/_annotations.coco.json", None, {"folder": "mine", "split": "train"}),
    ],
)
def test_an_export_is_roboflow_s_before_it_is_coco_s(tmp_path, place, typed, split, found):
    coco(tmp_path / place)
    components = load_plugins([]).components
    spec = recognise(tmp_path / typed, components, split=split)
    assert spec == {"name": "roboflow", "folder": str(tmp_path / found["folder"]), "split": found["split"]}
    assert open_source(spec, components).classes == ("cat", "dog")
    assert recognise(tmp_path / place / "_annotations.coco.json", components, name="coco")["name"] == "coco"


def test_convert_and_check_data_leave_the_project_s_category_out(tmp_path, capsys):
    coco(tmp_path / "train")
    assert main(["convert", str(tmp_path), str(tmp_path / "x.json"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["source"], told["classes"]) == ("roboflow", 2)
    assert [row["name"] for row in json.loads((tmp_path / "x.json").read_text())["categories"]] == [
        "cat",
        "dog",
    ]
    assert main(["check", "data", str(tmp_path), "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["data"]["classes"]] == ["cat", "dog"]


@pytest.mark.parametrize("split", ["val", "valid"])
def test_yolo(tmp_path, split):
    yolo(tmp_path, "train", "valid")
    source = RoboflowSource(folder=".", split=split, root=str(tmp_path))
    assert source.classes == ("cat", "dog")
    # (.35 - .25) * 20, (.55 - .25) * 10
    assert source.annotation(0).xywh.round(decimals=9).tolist() == [[2, 3, 10, 5]]
    assert source.image(0) == str(tmp_path / "valid" / "images" / "a.jpg")


def test_voc(tmp_path):
    voc(tmp_path / "test")
    source = RoboflowSource(folder=str(tmp_path), split="test")
    assert source.classes == ("cat",)
    assert source.annotation(0).xywh.tolist() == [[2, 3, 10, 5]]
    assert source.fingerprint() == RoboflowSource(folder=str(tmp_path), split="test").fingerprint()


def test_faults_and_progress_are_the_inner_source_s(tmp_path):
    voc(tmp_path / "train")
    (tmp_path / "train" / "b.xml").write_text(XML.replace("<name>cat</name>", "").replace("a.jpg", "b.jpg"))
    source = RoboflowSource(folder=str(tmp_path))
    source.faults = Faults(strict=False)
    told = []
    source.on_progress = lambda done, total: told.append((done, total))
    assert len(source.table.labels) == 1
    assert "has no name" in source.invalid()[0]
    assert source.faults.counts == {"category": 1}
    assert told == [(1, 2), (2, 2)]
    with pytest.raises(DataError, match="has no name"):
        len(RoboflowSource(folder=str(tmp_path)))


def test_other_forms_and_missing_parts(tmp_path):
    image(tmp_path / "train" / "a.jpg")
    (tmp_path / "train" / "_annotations.csv").write_text("")
    with pytest.raises(DataError, match="has no split 'train' in a form that can be read .*it has train"):
        RoboflowSource(folder=str(tmp_path))
    with pytest.raises(DataError, match="there is no folder .*none: correct 'folder'"):
        RoboflowSource(folder="none", root=str(tmp_path))
    coco(tmp_path / "train")
    with pytest.raises(DataError, match="has no split 'val'"):
        RoboflowSource(folder=str(tmp_path), split="valid")


def test_recognise(tmp_path):
    assert RoboflowSource.recognise(tmp_path) is None
    assert RoboflowSource.recognise(tmp_path / "none") is None
    voc(tmp_path / "test")
    assert (
        RoboflowSource.recognise(tmp_path)
        == RoboflowSource.recognise(tmp_path / "test")
        == {"folder": str(tmp_path), "split": "test"}
    )
    coco(tmp_path / "valid")
    assert (
        RoboflowSource.recognise(tmp_path, "valid")
        == RoboflowSource.recognise(tmp_path, "val")
        == {"folder": str(tmp_path), "split": "val"}
    )
    assert RoboflowSource.recognise(tmp_path, "train") is None
    assert RoboflowSource.recognise(tmp_path / "valid", "test") is None
    yolo(tmp_path, "train")
    assert RoboflowSource.recognise(tmp_path) == {"folder": str(tmp_path), "split": "train"}
    assert RoboflowSource.recognise(tmp_path, "dev") is None
    # not every YOLO tree is Roboflow's
    image(tmp_path / "other" / "images" / "train" / "a.jpg")
    (tmp_path / "other" / "data.yaml").write_text("train: images/train\nnames: [a]")
    assert RoboflowSource.recognise(tmp_path / "other") is None


def test_yolo_s_data_file_names_splits_that_the_export_lacks(tmp_path):
    """Roboflow writes ../valid/images and ../test/images into each; any other missing folder is a typo."""
    yolo(tmp_path, "train")
    file = tmp_path / "data.yaml"
    file.write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: [a, b]\n"
    )
    components = load_plugins().components
    assert list(parts_of(tmp_path, components)) == list(parts_of(file, components)) == ["train"]
    _, val, _ = training_sources(str(tmp_path), None, components, images=None, val_images=None)
    assert val is None
    with pytest.raises(DataError, match="has no 'val': name its folder of images there.*it has train"):
        recognise(file, components, split="val")
    file.write_text("train: ../train/images\nval: ../vaild/images\nnc: 2\nnames: [a, b]\n")
    assert list(parts_of(file, components)) == ["train", "val"]
