"""Which objects the anchors of a recipe reach, by its own matcher, once resized and augmented."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor

from densedet.core import assembly
from densedet.core.boxes import area, centers, iou
from densedet.core.errors import UsageError
from densedet.core.recipe.loading import Recipe
from densedet.core.state_dict import weights_follow
from densedet.core.training.random_states import seeded
from densedet.core.types import Batch, Level

SIDES = (0.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Where the classes of sizes begin: roots of an area in pixels of the network's input."""

GOOD = 0.5
"""IoU from which on an anchor fits an object, where the matcher has no threshold ``positive`` of its own."""

KEPT = 200
"""Images that are kept to draw objects on that no anchor reaches."""


class NoCoverageError(UsageError):
    """The anchors of a detector cannot be matched without training it."""


@dataclass(frozen=True, eq=False)
class Group:
    """The objects of a few images, in pixels of the network's input.

    Attributes:
        boxes: float32 (B,G,4) xyxy.
        labels: int64 (B,G).
        counting: bool (B,G), False in empty slots and for ignored objects.
        image_hw: (height, width) of the tensor.
        ids: of the images.
        images: uint8 or float32 (B,ch,H,W), or None where they are not kept.
    """

    boxes: Tensor
    labels: Tensor
    counting: Tensor
    image_hw: tuple[int, int]
    ids: list[int | str]
    images: Tensor | None = None


