import gc
import json
import os
import pickle
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.annotations.builder import TableBuilder
from densedet.core.annotations.views import Subset
from densedet.core.data import image_cache
from densedet.core.data.dataset import DetectionDataset
from densedet.core.data.decoding import Decoding
from densedet.core.data.image_cache import GENERATED, ImageCache, cache_root, fitting_cache, identity_of
from densedet.core.errors import DataError
from densedet.plugins.resize.exact import ExactResize
from densedet.plugins.resize.short_side import ShortSideResize
from densedet.plugins.sources.flatbuffers_db import FlatBuffersSource

COUNT = 5


def write(folder, extra=0):
    builder = TableBuilder("memory")
    builder.add_class(1, "thing")
    for index in range(COUNT):
        builder.add_image(index, f"{index}.png", 40 + index, 20)
    for box in range(1 + extra):
        builder.add_box(0, 1, (box, 0, 5, 5))
    FlatBuffersSource.write(builder.finish(), folder / "x.db", overwrite=True)
    return FlatBuffersSource(annotations="x.db", images=".", root=str(folder))


GREY = Decoding("grey")


@pytest.fixture
def source(tmp_path):
    for index in range(COUNT):
        Image.fromarray(np.full((20, 40 + index), 10 * index, np.uint8)).save(tmp_path / f"{index}.png")
    return write(tmp_path)


def made(source, folder, resize=None, decoding=GREY):
    return ImageCache(
        source, resize=resize or ExactResize(size_wh=(16, 8)), decoding=decoding, folder=str(folder)
    )


def dataset(source, cache, resize=None):
    return DetectionDataset(
        source,
        resize=resize or ExactResize(size_wh=(16, 8)),
        decoding=Decoding("grey"),
        classes=("thing",),
        cache=cache,
    )


def test_an_image_is_decoded_once(source, tmp_path, monkeypatch):
    cache = made(source, tmp_path / "cache")
    assert cache.bytes == COUNT * 16 * 8
    first = [dataset(source, cache)[i].image for i in range(COUNT)]
    monkeypatch.setattr("densedet.core.data.dataset.decode", None)  # decoding again would fail
    other = made(source, tmp_path / "cache")
    assert other.folder == cache.folder
    for index, image in enumerate(first):
        again = dataset(source, other)[index].image
        assert torch.equal(again, image)
        again.zero_()  # a copy: the cache is not touched
        assert torch.equal(dataset(source, other)[index].image, image)
    assert first[3][0, 0, 0] == 30


def test_boxes_are_made_once_while_the_image_stays_the_same(source, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        FlatBuffersSource,
        "annotation",
        lambda self, index: asked.append(index) or self.table.annotation(index),
    )
    data = dataset(source, made(source, tmp_path / "cache"))
    asked.clear()  # the plan of the cache compares some with the source's sizes
    first, again = data[0, 0], data[1, 0]
    assert asked == [0]
    assert torch.equal(again.image, first.image)
    # 5x5 pixels at the corner of an image of 40x20 that becomes 16x8: 5 * 0.4 = 2
    assert again.boxes.tolist() == [[0.0, 0.0, 2.0, 2.0]]
    assert (again.index, again.source_wh, again.to_source) == (0, (40, 20), (2.5, 2.5, 0.0, 0.0))
    Image.fromarray(np.full((20, 40), 99, np.uint8)).save(tmp_path / "0.png")
    os.utime(tmp_path / "0.png", ns=(5, 5))
    assert int(data[2, 0].image.max()) == 99
    assert asked == [0, 0]


def test_a_view_of_the_source_shares_it(source, tmp_path, monkeypatch):
    cache = made(source, tmp_path / "cache")
    image = dataset(source, cache)[3].image
    view = Subset(Subset(source, [4, 3, 1]), [2, 1])
    monkeypatch.setattr("densedet.core.data.dataset.decode", None)
    shared = made(view, tmp_path / "cache")
    assert shared.folder == cache.folder
    assert torch.equal(dataset(view, shared)[1].image, image)  # 1 -> 1 of the inner view -> 3


def test_what_changes_the_pixels_is_kept_apart(source, tmp_path):
    one = made(source, tmp_path / "cache")
    others = [
        made(source, tmp_path / "cache", resize=ExactResize(size_wh=(16, 9))),
        made(source, tmp_path / "cache", decoding=Decoding("rgb")),
    ]
    others.append(made(source, tmp_path / "cache", resize=ExactResize(size_wh=(16, 8), antialias=False)))
    others.append(made(source, tmp_path / "cache", decoding=Decoding("grey", value_range=(0, 4095))))
    assert len({one.folder, *(o.folder for o in others)}) == 5
    assert others[1].bytes == 3 * one.bytes
    assert others[2].bytes == 4 * one.bytes  # float32


