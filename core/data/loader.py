"""Batches in an order that depends on (seed, epoch) alone, with or without worker processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from densedet.core import signals
from densedet.core.contracts import BatchTransform
from densedet.core.data.dataset import Broken, DetectionDataset, Sample
from densedet.core.data.limited import Limited, in_force, unlimited
from densedet.core.data.sampling import BatchKey
from densedet.core.data.side_stream import SideStream
from densedet.core.errors import IN_A_WORKER, ConvertedError, DensedetError, WorkerError, sentence
from densedet.core.extras import moved_extra, scaling
from densedet.core.placement import blank_outside, place, resampled
from densedet.core.seeding import drawing_from, generator_of, seed_of
from densedet.core.text import format_warning
from densedet.core.transfer import uploaded
from densedet.core.types import Batch


def collate(
    samples: Sequence[Sample],
    *,
    pad_to: int = 1,
    broken: Broken = (),
    least_wh: tuple[int, int] = (1, 1),
) -> Batch:
    """B samples -> a batch whose (H,W) is the largest canvas_wh, ``least_wh`` included, rounded up to
    multiples of ``pad_to``. Images are float32 if one is. B is 0 only where every image of a batch was
    ``broken``."""
    height, width = (
        -(-max(least_wh[axis], *(sample.canvas_wh[axis] for sample in samples), 1) // pad_to) * pad_to
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
    extras = samples[0].extras if samples else {}
    extra, known = ({n: _padded(samples, n, valid, w) for n in extras} for w in ("extra", "extra_known"))
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
        extras=extras,
        extra=extra,
        extra_known=known,
    )


def _padded(samples: Sequence[Sample], name: str, valid: Tensor, column: str) -> Tensor:
    """The samples' values of this name in ``column``, "extra" or "extra_known", as (B,G,*shape); 0 in slots
    that are not ``valid``."""
    values = torch.cat([getattr(sample, column)[name] for sample in samples])
    padded = values.new_zeros(*valid.shape, *values.shape[1:])
    padded[valid] = values
    return padded


def resized(batch: Batch, size: tuple[int, int]) -> Batch:
    """The batch at ``size`` (width, height) of the tensor; boxes and the way back to the source move
    along."""
    height, width = batch.images.shape[-2:]
    if (width, height) == tuple(size):
        return batch
    images = resampled(batch.images, size[1], size[0])
    scale = torch.tensor([size[0] / width, size[1] / height])
    sizes_hw = (batch.sizes_hw * scale.flip(0)).round().long().clamp(min=1)
    matrix = scaling(*scale).expand(len(batch), 2, 3)
    scale, valid, matrix = uploaded([scale, sizes_hw, matrix], images.device)
    boxes = batch.boxes * scale.repeat(2)
    boxes = torch.minimum(boxes, valid.flip(1).repeat(1, 2)[:, None].to(boxes))
    to_source = torch.cat([batch.to_source[:, :2] / scale, batch.to_source[:, 2:]], dim=1)
    return replace(
        batch,
        images=blank_outside(images, sizes_hw),
        valid_hw=valid,
        host_hw=None if valid is sizes_hw else (valid, sizes_hw),
        boxes=boxes,
        to_source=to_source,
        extra=moved_extra(batch, matrix, valid),
    )


class Unfinished(NamedTuple):
    """A training batch before its batch transforms.

    Attributes:
        batch: what was collated.
        key: the batch's key.
    """

    batch: Batch
    key: BatchKey


class BatchDataset(TorchDataset[Any]):
    """``batches[key]`` -> this process's share of the finished batch of a `BatchKey`: collated, then through
    the batch transforms, whose generator is seeded from (seed, epoch, number), then at one of ``sizes``
    (width, height), drawn from the same. The share is that of the batch that one process would make: its
    tensor is as large as the whole batch needs (by the sizes of the source's images: a transform of a sample
    that changes its size counts for its own process only), and where a batch transform works on more than
    one image at a time, the whole batch is made before the share is taken. It pickles itself with the plug-in
    files that its parts come from, which are loaded first on arrival.

    training: broken images that are skipped are replaced, so that a batch keeps its length. sizes: none
    leaves batches as they are. finishing: False gives `Unfinished`, for which somebody else calls `finished`.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        *,
        pad_to: int = 1,
        seed: int = 0,
        transforms: Sequence[BatchTransform | Limited] = (),
        sizes: Sequence[tuple[int, int]] = (),
        training: bool = False,
        finishing: bool = True,
    ) -> None:
        self.dataset = dataset
        self.pad_to = pad_to
        self.seed = seed
        self.transforms = tuple(transforms)
        self.sizes = tuple(sizes)
        self.training = training
        self.finishing = finishing

    def mixes(self, key: BatchKey) -> bool:
        """Whether a transform of this batch works on more than one image at a time."""
        return not all(getattr(one, "per_image", False) for one in in_force(self.transforms, key.progress))

    def __getitem__(self, key: BatchKey) -> Any:
        try:
            with drawing_from(self.seed, "draws", key.epoch, key.number):
                batch = self._collated(key)
            if self.finishing:
                batch = self.finished(batch, key)
            if get_worker_info() is not None:
                batch = handed_over(batch)
            return batch if self.finishing else Unfinished(batch, key)
        except Exception as error:
            if get_worker_info() is None:
                raise
            raise portable(error) from error

    def _collated(self, key: BatchKey) -> Batch:
        mixes = self.mixes(key)
        samples, broken = self.dataset.samples(
            key.epoch,
            key.indices if mixes else key.share,
            replacing=self.training,
            progress=key.progress,
        )
        whole = key.world == 1 or mixes
        least_wh = (1, 1) if whole else self.dataset.canvas_wh(key.indices)
        batch = collate(samples, pad_to=self.pad_to, broken=broken, least_wh=least_wh)
        batch.rows = None if whole else key.rows
        return batch

    def finished(self, batch: Batch, key: BatchKey) -> Batch:
        """Return what was collated after its batch transforms, on whichever device it lies: they get the same
        random numbers, drawn on the CPU."""
        if transforms := in_force(self.transforms, key.progress):
            generator = generator_of(self.seed, "batch", key.epoch, key.number)
            with drawing_from(self.seed, "batch draws", key.epoch, key.number):
                for transform in transforms:
                    batch = transform(batch, generator)
        if key.world > 1 and self.mixes(key):
            batch = batch.take(key.rows)
        if self.sizes:
            batch = resized(
                batch, self.sizes[seed_of(self.seed, "size", key.epoch, key.number) % len(self.sizes)]
            )
        return batch

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.dataset.load_plugins, pickle.dumps(self.__dict__))


