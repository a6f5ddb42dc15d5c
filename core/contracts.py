"""One Protocol per kind of part; read this first when you write a part, `densedet.core.conformance` checks
it.

Letters and box conventions: see `densedet.core.types`. Constructors are keyword-only and typed. A recipe sets
their arguments except the *wired* ones, which the assembly gives to constructors that name them; each
Protocol lists its own. Arguments before a ``/`` are passed by position, so a part may name them as it likes.
Parts with parameters are an nn.Module and write ``forward``; all others are plain objects.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from densedet.core.jobs import Job, JobOutcome
from densedet.core.placement import Placement
from densedet.core.types import (
    Annotation,
    Assignment,
    Batch,
    Branch,
    Detections,
    Level,
    Prediction,
    Trace,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torchvision import tv_tensors

BackgroundChannel: TypeAlias = Literal["none", "first", "last"]
QualityUse: TypeAlias = Literal["unused", "optional", "required"]
Space: TypeAlias = Literal["boxes", "deltas", "bins"]
ImageData: TypeAlias = "str | os.PathLike[str] | bytes | np.ndarray"


@runtime_checkable
class Backbone(Protocol):
    """Images to feature maps. An nn.Module.

    Wired: ``in_channels`` (int: 1 for grey images, 3 for RGB).

    Attributes:
        channels: c_l of each map, fine to coarse; like all attributes here, known before any forward pass.
        strides: input pixels per cell of each map.
        mean: one value per image channel, for images scaled to 0..1, as torchvision's; subtracted.
        std: one value per image channel; divided by.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B,in_channels,H,W), normalised with ``mean`` and ``std``.

        Returns:
            A map (B,c_l,h_l,w_l) per level, fine to coarse.
        """

    def __call__(self, images: Tensor, /) -> list[Tensor]:
        """`forward`, as nn.Module calls it."""


@runtime_checkable
class Neck(Protocol):
    """Feature maps to feature maps; it may add levels. An nn.Module.

    Wired: ``in_channels`` and ``in_strides`` (tuples of int: those of the maps that come in).

    Attributes:
        channels: c_l of each map that goes out, fine to coarse.
        strides: input pixels per cell of each map that goes out.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def forward(self, features: list[Tensor], /) -> list[Tensor]:
        """Compute the maps that the head gets.

        Args:
            features: a map (B,c_l,h_l,w_l) per level, fine to coarse.

        Returns:
            Maps of the same form.
        """

    def __call__(self, features: list[Tensor], /) -> list[Tensor]:
        """`forward`, as nn.Module calls it."""


@runtime_checkable
class Anchors(Protocol):
    """The anchor boxes of an image size.

    Wired: ``strides`` (tuple of int: those of the neck, or of the backbone where there is no neck).

    Attributes:
        num_anchors: A_l, anchors per cell of each level.
    """

    num_anchors: tuple[int, ...]

    def __call__(
        self,
        level_sizes: Sequence[tuple[int, int]],
        image_hw: tuple[int, int],
        device: torch.device | str,
        /,
    ) -> list[Tensor]:
        """Make the anchors.

        Args:
            level_sizes: (height, width) of each map in cells.
            image_hw: (height, width) of the network's input in pixels.
            device: where to make them.

        Returns:
            float32 (h_l*w_l*A_l,4) xyxy in pixels per level, in the order y, x, anchor.
        """


@runtime_checkable
class Head(Protocol):
    """Feature maps to class logits and box numbers. An nn.Module.

    Class biases start at ``class_bias``, so that training starts with the class loss's prior. The output
    channels of a convolution are laid out anchor * K + class.

    Wired: ``in_channels``, ``in_strides``, ``num_anchors`` (tuples of int, one entry a level),
    ``class_channels`` (int, K), ``box_channels`` (int, R), ``class_bias`` (float).

    Attributes:
        branches: what the head predicts beside class and box, a `Branch` per name in `Prediction.extra`; an
            empty dict where there is nothing.
    """

    branches: dict[str, Branch]

    def forward(self, features: list[Tensor], /) -> Prediction:
        """Predict for every anchor.

        Args:
            features: a map (B,c_l,h_l,w_l) per level, fine to coarse.

        Returns:
            One entry per level, in the anchors' order (y, x, anchor).
        """

    def __call__(self, features: list[Tensor], /) -> Prediction:
        """`forward`, as nn.Module calls it."""


