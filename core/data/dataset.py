"""A source, decoded, resized and augmented, one sample at a time."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from torchvision import tv_tensors

from densedet.core.annotations.views import base_of
from densedet.core.class_table import label_map
from densedet.core.contracts import Resize, Source, Transform
from densedet.core.data.decoding import Decoding, decode
from densedet.core.data.image_cache import GENERATED, ImageCache, identity_of
from densedet.core.data.limited import Limited, in_force
from densedet.core.data.points import from_points, to_points
from densedet.core.errors import DataError, PartError
from densedet.core.extras import carried, extras_of, moved, scaling
from densedet.core.placement import Placement
from densedet.core.seeding import seed_of
from densedet.core.types import Annotation, Extra


@dataclass
class Sample:
    """One image and its objects in pixels of the network's input. G may be 0.

    Attributes:
        image: uint8 or float32 (ch,h,w), only the image itself.
        canvas_wh: (width, height) of the tensor that is to hold it, at the top left.
        boxes: float32 (G,4) xyxy.
        labels: int64 (G,), -1 for an object of no class of the table.
        ignore: bool (G,).
        index: position in the source.
        image_id: the source's.
        source_wh: (width, height) of the source image.
        to_source: see `Batch`.
        dropped: number of objects that transforms lost.
        extras: declarations of the values below, from the source.
        extra: (G, *shape) per name.
        extra_known: bool (G,) per name.
    """

    image: Tensor
    canvas_wh: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    index: int
    image_id: int | str
    source_wh: tuple[int, int]
    to_source: tuple[float, float, float, float]
    dropped: int = 0
    extras: dict[str, Extra] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)
    extra_known: dict[str, Tensor] = field(default_factory=dict)


Broken = tuple[tuple[int, str], ...]
"""(position in the source, sentence) of images that could not be read."""

KEPT = 10_000
"""Images whose boxes stay in memory as the network gets them, a few kilobytes each: making them anew each
epoch takes longer than reading the cached pixels."""

NO_PIXELS = torch.zeros(0, 0, 0, dtype=torch.uint8)

REPLACEMENTS = 20
"""Broken images in a row after which the rest is not believed to be sound."""


def sample_of(
    image: Any,
    *,
    decoding: Decoding,
    resize: Resize,
    index: int = 0,
    truth: Annotation | None = None,
    extras: dict[str, Extra] | None = None,
) -> Sample:
    """Decode an image at the network's size and move its truth along.

    Args:
        image: a path, encoded bytes, or a uint8 array (H,W) or (H,W,3).
        decoding: colour, range of values and greatest size.
        resize: the place of the image in the network's input.
        index: position in the source.
        truth: the image's objects; None: it has none, and its id is ``index``.
        extras: declarations of what the objects carry.

    Raises:
        DataError: the image cannot be read, or its objects do not carry what is declared.
    """
    placements: list[Placement] = []

    def placement_of(width: int, height: int) -> Placement:
        placements.append(resize(width, height))
        return placements[-1]

    expected, name = (None, "") if truth is None else ((truth.width, truth.height), truth.file_name)
    pixels, source_wh = decode(
        image, decoding=decoding, placement_of=placement_of, expected=expected, name=name
    )
    return sample_from(pixels, placements[-1], source_wh, index, truth, extras or {})


def sample_from(
    pixels: Tensor,
    placement: Placement,
    source_wh: tuple[int, int],
    index: int,
    truth: Annotation | None,
    extras: dict[str, Extra],
) -> Sample:
    """Return the sample of pixels that are placed already."""
    sample = Sample(
        image=pixels,
        canvas_wh=placement.canvas_wh,
        boxes=torch.zeros(0, 4) if truth is None else placement.boxes_to_input(truth.boxes, source_wh),
        labels=torch.zeros(0, dtype=torch.int64) if truth is None else truth.labels,
        ignore=torch.zeros(0, dtype=torch.bool) if truth is None else truth.ignore,
        index=index,
        image_id=index if truth is None else truth.image_id,
        source_wh=source_wh,
        to_source=placement.to_source(source_wh),
    )
    if extras and truth is not None:
        values, sample.extra_known = carried(truth, extras)
        sample.extras, sample.extra = extras, placed_extra(values, extras, placement, source_wh)
    return sample


def placed_extra(
    values: dict[str, Tensor], extras: dict[str, Extra], placement: Placement, source_wh: tuple[int, int]
) -> dict[str, Tensor]:
    """Move keypoints of a source image of (width, height) to pixels of the input; other values stay."""
    matrix = scaling(placement.width / source_wh[0], placement.height / source_wh[1])
    return moved(values, extras, matrix, torch.tensor([placement.width, placement.height]))


class DetectionDataset(Dataset[Sample]):
    """``dataset[epoch, index]`` -> `Sample`, the same whatever ran before and in whichever process;
    ``dataset[index]`` is epoch 0.

    classes: the recipe's class table; the source's labels are mapped by name, and objects of other classes
    get label -1 and are ignored.
    transforms: called on (tv_tensors.Image, {"boxes": BoundingBoxes XYXY, "labels": (G,), "ignore": (G,)})
    with torch's global generator seeded from (seed, epoch, index) and put back afterwards. Where the source
    has extras, "rows" (G,), the objects' positions, goes along, and "points" (M,2), all of their keypoints: a
    transform that drops boxes drops their rows, never points. Where one changes
    the image's size, the image is resized once more at the end. Boxes that the transforms push out of the
    image are dropped and counted in the sample's ``dropped``; those partly outside are clipped.
    cache: of the decoded and resized images. broken: what `samples` does with an image that cannot be read.
    load_plugins: loads the plug-ins that the parts come from, in a worker process before it unpickles them;
    None where the parts can be imported.

    Raises DataError from reading an image, PartError for a transform that loses track of its boxes.
    """

    def __init__(
        self,
        source: Source,
        *,
        resize: Resize,
        decoding: Decoding,
        classes: tuple[str, ...],
        transforms: Sequence[Transform | Limited] = (),
        seed: int = 0,
        cache: ImageCache | None = None,
        broken: Literal["stop", "skip"] = "stop",
        load_plugins: Callable[[], object] | None = None,
    ) -> None:
        self.source = source
        self.resize = resize
        self.decoding = decoding
        self.classes = tuple(classes)
        self.transforms = tuple(transforms)
        self.seed = seed
        self.cache = cache
        self.broken = broken
        self.load_plugins = load_plugins
        self._extras = extras_of(source)
        self._labels = torch.from_numpy(label_map(source.classes, self.classes))
        self._same_labels = self._labels[:-1].tolist() == list(range(len(source.classes)))
        self._cached_as = None if cache is None else base_of(source)[1]
        self._kept: dict[int, Sample] = {}
        self._gives_files = False
        self._decoded: dict[int, tuple[int | None, Future[Sample]]] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return self.sample(epoch, index)

    def sample(self, epoch: int, index: int, progress: float = 0.0) -> Sample:
        """Return the sample at ``index`` as an epoch has it, by the transforms that take part at a progress
        of the training."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        kept = None if in_force(self.transforms, progress) else self._kept.get(index)
        if kept is not None and (pixels := self._cached(index)[1]) is not None:
            sample = copy.copy(kept)  # a fifth of what dataclasses.replace takes
            sample.image = pixels
            return sample
        truth = self.source.annotation(index)
        sample = self._read(index, truth)
        if not self._same_labels:
            labels = self._labels[truth.labels]
            sample = replace(sample, labels=labels, ignore=truth.ignore | (labels < 0))
        if transforms := in_force(self.transforms, progress):
            return self._transformed(sample, epoch, transforms)
        if self.cache is not None and len(self._kept) < KEPT:
            self._kept[index] = replace(sample, image=NO_PIXELS)
        return sample

    def canvas_wh(self, indices: Sequence[int]) -> tuple[int, int]:
        """Return the (width, height) that holds each of these images, by their sizes in the source."""
        truths = [self.source.annotation(index) for index in indices]
        widths, heights = zip(*(self.resize(truth.width, truth.height).canvas_wh for truth in truths))
        return max(widths), max(heights)

    def samples(
        self, epoch: int, indices: Sequence[int], *, replacing: bool, progress: float = 0.0
    ) -> tuple[list[Sample], Broken]:
        """(the samples at ``indices``, what could not be read). Where ``broken`` is "skip", an image that
        cannot be read is left out or, with ``replacing``, another one, drawn from (seed, epoch, index), takes
        its place. Raises DataError."""
        samples: list[Sample] = []
        faults: list[tuple[int, str]] = []
        self._decode_at_once(indices)
        for index in indices:
            for attempt in range(REPLACEMENTS):
                position = (
                    seed_of(self.seed, "replacement", epoch, index, attempt) % len(self) if attempt else index
                )
                try:
                    samples.append(self.sample(epoch, position, progress))
                    break
                except DataError as error:
                    if self.broken == "stop":
                        raise
                    faults.append((position, str(error)))
                if not replacing:
                    break
            else:
                raise DataError(
                    f"{REPLACEMENTS} images drawn one after the other cannot be read, the last: "
                    f"{faults[-1][1]}"
                )
        return samples, tuple(faults)

    def _read(self, index: int, truth: Annotation) -> Sample:
        """The decoded and resized image, from the cache where it is there, with the source's own labels."""
        image, pixels = self._cached(index)
        if pixels is not None:
            source_wh = (truth.width, truth.height)
            return sample_from(pixels, self.resize(*source_wh), source_wh, index, truth, self._extras)
        # Before decoding: a file that changes meanwhile must not pass for the one that was decoded.
        identity = None if self.cache is None else identity_of(image)
        self._gives_files = isinstance(image, (str, os.PathLike, bytes))
        decoded = self._decoded.pop(index, None)
        if decoded is not None and decoded[0] == identity:
            sample = decoded[1].result()
        else:
            sample = self._decode(image, index, truth)
        if self.cache is None or self._cached_as is None or identity is None:
            return sample
        self.cache.put(int(self._cached_as[index]), identity, sample.image)
        return sample

    def _decode(self, image: Any, index: int, truth: Annotation) -> Sample:
        return sample_of(
            image, decoding=self.decoding, resize=self.resize, index=index, truth=truth, extras=self._extras
        )

    def _decode_at_once(self, indices: Sequence[int]) -> None:
        """Decode the files of a batch in as many threads as torch has, for `_read`. A loader's worker has
        one: it is one of several itself."""
        self._decoded.clear()
        threads = torch.get_num_threads() if self._gives_files and get_worker_info() is None else 1
        missing = [index for index in indices if not self._is_cached(index)]
        if threads == 1 or len(missing) < 2:
            return
        with ThreadPoolExecutor(min(threads, len(missing))) as pool:
            for index in missing:
                with contextlib.suppress(DataError):  # which `_read` will raise in its turn
                    image, truth = self.source.image(index), self.source.annotation(index)
                    identity = None if self.cache is None else identity_of(image)
                    self._decoded[index] = identity, pool.submit(self._decode, image, index, truth)

    def _is_cached(self, index: int) -> bool:
        known = self.cache is not None and self._cached_as is not None
        return known and self.cache.identity(int(self._cached_as[index])) != 0  # type: ignore[union-attr,index]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_decoded": {}}

    def _cached(self, index: int) -> tuple[Any, Tensor | None]:
        """(the source's image, its pixels if the cache has them of this very file); a generated image that is
        cached is not made again."""
        if self.cache is None or self._cached_as is None:
            return self.source.image(index), None
        position = int(self._cached_as[index])
        stored = self.cache.identity(position)
        if stored == GENERATED and (pixels := self.cache.get(position)) is not None:
            return None, pixels
        image = self.source.image(index)
        return image, self.cache.get(position) if stored == identity_of(image) else None

    def _transformed(self, sample: Sample, epoch: int, transforms: Sequence[Transform]) -> Sample:
        height, width = sample.image.shape[-2:]
        image = tv_tensors.Image(sample.image)
        boxes = tv_tensors.BoundingBoxes(sample.boxes, format="XYXY", canvas_size=(height, width))  # type: ignore[call-overload]
        target: dict[str, Any] = {"boxes": boxes, "labels": sample.labels, "ignore": sample.ignore}
        if sample.extras:
            target["rows"] = torch.arange(len(boxes))
        if any(extra.kind == "keypoints" for extra in sample.extras.values()):
            target["points"] = to_points(sample.extra, sample.extras, (height, width))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.seed, "sample", epoch, sample.index))
            for transform in transforms:
                image, target = transform(image, target)
                counts = {name: len(target[name]) for name in target if name != "points"}
                if len(set(counts.values())) > 1:
                    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
                    raise PartError(
                        f"transform {type(transform).__name__} left {listed}: it must keep or drop all of "
                        f"them together"
                    )
        return self._finished(sample, image, target)

    def _finished(self, sample: Sample, image: Tensor, target: dict[str, Any]) -> Sample:
        """Clip and drop boxes, bring the image back to its size."""
        image, boxes = image.as_subclass(Tensor), target["boxes"].as_subclass(Tensor)
        if image.dtype != sample.image.dtype or image.ndim != 3 or image.shape[0] != sample.image.shape[0]:
            raise PartError(
                f"transforms turned a {sample.image.dtype} image {tuple(sample.image.shape)} into "
                f"{image.dtype} {tuple(image.shape)}: "
                "dtype and channels must stay, normalising is the detector's work"
            )
        canvas_wh = sample.canvas_wh
        height, width = image.shape[-2:]
        boxes = torch.minimum(
            boxes.clamp(min=0), torch.tensor([width, height, width, height], dtype=boxes.dtype)
        )
        keep = ((boxes[:, 2:] > boxes[:, :2]).all(1)) & boxes.isfinite().all(1)
        dropped = len(sample.boxes) - int(keep.sum())
        boxes, labels, ignore = boxes[keep], target["labels"][keep], target["ignore"][keep]
        extra, known = sample.extra, sample.extra_known
        if "points" in target:
            extra = from_points(target["points"], extra, sample.extras, torch.tensor([width, height]))
        if sample.extras:
            rows = target["rows"][keep]
            extra, known = ({n: v[rows] for n, v in values.items()} for values in (extra, known))
        if image.shape != sample.image.shape:
            placement = self.resize(width, height)
            canvas_wh = placement.canvas_wh
            boxes = placement.boxes_to_input(boxes, (width, height))
            extra = placed_extra(extra, sample.extras, placement, (width, height)) if extra else extra
            image = _resized(image, placement)
        return replace(
            sample,
            image=image,
            canvas_wh=canvas_wh,
            boxes=boxes,
            labels=labels,
            ignore=ignore,
            dropped=dropped,
            extra=extra,
            extra_known=known,
        )


def _resized(image: Tensor, placement: Placement) -> Tensor:
    """(ch,h,w) at the placement's size, dtype kept."""
    size = (placement.height, placement.width)
    if image.shape[-2:] == size:
        return image
    return torch.nn.functional.interpolate(
        image[None], size=size, mode="bilinear", antialias=placement.antialias, align_corners=False
    )[0]
