import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.faults import Faults
from densedet.core.annotations.table import equal_tables
from densedet.core.contracts import Source
from densedet.core.errors import DataError
from densedet.plugins.sources._voc_xml import box_of, corners_of
from densedet.plugins.sources._xml import MAX_DEPTH
from densedet.plugins.sources.voc import VOCSource

BAD = Path(__file__).parents[4] / "shared" / "data" / "bad"


def thing(name, xmin, ymin, xmax, ymax, extra=""):
    corners = f"<xmin>{xmin}</xmin><xmax>{xmax}</xmax><ymin>{ymin}</ymin><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def file(*things, name="a.jpg", size=(20, 10)):
    size = (
        ""
        if size is None
        else f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    )
    return f"<annotation><folder>f</folder><filename>{name}</filename>{size}{''.join(things)}</annotation>"


@pytest.fixture
def make(tmp_path):
    def build(contents, images=(), split=None, sets=(), **arguments):
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for stem, content in contents.items():
            path = tmp_path / "Annotations" / f"{stem}.xml"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        for name in images:
            path = tmp_path / "JPEGImages" / name
            path.parent.mkdir(exist_ok=True)
            Image.new("L", (30, 40)).save(path)
        for name, text in dict(sets).items():
            (tmp_path / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
        return VOCSource(root=str(tmp_path), split=split, **arguments)

    return build


def test_annotation(make, tmp_path):
    source = make(
        {"a": file(thing("dog", 1, 1, 20, 10), thing("cat", 3, 4, 12, 8, "<difficult>1</difficult>"))},
        images=["a.jpg"],
    )
    assert isinstance(source, Source)
    assert (source.classes, source.category_ids) == (("cat", "dog"), (1, 2))
    truth = source.annotation(0)
    # pixels 1..20 are the whole width of 20; 3..12 are 10 pixels from the left edge of the third, at 2; 4..8
    # are 5
    assert truth.xywh.tolist() == [[0, 0, 20, 10], [2, 3, 10, 5]]
    assert truth.area.tolist() == [200, 50]
    assert truth.ignore.tolist() == [False, True]
    assert truth.crowd.tolist() == [False, False]
    assert (truth.width, truth.height, truth.file_name) == (20, 10, "a.jpg")
    assert source.image(0) == str(tmp_path / "JPEGImages" / "a.jpg")
    assert source.invalid() == []


def test_corners_from_zero(make):
    content = {"a": file(thing("dog", 0, 2, 20, 10))}
    assert make(content, corners="zero_based").annotation(0).xywh.tolist() == [[0, 2, 20, 8]]
    source = make(content)
    assert source.annotation(0).boxes.tolist() == [[0, 1, 20, 10]]  # x = -1, clipped
    assert "set the source's 'corners' to zero_based" in source.invalid()[0]


def test_a_single_pixel(make):
    content = {"a": file(thing("dog", 5, 6, 5, 6))}
    source = make(content)
    assert source.annotation(0).xywh.tolist() == [[4, 5, 1, 1]]
    assert "object 1 (dog) is the single pixel 5, 6" in source.invalid()[0]
    source = make(content, corners="zero_based")
    assert len(source.annotation(0).labels) == 0
    assert "annotation number 1 of image 1 (a.jpg): box [5, 6, 0, 0]" in source.invalid()[0]


def test_corner_numbers_go_there_and_back():
    draw = random.Random(0)
    for _ in range(200):
        xmin, ymin = draw.randint(1, 100), draw.randint(1, 50)
        corners = (xmin, ymin, draw.randint(xmin, 100), draw.randint(ymin, 50))
        assert corners_of(box_of(list(corners), "one_based"), 100, 50) == corners
    assert corners_of((-5.0, 3.4, 1e9, 0.1), 100, 50) == (1, 4, 100, 4)  # within the image, at least a pixel


def test_sizes_come_from_the_image_where_the_file_has_none(make):
    for size in (None, (0, 0), ("x", 5)):
        truth = make({"a": file(thing("dog", 1, 1, 5, 5), size=size)}, images=["a.jpg"]).annotation(0)
        assert (truth.width, truth.height) == (30, 40)


def test_no_size_anywhere(make):
    with pytest.raises(
        DataError, match=r"a\.xml does not give its image's size, and image .*a\.jpg does not exist"
    ):
        len(make({"a": file(thing("dog", 1, 1, 5, 5), size=None)}))


def test_which_image_a_file_is_about(make):
    dog = thing("dog", 1, 1, 5, 5)
    contents = {
        "a": file(dog, name="b.jpg"),  # as in the development kit, the file's own name goes before <filename>
        "b": file(dog, name="C:\\pictures\\b.png"),
        "c": file(dog, name="other.jpg"),
        "d": file(dog, name="d.bmp"),
        "deep/e": file(dog, name="e.jpg"),
        "f": file(dog, name="gone.jpg"),
    }
    source = make(contents, images=["a.png", "b.jpg", "b.png", "other.jpg", "d.bmp", "d.jpg", "deep/e.jpg"])
    names = [source.table.name(i) for i in range(len(source))]
    assert names == ["a.png", "b.png", "other.jpg", "d.bmp", "deep/e.jpg", "gone.jpg"]


def test_image_ids(make, tmp_path):
    dog = file(thing("dog", 1, 1, 5, 5))
    assert make({"000012": dog, "7": dog}).table.image_ids.tolist() == [12, 7]
    assert make({"000007": dog}).table.image_ids.tolist() == [1, 2, 3]  # 7 would occur twice
    assert make({"2007_000027": dog}).table.image_ids.tolist() == [1, 2, 3, 4]


def test_splits(make):
    dog, cat = file(thing("dog", 1, 1, 5, 5)), file(thing("cat", 1, 1, 5, 5))
    sets = {
        "train": "b\n a \n\nb\n",
        "dog_val": "a -1\nb  1\nc 1 0\nd 1 1",
        "bad": "a\nnone\n",
        "up": "../Annotations/a\n",
    }
    contents = {"a": cat, "b": dog, "c 1": dog, "d 1": dog}
    source = make(contents, split="train", sets=sets)
    assert [source.table.name(i) for i in range(len(source))] == [
        "a.jpg",
        "a.jpg",
    ]  # no image is there: <filename>
    assert source.table.labels.tolist() == [1, 0]
    # "a" is without dogs; "c 1" and "d 1" are names with a blank
    source = make({}, split="dog_val")
    assert source.classes == ("cat", "dog")  # of the whole folder, so that splits agree
    assert len(source) == 3
    for name in ("bad", "up"):
        with pytest.raises(DataError, match=rf"{name}\.txt:\d: there is no .*\.xml"):
            len(make({}, split=name))
    for name in ("valid", "../Main/train", "a\0"):
        with pytest.raises(
            DataError, match="does not exist: correct 'split'.*there are bad, dog_val, train, up"
        ):
            make({}, split=name)


def test_given_classes(make):
    content = {"a": file(thing("dog", 1, 1, 5, 5), thing("cat", 1, 1, 5, 5))}
    source = make(content, classes=["dog", "cat"])
    assert source.classes == ("dog", "cat")
    assert source.annotation(0).labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="there is no class 'cat' among dog"):
        len(make(content, classes=["dog"]))


