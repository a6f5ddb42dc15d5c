"""One Protocol per kind of part. Read this first when you write a part; `densedet.core.conformance` checks
it.

Letters and box conventions: see `densedet.core.types`. Constructors are keyword-only and typed; a recipe sets
the arguments except the *wired* ones, which the assembly passes to constructors that name them
(`densedet.core.recipe.wiring`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from densedet.core.types import (
    Annotation,
    Assignment,
    Batch,
    Branch,
    Detections,
    Level,
    Prediction,
    Targets,
    Trace,
)


@runtime_checkable
class Backbone(Protocol):
    """images float32 (B,in_channels,H,W), normalised -> list of (B,c_l,h_l,w_l), fine to coarse. An
    nn.Module.

    Known before any forward: channels (c_l), strides (input pixels per cell), mean and std (one value per
    image channel, for images scaled to 0..1, as torchvision's). Wired: in_channels (1 grey, 3 RGB).
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> list[Tensor]: ...


@runtime_checkable
class Neck(Protocol):
    """list of (B,c_l,h_l,w_l) -> list of the same form, fine to coarse, levels may be added. An nn.Module.

    channels, strides: of what comes out. Wired: in_channels, in_strides (tuples, of what comes in).
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, features: list[Tensor]) -> list[Tensor]: ...


@runtime_checkable
class Anchors(Protocol):
    """(level sizes [(h,w), ...], image size (H,W), device) -> per level float32 (h*w*A_l,4) xyxy, order y, x,
    anchor. An object.

    num_anchors: A_l per level. Wired: strides (tuple, of the neck).
    """

    num_anchors: tuple[int, ...]

    def __call__(
        self, level_sizes: Sequence[tuple[int, int]], image_hw: tuple[int, int], device: torch.device | str
    ) -> list[Tensor]: ...


@runtime_checkable
class Head(Protocol):
    """list of (B,c_l,h_l,w_l) -> Prediction, in the anchors' order. An nn.Module.

    branches: what it brings beside class and box (`Branch` per name in ``extra``); may be an empty dict.
    Class biases start at ``class_bias`` so that training starts with the loss's prior. Wired: in_channels,
    in_strides, num_anchors (tuples, one entry a level), class_channels (K), box_channels (R), class_bias
    (float). Convolution output channels are laid out anchor * K + class.
    """

    branches: dict[str, Branch]

    def __call__(self, features: list[Tensor]) -> Prediction: ...


@runtime_checkable
class Matcher(Protocol):
    """(boxes (B,G,4), labels (B,G), valid (B,G), anchors (N,4), levels[, predictions]) -> Assignment. An
    object.

    valid is False for padding and for ignored objects: those get no anchor. uses_predictions: True asks for
    ``predictions``, a pair of scores (B,N,C) (the class loss's, before branches) and decoded boxes (B,N,4),
    both detached. Batched, without a Python loop over images; in chunks where B*G*N is large. An object that
    touches no anchor must not be forced on anchors of IoU 0.
    """

    uses_predictions: bool

    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: tuple[Level, ...],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Assignment: ...


@runtime_checkable
class Coder(Protocol):
    """box <-> regression. An object, no parameters.

    box_channels: R. spaces: which spaces a box loss may work in, of "boxes" (xyxy pixels), "deltas" (the
    coder's own 4 numbers), "bins" (raw R channels against ``encode``'s target in units of bins). encode(boxes
    (...,4), anchors (...,4)) -> (...,4) target; finite for every anchor, inside the box or not. deltas(raw
    (...,R)) -> (...,4): what the raw output says in the target's space (identity for plain deltas).
    decode(raw (...,R), anchors (...,4)) -> (...,4) boxes.
    """

    box_channels: int
    spaces: tuple[str, ...]

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor: ...

    def deltas(self, raw: Tensor) -> Tensor: ...

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor: ...


@runtime_checkable
class ClassLoss(Protocol):
    """(logits (B,N,K), labels (B,N): 0..C-1, C background, -1 ignore, quality (B,N) or None) -> (B,N). An
    nn.Module.

    Summed over channels; exactly 0 where ignored or not sampled. background_channel: "none" (K = C), "first"
    or "last" (K = C+1).
    initial_bias: what class biases start at. scores(logits) -> (B,N,C) in 0..1. quality: "unused", "optional"
    or "required"; required without a matcher's quality gets the IoU of the decoded box and its object. The
    batch axis stays, since hard negatives are ranked per image. Wired: num_classes (C).
    """

    background_channel: Literal["none", "first", "last"]
    initial_bias: float
    quality: Literal["unused", "optional", "required"]

    def __call__(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor: ...

    def scores(self, logits: Tensor) -> Tensor: ...


@runtime_checkable
class BoxLoss(Protocol):
    """(prediction, target) -> (P,). An nn.Module.

    space: "boxes" (both (P,4) xyxy), "deltas" (both (P,4)) or "bins" (prediction (P,R), target (P,4)); a
    space that the coder lacks is refused while the recipe loads. P may be 0.
    """

    space: Literal["boxes", "deltas", "bins"]

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor: ...


@runtime_checkable
class Postprocess(Protocol):
    """(scores (B,N,C), boxes (B,N,4), levels, sizes (B,2)[, trace]) -> B Detections, best first, clipped to
    sizes. An object.

    float32. Handed a dict as ``trace`` it also says what became of each candidate
    (`densedet.core.types.Fate`).
    """

    def __call__(
        self,
        scores: Tensor,
        boxes: Tensor,
        levels: tuple[Level, ...],
        sizes: Tensor,
        trace: Trace | None = None,
    ) -> list[Detections]: ...


@runtime_checkable
class Source(Protocol):
    """Images and their truth. Opened lazily in each process, so constructing one is cheap and pickling it
    safe.

    classes: names, index = label. category_ids: the file's id of each label. annotation(i): without decoding
    the image. image(i): a path, encoded bytes, or a uint8 array (H,W) or (H,W,3); core decodes and caches.
    fingerprint(): changes when the content does. invalid(): sentences about boxes that were dropped or
    clipped at this border. Optional: sizes, int array (I,2) of each image's (width, height) as displayed;
    without it every annotation is made at the start of a run. Wired: root (str, the recipe's data.root;
    relative paths start there).
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __len__(self) -> int: ...

    def annotation(self, index: int) -> Annotation: ...

    def image(self, index: int) -> Any: ...

    def fingerprint(self) -> str: ...

    def invalid(self) -> list[str]: ...


@runtime_checkable
class Sampler(Protocol):
    """Order of the training images in each epoch. An object.

    The order depends on the constructor's arguments and the epoch alone: a resumed run and every process of a
    torchrun ask for it anew. An image may come several times, or never.

    Wired: source (the training source, filtered: ``source.annotation(i).labels`` are positions in
    ``source.classes``), seed (of the run).
    """

    def __len__(self) -> int:
        """Images of an epoch, the same in every epoch, at least 1."""
        ...

    def __call__(self, epoch: int) -> Sequence[int]:
        """Return the positions in the source, in order, of the images of ``epoch`` (counted from 0)."""
        ...


@runtime_checkable
class Resize(Protocol):
    """(source width, source height) -> `densedet.core.placement.Placement`: where the image goes in the
    network's input. An object.

    Wired: size (width, height) of the recipe's data.input_size_wh.
    """

    def __call__(self, width: int, height: int) -> Any: ...


@runtime_checkable
class BatchTransform(Protocol):
    """(batch, generator) -> batch, on uint8 images; moves boxes along; random numbers from ``generator``
    only. An object."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch: ...


@runtime_checkable
class Schedule(Protocol):
    """(progress of the budget 0..1, optimizer step) -> factor on the learning rate. Stateless, so that
    resuming cannot err."""

    def __call__(self, progress: float, step: int) -> float: ...


@runtime_checkable
class Evaluator(Protocol):
    """Collects detections in source pixels against a source's truth.

    add(index in the source, detections in source pixels); result() -> {metric: number}, AP first, -1 where
    nothing counts; state() / merge(states) for several processes. Wired: source.
    """

    def add(self, index: int, detections: Detections) -> None: ...

    def result(self) -> dict[str, Any]: ...


@runtime_checkable
class WeightMap(Protocol):
    """Another library's names for the weights of a detector that our parts make too. An object; nothing is
    wired.

    ours(name) -> the name in the detector's state dict of their ``name``, None where it is unknown; several
    of theirs (an older and a newer one) may mean the same. theirs(name) -> the way back, to the name they use
    now; None where they have no such weight. Shapes and the order of channels are the same on both sides.
    """

    def ours(self, name: str) -> str | None: ...

    def theirs(self, name: str) -> str | None: ...


@runtime_checkable
class Detector(Protocol):
    """What the runner trains. An nn.Module.

    losses(batch) -> {name: scalar}, to be summed; each already weighted and normalised. predict(batch) -> B
    Detections in pixels of the batch's images. forward is losses (DistributedDataParallel wraps forward).
    Optional explain(batch) -> Explanation. Its constructor's arguments named after kinds (backbone, neck,
    anchors, ...) are the parts that its recipes must name.
    Wired besides: num_classes.
    """

    def losses(self, batch: Batch) -> dict[str, Tensor]: ...

    def predict(self, batch: Batch) -> list[Detections]: ...


__all__ = [
    "Anchors",
    "Backbone",
    "BatchTransform",
    "BoxLoss",
    "ClassLoss",
    "Coder",
    "Detector",
    "Evaluator",
    "Head",
    "Matcher",
    "Neck",
    "Postprocess",
    "Resize",
    "Sampler",
    "Schedule",
    "Source",
    "Targets",
    "WeightMap",
]
