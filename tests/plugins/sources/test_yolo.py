import json
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.faults import Faults
from densedet.core.annotations.images import find_images
from densedet.core.annotations.table import CROWD, IGNORE, equal_tables
from densedet.core.contracts import Source
from densedet.core.errors import DataError
from densedet.plugins.sources._yolo_data import extended_text, looks_like_yolo, read_yolo_data, yaml_text
from densedet.plugins.sources._yolo_labels import label_file, label_text
from densedet.plugins.sources.yolo import YOLOSource

DATA = "train: images/train\nnames: [cat, dog]\n"


@pytest.fixture
def make(tmp_path):
    """A tree of images of 200 x 100 pixels and texts."""

    def build(texts, images=(), **arguments):
        for name in images:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (200, 100)).save(tmp_path / name)
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return YOLOSource(root=str(tmp_path), **arguments)

    return build


def names(source):
    return [source.table.name(i) for i in range(len(source))]


def test_annotation(make, tmp_path):
    lines = "1 0.5 0.5 0.2 0.4  \r\n\r\n0 0.25 0.1 0.1 0.2\n"
    source = make(
        {"data.yaml": DATA, "labels/train/a.txt": lines}, ["images/train/a.png", "images/train/deep/b.jpg"]
    )
    assert isinstance(source, Source)
    assert (source.classes, source.category_ids) == (("cat", "dog"), (0, 1))
    truth = source.annotation(0)
    # 200 x 100: centre (100, 50), 40 x 40; centre (50, 10), 20 x 20
    assert np.allclose(truth.xywh, [[80, 30, 40, 40], [40, 0, 20, 20]])
    assert truth.labels.tolist() == [1, 0]
    assert (truth.image_id, truth.file_name, truth.width, truth.height) == (1, "a.png", 200, 100)
    assert source.annotation(1).boxes.shape == (0, 4)
    assert source.image(1) == str(tmp_path / "images" / "train" / "deep" / "b.jpg")
    assert source.invalid() == []


def test_polygons_become_boxes_and_are_told_once(make):
    polygon = "0 0.1 0.2 0.3 0.2 0.3 0.7\n"
    texts = {
        "data.yaml": DATA,
        "labels/train/a.txt": polygon * 2,
        "labels/train/b.txt": polygon + "1 .1 .1 .2 .1 .2 .2 .1 .2",
    }
    source = make(texts, ["images/train/a.png", "images/train/b.png"])
    # x .1 to .3 of 200, y .2 to .7 of 100; the last is x 20..40, y 10..20
    assert np.allclose(source.table.xywh, [[20, 20, 40, 50]] * 3 + [[20, 10, 20, 10]])
    assert len(source.invalid()) == 1
    assert "has polygons" in source.invalid()[0]


def test_keypoints_are_left_out(make):
    data = DATA + "kpt_shape: [2, 3]\n"
    source = make(
        {"data.yaml": data, "labels/train/a.txt": "0 .5 .5 .2 .2 .1 .1 2 .2 .2 2"}, ["images/train/a.png"]
    )
    assert np.allclose(source.table.xywh, [[80, 40, 40, 20]])


def test_image_ids(make):
    source = make(
        {"data.yaml": DATA, "labels/train/000139.txt": ""}, ["images/train/000139.jpg", "images/train/7.jpg"]
    )
    assert source.table.image_ids.tolist() == [139, 7]
    assert make({}, ["images/train/deep/07.jpg"]).table.image_ids.tolist() == [1, 2, 3]


