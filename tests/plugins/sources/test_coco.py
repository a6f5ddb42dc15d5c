import json
import pickle

import numpy as np
import pytest

from densedet.core.contracts import Source
from densedet.core.data.facts import data_facts, notes_on
from densedet.core.errors import DataError
from densedet.plugins.sources.coco import CocoSource


def content():
    """Ids with gaps and out of order; a crowd, an ignored object, a missing area, an image without
    objects."""
    return {
        "images": [
            {"id": 42, "file_name": "b.jpg", "width": 100, "height": 50},
            {"id": 7, "file_name": "deep/a.jpg", "width": 20, "height": 30},
            {"id": 9, "file_name": "empty.jpg", "width": 5, "height": 5},
        ],
        "categories": [
            {"id": 90, "name": "toothbrush"},
            {"id": 3, "name": "car"},
            {"id": 17, "name": "cat", "supercategory": "animal"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3.5, 4], "area": 9.5, "iscrowd": 0},
            {
                "id": 2,
                "image_id": 42,
                "category_id": 3,
                "bbox": [0, 0, 100, 50],
                "area": 5000,
                "iscrowd": 1,
                "segmentation": {},
            },
            {"id": 3, "image_id": 7, "category_id": 17, "bbox": [10, 10, 10, 20]},
            {"id": 4, "image_id": 42, "category_id": 17, "bbox": [5, 6, 7, 8], "ignore": 1, "iscrowd": 0},
        ],
    }


@pytest.fixture
def make(tmp_path):
    (tmp_path / "images").mkdir()

    def build(*contents, **arguments):
        names = []
        for number, value in enumerate(contents):
            names.append(f"{number}.json")
            (tmp_path / names[-1]).write_text(value if isinstance(value, str) else json.dumps(value))
        return CocoSource(
            annotations=names[0] if len(names) == 1 else names,
            images="images",
            root=str(tmp_path),
            **arguments,
        )

    return build


def refused(source, match):
    with pytest.raises(DataError, match=match):
        len(source)


def test_is_a_source(make):
    assert isinstance(make(content()), Source)


def test_labels_follow_the_sorted_category_ids(make):
    source = make(content())
    assert source.classes == ("car", "cat", "toothbrush")
    assert source.category_ids == (3, 17, 90)
    assert source.annotation(1).labels.tolist() == [2, 1]


def test_annotation(make, tmp_path):
    source = make(content())
    assert len(source) == 3
    truth = source.annotation(1)
    assert truth.boxes.tolist() == [[1, 2, 4.5, 6], [10, 10, 20, 30]]
    assert truth.area.tolist() == [9.5, 200]  # the second has none: 10 * 20
    assert (truth.image_id, truth.file_name, truth.width, truth.height) == (7, "deep/a.jpg", 20, 30)
    assert source.image(1) == str(tmp_path / "images" / "deep/a.jpg")
    first = source.annotation(0)
    assert first.crowd.tolist() == [True, False]
    assert first.ignore.tolist() == [True, True]
    empty = source.annotation(2)
    assert empty.boxes.shape == (0, 4)
    assert empty.labels.shape == empty.ignore.shape == empty.crowd.shape == empty.area.shape == (0,)
    assert source.invalid() == []


def test_changing_an_annotation_does_not_change_the_source(make):
    source = make(content())
    source.annotation(1).boxes.zero_()
    assert source.annotation(1).boxes[0].tolist() == [1, 2, 4.5, 6]


def test_faulty_boxes_are_dropped_or_clipped_once_and_named(make, tmp_path):
    value = content()
    boxes = [
        [0, 0, 0, 5],
        [3, 3, 4, -1],
        [200, 5, 4, 4],
        [float("nan"), 1, 2, 3],
        [1, 2, float("inf"), 3],
        [95, 45, 10, 10],
        [99, 1, 1.01, 5],
    ]
    value["annotations"] = [
        {"id": 10 + i, "image_id": 42, "category_id": 3, "bbox": box} for i, box in enumerate(boxes)
    ]
    source = make(value)
    truth = source.annotation(0)
    np.testing.assert_allclose(
        truth.boxes, [[95, 45, 100, 50], [99, 1, 100, 6]]
    )  # the last was only rounded: not reported
    assert truth.area[0] == 100
    assert (source.table.faults.dropped_boxes, source.table.faults.clipped_boxes) == (5, 1)
    sentences = source.invalid()
    assert len(sentences) == 6
    where = f"annotation file {tmp_path / '0.json'}: annotation 10 of image 42 (b.jpg)"
    assert (
        sentences[0]
        == f"{where}: box [0, 0, 0, 5] (x, y, width, height) has no width or height above 0 and was dropped"
    )
    assert "annotation 11 of image 42 (b.jpg): box [3, 3, 4, -1]" in sentences[1]
    assert sentences[2].endswith("lies outside its image of 100 x 50 and was dropped")
    assert sentences[3].endswith("is not finite and was dropped")
    assert sentences[4].endswith("is not finite and was dropped")
    assert sentences[5].endswith(
        "[95, 45, 10, 10] (x, y, width, height) leaves its image of 100 x 50 and was clipped"
    )


