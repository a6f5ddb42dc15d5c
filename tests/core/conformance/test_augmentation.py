"""Transforms of samples and batches, and resizes, that keep their contract or break it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as v2f

from densedet.core.conformance import ConformanceError, check_part
from densedet.core.placement import Placement
from densedet.core.types import Batch
from densedet.plugins.transforms.flip import BatchFlip

BROKEN: list[Any] = []
LEGAL: list[Any] = []


def broken(kind: str, sentence: str) -> Any:
    def add(factory: Any) -> Any:
        BROKEN.append(pytest.param(kind, factory, sentence, id=f"{kind}-{factory.__name__}"))
        return factory

    return add


def legal(kind: str) -> Any:
    def add(factory: Any) -> Any:
        LEGAL.append(pytest.param(kind, factory, id=f"{kind}-{factory.__name__}"))
        return factory

    return add


Target = dict[str, Any]


class Mirror:
    """Left and right swapped, in pieces that the classes below break."""

    def __init__(self) -> None:
        pass

    def image(self, image: Any) -> Any:
        return v2f.horizontal_flip(image)

    def target(self, target: Target) -> Target:
        return {**target, "boxes": v2f.horizontal_flip(target["boxes"])}

    def __call__(self, image: Any, target: Target) -> Any:
        return self.image(image), self.target(target)


@legal("transform")
class Mirrors(Mirror):
    pass


@legal("transform")
class DropsSmall(Mirror):
    def target(self, target: Target) -> Target:
        moved = super().target(target)
        boxes = moved["boxes"]
        keep = (boxes[:, 2:] - boxes[:, :2]).prod(1) > 1000
        kept = tv_tensors.wrap(boxes[keep], like=boxes)
        return {**moved, "boxes": kept, "labels": moved["labels"][keep], "ignore": moved["ignore"][keep]}


@legal("transform")
class Negative(Mirror):
    """Pixels alone."""

    def image(self, image: Any) -> Any:
        return v2f.invert(image) if image.dtype == torch.uint8 else tv_tensors.wrap(255 - image, like=image)

    def target(self, target: Target) -> Target:
        return target


@legal("transform")
class FloatOnly(Negative):
    def image(self, image: Any) -> Any:
        if image.dtype == torch.uint8:
            raise TypeError("made for float images")
        return super().image(image)


@broken("transform", "boxes do not go with the pixels")
class BoxesStay(Mirror):
    """The image is mirrored, the boxes are not."""

    def target(self, target: Target) -> Target:
        return target


@broken("transform", "boxes do not go with the pixels")
class BoxesAlone(Mirror):
    """The boxes are mirrored, the image is not."""

    def image(self, image: Any) -> Any:
        return image


@broken("transform", "boxes do not go with the pixels")
class UpAndDown(Mirror):
    """The image is mirrored the other way."""

    def image(self, image: Any) -> Any:
        return v2f.vertical_flip(image)


@broken("transform", "boxes do not go with the pixels")
class LabelsReversed(Mirror):
    """Boxes are sorted anew, labels are not."""

    def target(self, target: Target) -> Target:
        moved = super().target(target)
        return {**moved, "boxes": tv_tensors.wrap(moved["boxes"].flip(0), like=moved["boxes"])}


@broken("transform", "boxes do not go with the pixels")
class Shares(Mirror):
    """Boxes as shares of the image."""

    def target(self, target: Target) -> Target:
        boxes = super().target(target)["boxes"]
        return {**target, "boxes": tv_tensors.wrap(boxes / 128, like=boxes)}


@broken("transform", "boxes do not go with the pixels")
class ShiftByOne(Mirror):
    """Pixels move by a quarter of the image, boxes by half of that."""

    def image(self, image: Any) -> Any:
        return tv_tensors.wrap(image.roll(8, -1), like=image)

    def target(self, target: Target) -> Target:
        boxes = target["boxes"]
        return {**target, "boxes": tv_tensors.wrap(boxes - torch.tensor([8.0, 0, 8, 0]), like=boxes)}


@broken("transform", "all three together")
class LosesLabels(Mirror):
    """Drops a box and keeps its label."""

    def target(self, target: Target) -> Target:
        boxes = super().target(target)["boxes"]
        return {**target, "boxes": tv_tensors.wrap(boxes[:1], like=boxes)}


@broken("transform", "stay tv_tensors.BoundingBoxes")
class PlainBoxes(Mirror):
    """Plain tensors: what follows no longer moves them."""

    def target(self, target: Target) -> Target:
        return {**target, "boxes": super().target(target)["boxes"].as_subclass(Tensor)}


@broken("transform", "canvas of the image's size")
class OldCanvas(Mirror):
    """Crops and keeps the old canvas."""

    def image(self, image: Any) -> Any:
        return v2f.crop(super().image(image), 0, 0, 90, 128)


@broken("transform", "dtype and channels must stay")
class Floats(Mirror):
    """Scales to 0..1."""

    def image(self, image: Any) -> Any:
        return tv_tensors.Image(super().image(image).double() / 255)


@broken("transform", "dtype and channels must stay")
class Grey(Mirror):
    """Colour becomes two channels."""

    def image(self, image: Any) -> Any:
        return tv_tensors.Image(torch.cat([image[:1], image[:1]]))


@broken("transform", "changes its input in place")
class InPlace(Mirror):
    """Darkens the cached image."""

    def image(self, image: Any) -> Any:
        image.copy_(image // 2)
        return super().image(image)


@broken("transform", "numpy's or Python's generator")
class PythonRandom(Mirror):
    """Python's generator: the same in every worker."""

    def __call__(self, image: Any, target: Target) -> Any:
        return super().__call__(image, target) if random.random() < 0.5 else (image, target)


