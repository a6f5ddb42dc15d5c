import pickle

import numpy as np
import pytest
import torch

from densedet.core.boxes import pairwise_intersection
from densedet.core.contracts import Source
from densedet.core.data.decoding import Decoding
from densedet.core.data.image_cache import fitting_cache
from densedet.core.errors import PartError
from densedet.plugins.resize.exact import ExactResize
from densedet.plugins.sources._digit_scenes import INK, OVERLAP
from densedet.plugins.sources.digits import FILE, DigitsSource


def test_is_a_source():
    source = DigitsSource(count=3)
    assert isinstance(source, Source)
    assert len(source) == 3
    assert source.classes[7] == "7"
    assert source.category_ids[7] == 7
    assert source.invalid() == []


def test_sizes_are_known_without_drawing(tmp_path, monkeypatch):
    """Only the three scenes that the sizes are compared with are laid out, not all hundred."""
    source = DigitsSource(count=100, size=(40, 30))
    laid_out, stamps = [], DigitsSource.stamps
    monkeypatch.setattr(
        DigitsSource, "stamps", lambda self, index: laid_out.append(index) or stamps(self, index)
    )
    assert source.sizes.tolist() == [[40, 30]] * 100
    assert laid_out == []
    cache, _ = fitting_cache(
        source,
        resize=ExactResize(size_wh=(20, 15)),
        decoding=Decoding("grey"),
        limit_gb=1,
        folder=str(tmp_path),
    )
    assert cache is not None
    assert cache.bytes == 100 * 20 * 15
    assert len(laid_out) <= 3


def test_a_scene_depends_on_seed_split_and_index_only():
    first, second = DigitsSource(count=5), DigitsSource(count=50)
    for index in (4, 0, 4):
        assert np.array_equal(first.image(index), second.image(index))
        assert torch.equal(first.annotation(index).boxes, second.annotation(index).boxes)
    assert not np.array_equal(first.image(0), first.image(1))
    assert not np.array_equal(first.image(0), DigitsSource(seed=1).image(0))
    assert not np.array_equal(first.image(0), DigitsSource(split="val").image(0))
    copy = pickle.loads(pickle.dumps(first))
    assert np.array_equal(copy.image(2), first.image(2))


def test_glyphs_are_the_1797_digits_and_the_splits_share_none():
    with np.load(FILE) as file:
        images, labels = file["images"], file["labels"]
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.uint8
    assert images.max() == 16
    assert np.bincount(labels).min() >= 174
    train, val = DigitsSource(split="train")._glyphs, DigitsSource(split="val")._glyphs
    assert (len(train[0]), len(val[0])) == (1438, 359)  # 1797 // 5
    assert np.bincount(val[1], minlength=10).min() >= 20
    for glyphs in (train, val):
        found = {image.tobytes(): label for image, label in zip(images, labels)}
        assert all(found[glyph.tobytes()] == label for glyph, label in zip(*glyphs))
    assert not {glyph.tobytes() for glyph in train[0]} & {glyph.tobytes() for glyph in val[0]}


def test_boxes_are_tight_inside_and_hardly_overlap():
    source = DigitsSource(count=40, max_objects=6)
    counts = set()
    for index in range(40):
        stamps, truth = source.stamps(index), source.annotation(index)
        counts.add(len(stamps))
        assert truth.boxes.shape == (len(stamps), 4)
        assert truth.labels.tolist() == [stamp.label for stamp in stamps]
        for stamp, box in zip(stamps, truth.boxes.tolist()):
            x1, y1, x2, y2 = box
            assert 0 <= x1 < x2 <= 128
            assert 0 <= y1 < y2 <= 64
            inked = stamp.alpha > INK
            assert inked[0].any() and inked[-1].any() and inked[:, 0].any() and inked[:, -1].any()
            assert 14 <= max(x2 - x1, y2 - y1) <= 33
        area = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(1)
        assert torch.equal(area, truth.area)
        shared = pairwise_intersection(truth.boxes, truth.boxes) / torch.minimum(area[:, None], area[None])
        assert (shared.fill_diagonal_(0) <= OVERLAP + 1e-6).all()
    assert counts == set(range(7))


@pytest.mark.parametrize(("ink", "signs"), [("light", {1}), ("dark", {-1}), ("both", {-1, 1})])
def test_digits_stand_out_from_the_paper(ink, signs):
    source = DigitsSource(count=40, min_objects=1, clutter=0.0, ink=ink)
    found = set()
    for index in range(40):
        image = source.image(index).astype(float)
        stamp = source.stamps(index)[-1]  # drawn last, so nothing is over it
        x1, y1, x2, y2 = stamp.box
        patch = image[y1:y2, x1:x2]
        difference = patch[stamp.alpha > 0.9].mean() - patch[stamp.alpha < 0.1].mean()
        assert abs(difference) > 35
        found.add(int(np.sign(difference)))
    assert found == signs


def test_min_objects_is_kept_even_where_it_is_tight():
    source = DigitsSource(count=3, size=(32, 32), min_objects=5, max_objects=5, min_side=20, max_side=30)
    assert [len(source.annotation(i).labels) for i in range(3)] == [5, 5, 5]


@pytest.mark.parametrize("size", [(128, 64), (40, 200)])
def test_size_and_color(size):
    grey, rgb = DigitsSource(size=size), DigitsSource(size=size, color="rgb")
    assert grey.image(0).shape == (size[1], size[0])
    assert rgb.image(0).shape == (size[1], size[0], 3)
    assert grey.image(0).dtype == rgb.image(0).dtype == np.uint8
    assert (grey.annotation(0).width, grey.annotation(0).height) == size


def test_no_objects_at_all():
    truth = DigitsSource(max_objects=0).annotation(0)
    assert truth.boxes.shape == (0, 4)
    assert truth.area.shape == (0,)


def test_fingerprint_follows_the_arguments():
    prints = {
        DigitsSource().fingerprint(),
        DigitsSource(seed=1).fingerprint(),
        DigitsSource(split="val").fingerprint(),
        DigitsSource(clutter=0.1).fingerprint(),
    }
    assert len(prints) == 4
    assert DigitsSource().fingerprint() in prints


def test_arguments_that_cannot_be():
    with pytest.raises(PartError, match="min_objects 3 is above max_objects 2"):
        DigitsSource(min_objects=3, max_objects=2)
    with pytest.raises(PartError, match=r"image's shorter side \(20\)"):
        DigitsSource(size=(200, 20))
    with pytest.raises(PartError, match="ascend"):
        DigitsSource(min_side=20, max_side=10)
    with pytest.raises(IndexError):
        DigitsSource(count=3).image(3)