def test_many_faults_are_counted_but_not_all_told(make):
    value = content()
    value["annotations"] = [
        {"id": i, "image_id": 42, "category_id": 3, "bbox": [0, 0, 0, 0]} for i in range(1500)
    ]
    source = make(value)
    assert source.table.faults.dropped_boxes == 1500
    assert len(source.invalid()) == 1001
    assert source.invalid()[-1] == "... and 500 more"


def test_files_are_joined(make):
    second = content()
    second["images"] = [{"id": "x1", "file_name": "c.jpg", "width": 10, "height": 10}]
    second["annotations"] = [{"id": 1, "image_id": "x1", "category_id": 17, "bbox": [1, 1, 2, 2]}]
    source = make(content(), second)
    assert len(source) == 4
    assert source.annotation(3).image_id == "x1"
    assert source.annotation(3).labels.tolist() == [1]
    assert source.annotation(1).labels.tolist() == [2, 1]
    assert source.annotation(1).image_id == 7


def test_what_a_file_gives_more_than_once_is_kept_and_said_in_a_line(make):
    value = content()
    value["annotations"][3]["id"] = value["annotations"][2]["id"] = 2  # 1, 2, 2, 2
    value["images"][2]["file_name"] = "b.jpg"
    source = make(value)
    assert len(source.table.labels) == 4
    assert len(source) == 3
    assert source.faults.counts == {"same_id": 1, "same_name": 1}
    words = "1 annotation id given more than once, 1 file name given more than once"
    assert source.faults.words() == words
    assert notes_on({"train": data_facts(source, source.classes)})[0] == (
        f"training data: {words}; densedet check data names them"
    )
    first, second = source.faults.sentences
    assert "0.json: 1 annotation id given more than once (2, for one): every box is kept" in first
    assert "1 file name given more than once (b.jpg, for one): each entry is an image" in second
    second = content()  # files that are joined number their objects alike
    second["images"] = [{"id": 100 + i, "file_name": f"{i}.png", "width": 100, "height": 50} for i in (7, 42)]
    second["annotations"] = [{**row, "image_id": row["image_id"] + 100} for row in second["annotations"]]
    assert not make(content(), second).table.faults.counts


def test_files_that_do_not_fit_are_not_joined(make):
    other = content()
    other["categories"][0]["name"] = "brush"
    other["images"], other["annotations"] = [], []
    refused(
        make(content(), other), r"1\.json and .*0\.json cannot be joined: category 90 .* only one of them"
    )
    refused(
        make(content(), content()),
        r"1\.json: image id 42 occurs twice; image ids must be unique, also over joined files",
    )


def test_an_empty_data_set(make):
    source = make({"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]})
    assert len(source) == 0
    assert source.classes == ("a",)


def test_missing_files_fail_at_once(make, tmp_path):
    make(content())
    root = str(tmp_path)
    with pytest.raises(
        DataError, match=r"there is no file .*none\.json: correct 'annotations' or data\.root"
    ):
        CocoSource(annotations="none.json", images="images", root=root)
    with pytest.raises(DataError, match=r"there is no file .*images: correct"):
        CocoSource(annotations="images", images="images", root=root)
    with pytest.raises(DataError, match=r"there is no folder .*pictures"):
        CocoSource(annotations="0.json", images="pictures", root=root)
    with pytest.raises(DataError, match="empty list"):
        CocoSource(annotations=[], images="images", root=root)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"images": [}', r"0\.json, line 1, column 13: not JSON"),
        ("", "holds nothing"),
        ("[" * 100_000, "holds a list"),
        ('{"info": ' + "[" * 100_000, "nested deeper than any annotation file"),
        ('{"images": [{"id": ' + "1" * 10_000 + "}]}", "line 1, column 13: not a number that can be read"),
        ('{"images": [], "images": []}', "column 25: the key 'images' stands twice"),
        ('{"images": []} x', "something stands after the end"),
        ('{"images": []', "the file ends here where , or } must stand"),
        ('"\ud800"', "is not UTF-8"),
        (
            "[]",
            "holds a list, like a results file: COCO's is an object with images, annotations and categories",
        ),
        ("3", "holds a plain value"),
        ("{}", "has no 'images'"),
        ('{"images": [], "annotations": []}', "has no 'categories'"),
        ('{"images": {}, "annotations": [], "categories": []}', "line 1, column 12: a list must stand here"),
        ('{"images": [1], "annotations": [], "categories": []}', "'images' must be a list of objects"),
        ('{"images": [], "annotations": [], "categories": []}', "'categories' is empty"),
    ],
)
def test_not_cocos_form(make, text, match):
    source = make("{}")
    source.files[0].write_bytes(text.encode("utf-8", "surrogatepass"))
    refused(source, match)