def test_boxes_beyond_the_image(make):
    text = "0 0.1 0.5 0.3 0.2\n0 0.5 0.5 0 0.2\n0 1 1 0.0 0\n0 1.0005 0.5 0.1 0.1\n"
    source = make({"data.yaml": DATA, "labels/train/a.txt": text}, ["images/train/a.png"])
    # 20 - 30 = -10 is clipped to 0; without width: dropped; 200.1 - 10 .. 200.1 + 10
    assert np.allclose(source.annotation(0).boxes, [[0, 40, 50, 60], [190.1, 45, 200, 55]])
    assert (source.table.faults.dropped_boxes, source.table.faults.clipped_boxes) == (2, 2)
    assert "labels/train/a.txt: annotation number 2 of image 1 (a.png)" in source.invalid()[1]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("2 .5 .5 .1 .1", "there is no class 2: it must be one of 0 to 1"),
        ("-1 .5 .5 .1 .1", "there is no class -1"),
        ("0.5 .5 .5 .1 .1", "there is no class 0.5"),
        ("1e300 .5 .5 .1 .1", "there is no class 1e300"),
        ("dog .5 .5 .1 .1", "'dog' is no number"),
        ("0 .5 .5 .1 1_0", "'1_0' is no number"),
        ("0 .5 .5 .1", "4 numbers: a label has 5"),
        ("0 .5 .5 .1 .1 .9", "6 numbers: a label has 5"),
        ("0 .5 .5 .1 .1 .1 .1 .1", "8 numbers"),
        ("0 100 50 40 40", "100 lies outside 0..1"),
        ("0 .5 -.5 .1 .1", "-.5 lies outside 0..1"),
        ("0 .5 .5 -10 .1", "-10 lies outside 0..1"),
        (b"0 .5 .5 .1 .1\0", "is no number"),
        (b"\xff\xfe0\0 \0", "is no number"),
        ("0 " + "9" * 2_000_000, "2,000,003 bytes"),
    ],
)
def test_lines_that_are_no_labels(make, line, sentence):
    line = line if isinstance(line, bytes) else line.encode()
    source = make(
        {"data.yaml": DATA, "labels/train/a.txt": b"0 .5 .5 .1 .1\n" + line + b"\n1 .5 .5 .1 .1"},
        ["images/train/a.png"],
    )
    with pytest.raises(DataError, match=rf"a\.txt, line 2: .*{sentence}"):
        len(source)
    source.faults = Faults(strict=False)
    assert source.table.labels.tolist() == [0, 1]
    assert sentence in source.invalid()[0]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 .5 .5 .1 nan", "not_finite"),
        ("0 inf .5 .1 .1", "not_finite"),
        ("0 .1 .1 .5 nan .2 .2", "not_finite"),
        ("0 .5 .5 -.1 .1", "inverted"),
        ("0 .5 .5 .1 0", "flat"),
    ],
)
def test_boxes_that_are_dropped_as_from_any_other_format(make, line, kind):
    labels = f"0 .5 .5 .1 .1\n{line}\n"
    source = make({"data.yaml": DATA, "labels/train/a.txt": labels}, ["images/train/a.png"])
    assert len(source.table.labels) == 1
    assert source.faults.counts[kind] == source.faults.dropped_boxes == 1


def test_a_file_full_of_faults_ends(make):
    source = make({"data.yaml": DATA, "labels/train/a.txt": "x\n" * 100_000}, ["images/train/a.png"])
    source.faults = Faults(strict=False)
    assert len(source.table.labels) == 0
    assert source.faults.counts == {"unreadable": 100_000}
    assert len(source.faults.sentences) == 101


def test_hostile_files(make, tmp_path):
    source = make({"data.yaml": DATA, "labels/train/a.txt": b"\n" * ((1 << 24) + 1)}, ["images/train/a.png"])
    with pytest.raises(DataError, match="more than 16,777,216 bytes"):
        len(source)
    (tmp_path / "labels" / "train" / "a.txt").unlink()
    os.mkfifo(tmp_path / "labels" / "train" / "a.txt")
    with pytest.raises(DataError, match="is no file"):
        len(source)


def test_images_that_cannot_be_opened(make):
    source = make(
        {"data.yaml": DATA, "images/train/b.jpg": "text", "labels/train/a.txt": ""}, ["images/train/a.png"]
    )
    with pytest.raises(DataError, match=r"b\.jpg is in no known format"):
        len(source)
    source.faults = Faults(strict=False)
    assert names(source) == ["a.png"]