@runtime_checkable
class Matcher(Protocol):
    """Decides which anchors are trained on which object.

    It works on the batch without a Python loop over images, in chunks where B*G*N is large. An object that
    touches no anchor gets none. A matcher whose rule changes in the course of training names a keyword
    ``progress: float`` in its ``__call__``, and is then called with the progress of the training's budget, 0
    at the start and 1 at the end (1 outside of training).

    A matcher may also have ``reasons(assignment, boxes, labels, valid, anchors, levels, predictions)``, which
    takes what it returned and what it was called with, G at least 1, and returns a
    `densedet.core.types.Reasons`: a sentence with numbers for each anchor, which `densedet show explain`
    shows.

    Wired: ``num_classes`` (int), ``strides`` (tuple of int).

    Attributes:
        uses_predictions: False: called without ``predictions``. True: the scores are those of the class loss.
            "adjusted": the scores after the head's branches, as the postprocess gets them.
    """

    @property
    def uses_predictions(self) -> bool | Literal["adjusted"]: ...

    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: tuple[Level, ...],
        predictions: tuple[Tensor, Tensor] | None = None,
        /,
    ) -> Assignment:
        """Match the anchors of a batch with its objects.

        Args:
            boxes: float32 (B,G,4) xyxy in pixels; whatever lies in slots that are not valid has no meaning.
            labels: int64 (B,G), 0..C-1.
            valid: bool (B,G), False for padding and for ignored objects; these get no anchor.
            anchors: float32 (N,4) xyxy in pixels.
            levels: the feature maps that the anchors belong to, in the anchors' order.
            predictions: scores (B,N,C) in 0..1 and decoded boxes (B,N,4), both detached; None unless
                ``uses_predictions`` asks for them.

        Returns:
            An object's slot, -1 (background) or -2 (ignore) for each anchor of each image.
        """


@runtime_checkable
class Coder(Protocol):
    """Boxes to the numbers that a head regresses, and back. It has no parameters.

    Wired: ``num_classes`` (int), ``strides`` (tuple of int).

    Attributes:
        box_channels: R, numbers per anchor that the head has to give.
        spaces: where a box loss may compare: "boxes" (xyxy in pixels), "deltas" (`deltas` with `encode`'s
            target), "bins" (the raw R channels with `encode`'s target in units of bins).
    """

    box_channels: int
    spaces: tuple[Space, ...]

    def encode(self, boxes: Tensor, anchors: Tensor, /) -> Tensor:
        """Compute the regression target of boxes.

        Args:
            boxes: (...,4) xyxy in pixels.
            anchors: (...,4) xyxy in pixels, broadcastable with ``boxes``.

        Returns:
            (...,4), finite for every anchor, whether it lies inside of its box or not.
        """

    def deltas(self, raw: Tensor, /) -> Tensor:
        """Bring raw outputs (...,R) into the space of `encode`'s target, (...,4)."""

    def decode(self, raw: Tensor, anchors: Tensor, /) -> Tensor:
        """Compute the boxes that raw outputs stand for.

        Args:
            raw: (...,R), the head's output.
            anchors: (...,4) xyxy in pixels, broadcastable.

        Returns:
            (...,4) xyxy in pixels, not clipped to the image.
        """


