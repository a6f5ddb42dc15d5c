import os
import sys
from dataclasses import fields, replace

import pytest
import torch
from torchvision.transforms import v2

from densedet.core.data.dataset import DetectionDataset, Sample
from densedet.core.data.image_cache import ImageCache
from densedet.core.data.loader import EpochSampler, collate, eval_loader, train_loader
from densedet.core.errors import DataError, UsageError
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.resize.exact import ExactResize
from densedet.plugins.sources.digits import DigitsSource
from densedet.plugins.transforms.crop import BatchCrop
from densedet.plugins.transforms.flip import BatchFlip


def sample(width, height, count=0, *, canvas_wh=None, index=0, dtype=torch.uint8):
    boxes = torch.arange(count * 4, dtype=torch.float32).reshape(-1, 4)
    labels = torch.arange(count)
    image = torch.full((1, height, width), 9, dtype=dtype)
    size = (2 * width, 3 * height)
    return Sample(
        image,
        canvas_wh or (width, height),
        boxes,
        labels,
        labels == 1,
        index,
        f"i{index}",
        size,
        (2.0, 3.0, 0.0, 0.0),
    )


def digits(count=20, **arguments):
    arguments = {
        "resize": ExactResize(size_wh=(64, 32)),
        "color": "grey",
        "classes": tuple("0123456789"),
        **arguments,
    }
    return DetectionDataset(DigitsSource(count=count), **arguments)


def equal(first, second):
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if not (torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other):
            return False
    return True


def test_collate_pads_images_and_objects():
    batch = collate([sample(5, 3, 2, index=4), sample(2, 4, 0, canvas_wh=(3, 4), index=1)], pad_to=4)
    assert batch.images.shape == (2, 1, 4, 8)  # 5 x 4 rounded up to multiples of 4
    assert batch.images.dtype == torch.uint8
    assert batch.images[0, 0, :3, :5].unique().tolist() == [9]
    assert int(batch.images[0].sum()) == 9 * 15
    assert int(batch.images[1].sum()) == 9 * 8
    assert batch.valid_hw.tolist() == [[3, 5], [4, 2]]
    assert batch.boxes.tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]], [[0] * 4] * 2]
    assert batch.labels.tolist() == [[0, 1], [-1, -1]]
    assert batch.valid.tolist() == [[True, True], [False, False]]
    assert batch.ignore.tolist() == [[False, True], [False, False]]
    assert batch.indices.tolist() == [4, 1]
    assert batch.image_ids == ["i4", "i1"]
    assert batch.source_hw.tolist() == [[9, 10], [12, 4]]  # height, width
    assert batch.to_source.tolist() == [[2, 3, 0, 0]] * 2


def test_collate_without_any_object():
    batch = collate([sample(4, 4)])
    assert batch.boxes.shape == (1, 0, 4)
    assert batch.labels.shape == batch.valid.shape == batch.ignore.shape == (1, 0)


def test_collate_float_images():
    assert collate([sample(4, 4, dtype=torch.float32), sample(4, 4)]).images.dtype == torch.float32


def indices(sampler, epoch, start=0):
    return [key.indices for key in sampler.batches(epoch, start)]


def test_order_is_a_permutation_of_seed_and_epoch():
    sampler = EpochSampler(10, batch_size=3, seed=1)
    assert sampler.batches_per_epoch == 3
    first = indices(sampler, 0)
    assert [len(batch) for batch in first] == [3, 3, 3]
    assert len({i for batch in first for i in batch}) == 9
    assert first == indices(EpochSampler(10, batch_size=3, seed=1), 0)
    assert first != indices(sampler, 1)
    assert first != indices(EpochSampler(10, batch_size=3, seed=2), 0)


def test_order_resumes_within_an_epoch():
    sampler = EpochSampler(10, batch_size=3)
    assert indices(sampler, 4, 2) == indices(sampler, 4)[2:]
    assert [key.number for key in sampler.batches(4, 2)] == [2]
    assert indices(sampler, 4, 3) == []


def test_small_set_goes_round():
    sampler = EpochSampler(3, batch_size=8)
    assert sampler.batches_per_epoch == 1
    (batch,) = indices(sampler, 0)
    assert len(batch) == 8
    assert sorted(batch[:3]) == [0, 1, 2]
    assert batch[3:6] == batch[:3]


def test_processes_share_what_one_would_see():
    whole = indices(EpochSampler(14, batch_size=6), 2)
    parts = [indices(EpochSampler(14, batch_size=2, rank=rank, world=3), 2) for rank in range(3)]
    assert [len(part) for part in parts] == [len(whole)] * 3
    for step, batches in zip(whole, zip(*parts)):
        assert [len(batch) for batch in batches] == [2, 2, 2]
        assert sorted(i for batch in batches for i in batch) == sorted(step)