def test_the_images_of_a_folder_are_those_that_predict_finds(make, tmp_path):
    """All that Pillow reads here, whatever the letters; nothing hidden, nothing that macOS adds."""
    readable = ["A.JPG", "b.jfif", "c.jpe", "d.tga", "e.jp2", "f.mpo", "g.dib", "h.avif", "sub/i.jfif"]
    hidden = ["._A.JPG", ".trash.png", ".cache/x.png", "__MACOSX/y.png", "sub/__MACOSX/z.png"]
    texts = {"data.yaml": "train: images\nnames: [cat]", "labels/b.txt": "0 .5 .5 .1 .1"}
    texts |= {f"images/{name}": "no picture" for name in [*hidden, "x.heic", "y.HEIC", "z.svg", "notes.txt"]}
    source = make(texts, [f"images/{name}" for name in readable])
    assert names(source) == readable
    sentence = (
        "3 images left out, because the format cannot be read here (2 .heic, 1 .svg): convert to JPEG or "
        f"PNG ({tmp_path}/images/x.heic, ...)"
    )
    assert source.faults.sentences == [sentence]
    assert source.faults.left_out_images == 3
    assert find_images(
        [tmp_path / "images", tmp_path / "images" / "d.tga", tmp_path / "images" / "x.heic"]
    ) == (
        [tmp_path / "images" / name for name in [*readable, "x.heic"]],
        [sentence],
    )
    source = make({"images/only/x.heic": "", "data.yaml": "train: images/only\nnames: [cat]"})
    for reading in (lambda: len(source), lambda: find_images([tmp_path / "images" / "only"])):
        with pytest.raises(DataError, match=r"1 image left out, because .* \(1 .heic\): convert"):
            reading()


def test_no_labels_or_images_at_all(make, tmp_path):
    source = make({"data.yaml": DATA}, ["images/train/a.png"])
    with pytest.raises(
        DataError, match=r"1 image, but none has a file of labels: there is no .*labels/train/a\.txt"
    ):
        len(source)
    (tmp_path / "images" / "train" / "a.png").unlink()
    with pytest.raises(DataError, match="where no image can be used"):
        len(source)


# -- where things are --------------------


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("/x/images/train/a.b.jpg", "/x/labels/train/a.b.txt"),
        ("/images/x/images/a.jpg", "/images/x/labels/a.txt"),
        ("/x/pictures/a.jpg", "/x/pictures/a.txt"),
        ("/x/v1.0/images/a", "/x/v1.0/labels/a.txt"),
    ],
)
def test_label_file(image, labels):
    assert label_file(image) == labels


@pytest.mark.parametrize(
    ("data", "split", "expected"),
    [
        ("path: sub\ntrain: images/train\nval: images/val", "val", ["b.png"]),
        ("path: gone\ntrain: sub/images/train", "train", ["a.png"]),
        ("train: ../sub/images/train", "train", ["a.png"]),  # Roboflow's
        (
            "train: [sub/images/train, sub/images/val, sub/images/train]",
            "train",
            ["train/a.png", "val/b.png"],
        ),
        ("valid: sub/images/val", "val", ["b.png"]),
        ("train: sub/images", "train", ["train/a.png", "val/b.png"]),
        ("path: sub\ntrain: list.txt", "train", ["images/val/b.png", "images/train/a.png"]),
        ("path: sub\ntest: [list.txt, images/train]", "test", ["images/val/b.png", "images/train/a.png"]),
        ("train: ''\nval:\ntest: sub/images/train", "test", ["a.png"]),
    ],
)
def test_where_the_images_are(make, data, split, expected):
    texts = {
        "data.yaml": data + "\nnames: [cat]",
        "sub/list.txt": "./images/val/b.png\n\n  images/train/a.png \n",
    }
    texts |= {"sub/labels/train/a.txt": "0 .5 .5 .1 .1", "sub/labels/val/b.txt": "0 .5 .5 .1 .1"}
    source = make(texts, ["sub/images/train/a.png", "sub/images/val/b.png"], split=split)
    assert names(source) == expected
    assert len(source.table.labels) == len(expected)
    assert all(os.path.isfile(source.image(i)) for i in range(len(source)))


