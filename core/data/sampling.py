"""Which images make which training batch, from a position that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from densedet.core.contracts import Sampler
from densedet.core.errors import DataError, PartError, UsageError
from densedet.core.text import counted


class BatchKey(NamedTuple):
    """The recipe of one batch: all that a worker process needs to make it.

    Attributes:
        epoch: counted from 0.
        number: position of the batch in its epoch, counted from 0.
        indices: positions of its images in the source, those of all processes.
        rank: number of the process that the batch is for; it takes every world-th image, from this one on.
        world: number of processes that share the batch.
        progress: of the training when a step takes the batch, 0..1.
    """

    epoch: int
    number: int
    indices: tuple[int, ...]
    rank: int = 0
    world: int = 1
    progress: float = 0.0

    @property
    def rows(self) -> range:
        """Places of this process's images among ``indices``."""
        return range(self.rank, len(self.indices), self.world)

    @property
    def share(self) -> tuple[int, ...]:
        """Positions of this process's images in the source."""
        return self.indices[self.rank :: self.world]


class BatchSampler:
    """Cut the order of each epoch into training batches, without end, from a position on.

    Process ``rank`` takes every world-th image of a batch, so that the shares of all processes together are
    the batch of one process, and differ by at most one image. Images that do not fill a last batch are left
    out of that epoch. An epoch shorter than a batch goes round until it fills one.

    Args:
        sampler: the order of the images of each epoch.
        batch_size: images in a batch of all processes together.
        images: images of the source; the sampler's positions are checked against it. None: they are not.
        rank: number of this process.
        world: number of processes.

    Attributes:
        batch_size: as given.
        epoch: epoch of the next batch that training takes.
        batch: position of that batch in its epoch.
        progress_of: gives the progress of the training, 0..1, when a step takes the batch of an epoch and a
            number. It is called when the loader asks for the batch. None: 0.

    Raises:
        DataError: the sampler has no images.
        UsageError: there are fewer images in a batch than processes.
    """

    def __init__(
        self, sampler: Sampler, *, batch_size: int, images: int | None = None, rank: int = 0, world: int = 1
    ) -> None:
        if len(sampler) < 1:
            raise DataError("the training set has no images: check its annotation file and filters")
        if batch_size < world:
            raise UsageError(
                f"train.batch_size={batch_size} is the batch of all processes together, and {world} "
                f"processes need an image each: write train.batch_size={world} or more, or start fewer "
                f"processes"
            )
        self.sampler, self.images, self.rank, self.world = sampler, images, rank, world
        self.batch_size = batch_size
        self.epoch = self.batch = 0
        self.progress_of: Callable[[int, int], float] | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one epoch, at least 1."""
        return max(1, len(self.sampler) // self.batch_size)

    def seek(self, epoch: int, batch: int) -> None:
        """Go to a position. A batch past the end of its epoch means the start of the next epoch."""
        self.epoch, self.batch = (epoch, batch) if batch < self.batches_per_epoch else (epoch + 1, 0)

    def advance(self) -> bool:
        """Move past one batch.

        Returns:
            Whether that batch was the last of its epoch.
        """
        self.seek(self.epoch, self.batch + 1)
        return self.batch == 0

    def keys(self, epoch: int, start: int = 0) -> Iterator[BatchKey]:
        """The batches of ``epoch`` from batch ``start`` on."""
        order = [int(index) for index in self.sampler(epoch)]
        if len(order) != len(self.sampler):
            raise PartError(
                f"sampler {type(self.sampler).__name__} gave {counted(len(order), 'image')} in epoch "
                f"{epoch}, but its "
                f"length is {len(self.sampler)}: every epoch has the same number of images"
            )
        if self.images is not None and not 0 <= min(order) <= max(order) < self.images:
            wrong = next(index for index in order if not 0 <= index < self.images)
            raise PartError(
                f"sampler {type(self.sampler).__name__} gave position {wrong} in epoch {epoch}, but the "
                f"source has {counted(self.images, 'image')}: positions are 0 to {self.images - 1}"
            )
        order *= -(-self.batch_size // len(order))
        for number in range(start, self.batches_per_epoch):
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            progress = 0.0 if self.progress_of is None else self.progress_of(epoch, number)
            yield BatchKey(epoch, number, tuple(indices), self.rank, self.world, progress)

    def __iter__(self) -> Iterator[BatchKey]:
        """All batches from the position on, without end. The position itself moves by `advance` alone: worker
        processes ask for batches before training takes them."""
        epoch, start = self.epoch, self.batch
        while True:
            yield from self.keys(epoch, start)
            epoch, start = epoch + 1, 0