def test_unusable_entries(make):
    contents = {
        "a": file(
            thing("dog", 1, 1, 5, 5),
            "<object><name>x</name></object>",
            thing("", 1, 1, 2, 2),
            thing("dog", 1, "1_0", 5, 5),
        ),
        "b": file(
            thing("dog", "nan", 1, 5, 5),
            thing("dog", 5, 5, 3, 9),
            thing("dog", 30, 3, 40, 9),
            thing("dog", "1e999", 1, 2, 2),
        ),
    }
    source = make(contents)
    source.faults = Faults(strict=False)
    assert np.diff(source.table.offsets).tolist() == [1, 0]
    text = "\n".join(source.invalid())
    assert "a.xml: object 2 (x) has no bndbox" in text
    assert "object 3 () has no name" in text
    assert "object 4 (dog) has a bndbox of 1, 1_0, 5, 5: four numbers are wanted" in text
    assert text.count("is not finite") == 2
    assert "b.xml: annotation number 2 of image 2 (a.jpg): box [4, 4, -1, 5]" in text
    assert "lies outside its image of 20 x 10" in text
    with pytest.raises(DataError, match="has no bndbox"):
        len(make(contents))


def test_parts_and_repeated_elements_do_not_count(make):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"  # noqa: E501
    twice = thing("dog", 1, 1, 5, 5, part).replace("</object>", "<name>cat</name></object>")
    source = make({"a": file(twice)})
    assert source.classes == ("dog",)
    assert source.annotation(0).xywh.tolist() == [[0, 0, 5, 5]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not XML"),
        (b"\x89PNG\r\n", "is not XML"),
        (file()[:-5], "is not XML"),
        ("<html></html>", "outermost element is <html>"),
        (
            '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]>' + file(thing("&c;", 1, 1, 2, 2)),
            "declares a document type",
        ),
        (
            ('<?xml version="1.0"?><!DOCTYPE a SYSTEM "file:///etc/passwd">' + file()).encode("utf-16"),
            "declares a document type",
        ),
        ("<annotation>" * 100_000, f"nested more than {MAX_DEPTH} deep"),
        ('<?xml version="1.0" encoding="gbk"?>' + file(), "save it as UTF-8"),
        ('<?xml version="1.0" encoding="nonsense"?>' + file(), "(is not XML|save it as UTF-8)"),
        (file(thing("\x01", 1, 1, 2, 2)), "is not XML"),
        (file(thing("dog", 1, 1, 5, 5), name="../../a.jpg"), "leaves the image folder"),
        (file(thing("dog", 1, 1, 5, 5), name="/etc/passwd", size=None), "leaves the image folder"),
        (b"<annotation>" + b" " * (1 << 24), "has more than 16,777,216 bytes"),
    ],
)
def test_hostile_files(make, content, sentence):
    with pytest.raises(DataError, match=sentence):
        len(make({"a": content}))