def test_lists_with_full_paths_and_names_that_leave(make, tmp_path):
    texts = {"labels/a.txt": "0 .5 .5 .1 .1", "data.yaml": "train: list.txt\nnames: [cat]"}
    texts["list.txt"] = f"{tmp_path}/images/a.png\n"
    assert names(make(texts, ["images/a.png"])) == ["images/a.png"]
    for line, sentence in [
        ("../x.png", "leaves the image folder"),
        ("/etc/passwd.png", "leaves the image folder"),
        ("/etc/passwd", "no image that can be read, by its name"),
        ("a\0.png", "NUL"),
    ]:
        source = make({"list.txt": f"./images/a.png\n{line}\n"})
        with pytest.raises(DataError, match=sentence):
            len(source)
        source.faults = Faults(strict=False)
        assert names(source) == ["images/a.png"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("", "no mapping"),
        ("[1]", "no mapping"),
        ("train: images/train", "'names' must list the classes"),
        (DATA + "nc: 3", "'nc' is 3, but 'names' has 2"),
        (DATA + "nc: two", "'nc' must be the number of classes, not two"),
        ("train: images/train\nnc: 999999999999", "'names' must list"),
        ("train: images/train\nnames: {1: cat}", "keys of 'names' must be 0 to 0"),
        ("train: images/train\nnames: [cat, ~]", "name 1 is None, no text"),
        ("train: images/train\nnames: [cat, [dog]]", "name 1 is"),
        ("val: images/train\nnames: [cat]", "has no 'train'.*it has val"),
        ("train: 3\nnames: [cat]", "'train' must be a folder"),
        ("train: images/none\nnames: [cat]", "there is no .*images/none"),
        ('train: "a\\0b"\nnames: [cat]', "there is no"),
        ("train: " + "x" * 5000 + "\nnames: [cat]", "there is no"),
        ("train: ..\nnames: [cat]", "a folder around the data set itself"),
        ("train: /\nnames: [cat]", "a folder around the data set itself"),
        ("path: [a]\n" + DATA, "'path' must be the folder"),
        (DATA + "names: [a]", "stands twice"),
        ("names: !!python/object/apply:os.system ['x']\ntrain: images/train", "would run code"),
        (
            "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nnames: [" + ",".join(["*c"] * 20_000) + "]",
            "once the aliases are written out",
        ),
        ("names: " + "[" * 10_000, "nested more than"),
        ("names: {", "not YAML"),
        (b"\xff\xfe\0", "is not UTF-8"),
        ("x: '" + "y" * (1 << 20) + "'", "more than 1,048,576 bytes"),
    ],
)
def test_faults_of_the_data_file(make, data, sentence):
    with pytest.raises(DataError, match=sentence):
        make({"data.yaml": data}, ["images/train/a.png"])


def test_what_a_data_file_may_say(make, tmp_path):
    make(
        {"data.yaml": "train: images/train\nnames: {1: 2, 0: no}\ndownload: !x y\nmore: 1\nmore: 2"},
        ["images/train/a.png"],
    )
    assert read_yolo_data(tmp_path / "data.yaml").names == ("no", "2")
    (tmp_path / "data.yaml").write_text("\ufefftrain: images/train\nnc: 2\n", encoding="utf-8")
    assert read_yolo_data(tmp_path / "data.yaml").names == ("class_0", "class_1")


def test_twice_the_same_class(make):
    with pytest.raises(DataError, match="both called 'cat'"):
        len(
            make(
                {"data.yaml": "train: images/train\nnames: [cat, cat]", "labels/train/a.txt": ""},
                ["images/train/a.png"],
            )
        )


def test_names_in_quotes(tmp_path):
    odd = [
        "a: b",
        "",
        "'",
        '"',
        "\\",
        "no",
        "1.50",
        "\0\x7f\x85\u2028\ufeff",
        "ü 漢",
        "\U0001f600",
        " x ",
        "#",
        "\n",
        "~",
    ]
    (tmp_path / "data.yaml").write_text("names: [" + ", ".join(map(yaml_text, odd)) + "]", encoding="utf-8")
    assert read_yolo_data(tmp_path / "data.yaml").names == tuple(odd)


def test_fingerprint_follows_the_files(make, tmp_path):
    texts = {"data.yaml": DATA, "labels/train/a.txt": "0 .5 .5 .1 .1"}
    source = make(texts, ["images/train/a.png", "images/train/b.png"])
    before = source.fingerprint()
    assert pickle.loads(pickle.dumps(source)).fingerprint() == make({}).fingerprint() == before
    seen = {before}
    for change in [
        {"labels/train/b.txt": ""},
        {"labels/train/a.txt": "1 .5 .5 .1 .1"},
        {"data.yaml": DATA.replace("dog", "cow")},
    ]:
        seen.add(make(change).fingerprint())
    seen.add(make({}, ["images/train/c.png"]).fingerprint())
    Image.new("L", (9, 9)).save(tmp_path / "images" / "train" / "c.png")
    seen.add(make({}).fingerprint())
    assert len(seen) == 6