@runtime_checkable
class ClassLoss(Protocol):
    """Trains the class logits, and turns them into scores. An nn.Module.

    Its ``forward`` may name a keyword ``progress: float``, as a `Matcher` may. It may have a method
    ``initial_loss(labels, quality) -> (B,)``, by which `densedet check recipe` judges the first batch: what
    theory says of `forward`, summed over the anchors of each image, where all logits are ``initial_bias``.

    Wired: ``num_classes`` (int, C).

    Attributes:
        background_channel: "none" (K = C channels), "first" or "last" (K = C + 1).
        initial_bias: what the head's class biases start at.
        quality: what the loss does with the matches' quality: "unused", "optional" or "required". Where it is
            required and the matcher gives none, it is the IoU of the decoded box and its object.
    """

    background_channel: BackgroundChannel
    initial_bias: float
    quality: QualityUse

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None, /) -> Tensor:
        """Compute the loss of each anchor.

        Args:
            logits: float32 (B,N,K).
            labels: int64 (B,N), 0..C-1 an object's class, C background, -1 ignore.
            quality: float32 (B,N) in 0..1, 0 off the positives; None where ``quality`` is "unused", or
                "optional" and the matcher gives none.

        Returns:
            (B,N), summed over the channels, exactly 0 where ignored or not sampled. The batch axis stays,
            since hard negatives are ranked per image.
        """

    def __call__(self, logits: Tensor, labels: Tensor, quality: Tensor | None, /) -> Tensor:
        """`forward`, as nn.Module calls it."""

    def scores(self, logits: Tensor, /) -> Tensor:
        """Turn logits (B,N,K) into class scores (B,N,C) in 0..1."""


@runtime_checkable
class BoxLoss(Protocol):
    """Trains the boxes of the positive anchors. An nn.Module.

    Its ``forward`` may name a keyword ``progress: float``, as a `Matcher` may.

    Attributes:
        space: what is compared: "boxes", "deltas" or "bins", see `Coder`. A space that the coder lacks is
            refused while the recipe loads.
    """

    space: Space

    def forward(self, prediction: Tensor, target: Tensor, /) -> Tensor:
        """Compute the loss of each positive anchor.

        Args:
            prediction: (P,4) xyxy in pixels for "boxes", (P,4) for "deltas", (P,R) for "bins". P may be 0.
            target: (P,4) in the same space.

        Returns:
            (P,), at least 0, and 0 where the prediction is the target.
        """

    def __call__(self, prediction: Tensor, target: Tensor, /) -> Tensor:
        """`forward`, as nn.Module calls it."""


@runtime_checkable
class Postprocess(Protocol):
    """Scores and boxes to detections.

    It may have an attribute ``suppression``, a `densedet.core.suppression.Suppression`: it then does no more
    and no less than these settings tell, and `densedet export` can put it into a file's graph.

    Wired: ``num_classes`` (int), ``strides`` (tuple of int).
    """

    def __call__(
        self,
        scores: Tensor,
        boxes: Tensor,
        levels: tuple[Level, ...],
        sizes: Tensor,
        trace: Trace | None = None,
        /,
    ) -> list[Detections]:
        """Choose the detections of each image.

        Args:
            scores: float32 (B,N,C) in 0..1.
            boxes: float32 (B,N,4) xyxy in pixels of the network's input.
            levels: the feature maps, in the anchors' order.
            sizes: int64 (B,2), (height, width) of the image's part of the input.
            trace: a dict to write each candidate's fate into, and what removed it: ``trace["fate"]`` and
                ``trace["by"]``, see `densedet.core.types.Trace`.

        Returns:
            B detections, best first, clipped to ``sizes``.
        """


@runtime_checkable
class Source(Protocol):
    """Images and their truth.

    It is opened lazily in each process, so that constructing one is cheap and pickling one is safe. Its
    annotations are checked as those of a file are (`densedet.core.annotations.border`). It may also have

    - ``sizes``, an int array (I,2) of each image's (width, height) as displayed, without which every
      annotation is made at the start of a run;
    - ``extras``, a dict of `densedet.core.types.Extra`, what its objects carry beside box and label, by name;
    - ``truth(index)``, the annotation with NumPy arrays in place of tensors, by which an exported file is
      evaluated without torch.

    Wired: ``root`` (str: the recipe's data.root, where relative paths start).
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the index is the label."""

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The data set's own id of each label."""

    def __len__(self) -> int:
        """Number of images."""

    def annotation(self, index: int, /) -> Annotation:
        """The truth of an image, without decoding it."""

    def image(self, index: int, /) -> ImageData:
        """An image, not decoded: a path, encoded bytes, or a uint8 array (H,W) or (H,W,3)."""

    def fingerprint(self) -> str:
        """A text that changes when the content does."""

    def invalid(self) -> list[str]:
        """A sentence on each entry that was left out while reading; each is counted as a box left out."""


