import pickle

import pytest
import torch

from densedet.core.annotations.builder import TableBuilder
from densedet.core.contracts import Source
from densedet.core.errors import DataError
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource


@pytest.fixture
def source(tmp_path):
    builder = TableBuilder("memory")
    builder.add_class(3, "car")
    builder.add_image(12, "a.jpg", 100, 50)
    builder.add_image(11, "b.jpg", 10, 10)
    builder.add_box(12, 3, (90, 40, 20, 5), area=60.5)
    builder.add_box(12, 3, (0, 0, 5, 5), crowd=True)
    (tmp_path / "images").mkdir()
    FlatBuffersSource.write(builder.finish(), tmp_path / "x.db", overwrite=True)
    return FlatBuffersSource(annotations="x.db", images="images", root=str(tmp_path))


def test_is_a_source(source, tmp_path):
    assert isinstance(source, Source)
    assert len(source) == 2
    assert (source.classes, source.category_ids) == (("car",), (3,))
    truth = source.annotation(0)
    assert truth.boxes.tolist() == [[90, 40, 100, 45], [0, 0, 5, 5]]  # cut at x = 100
    assert truth.xywh.tolist() == [[90, 40, 20, 5], [0, 0, 5, 5]]
    assert truth.area.tolist() == [60.5, 25]
    assert truth.labels.dtype == torch.int64
    assert truth.ignore.tolist() == truth.crowd.tolist() == [False, True]
    assert (truth.image_id, truth.file_name, truth.width, truth.height) == (12, "a.jpg", 100, 50)
    assert source.annotation(1).boxes.shape == (0, 4)
    assert source.image(1) == str(tmp_path / "images" / "b.jpg")


def test_tensors_are_copies(source):
    source.annotation(0).xywh.zero_()
    assert source.annotation(0).xywh[0, 0] == 90


def test_pickling_opens_the_file_anew(source):
    source.annotation(0)
    content = pickle.dumps(source)
    assert len(content) < 2000
    assert pickle.loads(content).annotation(0).boxes.tolist() == source.annotation(0).boxes.tolist()


def test_fingerprint(source, tmp_path):
    builder = TableBuilder("memory")
    builder.add_class(3, "car")
    before = source.fingerprint()
    FlatBuffersSource.write(builder.finish(), tmp_path / "x.db", overwrite=True)
    assert FlatBuffersSource(annotations="x.db", images="images", root=str(tmp_path)).fingerprint() != before


def test_recognised_by_its_mark(source, tmp_path):
    (tmp_path / "x.db").rename(tmp_path / "strange.name")
    found = FlatBuffersSource.recognise(tmp_path / "strange.name")
    assert found == {"annotations": str(tmp_path / "strange.name"), "images": str(tmp_path)}
    (tmp_path / "y.db").write_bytes(b"SQLite format 3")
    with pytest.raises(DataError, match="y.db does not begin as densedet's .db files do"):
        FlatBuffersSource.recognise(tmp_path / "y.db")
    (tmp_path / "y.db").rename(tmp_path / "y.sqlite")
    assert FlatBuffersSource.recognise(tmp_path / "y.sqlite") is None
    assert FlatBuffersSource.recognise(tmp_path) is None


def test_what_is_missing(tmp_path):
    with pytest.raises(DataError, match="there is no file .*x.db: correct 'annotations'"):
        FlatBuffersSource(annotations="x.db", images=".", root=str(tmp_path))
    (tmp_path / "x.db").write_bytes(b"nothing")
    with pytest.raises(DataError, match="there is no folder .*images: correct"):
        FlatBuffersSource(annotations="x.db", images="images", root=str(tmp_path))
    with pytest.raises(DataError, match="does not carry the mark"):
        len(FlatBuffersSource(annotations="x.db", images=".", root=str(tmp_path)))