def test_progress(make):
    source = make({"data.yaml": DATA, "labels/train/a.txt": ""}, ["images/train/a.png", "images/train/b.png"])
    told = []
    source.on_progress = lambda done, total: told.append((done, total))
    len(source)
    assert told == [(1, 2), (2, 2)]


# -- writing --------------------

NAMES = [
    "b.jpg",
    "b.png",
    "b.jpg",
    "sub/ü 1.jpg",
    "./b.jpg",
    "a//b.jpg",
    "x\ny.jpg",
    "a" * 300 + ".jpg",
    "b.txt/q.jpg",
]
NAMES += ["image1.jpg", " lead.jpg", "\udcff.jpg", "v1.0/img", "dir/", ".", "x/images/y.jpg", "images/z.jpg"]


CLASSES = {3: "car", 90: " odd: \x01\n", 7: "\ud800", -5: "\ufffd", 1 << 40: "no"}


def test_there_and_back(tmp_path, odd_table):
    for seed in range(20):
        table = odd_table(seed, NAMES, CLASSES, texts=seed % 2 == 1)
        split = ("train", "val", "test")[seed % 3]
        YOLOSource.write(table, tmp_path / str(seed) / "yolo", split=split)
        found = YOLOSource.recognise(tmp_path / str(seed) / "yolo", split)
        assert found == YOLOSource.recognise(tmp_path / str(seed) / "yolo")
        assert equal_tables(YOLOSource(**found).table, table) == []
        assert [path.name for path in (tmp_path / str(seed)).iterdir()] == ["yolo"]


def test_what_others_would_miss_is_told(tmp_path, odd_table):
    faults = Faults()
    YOLOSource.write(odd_table(0, NAMES, CLASSES), tmp_path / "yolo", faults=faults)
    # b.png, the second b.jpg and ./b.jpg share b.txt, which cannot be a folder for q.txt; three no file is to
    # be called
    assert faults.counts == {"name": 7}
    assert (
        "the labels of image 'b.png' are in labels/train/b.png.txt; other trainers look for "
        "labels/train/b.txt" in faults.sentences[0]
    )


@pytest.fixture
def written(tmp_path):
    builder = TableBuilder("memory")
    for category_id, name in ((8, "dog"), (4, "cat")):
        builder.add_class(category_id, name)
    for image_id, name in ((50, "a.jpg"), (40, "b.jpg"), (60, "deep/c.jpg")):
        builder.add_image(image_id, name, 200, 100)
    builder.add_box(50, 8, [20.1, 10, 40, 20], area=7, id=1)
    builder.add_box(50, 4, [0, 0, 50, 50], crowd=True, id=2)
    builder.add_box(50, 4, [100 / 3, 10, 80, 20], id=3)
    builder.add_box(60, 4, [-10, 0, 30, 50], ignore=True, id=4)
    YOLOSource.write(builder.finish(), tmp_path / "x")
    return tmp_path / "x"


def test_written_files_are_plain_yolo(written):
    # (20.1 + 20) / 200, 20 / 100, 40 / 200, 20 / 100; (33.3.. + 40) / 200; neither the crowd nor the ignored
    # box
    lines = (
        "1 0.200500000 0.200000000 0.200000000 0.200000000\n0 0.366666667 0.200000000 0.400000000 "
        "0.200000000\n"
    )
    assert (written / "labels" / "train" / "a.txt").read_text() == lines
    assert (
        (written / "labels" / "train" / "b.txt").read_text()
        == (written / "labels" / "train" / "deep" / "c.txt").read_text()
        == ""
    )
    assert (written / "data.yaml").read_text() == 'train: images/train\n\nnames:\n  0: "cat"\n  1: "dog"\n'
    assert list((written / "images" / "train").iterdir()) == []