@runtime_checkable
class Sampler(Protocol):
    """Order of the training images in each epoch.

    The order depends on the constructor's arguments and the epoch alone: a resumed run and every process of a
    torchrun ask for it anew. An image may come several times, or never.

    Wired: ``source`` (`Source`: the training source, filtered; ``source.annotation(i).labels`` are positions
    in ``source.classes``), ``seed`` (int: the run's).
    """

    def __len__(self) -> int:
        """Images of an epoch, the same in every epoch, at least 1."""

    def __call__(self, epoch: int, /) -> Sequence[int]:
        """Positions in the source, in order, of the images of ``epoch`` (counted from 0)."""


@runtime_checkable
class Resize(Protocol):
    """Where an image goes in the network's input.

    Wired: ``size_wh`` (tuple of int: (width, height), the recipe's data.input_size_wh).
    """

    def __call__(self, width: int, height: int, /) -> Placement:
        """Place a source image of this size in pixels."""


class Transform(Protocol):
    """Augments one image and its objects, before it joins a batch.

    Each transform of torchvision.transforms.v2 is one. Random numbers come from torch's global generator,
    which is seeded for each image from (seed, epoch, index).
    """

    def __call__(
        self, image: tv_tensors.Image, target: dict[str, Any], /
    ) -> tuple[tv_tensors.Image, dict[str, Any]]:
        """Transform a sample.

        Args:
            image: uint8 (ch,H,W).
            target: "boxes" (tv_tensors.BoundingBoxes (G,4) xyxy), "labels" int64 (G,), "ignore" bool (G,).

        Returns:
            Image and target of the same form. Objects may be dropped, then from all entries alike.
        """


@runtime_checkable
class BatchTransform(Protocol):
    """Augments a collated batch.

    It may have ``per_image = True``: each image is transformed by itself, with random numbers from
    `Batch.draw`. Under a torchrun each process then transforms its share of the batch alone; other batch
    transforms get the images of all processes, so that the result is that of one process.

    It may have ``any_device = True``: it also takes a batch on a GPU, and copies what it has drawn there by
    `densedet.core.transfer.uploaded`. Where all batch transforms of a recipe say so, they run on the GPU;
    else all run where the batch is loaded. Numbers such as `Batch.sizes_hw` are on the CPU without waiting.

    Wired: ``size_wh`` (tuple of int: (width, height) of the network's input).
    """

    def __call__(self, batch: Batch, generator: torch.Generator, /) -> Batch:
        """Transform the uint8 images of a batch, and its boxes with them.

        Args:
            batch: what the loader collated.
            generator: the only origin of random numbers.

        Returns:
            A batch; it may be the same one.
        """