def test_latin_letters_declared(make):
    content = '<?xml version="1.0" encoding="iso-8859-1"?>' + file(thing("Tür", 1, 1, 5, 5))
    assert make({"a": content.encode("latin-1")}).classes == ("Tür",)


def test_very_many_faults_in_a_file_end(make):
    source = make({"a": file(thing("dog", 1, 1, 5, 5), *["<object/>"] * 50_000)})
    source.faults = Faults(strict=False)
    assert len(source.table.labels) == 1
    assert source.faults.counts == {"category": 100, "unreadable": 49_900}
    assert "the rest of the file was not read" in source.invalid()[-1]


def test_a_pipe_is_not_waited_for(make, tmp_path):
    source = make({"b": file(thing("dog", 1, 1, 5, 5))})
    os.mkfifo(tmp_path / "Annotations" / "a.xml")
    with pytest.raises(DataError, match="is no file"):
        len(source)


def test_missing_folders(make, tmp_path):
    source = make({})
    with pytest.raises(DataError, match="no XML files in"):
        len(source)
    with pytest.raises(DataError, match="no objects: name the classes"):
        len(make({"a": file()}))
    assert len(make({"a": file()}, classes=["dog"])) == 1
    with pytest.raises(DataError, match="there is no folder .*: correct 'annotations'"):
        VOCSource(annotations="none", root=str(tmp_path))
    with pytest.raises(DataError, match="there is no folder .*: correct 'images'"):
        VOCSource(images="none", root=str(tmp_path))


def test_fingerprint_follows_the_files(make, tmp_path):
    contents = {"a": file(thing("dog", 1, 1, 5, 5)), "b": file(thing("dog", 1, 1, 5, 5))}
    first = make(contents)
    assert first.fingerprint() == make({}).fingerprint() == pickle.loads(pickle.dumps(first)).fingerprint()
    assert first.fingerprint() != make({}, corners="zero_based").fingerprint()
    sets = {"train": "a\n"}
    train = make({}, split="train", sets=sets).fingerprint()
    assert make({"b": file(thing("dog", 1, 1, 6, 6))}).fingerprint() != first.fingerprint()
    assert make({}, split="train").fingerprint() == train  # b is not in it
    assert (
        make({"b": file(thing("ant", 1, 1, 6, 6))}, split="train").fingerprint() != train
    )  # dog is label 1 now


def test_progress(make):
    source = make({"a": file(thing("dog", 1, 1, 5, 5)), "b": file()})
    told = []
    source.on_progress = lambda done, total: told.append((done, total))
    len(source)
    assert told == [(1, 2), (2, 2)]