def test_labels_stay_within_the_image():
    # x -10..30 of 200 is 0..30: centre 15, width 30
    assert label_text(3, [-10, 90, 40, 50], 200, 100) == "3 0.075000000 0.950000000 0.150000000 0.100000000"


def test_edited_labels_hold(written):
    file = written / "labels" / "train" / "a.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["0 .5 .5 .1 .1", "  " + lines[1].replace(" ", "   ")]))
    (written / "labels" / "train" / "b.txt").write_text("1 .5 .5 .2 .2")
    table = YOLOSource(root=str(written)).table
    assert table.ids.tolist() == [5, 3, 2, 6, 4]  # new, kept, the crowd, new, the ignored one; 1 was deleted
    assert table.xywh[1].tolist() == [100 / 3, 10, 80, 20]
    assert np.allclose(table.xywh[0], [90, 45, 20, 10])
    assert table.areas[:2].tolist() == [200, 1600]
    assert table.flags.tolist() == [0, 0, CROWD, 0, IGNORE]
    assert table.image_ids.tolist() == [50, 40, 60]
    assert table.category_ids == (4, 8)


def test_images_that_came_and_went(written):
    (written / "labels" / "train" / "b.txt").unlink()
    for name in ("a.jpg", "new.png"):
        Image.new("L", (20, 10)).save(written / "images" / "train" / name)
    (written / "labels" / "train" / "new.txt").write_text("0 .5 .5 1 1")
    source = YOLOSource(root=str(written))
    assert names(source) == ["a.jpg", "deep/c.jpg", "new.png"]
    assert source.table.image_ids.tolist() == [50, 60, 61]
    assert source.table.sizes.tolist() == [[200, 100], [200, 100], [20, 10]]
    assert "there is no image b.jpg and no labels/train/b.txt any more" in source.invalid()[0]


def test_without_the_folder_of_images(written):
    """As in a repository, which keeps no empty folders."""
    (written / "images" / "train").rmdir()
    assert len(YOLOSource(root=str(written)).table.labels) == 4


def test_classes_that_were_renamed_and_added(written):
    (written / "data.yaml").write_text("train: images/train\nnames: [cat, puppy, cow]\n")
    table = YOLOSource(root=str(written)).table
    assert (table.classes, table.category_ids) == (("cat", "puppy", "cow"), (4, 8, 9))
    (written / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    with pytest.raises(DataError, match="where no image can be used"):  # labels alone need the images
        len(YOLOSource(root=str(written)))


def test_an_edited_data_file_reads_the_labels_alone(written):
    """Other folders than the written ones: the side file does not belong to them."""
    (written / "data.yaml").write_text("train: [images/train]\nval: images/train\nnames: [cat, dog]\n")
    assert len(YOLOSource(root=str(written)).table.labels) == 4
    assert YOLOSource(root=str(written), split="val").exact is None


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[" * 100_000,
        "null",
        "{}",
        "[]",
        '["box"]',
        '["image", 1, "a.jpg", 1, 1]',
        '["image", 1.5, "a.jpg", 1, 1, "l"]',
        '["image", 1, "../a.jpg", 1, 1, "l"]',
        '["image", 1, "a.jpg", 1, 1, "/etc/passwd"]',
        '["image", 1, "a.jpg", 0, 1, "l"]',
        '["image", 1, "a.jpg", true, 1, "l"]',
        '["box", 1, 1, 1, 1, 1, 1, 1, 4]',
        '["box", 1, -1, 1, 1, 1, 1, 1, 0]',
        f'["box", {1 << 63}, 1, 1, 1, 1, 1, 1, 0]',
        f'["box", 1, 1, {"9" * 400}, 1, 1, 1, 1, 0]',
        f'["box", 1, 1, {"9" * 5000}, 1, 1, 1, 1, 0]',
        '["box", 1, 1, "1", 1, 1, 1, 1, 0]',
        " " * (1 << 22) + "1",
    ],
)
def test_damaged_side_files(written, line):
    file = written / "densedet_extra_train.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(DataError, match=r"densedet_extra_train\.jsonl:3: .*convert anew, or delete the file"):
        len(YOLOSource(root=str(written)))