def _arrive(load_plugins: Callable[[], object] | None, state: bytes) -> BatchDataset:
    if load_plugins is not None:
        load_plugins()
    batches = BatchDataset.__new__(BatchDataset)
    batches.__dict__.update(pickle.loads(state))
    return batches


def train_loader(
    dataset: DetectionDataset,
    keys: Iterable[BatchKey],
    *,
    seed: int = 0,
    workers: int = 0,
    pad_to: int = 1,
    batch_transforms: Sequence[BatchTransform | Limited] = (),
    sizes: Sequence[tuple[int, int]] = (),
    context: str | None = None,
    device: torch.device | None = None,
) -> BatchLoader:
    """Training batches, one per key.

    Who does what: ``workers`` read, decode and collate. Batch transforms run there too, unless a ``device``
    is given and all of them say ``any_device = True``: then they run on that device.

    Args:
        dataset: the training images.
        keys: which images make which batch; a `BatchSampler` gives batches without end.
        seed: of the batch transforms and of the draw among ``sizes``.
        workers: loader processes, which live on from pass to pass; 0 loads in this process.
        pad_to: see `collate`.
        batch_transforms: augmentation of a batch, in order.
        sizes: see `BatchDataset`.
        context: how processes start, "spawn", "fork" or "forkserver"; None: Python's default for the system.
        device: where the batches go, on a GPU in a `SideStream`; None: they stay where they are made. That is
            the rule for a CPU, whose workers augment beside the step.
    """
    batches = BatchDataset(
        dataset,
        pad_to=pad_to,
        seed=seed,
        transforms=batch_transforms,
        sizes=sizes,
        training=True,
        finishing=device is None or bool(host_bound(batch_transforms)),
    )
    loader = _loader(batches, keys, workers, context)
    loader.device = device
    return loader