# -- writing --------------------

NAMES = [
    "b.jpg",
    "b.png",  # the same stem
    "b.jpg",  # twice the same
    "sub/ü 1.jpg",
    "sub/ü.jpg",
    "./b.jpg",
    "a//b.jpg",
    "x\ny.jpg",
    "a" * 300 + ".jpg",  # longer than file names can be
    "b.xml/q.jpg",  # b.xml is a file
    "image1.jpg",
    " lead.jpg",
    "\udcff.jpg",
    "v1.0/img",
    "train 1.jpg",
    "dir/",
    ".",
    "<&>\"'.jpg",
]


CLASSES = {3: "car", 90: " odd <&> \x01\n", 7: "\ud800", -5: "\ufffd", 1 << 40: "]]>"}


def test_there_and_back(tmp_path, odd_table):
    for seed in range(20):
        table = odd_table(seed, NAMES, CLASSES, texts=seed % 2 == 1)
        faults = Faults()
        VOCSource.write(table, tmp_path / str(seed) / "voc", split="a b", faults=faults)
        found = VOCSource.recognise(tmp_path / str(seed) / "voc", "a b")
        assert found == VOCSource.recognise(tmp_path / str(seed) / "voc")
        assert equal_tables(VOCSource(**found).table, table) == []
        assert faults.counts["name"] == 10
        assert [path.name for path in (tmp_path / str(seed)).iterdir()] == ["voc"]


def test_written_files_are_plain_voc(tmp_path):
    builder = TableBuilder("memory")
    builder.add_class(8, "a <b>")
    builder.add_image(5, "deep/ü.jpg", 20, 10)
    builder.add_box(5, 8, [0.2, 0.6, 19.6, 3], crowd=True)
    VOCSource.write(builder.finish(), tmp_path / "x", split="val")
    text = (tmp_path / "x" / "Annotations" / "deep" / "ü.xml").read_text(encoding="utf-8")
    # 0.2 + 1 -> 1; 0.6 + 1 -> 2; 0.2 + 19.6 -> 20; 3.6 -> 4
    assert "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>4</ymax></bndbox>" in text
    assert "<name>a &lt;b&gt;</name>" in text
    assert "<filename>deep/ü.jpg</filename>" in text
    assert "<difficult>1</difficult>" in text
    assert (tmp_path / "x" / "ImageSets" / "Main" / "val.txt").read_text(encoding="utf-8") == "deep/ü\n"
    assert list((tmp_path / "x" / "JPEGImages").iterdir()) == []


def edited(tmp_path, *changes):
    builder = TableBuilder("memory")
    for category_id, name in ((8, "dog"), (4, "cat")):
        builder.add_class(category_id, name)
    builder.add_image(5, "a.jpg", 20, 10)
    builder.add_box(5, 8, [0.2, 0.6, 12.6, 3], crowd=True, area=7, id=66)
    VOCSource.write(builder.finish(), tmp_path / "x")
    path = tmp_path / "x" / "Annotations" / "a.xml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return VOCSource(root=str(tmp_path / "x"), split="train").table


def test_what_a_labelling_tool_changed_holds(tmp_path):
    table = edited(
        tmp_path,
        ("<xmax>13</xmax>", "<xmax>15</xmax>"),
        ("<difficult>1<", "<difficult>0<"),
        ("<name>dog<", "<name>cat<"),
    )
    # pixels 1..15 and 2..4
    assert table.xywh.tolist() == [[0, 1, 15, 3]]
    assert table.areas.tolist() == [45]
    assert table.flags.tolist() == [0]
    assert (table.labels.tolist(), table.classes, table.ids.tolist()) == ([0], ("cat", "dog"), [66])


def test_what_a_labelling_tool_only_wrote_anew_is_exact(tmp_path):
    table = edited(
        tmp_path, ("<xmax>13</xmax>", "\n<xmax> 13.0 </xmax>"), ("<filename>a.jpg<", "<filename>b.jpg<")
    )
    assert table.xywh.tolist() == [[0.2, 0.6, 12.6, 3]]
    assert (table.areas.tolist(), table.flags.tolist()) == ([7], [1])
    assert table.name(0) == "b.jpg"


