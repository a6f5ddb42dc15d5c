import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from torchvision.transforms import v2

from densedet.core.data.dataset import DetectionDataset, Sample
from densedet.core.data.decoding import Decoding
from densedet.core.data.image_cache import ImageCache
from densedet.core.data.loader import collate, eval_loader, host_bound, resized, train_loader
from densedet.core.data.sampling import BatchSampler
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.resize.exact import ExactResize
from densedet.plugins.resize.short_side import ShortSideResize
from densedet.plugins.samplers.shuffle import ShuffleSampler
from densedet.plugins.sources.digits import DigitsSource
from densedet.plugins.transforms.affine import BatchAffine
from densedet.plugins.transforms.crop import BatchCrop
from densedet.plugins.transforms.flip import BatchFlip
from densedet.plugins.transforms.mosaic import BatchMosaic
from densedet.plugins.transforms.photometric import BatchPhotometric
from densedet.tests.devices import a_gpu
from densedet.tests.pretended_gpu import GPU, pretended_gpu


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
        "decoding": Decoding("grey"),
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


def test_another_size_moves_boxes_and_the_way_back():
    """From 4 x 8 to 2 x 16 (width, height): x halves, y doubles; source = input * scale + offset holds."""
    batch = collate([sample(4, 8, 1), sample(2, 8, 1)])
    batch.boxes = torch.tensor([[[1.0, 2, 3, 6]], [[0.0, 0, 2, 8]]])
    batch.to_source = torch.tensor([[2.0, 3, 5, 7], [1.0, 1, 0, 0]])
    after = resized(batch, (2, 16))
    assert after.images.shape[-2:] == (16, 2)
    assert after.valid_hw.tolist() == [[16, 2], [16, 1]]
    assert after.boxes.tolist() == [[[0.5, 4, 1.5, 12]], [[0, 0, 1, 16]]]
    # x = 1 of the first image was 1 * 2 + 5 = 7 in the source; it is 0.5 now, and 0.5 * 4 + 5 = 7.
    assert after.to_source.tolist() == [[4, 1.5, 5, 7], [2, 0.5, 0, 0]]


def sampler(length, batch_size, seed=0, **processes):
    return BatchSampler(ShuffleSampler(source=range(length), seed=seed), batch_size=batch_size, **processes)


def test_training_batches_repeat_and_resume():
    def loader(epoch=0, batch=0, **changes):
        batches = sampler(18, 6, seed=3)
        batches.seek(epoch, batch)
        arguments = {"batch_transforms": (BatchFlip(), BatchCrop()), **changes}
        return iter(train_loader(digits(), batches, seed=3, pad_to=16, **arguments))

    stream = loader()
    first = [[next(stream) for _ in range(3)] for _ in range(2)]
    assert first[0][0].images.shape == (6, 1, 32, 64)
    assert equal(next(loader(1, 2)), first[1][2])
    assert equal(next(loader()), first[0][0])
    assert not equal(first[0][0], first[1][0])
    assert not torch.equal(next(loader(batch_transforms=())).images, first[0][0].images)


class Inverted:
    """A batch transform that works on the CPU alone."""

    def __call__(self, batch, generator):
        assert batch.images.device.type == "cpu"
        return replace(batch, images=255 - batch.images)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_that_a_device_finishes_are_those_of_the_workers(workers):
    def taken(device, transforms):
        keys = itertools.islice(iter(sampler(18, 6, seed=3)), 3)
        loader = train_loader(
            digits(),
            list(keys),
            seed=3,
            workers=workers,
            batch_transforms=transforms,
            sizes=[(40, 24), (56, 40)],
            device=device,
        )
        return loader.dataset.finishing, list(loader)

    together = (BatchFlip(), BatchMosaic(), BatchCrop())
    here, expected = taken(None, together)
    there, finished = taken(torch.device("cpu"), together)
    assert (here, there) == (True, False)
    assert all(map(equal, expected, finished))
    # One that cannot work there leaves all of them in the workers.
    assert host_bound((BatchFlip(), Inverted())) == ["Inverted"]
    mixed, batches = taken(torch.device("cpu"), (BatchFlip(), Inverted()))
    assert mixed
    assert all(map(equal, taken(None, (BatchFlip(), Inverted()))[1], batches))


def test_a_batch_goes_to_a_gpu_in_one_copy():
    """Nothing waits for it, whatever the transforms and the size."""
    arguments = {"seed": 3, "batch_transforms": (BatchFlip(), BatchCrop()), "sizes": [(40, 24)]}
    (key,) = itertools.islice(sampler(18, 6, seed=3), 1)
    (batch,) = train_loader(digits(), [key], **arguments)
    with pretended_gpu() as gpu:
        loader = train_loader(digits(), [key], **arguments, device=GPU)
        moved = loader._moved(loader.dataset[key], GPU)
        assert moved.sizes_hw is moved.host_hw[1]
    assert not gpu.waits
    for name in ("boxes", "labels", "valid_hw", "to_source"):
        assert torch.equal(getattr(batch, name), getattr(moved, name).held), name
    assert moved.images.held.shape == (6, 1, 24, 40)


@a_gpu
def test_a_gpu_is_fed_by_a_stream_of_its_own():
    """Batches are ready for the current stream, whatever it still computes."""
    keys = [key for key, _ in zip(sampler(18, 6, seed=3), range(6))]
    expected = list(train_loader(digits(), keys, seed=3, batch_transforms=(BatchFlip(),)))
    loader = train_loader(
        digits(), keys, seed=3, batch_transforms=(BatchFlip(),), device=torch.device("cuda")
    )
    busy = torch.rand(2048, 2048, device="cuda")
    for one, other in zip(expected, loader):
        for _ in range(20):
            busy = busy @ busy / 1024
        assert torch.equal(one.images, other.images.cpu())
        assert torch.equal(one.boxes, other.boxes.cpu())