class Optimizer(Protocol):
    """Makes a torch optimizer: a function or a class.

    Wired: ``parameters`` (list of dict: groups with "params" and "decay", whether weight decay applies, which
    it does not to norms and biases).
    """

    def __call__(self, *, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Make an optimizer of these groups; ``lr`` is the learning rate at the top of the schedule."""


@runtime_checkable
class Schedule(Protocol):
    """The learning rate in the course of training. It has no state, so that resuming cannot err."""

    def __call__(self, progress: float, step: int, /) -> float:
        """The factor on the learning rate.

        Args:
            progress: part of the budget that is used, 0..1.
            step: optimizer steps that are done.

        Returns:
            A number that is at least 0.
        """


@runtime_checkable
class Evaluator(Protocol):
    """Compares detections with a source's truth, in source pixels.

    It may have a method ``report(metrics) -> list[str]``, the lines that `densedet evaluate` prints; without
    one the numbers are printed by their names. It may have a method ``resampled(weights) -> dict[str,
    numpy.ndarray]``, without which comparisons cannot tell how much a number would vary on other images:
    ``weights`` (R,I) has a row for each resample and a column for each image that was added, in the order of
    their indices; an image of weight k counts as k images. It returns float64 (R,) for each number, by the
    path that ``evaluate.metric`` has for it ("AP", "classes.cat.AP"); -1 where nothing counts.

    Wired: ``source`` (`Source`: the truth), ``classes`` (tuple of str: names in label order, empty for a
    label that stands for no class).
    """

    def add(self, index: int, detections: Detections, /) -> None:
        """Take in the detections of the source's image ``index``, in source pixels, labels by ``classes``."""

    def result(self) -> dict[str, Any]:
        """Metrics by name: numbers (-1: nothing counts) and whatever else JSON can hold."""

    def state(self) -> Any:
        """What another process needs for `merge`; it can be pickled. Only a torchrun calls the two."""

    def merge(self, states: list[Any], /) -> None:
        """Take in the `state` of every process, this one's included."""


@runtime_checkable
class WeightMap(Protocol):
    """Another library's names for the weights of a detector that our parts make too.

    Shapes and the order of channels are the same on both sides.
    """

    def ours(self, name: str, /) -> str | None:
        """Our name of their ``name``, None where that is unknown; two of theirs may mean the same."""

    def theirs(self, name: str, /) -> str | None:
        """Their present name of our ``name``, None where they have no such weight."""


@runtime_checkable
class Launcher(Protocol):
    """Runs commands, each a training run of `densedet compare`, on this machine or by an engine elsewhere.

    It holds no order of its own: jobs start in the order that they come in, as many at a time as there is
    room for. Where the generator is closed or an exception is raised in it, the commands that still run are
    ended by SIGTERM, so that they write their checkpoints, unless the engine keeps them running on its own.

    Attributes:
        cores: CPU cores that each job may use at most; None: not limited.
        on_this_machine: whether the jobs run on this machine, and so share its cache of decoded images.
    """

    @property
    def cores(self) -> int | None: ...

    @property
    def on_this_machine(self) -> bool: ...

    def describe(self, jobs: Sequence[Job], /) -> str:
        """Say in one line where these jobs will run, how many at a time, and what each gets."""

    def __call__(self, jobs: Sequence[Job], /) -> Generator[JobOutcome, None, None]:
        """Run jobs.

        Args:
            jobs: in the order in which they start; may be empty.

        Yields:
            The outcome of each job, as soon as it has ended. A job that fails stops no other.
        """


class Hook(Protocol):
    """Follows a run.

    It implements any of the methods of `densedet.core.hookspecs`, marked ``densedet.hookimpl``. None of them
    is required, so this Protocol names none. Wired: ``run`` (`densedet.core.training.run.Run`).
    """


@runtime_checkable
class Detector(Protocol):
    """What the runner trains. An nn.Module.

    ``forward`` is `losses`, since DistributedDataParallel wraps ``forward``. The constructor's arguments that
    are named after kinds (backbone, neck, anchors, ...) are the parts that its recipes must name. A detector
    may also have

    - ``evaluate(batch)``, which returns `losses` and `predict` of one forward pass;
    - a last argument ``trace`` of ``predict`` and ``evaluate``, a `densedet.core.types.Trace` to fill, from
      which `densedet show missed` tells why an object was missed;
    - an argument ``lowest`` of ``predict``, a score: detections of lower ones are not asked for, and may be
      left out where that does not change the others;
    - ``explain(batch)``, which returns an `Explanation` for pictures;
    - ``match(batch)``, which returns the `Targets` of an explanation without running the network, or None
      where they depend on it: pictures of anchors and matches then take no time;
    - ``raw(images, valid_hw)``, which returns a `RawOutput` and can be traced: without it there is no export;
    - an attribute ``progress``, which the runner sets before each step, from 0 at the start of the training
      to 1 at its end;
    - ``with_targets(batch)``, which returns the batch with `Batch.targets`, where they do not depend on the
      step: a GPU makes those of the next batch beside the step.

    Wired: the parts, ``num_classes`` (int), ``in_channels`` and ``in_strides`` (tuples of int: the neck's),
    ``class_loss_weight`` (float), ``box_loss_weights`` (tuple of float), ``box_loss_names`` (tuple of str).
    """

    def losses(self, batch: Batch, /) -> dict[str, Tensor]:
        """Scalar losses by name, each weighted and normalised; the runner trains on their sum."""

    def predict(self, batch: Batch, /) -> list[Detections]:
        """B detections, best first, in pixels of the batch's images."""