def groups_of(recipe: Recipe, images: int, on_images: Callable[[int], None] | None = None) -> list[Group]:
    """Return the objects of an epoch's first images as training batches hold them.

    Args:
        recipe: gives the source, its filter, resize, transforms and seed.
        images: how many at most.
        on_images: called with the number of images that are done.
    """
    with seeded(recipe.train.seed):
        source, _ = assembly.build_sources(recipe)
        sampler = assembly.build_batch_sampler(recipe, source)
        wanted = min(images, len(source))
        keys = islice(sampler, -(-wanted // sampler.batch_size))
        loader = assembly.make_train_loader(recipe, assembly.make_train_set(recipe, source), keys)
        groups: list[Group] = []
        for batch in loader:
            done = sum(len(group.ids) for group in groups)
            groups.append(_group(batch, done < KEPT))
            if on_images is not None:
                on_images(min(wanted, done + len(batch)))
    return groups


def _group(batch: Batch, with_images: bool) -> Group:
    counting = batch.valid & ~batch.ignore & (batch.labels >= 0)
    height, width = batch.images.shape[-2:]
    images = batch.images if with_images else None
    return Group(batch.boxes, batch.labels, counting, (height, width), batch.image_ids, images)


class Reach:
    """The anchors and the matcher of a recipe's detector.

    Args:
        recipe: what to build; its weights stay unread.
        num_classes: C.

    Attributes:
        matcher: of the detector.
        anchors: of the detector.
        strides: of its levels.
        threshold: IoU from which on an anchor fits an object: the matcher's ``positive``, else `GOOD`.

    Raises:
        NoCoverageError: the detector has no anchors, or its matcher goes by predictions.
    """

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        with seeded(recipe.train.seed), weights_follow():
            detector: Any = assembly.build_detector(recipe, num_classes)
        name = type(detector).__name__
        if not all(hasattr(detector, part) for part in ("anchors", "matcher", "strides", "explain")):
            raise NoCoverageError(f"{name} has no anchors and matcher, so that no share of objects is known")
        if detector.matcher.uses_predictions:
            raise NoCoverageError(
                f"{type(detector.matcher).__name__} matches by what the network predicts, so that no share "
                f"of objects is known before training"
            )
        self._detector, self._channels = detector.eval(), recipe.data.channels
        self.matcher, self.anchors, self.strides = detector.matcher, detector.anchors, detector.strides
        self.threshold = float(getattr(detector.matcher, "positive", GOOD))
        names = inspect.signature(detector.matcher.__call__).parameters
        self._progress = {"progress": 1.0} if "progress" in names else {}
        self._sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def level_sizes(self, image_hw: tuple[int, int]) -> list[tuple[int, int]]:
        """Return (height, width) of each level's map for images of this size."""
        if image_hw not in self._sizes:
            blank = Batch(
                images=torch.zeros(1, self._channels, *image_hw, dtype=torch.uint8),
                valid_hw=torch.tensor([image_hw]),
                boxes=torch.zeros(1, 0, 4),
                labels=torch.zeros(1, 0, dtype=torch.int64),
                valid=torch.zeros(1, 0, dtype=torch.bool),
                ignore=torch.zeros(1, 0, dtype=torch.bool),
                indices=torch.zeros(1, dtype=torch.int64),
                image_ids=[0],
                source_hw=torch.tensor([image_hw]),
                to_source=torch.tensor([[1.0, 1.0, 0.0, 0.0]]),
            )
            levels = self._detector.explain(blank).levels
            self._sizes[image_hw] = [(level.height, level.width) for level in levels]
        return self._sizes[image_hw]

    def grid(self, anchors: Any, image_hw: tuple[int, int]) -> tuple[Tensor, tuple[Level, ...]]:
        """Return the anchors (N,4) of a part on this detector's maps, and the levels."""
        sizes = self.level_sizes(image_hw)
        levels = tuple(
            Level(height, width, count, stride)
            for (height, width), count, stride in zip(sizes, anchors.num_anchors, self.strides)
        )
        return torch.cat(list(anchors(sizes, image_hw, "cpu"))), levels

    @torch.no_grad()
    def rows(self, groups: Sequence[Group], anchors: Any = None) -> Rows:
        """Match all objects.

        Args:
            groups: the objects.
            anchors: another part in place of the detector's.
        """
        found: list[tuple[Tensor, ...]] = []
        start = 0
        for group in groups:
            boxes, levels = self.grid(self.anchors if anchors is None else anchors, group.image_hw)
            found.append(self._matched(group, boxes, levels, start))
            start += len(group.ids)
        labels, sides, best, levels_of, owners, objects = (torch.cat(column) for column in zip(*found))
        return Rows(labels, sides, best, levels_of, owners, objects, self.threshold)

    @torch.no_grad()
    def best_ious(self, objects: Sequence[tuple[tuple[int, int], Tensor]], anchors: Any) -> Tensor:
        """Return the largest IoU of each object with the anchors of the cells around its centre, (M,).

        That is the largest of all wherever each cell of a level has the same anchors, and takes a thousandth
        of the time.

        Args:
            objects: (height, width) of images, and boxes (M,4) in them.
            anchors: the part.
        """
        found = []
        for image_hw, boxes in objects:
            grid, levels = self.grid(anchors, image_hw)
            best = boxes.new_zeros(len(boxes))
            for level, own in zip(levels, grid.split([level.count for level in levels])):
                cells = own.view(level.height, level.width, level.anchors, 4)
                middles = centers(cells[:, :, 0])
                row, column = (
                    (middle - center[:, None]).abs().argmin(1)
                    for middle, center in (
                        (middles[:, 0, 1], centers(boxes)[:, 1]),
                        (middles[0, :, 0], centers(boxes)[:, 0]),
                    )
                )
                best = torch.maximum(best, iou(boxes[:, None], cells[row, column]).amax(1))
            found.append(best)
        return torch.cat(found)

    def _matched(
        self, group: Group, anchors: Tensor, levels: tuple[Level, ...], start: int
    ) -> tuple[Tensor, ...]:
        """Return the columns of `Rows` of the objects that count, in order; ``start`` is the number of the
        first image."""
        images, slots = group.counting.shape
        best = torch.full((images, slots), -1.0)
        level = torch.full((images, slots), -1, dtype=torch.int64)
        if bool(group.counting.any()):
            index = self.matcher(
                group.boxes, group.labels, group.counting, anchors, levels, None, **self._progress
            ).matched_idxs
            image, anchor = (index >= 0).nonzero(as_tuple=True)
            slot = index[image, anchor]
            overlap = iou(group.boxes[image, slot], anchors[anchor])
            ends = torch.tensor([one.count for one in levels]).cumsum(0)
            order = overlap.argsort()  # of several at one place the last one is kept
            for place, values, target in (
                (order, overlap, best),
                (order, torch.searchsorted(ends, anchor, right=True), level),
            ):
                flat = (image * slots + slot)[place]
                target.view(-1)[flat] = values[place]
        boxes = group.boxes[group.counting]
        side = area(boxes).clamp(min=0).sqrt()
        owner = torch.arange(start, start + images).unsqueeze(1).expand(images, slots)
        return (
            group.labels[group.counting],
            side,
            best[group.counting],
            level[group.counting],
            owner[group.counting],
            boxes,
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """What the anchors do for each of M objects.

    Attributes:
        labels: int64 (M,).
        sides: float32 (M,), root of the area in pixels of the input.
        best: float32 (M,), the largest IoU with an anchor that is positive for it; -1: none is.
        levels: int64 (M,), the level of that anchor; -1: there is none.
        owners: int64 (M,), number of its image, counted over all groups.
        boxes: float32 (M,4) xyxy in pixels of the input.
        threshold: IoU from which on an anchor fits.
    """

    labels: Tensor
    sides: Tensor
    best: Tensor
    levels: Tensor
    owners: Tensor
    boxes: Tensor
    threshold: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def reached(self) -> Tensor:
        """bool (M,), whether an anchor is positive for it."""
        return self.best >= 0

    @property
    def fitting(self) -> Tensor:
        """bool (M,), whether an anchor is positive for it that fits, and not merely the best there is."""
        return self.best >= self.threshold

    def share(self, which: Tensor | None = None) -> dict[str, Any]:
        """Return {"objects", "reached", "fitting", "iou"} of the objects for which ``which``, bool (M,),
        holds; None: of all. Shares and the mean IoU are None where there is no object."""
        chosen = torch.ones(len(self), dtype=torch.bool) if which is None else which
        count = int(chosen.sum())
        names = {"reached": self.reached, "fitting": self.fitting, "iou": self.best.clamp(min=0)}
        means = {n: round(float(v[chosen].float().mean()), 4) if count else None for n, v in names.items()}
        return {"objects": count, **means}

    def by_class(self, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return `share` of each class."""
        return {name: self.share(self.labels == label) for label, name in enumerate(classes)}

    def by_side(self) -> dict[str, dict[str, Any]]:
        """Return `share` of each class of sizes that has objects."""
        bounds = [*SIDES, float("inf")]
        found = {}
        for low, high in pairwise(bounds):
            which = (self.sides >= low) & (self.sides < high)
            if bool(which.any()):
                found[f"{low:g} to {high:g}" if high < float("inf") else f"{low:g} and more"] = self.share(
                    which
                )
        return found

    def by_level(self, strides: Sequence[int]) -> list[dict[str, Any]]:
        """Return for each level the share of objects whose best positive anchor lies there, and their median
        side."""
        rows = []
        for number, stride in enumerate(strides):
            here = self.levels == number
            rows.append(
                {
                    "level": number,
                    "stride": stride,
                    "objects": int(here.sum()),
                    "share": round(float(here.float().mean()), 4) if len(self) else None,
                    "side": round(float(self.sides[here].median()), 1) if bool(here.any()) else None,
                }
            )
        return rows
