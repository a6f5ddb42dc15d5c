import itertools

import numpy as np
import pytest

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.filter_rules import FilterSection
from densedet.core.annotations.filters import filtered
from densedet.core.annotations.where import WhereError, where_masks
from densedet.core.errors import DataError
from densedet.plugins.resize.exact import ExactResize
from densedet.plugins.sources.coco import CocoSource
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource
from densedet.plugins.sources.sqlite import SQLiteSource

KINDS = {"x.db": FlatBuffersSource, "x.sqlite": SQLiteSource, "x.json": CocoSource}


def made(folder, file):
    """Image 0: person 20 x 30, car 8 x 40, crowd of persons. 1: no boxes. 2: dog 100 x 100. 3: car 50 x 4."""
    builder = TableBuilder("memory")
    for category_id, name in ((1, "person"), (3, "car"), (18, "dog")):
        builder.add_class(category_id, name)
    for index, width in enumerate((640, 640, 400, 400)):
        builder.add_image(10 + index, f"{index}.jpg", width, 320)
    builder.add_box(10, 1, (0, 0, 20, 30))
    builder.add_box(10, 3, (9, 9, 8, 40))
    builder.add_box(10, 1, (0, 0, 200, 99), crowd=True)
    builder.add_box(12, 18, (5, 5, 100, 100))
    builder.add_box(13, 3, (0, 0, 50, 4))
    KINDS[file].write(builder.finish(), folder / file)
    return KINDS[file](annotations=file, images=".", root=str(folder))


@pytest.fixture(params=KINDS)
def source(request, tmp_path):
    return made(tmp_path, request.param)


def left(source, classes=None, **rules):
    """[(image id, labels that count, labels that are ignored), ...]."""
    chosen = filtered(source, FilterSection(**rules), classes=classes, resize=ExactResize(size_wh=(128, 64)))
    rows = []
    for index in range(len(chosen)):
        truth = chosen.annotation(index)
        assert len(truth.boxes) == len(truth.labels) == len(truth.area) == len(truth.xywh) == len(truth.crowd)
        rows.append(
            (truth.image_id, truth.labels[~truth.ignore].tolist(), truth.labels[truth.ignore].tolist())
        )
    return rows


ALL = [(10, [0, 1], [0]), (11, [], []), (12, [2], []), (13, [1], [])]


def test_nothing_to_do(source):
    assert (
        filtered(source, FilterSection(), classes=("car",), resize=ExactResize(size_wh=(128, 64))) is source
    )
    assert left(source) == ALL


def test_crowds(source):
    assert left(source, crowd="drop")[0] == (10, [0, 1], [])
    assert left(source, crowd="count")[0] == (10, [0, 1, 0], [])


def test_sizes(source):
    assert left(source, min_side=8) == [*ALL[:3], (13, [], [1])]  # 4 < 8; 8 is not below 8
    assert left(source, min_side=8.5, rest="drop")[0] == (10, [0], [0])
    # 128 x 64 from 640 x 320: a fifth, 20 x 30 -> 4 x 6, 8 x 40 -> 1.6 x 8; from 400 x 320: 50 x 4 -> 16 x
    # 0.8
    assert left(source, min_input_side=2) == [(10, [0], [1, 0]), (11, [], []), (12, [2], []), (13, [], [1])]


def test_small_crowds(source):
    """A crowd that the filter drops is dropped whatever its size is."""
    assert left(source, crowd="drop", min_side=300)[0] == (10, [], [0, 1])  # the crowd of 200 x 99 is gone
    assert left(source, crowd="count", min_side=99)[0] == (10, [0], [0, 1])  # 99 is not below 99
    assert left(source, crowd="count", min_side=100)[0] == (10, [], [0, 1, 0])


RULES = {
    "where": (None, "w > 9", "width > 500"),
    "crowd": ("ignore", "drop", "count"),
    "min_side": (0, 30, 100),
    "min_input_side": (0, 7),
    "rest": ("ignore", "drop"),
    "empty": ("keep", "drop"),
    "classes": (None, ("person",)),
}
# (image id, its width, its scale to 128 x 64, [(label, w, h, crowd), ...]) of the fixture
IMAGES = [
    (10, 640, (0.2, 0.2), [(0, 20, 30, 0), (1, 8, 40, 0), (0, 200, 99, 1)]),
    (11, 640, (0.2, 0.2), []),
    (12, 400, (0.32, 0.2), [(2, 100, 100, 0)]),
    (13, 400, (0.32, 0.2), [(1, 50, 4, 0)]),
]


def defined(rules):
    """The documentation's rules, box by box."""
    rows = []
    for image_id, width, (across, down), boxes in IMAGES:
        meant = [w > 9 if rules["where"] == "w > 9" else True for _, w, _, _ in boxes]
        if (rules["where"] == "w > 9" and not any(meant)) or (
            rules["where"] == "width > 500" and width < 500
        ):
            continue
        counting, ignored, of_class = [], [], False
        for (label, w, h, crowd), is_meant in zip(boxes, meant):
            small = min(w, h) < rules["min_side"] or min(w * across, h * down) < rules["min_input_side"]
            other = rules["classes"] is not None and label != 0
            if crowd and rules["crowd"] == "drop":
                continue
            if rules["rest"] == "drop" and (small or other or not is_meant):
                continue
            if small or not is_meant or (crowd and rules["crowd"] == "ignore"):
                ignored.append(label)
            else:
                counting.append(label)  # of another class: the data set ignores it by its label
                of_class = of_class or not other
        if rules["empty"] == "keep" or of_class:
            rows.append((image_id, counting, ignored))
    return rows