class Sizes(Sequence):
    """The digits' scenes, cut to sizes of their own."""

    def __init__(self, count):
        self.scenes = DigitsSource(count=count, seed=1)
        self.classes, self.category_ids = self.scenes.classes, self.scenes.category_ids
        self.fingerprint = self.scenes.fingerprint

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        return self.annotation(index)

    def annotation(self, index):
        truth = self.scenes.annotation(index)
        return replace(truth, width=truth.width - 5 * index)

    def image(self, index):
        return self.scenes.image(index)[:, : self.annotation(index).width]


EVERY_TRANSFORM = (BatchFlip(), BatchCrop(), BatchAffine(), BatchPhotometric())


@pytest.mark.parametrize(
    "transforms",
    [(), EVERY_TRANSFORM, (BatchFlip(), BatchMosaic(p=1.0), BatchPhotometric())],
    ids=["none", "per_image", "mosaic"],
)
@pytest.mark.parametrize("sizes", [[], [(40, 24), (56, 40)]], ids=["one_size", "sizes"])
def test_processes_get_their_images_of_the_batch_of_one_process(transforms, sizes):
    """7 images of different sizes on 1, 2 and 3 processes: the same pixels, boxes and paddings."""
    data = DetectionDataset(
        Sizes(9),
        resize=ShortSideResize(short=24, max=64),
        decoding=Decoding("grey"),
        classes=tuple("0123456789"),
    )

    def batches(rank, world):
        keys = sampler(9, 7, rank=rank, world=world)
        stream = train_loader(data, keys, seed=3, pad_to=4, batch_transforms=transforms, sizes=sizes)
        return list(itertools.islice(stream, 2))

    for number, whole in enumerate(batches(0, 1)):
        assert len(whole) == 7
        for world in (2, 3):
            shares = [batches(rank, world)[number] for rank in range(world)]
            assert sum(share.dropped for share in shares) == whole.dropped
            for rank, share in enumerate(shares):
                rows = range(rank, 7, world)
                assert share.indices.tolist() == whole.indices[rows].tolist()
                assert torch.equal(share.images, whole.images[rows])
                assert torch.equal(share.valid_hw, whole.valid_hw[rows])
                for row, place in enumerate(rows):
                    assert torch.equal(
                        share.boxes[row][share.valid[row]], whole.boxes[place][whole.valid[place]]
                    )


def test_evaluation_batches_are_in_order_and_the_last_is_short():
    loader = eval_loader(digits(7), batch_size=3)
    assert len(loader) == 3
    for _ in range(2):
        assert [batch.indices.tolist() for batch in loader] == [[0, 1, 2], [3, 4, 5], [6]]
    shares = [eval_loader(digits(7), batch_size=3, rank=rank, world=2) for rank in range(2)]
    assert [[batch.indices.tolist() for batch in share] for share in shares] == [
        [[0, 1, 2], [6]],
        [[3, 4, 5]],
    ], "the batches of one process are dealt out whole"
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


@pytest.mark.parametrize("context", [pytest.param("spawn", marks=pytest.mark.long), "fork"])
def test_workers_give_the_same_batches(context, tmp_path):
    """One pair of processes for all: starting them is what takes time. The source comes from a plug-in
    file."""
    if context == "fork" and sys.platform != "linux":
        pytest.skip("no fork here")
    file = tmp_path / "my_source.py"
    file.write_text(PLUGIN)
    source = load_plugins([file]).components.get("source", "stripes").load()(count=9)
    cache = ImageCache(
        source, resize=ExactResize(size_wh=(64, 32)), decoding=Decoding("grey"), folder=str(tmp_path)
    )
    data = DetectionDataset(
        source,
        resize=ExactResize(size_wh=(64, 32)),
        decoding=Decoding("grey"),
        classes=("stripe",),
        transforms=(v2.RandomHorizontalFlip(), v2.ColorJitter(brightness=0.5)),
        seed=5,
        cache=cache,
        load_plugins=partial(load_plugins, [str(file)]),
    )
    arguments = {"seed": 5, "batch_transforms": (BatchFlip(), BatchCrop())}

    def keys(epoch=0, batch=0):
        made = sampler(9, 2, seed=5)
        made.seek(epoch, batch)
        return made

    shared = train_loader(data, keys(), workers=2, context=context, **arguments)
    theirs = list(itertools.islice(shared, 6))  # into the second epoch, which has batches 0 to 3
    ours = list(itertools.islice(train_loader(data, keys(), **arguments), 6))
    assert all(equal(one, other) for one, other in zip(ours, theirs))
    assert equal(next(iter(train_loader(data, keys(1, 1), **arguments))), ours[5])
    assert equal(next(iter(shared)), ours[0]), "a pass begins at the sampler's position, whatever came before"


class Signed(DigitsSource):
    """Its image ids are those of the process that read them."""

    def annotation(self, index):
        return replace(super().annotation(index), image_id=os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="no fork here")
def test_an_eval_loader_keeps_its_processes():
    data = DetectionDataset(
        Signed(count=8),
        resize=ExactResize(size_wh=(64, 32)),
        decoding=Decoding("grey"),
        classes=tuple("0123456789"),
    )
    loader = eval_loader(data, batch_size=2, workers=2, context="fork")
    passes = [{batch.image_ids[0] for batch in loader} for _ in range(3)]
    assert os.getpid() not in passes[0]
    assert len(passes[0]) == 2
    assert passes[0] == passes[1] == passes[2]