@broken("transform", "numpy's or Python's generator")
class NumpyRandom(Mirror):
    """numpy's generator."""

    def __call__(self, image: Any, target: Target) -> Any:
        return super().__call__(image, target) if np.random.rand() < 0.5 else (image, target)


@broken("transform", r"gives \(image, target\)")
class ImageAlone(Mirror):
    """The target is lost."""

    def __call__(self, image: Any, target: Target) -> Any:
        return self.image(image)


@broken("transform", "keeps boxes, labels and ignore")
class LosesIgnore(Mirror):
    """A target without ignore."""

    def target(self, target: Target) -> Target:
        moved = super().target(target)
        return {"boxes": moved["boxes"], "labels": moved["labels"]}


@broken("transform", "ignore True")
class IgnoresNothing(Mirror):
    """Ignored objects become objects."""

    def target(self, target: Target) -> Target:
        return {**super().target(target), "ignore": torch.zeros_like(target["ignore"])}

    def __call__(self, image: Any, target: Target) -> Any:
        if target["ignore"].any() and not target["ignore"].all():
            return self.image(image), self.target(target)
        return super().__call__(image, target)


@broken("transform", "raised")
class NoObjects(Mirror):
    """Crops around the first object."""

    def __call__(self, image: Any, target: Target) -> Any:
        assert float(target["boxes"][0, 0]) >= 0
        return super().__call__(image, target)


@broken("transform", "none of the input's")
class LabelsFromOne(Mirror):
    """Labels off by one."""

    def target(self, target: Target) -> Target:
        return {**super().target(target), "labels": target["labels"] + 1}


@broken("transform", "keeps a state|boxes do not go")
class EverySecond(Mirror):
    """Every second call mirrors."""

    calls = 0

    def __call__(self, image: Any, target: Target) -> Any:
        self.calls += 1
        return super().__call__(image, target) if self.calls % 2 else (image, target)


class Batches:
    """Mirrors a whole batch of full-size images; in pieces that the classes below break."""

    def __init__(self) -> None:
        self.flip = BatchFlip(p=1.0)

    def last(self, before: Batch, after: Batch) -> Batch:
        return after

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        return self.last(batch, self.flip(batch, generator))


@legal("batch_transform")
class MirrorsBatches(Batches):
    pass