def test_all_combinations(tmp_path):
    source = made(tmp_path, "x.db")
    for values in itertools.product(*RULES.values()):
        rules = dict(zip(RULES, values))
        wanted = defined(rules)
        if wanted:
            assert left(source, **rules) == wanted, rules
        else:
            with pytest.raises(DataError, match="no image of 4 is left"):
                left(source, **rules)


def test_empty_images(source):
    assert [row[0] for row in left(source, empty="drop")] == [10, 12, 13]
    assert [row[0] for row in left(source, empty="drop", min_side=8)] == [10, 12]
    assert [row[0] for row in left(source, classes=("dog",), empty="drop")] == [12]
    assert [row[0] for row in left(source, classes=("person",), empty="drop")] == [10]


def test_other_classes_are_dropped_or_left_to_be_ignored(source):
    assert left(source, classes=("person",), rest="drop") == [
        (10, [0], [0]),
        (11, [], []),
        (12, [], []),
        (13, [], []),
    ]
    assert left(source, classes=("person",)) == ALL  # the data set ignores labels that its class table lacks


@pytest.mark.parametrize(
    ("where", "images", "boxes"),
    [
        ("width > 500 and class in ('person', 'car')", [0], [0, 1, 2]),
        ("width > 500", [0, 1], [0, 1, 2]),
        ("class = 'car'", [0, 3], [1, 4]),
        ("class is null", [1], []),
        ("class is null or class = 'dog'", [1, 2], [3]),
        ("not crowd and area >= 600", [0, 2], [0, 3]),
        ("file_name like '%3.jpg'", [3], [4]),
        ("image_id = 12 and category_id = 18", [2], [3]),
        ("w > 2 * h -- wide ones", [0, 3], [2, 4]),
        ("(select count(*) from boxes as b where b.image_row = images.image) = 3", [0], [0, 1, 2]),
        ("0", [], []),
        ("1", [0, 1, 2, 3], [0, 1, 2, 3, 4]),
        ("label = 1", [0, 3], [1, 4]),
        ("boxes.label = 1", [0, 3], [1, 4]),
        ("label is null", [1], []),
        ("w is null", [1], []),
        ("coalesce(w, 640) = width", [1], []),
        ("class is null and width > 500", [1], []),
        ("(select count(*) from boxes) = 5 and crowd is not 1", [0, 1, 2, 3], [0, 1, 3, 4]),
        (
            "exists (select 1 from images as other where other.image = images.image + 1)",
            [0, 1, 2],
            [0, 1, 2, 3],
        ),
    ],
)
def test_where(source, where, images, boxes):
    for _ in range(2):  # a connection that knows the statements already says the same
        found = where_masks(source, where)
        assert np.flatnonzero(found[0]).tolist() == images
        assert np.flatnonzero(found[1]).tolist() == boxes


def test_where_as_a_filter(source):
    assert left(source, where="class = 'car'") == [(10, [1], [0, 0]), (13, [1], [])]
    assert left(source, where="class = 'car'", rest="drop") == [(10, [1], []), (13, [1], [])]
    with pytest.raises(DataError, match="no image of 4 is left by data.filter .where: width > 9999"):
        left(source, where="width > 9999")
    with pytest.raises(WhereError, match=r"has no column 'widht'\. Did you mean 'width'\?"):
        left(source, where="widht > 3")


def test_limit_and_fraction(source):
    assert len(left(source, limit=3)) == 3
    assert len(left(source, limit=9)) == 4
    assert len(left(source, fraction=0.5)) == 2
    assert len(left(source, fraction=0.01)) == 1
    chosen = {tuple(row[0] for row in left(source, limit=2, seed=seed)) for seed in range(20)}
    assert len(chosen) > 2
    assert all(list(ids) == sorted(ids) for ids in chosen)
    assert left(source, limit=2, seed=3) == left(source, limit=2, seed=3)
    assert {row[0] for row in left(source, empty="drop", limit=3)} == {10, 12, 13}


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("class = 'carr'", "no class is called 'carr'. Did you mean 'car'? There are: person, car, dog"),
        ("class in ('car', 'persn')", "no class is called 'persn'. Did you mean 'person'?"),
        ("width > 1 and 'Car' = classes.class", "no class is called 'Car'. Did you mean 'car'?"),
        ('class = "carr"', "no class is called 'carr'"),
        ("class != 'cat'", "no class is called 'cat'"),
        ("class not like 'x%'", "no class is called 'x%'"),
        ("class = 3", "no class is called 3. Names are texts in quotes"),
        ("boxes.label = 3", "no class has the label 3. There are: 0, 1, 2"),
        ("category_id in (1, 2)", "no class has the category id 2. There are: 1, 3, 18"),
    ],
)
def test_where_with_an_unknown_class(source, where, sentence):
    with pytest.raises(WhereError) as caught:
        left(source, where=where)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "class = 'CAR' collate nocase",
        "class like 'CA_'",
        "lower(class) = 'car'",
        "class || 's' = 'cars'",
        "'x' || class = 'xcar'",
        "class = 'c' || 'ar'",
        "class = 'car' -- class = 'carr'",
        "class = 'car' and file_name != 'class = ''carr'''",
        "label = '1'",
    ],
)
def test_where_whose_texts_are_no_unknown_classes(source, where):
    assert np.flatnonzero(where_masks(source, where)[1]).tolist() == [1, 4]
