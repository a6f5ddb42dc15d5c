"""Batches in an order that depends on (seed, epoch) alone, with or without worker processes."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from densedet.core.contracts import BatchTransform
from densedet.core.data.dataset import Broken, DetectionDataset, Sample
from densedet.core.errors import DataError, UsageError
from densedet.core.placement import blank_outside, place
from densedet.core.seeding import generator_of, seed_of
from densedet.core.types import Batch


def collate(samples: Sequence[Sample], *, pad_to: int = 1, broken: Broken = ()) -> Batch:
    """B samples -> a batch whose (H,W) is the largest canvas_wh, rounded up to multiples of ``pad_to``.
    Images are float32 if one is. B is 0 only where every image of a batch was ``broken``."""
    height, width = (
        -(-max((sample.canvas_wh[axis] for sample in samples), default=1) // pad_to) * pad_to
        for axis in (1, 0)
    )
    images = [place(sample.image, (width, height)) for sample in samples]
    counts = torch.tensor([len(sample.boxes) for sample in samples], dtype=torch.int64)
    valid = torch.arange(int(counts.max()) if samples else 0) < counts[:, None]
    boxes = torch.zeros(*valid.shape, 4)
    labels = torch.full(valid.shape, -1, dtype=torch.int64)
    ignore = torch.zeros_like(valid)
    if samples:  # all images at once: writing one after the other took longer than augmenting them
        boxes[valid] = torch.cat([sample.boxes for sample in samples]).float()
        labels[valid] = torch.cat([sample.labels for sample in samples]).long()
        ignore[valid] = torch.cat([sample.ignore for sample in samples]).bool()
    if len({image.dtype for image in images}) > 1:
        images = [image.float() for image in images]
    return Batch(
        images=torch.stack(images) if images else torch.zeros(0, 1, height, width, dtype=torch.uint8),
        valid_hw=torch.tensor([sample.image.shape[-2:] for sample in samples], dtype=torch.int64).reshape(
            -1, 2
        ),
        boxes=boxes,
        labels=labels,
        valid=valid,
        ignore=ignore,
        indices=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
        image_ids=[sample.image_id for sample in samples],
        source_hw=torch.tensor([sample.source_wh[::-1] for sample in samples], dtype=torch.int64).reshape(
            -1, 2
        ),
        to_source=torch.tensor([sample.to_source for sample in samples], dtype=torch.float32).reshape(-1, 4),
        broken=broken,
        dropped=sum(sample.dropped for sample in samples),
    )


def resized(batch: Batch, size: tuple[int, int]) -> Batch:
    """The batch at ``size`` (width, height) of the tensor; boxes and the way back to the source move
    along."""
    height, width = batch.images.shape[-2:]
    if (width, height) == tuple(size):
        return batch
    images = torch.nn.functional.interpolate(
        batch.images, size=(size[1], size[0]), mode="bilinear", antialias=True, align_corners=False
    )
    scale = torch.tensor([size[0] / width, size[1] / height])
    valid = (batch.valid_hw * scale.flip(0)).round().long().clamp(min=1)
    boxes = batch.boxes * scale.repeat(2)
    boxes = torch.minimum(boxes, valid.flip(1).repeat(1, 2)[:, None].to(boxes))
    to_source = torch.cat([batch.to_source[:, :2] / scale, batch.to_source[:, 2:]], dim=1)
    return replace(
        batch, images=blank_outside(images, valid), valid_hw=valid, boxes=boxes, to_source=to_source
    )


class BatchKey(NamedTuple):
    """What makes a batch: batch ``number`` of ``epoch`` (both from 0) as process ``rank`` sees it."""

    epoch: int
    number: int
    rank: int
    indices: tuple[int, ...]


class EpochSampler:
    """Which images are in which training batch.

    batch_size: of each of ``world`` processes; process ``rank`` takes every world-th of the batch_size *
    world images that make a step, so that the processes' batches together are what one process would see at
    that size. The order is a permutation drawn from (seed, epoch); what does not fill a last step is left out
    that epoch. A set smaller than a step fills one, going round.
    """

    def __init__(self, length: int, *, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        if length < 1:
            raise DataError("the training set has no images: check its annotation file and filters")
        if batch_size < 1:
            raise UsageError(
                f"train.batch_size leaves {batch_size} images for each of {world} processes: raise it "
                f"to at least {world}"
            )
        self.length = length
        self.step_size = batch_size * world
        self.seed = seed
        self.rank = rank
        self.world = world

    @property
    def batches_per_epoch(self) -> int:
        """At least 1."""
        return max(1, self.length // self.step_size)

    def batches(self, epoch: int, start_batch: int = 0) -> Iterator[BatchKey]:
        """The keys of ``epoch`` from batch ``start_batch`` on."""
        order = torch.randperm(self.length, generator=generator_of(self.seed, "order", epoch)).tolist()
        if self.length < self.step_size:
            order = (order * -(-self.step_size // self.length))[: self.step_size]
        for number in range(start_batch, self.batches_per_epoch):
            step = order[number * self.step_size : (number + 1) * self.step_size]
            yield BatchKey(epoch, number, self.rank, tuple(step[self.rank :: self.world]))


class BatchDataset(TorchDataset[Batch]):
    """``batches[key]`` -> the finished batch of a `BatchKey`: collated, then through the batch transforms,
    whose generator is seeded from (seed, epoch, number, rank), then at one of ``sizes`` (width, height),
    drawn from (seed, epoch, number), so that all processes of a step have the same. It pickles itself with
    the plug-in files that its parts come from, which are loaded first on arrival.

    training: broken images that are skipped are replaced, so that a batch keeps its length. sizes: none
    leaves batches as they are.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        *,
        pad_to: int = 1,
        seed: int = 0,
        transforms: Sequence[BatchTransform] = (),
        sizes: Sequence[tuple[int, int]] = (),
        training: bool = False,
    ) -> None:
        self.dataset = dataset
        self.pad_to = pad_to
        self.seed = seed
        self.transforms = tuple(transforms)
        self.sizes = tuple(sizes)
        self.training = training

    def __getitem__(self, key: BatchKey) -> Batch:
        samples, broken = self.dataset.samples(key.epoch, key.indices, replacing=self.training)
        batch = collate(samples, pad_to=self.pad_to, broken=broken)
        if self.transforms:
            generator = generator_of(self.seed, "batch", key.epoch, key.number, key.rank)
            for transform in self.transforms:
                batch = transform(batch, generator)
        if self.sizes:
            batch = resized(
                batch, self.sizes[seed_of(self.seed, "size", key.epoch, key.number) % len(self.sizes)]
            )
        return batch

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.dataset.plugin_files, pickle.dumps(self.__dict__))