@pytest.mark.parametrize(
    "header", ["", "{}", "[]", '{"densedet": 2, "categories": []}', '{"densedet": 1, "categories": [[1]]}']
)
def test_damaged_headers_of_side_files(written, header):
    (written / "densedet_extra_train.jsonl").write_text(header)
    with pytest.raises(DataError, match=r"densedet_extra_train\.jsonl:1: "):
        len(YOLOSource(root=str(written)))


def test_boxes_that_cannot_be_in_the_side_file(written):
    file = written / "densedet_extra_train.jsonl"
    text = file.read_text()
    for old, new in [("-10.0", "NaN"), ("-10.0", "1e999"), ("-10.0", "-100.0")]:
        file.write_text(text.replace(old, new))
        source = YOLOSource(root=str(written))
        assert source.table.ids.tolist() == [1, 2, 3]
        assert len(source.invalid()) == 1
    file.write_text(text.replace('["box", 4, 0', '["box", 4, 77'))
    with pytest.raises(DataError, match="'category_id' is 77"):
        len(YOLOSource(root=str(written)))


def test_writing_is_all_or_nothing(written, tmp_path, odd_table):
    with pytest.raises(DataError, match="has a split 'train' already"):
        YOLOSource.write(odd_table(0, NAMES, CLASSES), written)
    (written / "data.yaml").rename(tmp_path / "x" / "other.txt")
    with pytest.raises(DataError, match="there already and not empty"):
        YOLOSource.write(odd_table(0, NAMES, CLASSES), written)
    with pytest.raises(DataError, match="YOLO has no split 'dev'"):
        YOLOSource.write(odd_table(0, NAMES, CLASSES), tmp_path / "y", split="dev")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_link_that_leads_nowhere_is_no_data_file(tmp_path):
    (tmp_path / "x.yaml").symlink_to("nowhere")
    assert YOLOSource.recognise(tmp_path) is None
    assert not looks_like_yolo(tmp_path / "x.yaml")


def test_recognise(make, tmp_path):
    make({"data.yaml": DATA + "val: [x]"}, ["images/train/a.png"])
    data = str(tmp_path / "data.yaml")
    assert (
        YOLOSource.recognise(tmp_path)
        == YOLOSource.recognise(tmp_path / "data.yaml")
        == {"data": data, "split": "train"}
    )
    assert (
        YOLOSource.recognise(tmp_path, "valid")
        == YOLOSource.recognise(tmp_path, "val")
        == {"data": data, "split": "val"}
    )
    with pytest.raises(DataError, match="data.yaml has no 'test': .* it has train, val"):
        YOLOSource.recognise(tmp_path, "test")
    assert YOLOSource.recognise(tmp_path / "images") is None
    (tmp_path / "data.yaml").rename(tmp_path / "coco8.yaml")
    assert YOLOSource.recognise(tmp_path) == {"data": str(tmp_path / "coco8.yaml"), "split": "train"}
    (tmp_path / "coco8.yaml").write_text(
        json.dumps({"model": {}, "data": {"train": {}}, "train": {"budget": 3}})
    )  # a recipe
    assert YOLOSource.recognise(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "path: ..\ntrain: images/train\nnames: [cat, dog]",
            "has 'path' '..', and images/val would be sought there",
        ),
        ("{train: images/train, names: [cat, dog]}", "not a plain list of 'key: value' lines"),
        (
            "train: images/train\nnames: [dog, cat]",
            r"has other classes than the new split \(dog, cat; cat, dog\)",
        ),
        ("train: images/train\nnames: [cat, dog]\nvalid: images/valid", "has a split 'val' already"),
    ],
)
def test_a_data_file_that_cannot_be_extended(tmp_path, content, sentence):
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(DataError, match=sentence):
        extended_text(tmp_path / "data.yaml", "val", ["cat", "dog"])
    assert (tmp_path / "data.yaml").read_text() == content


def test_an_extended_data_file_keeps_what_it_had(tmp_path):
    (tmp_path / "data.yaml").write_text("# mine\ntrain: images/train\nnames: [cat, dog]\nepochs: 3\n")
    assert (
        extended_text(tmp_path / "data.yaml", "val", ["cat", "dog"])
        == "val: images/val\n" + (tmp_path / "data.yaml").read_text()
    )