def test_sizes_of_their_own(source, tmp_path):
    resize = ShortSideResize(short=10, max=100)  # 20..24 x 10
    cache = made(source, tmp_path / "cache", resize=resize)
    data = dataset(source, cache, resize)
    assert cache.bytes == sum(10 * w for w in (20, 20, 21, 21, 22))
    first = [data[i].image for i in range(COUNT)]
    assert [image.shape[2] for image in first] == [20, 20, 21, 21, 22]
    assert all(torch.equal(data[i].image, image) for i, image in enumerate(first))


def test_a_changed_image_is_decoded_anew(source, tmp_path):
    data = dataset(source, made(source, tmp_path / "cache"))
    assert data[2].image[0, 0, 0] == 20
    Image.fromarray(np.full((20, 42), 77, np.uint8)).save(tmp_path / "2.png")
    os.utime(tmp_path / "2.png", ns=(1, 1))
    assert data[2].image[0, 0, 0] == 77
    assert data[2].image[0, 0, 0] == 77


def test_two_databases_of_one_folder_of_images_keep_their_caches(source, tmp_path):
    one = made(source, tmp_path / "cache")
    dataset(source, one)[0]
    write(tmp_path, extra=1)
    (tmp_path / "x.db").rename(tmp_path / "z.db")
    other = FlatBuffersSource(annotations="z.db", images=".", root=str(tmp_path))
    two = made(other, tmp_path / "cache")
    dataset(other, two)[0]
    assert sorted(tmp_path.joinpath("cache").iterdir()) == sorted([one.folder, two.folder])


def test_a_changed_source_throws_its_old_cache_away(source, tmp_path):
    old = made(source, tmp_path / "cache")
    dataset(source, old)[0]
    unrelated = tmp_path / "cache" / "unrelated"
    unrelated.mkdir()
    (unrelated / "about.json").write_text(json.dumps({"location": "elsewhere", "fingerprint": "x"}))
    changed = write(tmp_path, extra=1)
    new = made(changed, tmp_path / "cache")
    dataset(changed, new)[0]
    assert new.folder != old.folder
    del old
    dataset(changed, made(changed, tmp_path / "cache"))[0]
    assert sorted(tmp_path.joinpath("cache").iterdir()) == sorted([new.folder, unrelated])


@pytest.mark.parametrize("name", ["pixels.bin", "entries.bin"])
def test_damage_is_noticed(source, tmp_path, name):
    cache = made(source, tmp_path / "cache")
    image = dataset(source, cache)[4].image
    file = cache.folder / name
    content = bytearray(file.read_bytes())
    content[-9] ^= 1  # of the last image: its pixels, or who it was made from, or its checksum
    file.write_bytes(content)
    again = dataset(source, made(source, tmp_path / "cache"))
    assert torch.equal(again[4].image, image)


def test_a_file_that_was_cut_off(source, tmp_path):
    cache = made(source, tmp_path / "cache")
    assert cache.missing() == 1.0
    assert not cache.folder.exists()
    data = dataset(source, cache)
    images = [data[index].image for index in range(COUNT)]
    assert cache.missing() == 0.0
    assert made(source, tmp_path / "cache").missing() == 0.0
    assert torch.equal(data[4].image, images[4])  # its checksum was right
    os.truncate(cache.folder / "pixels.bin", cache.bytes - 1)
    assert cache.get(4) is None
    assert torch.equal(data[4].image, images[4])


def test_two_at_once(source, tmp_path):
    """Both fill the same files in different order; each sees right pixels all the time."""
    expected = [dataset(source, None)[i].image for i in range(COUNT)]
    wrong = []

    def work(order):
        data = dataset(source, made(source, tmp_path / "cache"))
        for _ in range(20):
            wrong.extend(i for i in order if not torch.equal(data[i].image, expected[i]))

    threads = [
        threading.Thread(target=work, args=(order,)) for order in (range(COUNT), range(COUNT - 1, -1, -1))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_pickling_opens_it_anew(source, tmp_path):
    cache = made(source, tmp_path / "cache")
    image = dataset(source, cache)[1].image
    assert torch.equal(pickle.loads(pickle.dumps(cache)).get(1), image)


def test_too_small_a_disk_is_said_beforehand(source, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1 << 28})
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        DataError, match="needs 0 MB in .* free: set data.cache_folder to another disk, or data.cache_gb to 0"
    ):
        fitting_cache(
            source,
            resize=ExactResize(size_wh=(16, 8)),
            decoding=Decoding("grey"),
            limit_gb=1,
            folder=str(tmp_path / "cache"),
        )
    assert not (tmp_path / "cache").exists()