def _arrive(plugin_files: tuple[str, ...], state: bytes) -> BatchDataset:
    if plugin_files:
        from densedet.core.recipe.plugin_loading import load_plugins

        load_plugins(plugin_files)
    batches = BatchDataset.__new__(BatchDataset)
    batches.__dict__.update(pickle.loads(state))
    return batches


class _Keys:
    """A sampler whose keys are set before each pass, so that worker processes live on from epoch to epoch."""

    def __init__(self) -> None:
        self.keys: Iterable[BatchKey] = ()

    def __iter__(self) -> Iterator[BatchKey]:
        return iter(self.keys)


class BatchLoader:
    """Runs batch keys through a `BatchDataset`, here or in ``workers`` processes that stay alive between
    passes; in order either way.

    context: how processes start ("spawn", "fork", "forkserver"); None: Python's default for the system.
    """

    def __init__(self, batches: BatchDataset, *, workers: int = 0, context: str | None = None) -> None:
        self.dataset = batches
        self._keys = _Keys()
        self._processes: DataLoader[Batch] | None = None
        if workers:
            self._processes = DataLoader(
                batches,
                batch_size=None,
                sampler=self._keys,
                num_workers=workers,
                collate_fn=_as_it_is,  # type: ignore[arg-type]
                persistent_workers=True,
                multiprocessing_context=context,
            )

    def run(self, keys: Iterable[BatchKey]) -> Iterator[Batch]:
        """The batch of each key, in order."""
        if self._processes is None:
            return (self.dataset[key] for key in keys)
        self._keys.keys = keys
        return iter(self._processes)


def _as_it_is(batch: Batch) -> Batch:
    return batch


class TrainLoader:
    """Endless training data by (epoch, batch): see `EpochSampler` for the order and `BatchLoader` for the
    processes."""

    def __init__(self, sampler: EpochSampler, loader: BatchLoader) -> None:
        self.sampler = sampler
        self.loader = loader

    @property
    def batches_per_epoch(self) -> int:
        """At least 1."""
        return self.sampler.batches_per_epoch

    def batches(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Batches ``start_batch`` .. batches_per_epoch - 1 of ``epoch``, the same as in a run that was never
        interrupted."""
        return self.loader.run(self.sampler.batches(epoch, start_batch))


class EvalLoader:
    """All images once, in the source's order; process ``rank`` of ``world`` gets every world-th. The last
    batch may be short. Can be iterated again; worker processes stay alive."""

    def __init__(
        self, loader: BatchLoader, *, length: int, batch_size: int, rank: int = 0, world: int = 1
    ) -> None:
        self.loader = loader
        self.indices = range(rank, length, world)
        self.batch_size = batch_size
        self.rank = rank

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        size = self.batch_size
        return self.loader.run(
            BatchKey(0, n, self.rank, tuple(self.indices[n * size : (n + 1) * size]))
            for n in range(len(self))
        )


def train_loader(
    dataset: DetectionDataset,
    *,
    batch_size: int,
    seed: int = 0,
    workers: int = 0,
    pad_to: int = 1,
    batch_transforms: Sequence[BatchTransform] = (),
    sizes: Sequence[tuple[int, int]] = (),
    rank: int = 0,
    world: int = 1,
    context: str | None = None,
) -> TrainLoader:
    """Shuffled batches for training; sizes as in `BatchDataset`. batch_size is each process's own. Raises
    DataError for an empty set."""
    sampler = EpochSampler(len(dataset), batch_size=batch_size, seed=seed, rank=rank, world=world)
    batches = BatchDataset(
        dataset, pad_to=pad_to, seed=seed, transforms=batch_transforms, sizes=sizes, training=True
    )
    return TrainLoader(sampler, BatchLoader(batches, workers=workers, context=context))


def eval_loader(
    dataset: DetectionDataset,
    *,
    batch_size: int,
    workers: int = 0,
    pad_to: int = 1,
    rank: int = 0,
    world: int = 1,
    limit: int | None = None,
    context: str | None = None,
) -> EvalLoader:
    """Batches in the source's order, of its first ``limit`` images. batch_size is each process's own. An
    empty set gives none."""
    loader = BatchLoader(BatchDataset(dataset, pad_to=pad_to), workers=workers, context=context)
    length = len(dataset) if limit is None else min(len(dataset), limit)
    return EvalLoader(loader, length=length, batch_size=batch_size, rank=rank, world=world)