@legal("batch_transform")
class MixUp:
    """Images blended with the next, objects of both."""

    def __init__(self) -> None:
        pass

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = ((batch.images.int() + batch.images.flip(0)) // 2).to(torch.uint8)
        size = batch.valid_hw.amax(0).expand_as(batch.valid_hw).clone()
        both = {n: torch.cat([getattr(batch, n), getattr(batch, n).flip(0)], 1) for n in ("boxes", "labels")}
        flags = {n: torch.cat([getattr(batch, n), getattr(batch, n).flip(0)], 1) for n in ("valid", "ignore")}
        return replace(batch, images=images, valid_hw=size, **both, **flags)


@legal("batch_transform")
class CutsOut:
    """Blackens a square of eight pixels."""

    def __init__(self) -> None:
        pass

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = batch.images.clone()
        y, x = torch.randint(0, 60, (2,), generator=generator).tolist()
        images[:, :, y : y + 8, x : x + 8] = 0
        return replace(batch, images=images)


@broken("batch_transform", "boxes do not go with the pixels")
class BatchBoxesStay(Batches):
    """The boxes stay."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, boxes=before.boxes)


@broken("batch_transform", "boxes do not go with the pixels|leaves its image")
class WholeTensor(Batches):
    """Mirrors within the tensor, boxes within the valid size."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, images=before.images.flip(-1).roll(20, -1))


@broken("batch_transform", "boxes do not go with the pixels")
class OtherImages(Batches):
    """Images change places, objects do not."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, images=after.images.flip(0))


@broken("batch_transform", "leaves its image")
class Leaves(Batches):
    """Boxes beyond the border."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, boxes=after.boxes + torch.tensor([0.0, 0, 90, 0]))


@broken("batch_transform", "has no area")
class Inverts(Batches):
    """x1 and x2 swapped, as after a careless mirror."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, boxes=after.boxes[..., [2, 1, 0, 3]])


@broken("batch_transform", "uint8")
class FloatBatch(Batches):
    """Floats in 0..1."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, images=after.images / 255)


@broken("batch_transform", "the generator alone")
class GlobalRandom(Batches):
    """The global generator."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return before if torch.rand(1) > 2 else after


@broken("batch_transform", "the generator alone")
class PythonRandomBatch(Batches):
    """Python's generator."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return before if random.random() > 2 else after


@broken("batch_transform", "in place")
class BatchInPlace(Batches):
    """Writes into the batch."""

    def last(self, before: Batch, after: Batch) -> Batch:
        before.images.copy_(after.images)
        before.boxes.copy_(after.boxes)
        return after


@broken("batch_transform", "no longer ignored")
class ForgetsIgnore(Batches):
    """Crowds become objects."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, ignore=torch.zeros_like(after.ignore))


@broken("batch_transform", "none of the input's|boxes do not go")
class LabelsUp(Batches):
    """Labels off by one."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, labels=after.labels + 1)


@broken("batch_transform", "belong together")
class Misshapen(Batches):
    """A slot more in the boxes."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return (
            replace(after, boxes=torch.cat([after.boxes, after.boxes[:, :1]], 1))
            if after.boxes.shape[1]
            else after
        )


@broken("batch_transform", "raised")
class NeedsObjects(Batches):
    """The first object of an image without objects."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return after if float(after.boxes[0, 0, 0]) > -1 else before


@broken("batch_transform", "image ids and indices stay")
class IdsLost(Batches):
    """Ids are those of the batch."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, image_ids=list(range(len(after))))


@broken("batch_transform", "leaves the tensor")
class SizeGrows(Batches):
    """A valid size beyond the tensor."""

    def last(self, before: Batch, after: Batch) -> Batch:
        return replace(after, valid_hw=after.valid_hw.flip(1))


class Stretch:
    def __init__(self, *, size_wh: tuple[int, int]) -> None:
        self.size = size_wh

    def __call__(self, width: int, height: int) -> Any:
        return Placement(*self.size, self.size)


@legal("resize")
class ByStride(Stretch):
    """The next multiple of 32, size of its own."""

    def __call__(self, width: int, height: int) -> Placement:
        canvas = (-(-width // 32) * 32, -(-height // 32) * 32)
        return Placement(width, height, canvas)


@broken("resize", r"sizes are \(width, height\)")
class HeightFirst(Stretch):
    """(height, width)."""

    def __call__(self, width: int, height: int) -> Placement:
        return Placement(*self.size[::-1], self.size[::-1])


@broken("resize", "off its canvas")
class TooLarge(Stretch):
    """Larger than its canvas."""

    def __call__(self, width: int, height: int) -> Placement:
        return Placement(width, height, self.size)


@broken("resize", "whole pixels")
class Fractions(Stretch):
    """Sides that are no whole pixels."""

    def __call__(self, width: int, height: int) -> Placement:
        scale = min(self.size[0] / width, self.size[1] / height)
        return Placement(width * scale, height * scale, self.size)  # type: ignore[arg-type]


@broken("resize", "off its canvas")
class Nothing(Stretch):
    """A side of 0 for a narrow image."""

    def __call__(self, width: int, height: int) -> Placement:
        scale = min(self.size[0] / width, self.size[1] / height)
        return Placement(int(width * scale), int(height * scale), self.size)


@broken("resize", "gives a densedet.core.placement.Placement")
class BareSize(Stretch):
    """A bare size."""

    def __call__(self, width: int, height: int) -> Any:
        return self.size


class Off(Placement):
    """A way back that forgets the scale."""

    def to_source(self, source_wh: tuple[int, int]) -> tuple[float, float, float, float]:
        return 1.0, 1.0, 0.0, 0.0


@broken("resize", "find back")
class NoWayBack(Stretch):
    """Boxes do not find back."""

    def __call__(self, width: int, height: int) -> Placement:
        return Off(*self.size, self.size)


@broken("resize", "another order")
class Alternates(Stretch):
    """Another size with each call."""

    calls = 0

    def __call__(self, width: int, height: int) -> Placement:
        self.calls += 1
        return Placement(self.size[0] - self.calls % 7, self.size[1], self.size)


LEGAL.append(pytest.param("transform", v2.Identity, id="transform-identity"))


@pytest.mark.parametrize(("kind", "factory", "sentence"), BROKEN)
def test_broken(kind: str, factory: Any, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_part(kind, factory)


@pytest.mark.parametrize(("kind", "factory"), LEGAL)
def test_legal(kind: str, factory: Any) -> None:
    check_part(kind, factory)