def test_the_limit_and_what_is_said(source, tmp_path):
    arguments = {
        "resize": ExactResize(size_wh=(16, 8)),
        "decoding": Decoding("grey"),
        "folder": str(tmp_path / "cache"),
    }
    assert fitting_cache(source, limit_gb=0, **arguments) == (None, "")
    cache, note = fitting_cache(source, limit_gb=1e-9, **arguments)
    assert cache is None
    assert "more than data.cache_gb (1e-09)" in note
    assert not (tmp_path / "cache").exists()
    cache, note = fitting_cache(source, limit_gb=1, **arguments)
    assert f"for 5 decoded images in {cache.folder}" in note
    assert not cache.folder.exists(), "planning a cache writes nothing"
    dataset(source, cache)[0]
    assert "from before" in fitting_cache(source, limit_gb=1, **arguments)[1]


def test_where_it_lies(monkeypatch, tmp_path):
    assert cache_root(str(tmp_path)) == tmp_path
    monkeypatch.setenv("DENSEDET_CACHE", str(tmp_path / "a"))
    assert cache_root() == tmp_path / "a"


def test_identity(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"1")
    os.utime(file, ns=(5, 5))
    first = identity_of(file)
    assert first == identity_of(str(file)) > 1
    os.utime(file, ns=(5, 6))
    assert identity_of(file) != first
    assert identity_of(np.zeros(3)) == identity_of(b"") == identity_of(tmp_path / "none") == GENERATED


def test_a_cache_that_somebody_uses_is_not_deleted(source, tmp_path):
    """The annotations change while a run goes on: its cache stays until it has ended."""
    old = made(source, tmp_path / "cache")
    running = dataset(source, old)
    image = running[0].image
    changed = write(tmp_path, extra=1)
    new = made(changed, tmp_path / "cache")
    dataset(changed, new)[0]
    assert old.folder.is_dir()
    assert torch.equal(running[0].image, image)
    assert torch.equal(pickle.loads(pickle.dumps(old)).get(0), image)  # a worker opens it later
    assert new.folder.is_dir()
    del running, old
    gc.collect()
    dataset(changed, made(changed, tmp_path / "cache"))[0]
    assert sorted(tmp_path.joinpath("cache").iterdir()) == [new.folder]
    assert len(list(new.folder.glob("*.lock"))) == 1


def test_a_forked_worker_does_not_release_its_parents_lock(source, tmp_path):
    cache = made(source, tmp_path / "cache")
    dataset(source, cache)[0]
    child = os.fork()
    if not child:
        cache.get(0)
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert image_cache._in_use(cache.folder)


def test_a_cache_that_vanishes_while_it_is_opened_is_made_anew(source, tmp_path, monkeypatch):
    cache = made(source, tmp_path / "cache")
    opened = image_cache._Files

    def vanishing(*arguments):
        shutil.rmtree(cache.folder)
        monkeypatch.undo()
        return opened(*arguments)

    monkeypatch.setattr(image_cache, "_Files", vanishing)
    assert dataset(source, cache)[1].image.shape


@pytest.mark.parametrize("how", ["written over", "renamed over", "copied with its times"])
def test_another_image_of_the_same_size_and_time_is_another(tmp_path, how):
    file, other = tmp_path / "a.png", tmp_path / "b.png"
    for path, content in ((file, b"old"), (other, b"new")):
        path.write_bytes(content)
        os.utime(path, ns=(5, 5))
    before = identity_of(file)
    time.sleep(0.02)  # more than the clock of a file system
    if how == "renamed over":
        other.rename(file)
    elif how == "written over":
        file.write_bytes(b"new")
        os.utime(file, ns=(5, 5))
    else:
        shutil.copy2(other, file)
    state = file.stat()
    assert (state.st_size, state.st_mtime_ns, file.read_bytes()) == (3, 5, b"new")
    assert identity_of(file) != before