def test_sampler_refuses_nothing_to_do():
    with pytest.raises(DataError, match="no images"):
        EpochSampler(0, batch_size=2)
    with pytest.raises(UsageError, match="batch_size"):
        EpochSampler(10, batch_size=0, world=4)


def test_training_batches_repeat_and_resume():
    def loader():
        return train_loader(
            digits(), batch_size=6, seed=3, pad_to=16, batch_transforms=(BatchFlip(), BatchCrop())
        )

    first = [list(loader().batches(epoch)) for epoch in range(2)]
    assert loader().batches_per_epoch == len(first[0]) == 3
    assert first[0][0].images.shape == (6, 1, 32, 64)
    again = loader()
    assert equal(next(again.batches(1, 2)), first[1][2])
    assert equal(next(again.batches(0)), first[0][0])
    assert not equal(first[0][0], first[1][0])
    plain = train_loader(digits(), batch_size=6, seed=3, pad_to=16)
    assert not torch.equal(next(plain.batches(0)).images, first[0][0].images)


def test_evaluation_batches_are_in_order_and_the_last_is_short():
    loader = eval_loader(digits(7), batch_size=3)
    assert len(loader) == 3
    for _ in range(2):
        assert [batch.indices.tolist() for batch in loader] == [[0, 1, 2], [3, 4, 5], [6]]
    shares = [eval_loader(digits(7), batch_size=3, rank=rank, world=2) for rank in range(2)]
    assert [[batch.indices.tolist() for batch in share] for share in shares] == [
        [[0, 2, 4], [6]],
        [[1, 3, 5]],
    ]
    assert [batch.indices.tolist() for batch in eval_loader(digits(7), batch_size=3, limit=4)] == [
        [0, 1, 2],
        [3],
    ]
    assert list(eval_loader(digits(2), batch_size=3, rank=2, world=3)) == []


PLUGIN = """
import numpy as np, torch
import densedet
from densedet.core.types import Annotation

class Stripes:
    classes, category_ids = ("stripe",), (1,)
    def __init__(self, *, count: int = 9): self.count = count
    def __len__(self): return self.count
    def image(self, index): return np.full((32, 64), index * 20, np.uint8)
    def annotation(self, index):
        none = torch.zeros(1, dtype=torch.bool)
        box = torch.tensor([[0.0, 0, 8 + index, 32]])
        return Annotation(box, torch.zeros(1, dtype=torch.int64), none, none, torch.ones(1), index, str(index), 64, 32)
    def fingerprint(self): return "stripes"
    def invalid(self): return []

@densedet.hookimpl
def densedet_register(registry): registry.add("source", "stripes", Stripes)
"""  # noqa: E501


@pytest.mark.parametrize("context", ["spawn", "fork"])
def test_workers_give_the_same_batches(context, tmp_path):
    """One pair of processes for all: starting them is what takes time. The source comes from a plug-in
    file."""
    if context == "fork" and sys.platform != "linux":
        pytest.skip("no fork here")
    file = tmp_path / "my_source.py"
    file.write_text(PLUGIN)
    source = load_plugins([file]).components.get("source", "stripes").load()(count=9)
    cache = ImageCache(source, resize=ExactResize(size_wh=(64, 32)), color="grey", folder=str(tmp_path))
    cache.prepare()
    data = DetectionDataset(
        source,
        resize=ExactResize(size_wh=(64, 32)),
        color="grey",
        classes=("stripe",),
        transforms=(v2.RandomHorizontalFlip(), v2.ColorJitter(brightness=0.5)),
        seed=5,
        cache=cache,
        plugin_files=(str(file),),
    )
    arguments = {"batch_size": 2, "seed": 5, "batch_transforms": (BatchFlip(), BatchCrop())}
    alone = train_loader(data, **arguments)
    shared = train_loader(data, workers=2, context=context, **arguments)
    for epoch, start in ((0, 0), (1, 2)):
        ours, theirs = list(alone.batches(epoch, start)), list(shared.batches(epoch, start))
        assert len(ours) == len(theirs) == 4 - start
        assert all(equal(one, other) for one, other in zip(ours, theirs))
    abandoned = shared.batches(2)
    next(abandoned)
    assert equal(next(shared.batches(0)), next(alone.batches(0)))


class Signed(DigitsSource):
    """Its image ids are those of the process that read them."""

    def annotation(self, index):
        return replace(super().annotation(index), image_id=os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="no fork here")
def test_an_eval_loader_keeps_its_processes():
    data = DetectionDataset(
        Signed(count=8), resize=ExactResize(size_wh=(64, 32)), color="grey", classes=tuple("0123456789")
    )
    loader = eval_loader(data, batch_size=2, workers=2, context="fork")
    passes = [{batch.image_ids[0] for batch in loader} for _ in range(3)]
    assert os.getpid() not in passes[0]
    assert len(passes[0]) == 2
    assert passes[0] == passes[1] == passes[2]