def host_bound(transforms: Sequence[BatchTransform | Limited]) -> list[str]:
    """Return the names of the batch transforms that work on the CPU alone."""
    return [type(one).__name__ for one in map(unlimited, transforms) if not getattr(one, "any_device", False)]


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
) -> BatchLoader:
    """Batches of all images once, in the source's order; the last one may be short.

    Args:
        dataset: the images; an empty set gives no batch.
        batch_size: images in a batch.
        workers: as in `train_loader`.
        pad_to: see `collate`.
        rank: number of this process, which takes every world-th batch: the batches are those of one process.
        world: number of processes.
        limit: take the first ``limit`` images alone.
        context: as in `train_loader`.
    """
    images = range(len(dataset) if limit is None else min(len(dataset), limit))
    parts = [tuple(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    keys = [BatchKey(0, number, parts[number]) for number in range(rank, len(parts), world)]
    return _loader(BatchDataset(dataset, pad_to=pad_to), keys, workers, context)


class BatchLoader(DataLoader[Batch]):
    """torch's loader of finished batches, whose worker processes leave a signal to stop to this process.

    Raises:
        WorkerError: a worker has been killed.
        DensedetError: what a worker raised, in its own words.
    """

    device: torch.device | None = None
    """Where the batches go; None: they stay where they are made."""
    prepare: Callable[[Batch], Batch] | None = None
    """What else is done with a batch there, e.g. its training targets."""

    def __iter__(self) -> Any:
        batches = self._from_workers() if self.num_workers else super().__iter__()
        return batches if self.device is None else self._delivered(batches, self.device)

    def close(self, *, at_once: bool = False) -> None:
        """End the worker processes; a later iteration starts new ones.

        Left to the garbage collector, they would stay for as long as it pleases, and where it takes the
        queues first, it waits 5 s for each of them.

        Args:
            at_once: whether they are killed, wherever they are; none that is still starting is waited for.
        """
        batches, self._iterator = self._iterator, None
        if batches is not None:
            _kill(batches) if at_once else batches._shutdown_workers()  # type: ignore[attr-defined]

    def made(self, key: BatchKey) -> Batch:
        """Make the batch of a key in this process, as an iteration gives it."""
        batch = self.dataset[key]  # type: ignore[index]
        return batch if self.device is None else self._moved(batch, self.device)

    def _delivered(self, batches: Iterator[Batch | Unfinished], device: torch.device) -> Iterator[Batch]:
        side = SideStream(device)
        for batch in batches:
            yield side.make(partial(self._moved, batch, device))

    def _moved(self, batch: Batch | Unfinished, device: torch.device) -> Batch:
        if isinstance(batch, Unfinished):
            dataset: Any = self.dataset
            moved: Batch = dataset.finished(batch.batch.to(device), batch.key)
        else:
            moved = batch.to(device)
        return moved if self.prepare is None else self.prepare(moved)

    def _from_workers(self) -> Iterator[Batch]:
        method = getattr(self.multiprocessing_context, "get_start_method", multiprocessing.get_start_method)
        signals.start_helpers(method())
        batches: Any = None
        try:
            with signals.held():
                batches = super().__iter__()
                for worker in batches._workers:
                    worker.terminate = worker.kill  # one that is still starting holds back SIGTERM
            yield from batches
        except KeyboardInterrupt:
            self.close(at_once=True)
            raise
        except Exception as error:
            # A worker that is gone shows as a broken connection, or as a file that it had shared.
            lost = isinstance(error, (OSError, EOFError)) and IN_A_WORKER not in str(error)
            told = ended(_dead(batches)) if lost and _dead(batches) else of_worker(error)
            if told is None:
                raise
            raise told from error


def handed_over(batch: Batch) -> Batch:
    """Return a worker's batch in shared memory.

    Left to torch, a thread of its own would move it there, print an error, and drop the batch, for which the
    other process would wait for ever.

    Raises:
        WorkerError: there is no shared memory left.
    """
    try:
        return batch.shared()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WorkerError(
            f"a loader process has got no shared memory for a batch ({reason}): use fewer data.workers or a "
            f"smaller train.batch_size, or give it more, as docker run --shm-size=2g does, and go on with "
            f"--resume"
        ) from error


def portable(error: Exception) -> Exception:
    """Return an error in the same words that torch can bring over from a worker process: it makes one of the
    same class from one text, which not every class takes or keeps, and of which the last line is told."""
    if isinstance(error, DensedetError):
        own = next(kind for kind in type(error).__mro__ if kind.__module__ == DensedetError.__module__)
        return error if own is type(error) else own(str(error))
    if not isinstance(error, (OSError, StopIteration)) and "\n" not in str(error):
        with suppress(Exception):
            if str(type(error)(IN_A_WORKER)) in (IN_A_WORKER, repr(IN_A_WORKER)):
                return error
    return ConvertedError(sentence(error))


def _kill(batches: Any) -> None:
    """End the worker processes of an iteration, and let torch miss none."""
    batches._shutdown = True
    if batches._worker_pids_set:
        torch._C._remove_worker_pids(id(batches))
        batches._worker_pids_set = False
    for worker in batches._workers:
        worker.kill()
    for worker in batches._workers:
        worker.join()
    for queue in batches._index_queues:  # nobody will read what is still in them
        queue.cancel_join_thread()
        queue.close()


def _dead(batches: Any) -> str:
    """Name the worker processes of an iteration that have ended; a moment is given to those that end."""
    workers = getattr(batches, "_workers", ())
    for worker in workers:
        worker.join(0.2)
    return ", ".join(f"pid {worker.pid}" for worker in workers if not worker.is_alive())


def ended(who: str) -> WorkerError:
    """Return the error that a worker has ended."""
    return WorkerError(
        f"a loader process has ended unasked ({who}): most often the memory is full. Use fewer data.workers "
        f"or a smaller train.batch_size, and go on with --resume"
    )


def of_worker(error: BaseException) -> DensedetError | None:
    """Return what a fault of a worker process comes to; None where it is none.

    torch raises the death of a worker wherever this process is at that moment.
    """
    text = str(error)
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker (pid"):
        return ended(" ".join(text.split())[:90])
    if isinstance(error, DensedetError) and IN_A_WORKER in text:
        kind = f"{type(error).__module__}.{type(error).__qualname__}: "
        plain = DensedetError(" ".join(text.rpartition(kind)[2].split()))
        plain.exit_code = error.exit_code
        return plain
    return None


def _loader(
    batches: BatchDataset, keys: Iterable[BatchKey], workers: int, context: str | None
) -> BatchLoader:
    return BatchLoader(
        batches,
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        persistent_workers=workers > 0,
        multiprocessing_context=context if workers else None,
        worker_init_fn=partial(_start_worker, os.getpid()),
        generator=torch.Generator(),  # without one, a pass would draw from the random numbers of the run
    )


def _start_worker(parent: int, number: int) -> None:
    signals.leave_to_parent(parent)
    warnings.formatwarning = format_warning


def _as_it_is(batch: Any) -> Any:
    return batch