@pytest.mark.parametrize(
    ("place", "index", "key", "value", "match"),
    [
        (
            "annotations",
            0,
            "image_id",
            1000,
            r"0\.json: annotation 1 of image 1000: 'image_id' is not the id of an image of this file",
        ),
        ("annotations", 0, "image_id", None, "'image_id' is missing"),
        (
            "annotations",
            2,
            "category_id",
            4,
            r"annotation 3 of image 7 \(deep/a.jpg\): 'category_id' is 4, not the id of one of its "
            r"categories",
        ),
        ("annotations", 2, "category_id", [4], "'category_id' is"),
        (
            "annotations",
            1,
            "bbox",
            None,
            "annotations entry 2: 'bbox' is missing, not four numbers x, y, width, height",
        ),
        ("annotations", 1, "bbox", [1, 2, 3], "'bbox' is"),
        ("annotations", 1, "bbox", [1, 2, 3, "4"], "'bbox' is"),
        ("annotations", 1, "bbox", "1234", "'bbox' is '1234'"),
        ("annotations", 1, "iscrowd", 2, "annotations entry 2: 'iscrowd' is 2, not 0 or 1"),
        ("annotations", 1, "ignore", "yes", "'ignore' is 'yes'"),
        ("images", 1, "file_name", None, "images entry 7: 'file_name' is missing, not a text"),
        ("images", 1, "file_name", 3, "'file_name' is 3"),
        ("images", 1, "width", 0, "images entry 7: 'width' is 0, not a whole number of pixels above 0"),
        ("images", 1, "height", "30", "'height' is '30'"),
        ("images", 1, "height", None, "'height' is missing"),
        ("images", 1, "id", None, "images entry number 1: 'id' is missing"),
        ("images", 1, "id", 42, "image id 42 occurs twice"),
        ("categories", 1, "id", 90, "category id 90 occurs twice"),
        ("categories", 1, "id", "3", "'id' is '3', not a whole number"),
        ("categories", 1, "name", "", "category 3 has an empty name: give it one"),
        ("categories", 1, "name", "cat", "categories 3 and 17 are both called 'cat': rename one of them"),
        ("categories", 1, "name", None, "'name' is missing"),
    ],
)
def test_faulty_entries_are_named(make, place, index, key, value, match):
    broken = content()
    if value is None:
        del broken[place][index][key]
    else:
        broken[place][index][key] = value
    refused(make(broken), match)


@pytest.mark.parametrize(
    "name",
    [
        "../a.jpg",
        "a/../../b.jpg",
        "/etc/passwd",
        "C:\\a.jpg",
        "\\\\host\\a.jpg",
        "..\\a.jpg",
        "C:a.jpg",
        "a\0.jpg",
        "",
    ],
)
def test_file_names_stay_in_the_folder(make, name):
    value = content()
    value["images"][0]["file_name"] = name
    refused(make(value), "image 42: file_name .* (leaves the image folder|holds a NUL byte|is empty)")


def test_huge_numbers_do_no_harm(make):
    value = content()
    value["annotations"][0]["bbox"] = [10**400, 0, 5, 5]
    value["annotations"][2]["area"] = 10**400
    value["images"][2]["id"] = 10**30
    source = make(value)
    assert source.annotation(1).boxes.tolist() == [[10, 10, 20, 30]]
    assert source.annotation(1).area.tolist() == [200]
    assert source.annotation(2).image_id == 10**30
    assert source.invalid()[0].endswith("is not finite and was dropped")


def test_pickles_closed_and_open(make, tmp_path):
    source = make(content())
    assert pickle.loads(pickle.dumps(source)).annotation(1).labels.tolist() == [2, 1]
    len(source)
    (tmp_path / "0.json").unlink()
    assert pickle.loads(pickle.dumps(source)).annotation(1).labels.tolist() == [2, 1]  # nothing is read again


def test_fingerprint_follows_the_annotations(make):
    first = make(content()).fingerprint()
    assert make(content()).fingerprint() == first
    value = content()
    value["annotations"][0]["bbox"][0] = 1.25
    assert make(value).fingerprint() != first