def test_nonsense_in_our_own_element(tmp_path):
    huge = "9" * 5000
    for old, new in [
        ('id="66"', f'id="{huge}"'),
        ('id="66"', 'id="1e3"'),
        ('bbox="[0.2', f'bbox="[{huge}'),
        ('bbox="[0.2', 'bbox="' + "[" * 100_000 + "0.2"),
        ('area="7.0"', 'area="true"'),
        ('category_id="8"', 'category_id="99"'),
        ('image_id="5"', 'image_id="[5]"'),
    ]:
        (tmp_path / "n").mkdir()
        assert edited(tmp_path / "n", (old, new)).labels.tolist() == [1]
        (tmp_path / "n").rename(tmp_path / str(random.random()))


def test_categories_file(tmp_path):
    edited(tmp_path)
    for text in ("{", "[]", "[1]", '[{"id": "a", "name": "b"}]', "[" * 100_000, '{"id": 3}'):
        (tmp_path / "x" / "categories.json").write_text(text)
        with pytest.raises(DataError, match=r"categories\.json is not a list of"):
            len(VOCSource(root=str(tmp_path / "x")))


def test_writing_is_all_or_nothing(tmp_path, odd_table):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").write_text("")
    with pytest.raises(DataError, match="there already and not empty"):
        VOCSource.write(odd_table(0, NAMES, CLASSES), tmp_path / "x")
    for split in ("../x", "a/b", "", "\0"):
        with pytest.raises(DataError, match="a split cannot be called"):
            VOCSource.write(odd_table(0, NAMES, CLASSES), tmp_path / "y", split=split)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# -- recognising --------------------


def test_recognise(make, tmp_path):
    make({"a": file(thing("dog", 1, 1, 5, 5))}, sets={"train": "a\n", "val": "a\n"})
    (tmp_path / "Annotations" / "A.xml").symlink_to("nowhere")
    base = {"annotations": str(tmp_path / "Annotations"), "images": str(tmp_path / "JPEGImages")}
    assert VOCSource.recognise(tmp_path) == {**base, "split": None}
    assert VOCSource.recognise(tmp_path, "val") == {**base, "split": "val"}
    assert VOCSource.recognise(tmp_path / "Annotations", "val") == {**base, "split": "val"}
    with pytest.raises(
        DataError, match=r"test.txt' does not exist: correct 'split' \(there are train, val\)"
    ):
        VOCSource.recognise(tmp_path, "test")
    assert VOCSource.recognise(tmp_path / "JPEGImages") is None
    assert VOCSource.recognise(tmp_path / "Annotations" / "a.xml") is None
    flat = tmp_path / "flat"
    for name in ("train", "val"):
        (flat / name).mkdir(parents=True)
        (flat / name / "a.xml").write_text(file())
    here = str(flat / "train")
    assert (
        VOCSource.recognise(flat, "train")
        == VOCSource.recognise(flat / "train", "train")
        == {"annotations": here, "images": here}
    )
    assert VOCSource.recognise(flat) is None
    assert VOCSource.recognise(flat, "test") is None
    (flat / "val" / "a.xml").write_text("<svg/>")
    with pytest.raises(DataError, match=r"a.xml is no Pascal VOC file: its outermost element is <svg>"):
        VOCSource.recognise(flat, "val")


@pytest.mark.skipif(not BAD.is_dir(), reason="no ../shared/data")
def test_real_bad_files():
    source = VOCSource(annotations=str(BAD), images=str(BAD))
    assert source.classes == ("RBC", "WBC", "crazing", "kangaroo")
    assert np.diff(source.table.offsets).tolist() == [14, 3, 2, 1]
    assert source.invalid() == [
        f"{BAD}/BloodImage_00338.xml: object 13 (RBC) is the single pixel 504, 337: a slip of the "
        f"mouse? It counts as an object"
    ]
    source = VOCSource(annotations=str(BAD), images=str(BAD), corners="zero_based")
    assert len(source.table.labels) == 19
    assert (
        "annotation number 13 of image 1 (BloodImage_00338.jpg): box [504, 337, 0, 0]" in source.invalid()[0]
    )
    # the size that disagrees with its image is met when the image is opened
    assert source.table.sizes[3].tolist() == [200, 200]
    assert source.table.name(3) == "neu_crazing_1_416_but_xml_says_200.jpg"
