"""The data that passes between the parts.

Throughout: B images, L levels, A_l anchors per cell, N = sum of h_l*w_l*A_l, C classes, G objects of an image
(padded to the largest of the batch), K class channels, R box channels, P positive anchors of the batch, D
detections of an image. Boxes are float32 xyxy in absolute pixels of the tensor at hand, x2 > x1, y2 > y1,
continuous (no +1). Labels are int64 in 0..C-1; -1 is an ignored object. G may be 0.

Where densedet runs an exported file, without torch, `Annotation` and `Detections` hold NumPy arrays in place
of tensors; importing this file does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DEFAULT_SCORE = 0.3
"""Score from which on a detection is shown where nobody gave one."""

ExtraKind = Literal["plain", "keypoints"]
TAKEN_NAMES = frozenset(
    ("boxes", "scores", "labels", "names", "bbox", "score", "image_id", "category_id", "file_name")
)
"""Names of a detection's own columns in `Detections.to_dict` and results files; no extra can have them."""


class Level(NamedTuple):
    """One feature map: its size in cells, its anchors per cell, and its stride in input pixels."""

    height: int
    width: int
    anchors: int
    stride: int

    @property
    def count(self) -> int:  # type: ignore[override]
        """Anchors of this level, h*w*A."""
        return self.height * self.width * self.anchors


def to_array(values: Tensor | np.ndarray) -> np.ndarray:
    """Return a tensor's values, or an array itself."""
    array: np.ndarray = values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
    return array


@dataclass(frozen=True)
class Extra:
    """Declaration of a value that each object carries beside its box and label.

    A source lists its values in ``extras``: ``{"color": Extra(), "corners": Extra((4, 3), "keypoints")}``.

    Attributes:
        shape: shape of one object's value; () is a single number.
        kind: "plain" values (an attribute, a distance, an identity) never change. "keypoints" have the shape
            (K, 3), float32, with x, y in pixels and a visibility (0: not known, above 0: known); they move
            with the box, and one that leaves the image becomes 0, 0, 0.
        pairs: keypoints that a mirror image swaps, e.g. ((1, 2),) for the left and the right eye.
    """

    shape: tuple[int, ...] = ()
    kind: ExtraKind = "plain"
    pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "keypoints" and (len(self.shape) != 2 or self.shape[1] != 3):
            raise ValueError(f"keypoints have the shape (K, 3), for x, y and visibility, not {self.shape}")
        if self.pairs and self.kind != "keypoints":
            raise ValueError("only keypoints have pairs")
        if any(not 0 <= point < self.shape[0] for pair in self.pairs for point in pair):
            raise ValueError(f"pairs {self.pairs} name a point outside of 0..{self.shape[0] - 1}")


@dataclass
class Annotation:
    """The truth of one image, in source pixels. G may be 0.

    Attributes:
        boxes: float32 (G,4) xyxy.
        labels: int64 (G,), 0..C-1.
        ignore: bool (G,), True for objects that neither count nor hurt.
        crowd: bool (G,), COCO's iscrowd; such objects are ignored too.
        area: float (G,), in square pixels; COCO's size classes go by it.
        image_id: the image's id in the source's file.
        file_name: the image's name in the source's file.
        width: of the source image in pixels, after EXIF orientation.
        height: of the source image in pixels, after EXIF orientation.
        xywh: float64 (G,4) x, y, width, height exactly as in the file, or None where the source has no such
            numbers. AP is computed on these.
        extra: a value per name in the source's ``extras``, each ``(G, *shape)``.
        extra_known: bool (G,) per name, False where an object has no such value. A name that is missing here
            is known for all objects.
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    crowd: Tensor
    area: Tensor
    image_id: int | str
    file_name: str
    width: int
    height: int
    xywh: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)
    extra_known: dict[str, Tensor] = field(default_factory=dict)

    def corners(self) -> np.ndarray:
        """Return the boxes as a float64 array (G,4) xyxy, from the file's numbers where there are any."""
        if self.xywh is None:
            return to_array(self.boxes).astype(np.float64)
        xywh = to_array(self.xywh)
        return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


@dataclass
class Batch:
    """The input of a detector: images with their objects.

    Attributes:
        images: uint8 (B,ch,H,W), or float32 0..255 where the recipe resamples exactly. Each image lies at the
            top left.
        valid_hw: int64 (B,2), the (height, width) of each image without its padding.
        boxes: float32 (B,G,4) xyxy in pixels of ``images``.
        labels: int64 (B,G), 0..C-1; -1 in empty slots and for objects of a class that was filtered out.
        valid: bool (B,G), True where the slot holds an object, ignored ones included.
        ignore: bool (B,G), True for ignored objects.
        indices: int64 (B,), position of each image in the source.
        image_ids: B ids from the source.
        source_hw: int64 (B,2), (height, width) of each source image.
        to_source: float32 (B,4), (scale x, scale y, offset x, offset y): source = input * scale + offset.
            Exact only where no augmentation moved the image.
        broken: (position in the source, sentence) of images that could not be read and were left out.
        dropped: number of objects that augmentation lost; an int64 tensor () where it was counted on a GPU.
        extras: declarations of the values below, from the source.
        extra: (B,G,*shape) per name.
        extra_known: bool (B,G) per name, False in empty slots and where the value is not known.
        rows: places of the images in the batch of all processes of a torchrun, whose length is ``rows.stop``;
            None: this is the whole batch.
        targets: training targets that a detector's ``with_targets`` made ahead; None: none were.
        host_hw: ``valid_hw`` of a batch on another device, and the same on the CPU; see `sizes_hw`.
    """

    images: Tensor
    valid_hw: Tensor
    boxes: Tensor
    labels: Tensor
    valid: Tensor
    ignore: Tensor
    indices: Tensor
    image_ids: list[int | str]
    source_hw: Tensor
    to_source: Tensor
    broken: tuple[tuple[int, str], ...] = ()
    dropped: int | Tensor = 0
    extras: dict[str, Extra] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)
    extra_known: dict[str, Tensor] = field(default_factory=dict)
    rows: range | None = None
    targets: Targets | None = None
    host_hw: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sizes_hw(self) -> Tensor:
        """``valid_hw`` on the CPU, int64 (B,2), for which nothing waits as long as it is what `to` moved."""
        if self.host_hw is not None and self.host_hw[0] is self.valid_hw:
            return self.host_hw[1]
        return self.valid_hw.cpu()

    def draw(self, count: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Tensor:
        """Draw random numbers for each image, the same however many processes share the batch.

        Args:
            count: numbers for an image.
            generator: their origin; all processes have it in the same state.
            dtype: of the numbers; None: float32.

        Returns:
            (B,count), uniform in 0..1, on the CPU.
        """
        import torch

        whole = len(self) if self.rows is None else self.rows.stop
        numbers = torch.rand(whole, count, generator=generator, dtype=dtype or torch.float32)
        return numbers if self.rows is None else numbers[self.rows.start :: self.rows.step]

    def take(self, rows: range) -> Batch:
        """Return the images of these places as a batch of their own; what was dropped or broken in all images
        stays with the first place."""
        from torch import Tensor

        first = rows.start == 0
        values: dict[str, Any] = {
            name: {n: v[rows] for n, v in value.items()} if isinstance(value, dict) else value[rows]
            for name, value in ((f.name, getattr(self, f.name)) for f in fields(self))
            if isinstance(value, Tensor) or name in ("extra", "extra_known")
        }
        ids = [self.image_ids[row] for row in rows]
        values |= {"broken": self.broken * first, "dropped": self.dropped * first}
        return replace(self, **values, image_ids=ids, rows=rows, targets=None)

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch with its tensors on ``device``: to a GPU in one copy, for which nothing
        waits."""
        import torch

        from densedet.core.transfer import uploaded

        if torch.device(device).type != "cuda" or self.images.device.type != "cpu":
            return self._each(lambda tensor: tensor.to(device))
        moved = iter(uploaded(replace(self, targets=None).tensors(), device))
        batch = self._each(lambda tensor: next(moved))
        return replace(batch, host_hw=(batch.valid_hw, self.valid_hw))

    def tensors(self) -> list[Tensor]:
        """Return all tensors of the batch."""
        found: list[Tensor] = []

        def note(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self._each(note)
        if self.targets is not None:
            own = self.targets
            found += [own.matched_idxs, own.positive, own.labels, own.boxes, *own.places]
            found += [*own.extra.values(), *own.extra_known.values()]
            found += [] if own.quality is None else [own.quality]
        return found

    def shared(self) -> Batch:
        """Return the same batch with its tensors in memory that other processes can map.

        Raises:
            RuntimeError: there is none left.
        """
        return self._each(lambda tensor: tensor.share_memory_())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        from torch import Tensor

        def changed(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            return {k: changed(v) for k, v in value.items()} if isinstance(value, dict) else value

        return Batch(**{f.name: changed(getattr(self, f.name)) for f in fields(self)})


@dataclass
class Prediction:
    """The output of a head, one entry per level, fine to coarse, in the anchors' order (y, x, anchor).

    Attributes:
        logits: (B, h*w*A_l, K) each.
        box: (B, h*w*A_l, R) each.
        extra: per branch name a list of (B, h*w*A_l, E).
    """

    logits: list[Tensor]
    box: list[Tensor]
    extra: dict[str, list[Tensor]] = field(default_factory=dict)


class Assignment(NamedTuple):
    """The output of a matcher.

    Attributes:
        matched_idxs: int64 (B,N); >= 0 the object's slot in the batch, -1 background, -2 ignore.
        quality: float32 (B,N) in 0..1, how good the match is (0 off the positives), or None.
    """

    matched_idxs: Tensor
    quality: Tensor | None = None


@dataclass
class Targets:
    """Training targets of the anchors of a batch.

    Attributes:
        anchors: (N,4).
        levels: one `Level` per feature map.
        matched_idxs: int64 (B,N), see `Assignment`.
        positive: bool (B,N), True where an object is matched.
        labels: int64 (B,N), 0..C-1 on positives, C background, -1 ignore.
        boxes: float32 (B,N,4), the matched object's box; on anchors without one the anchor itself, so that no
            arithmetic there is 0/0.
        quality: float32 (B,N), 0 off the positives, or None.
        extra: (P,*shape) per name in the source's ``extras``, the matched object's value for each positive
            anchor in the order of ``places``.
        extra_known: bool (P,) per name, False where that object has no such value.
    """

    anchors: Tensor
    levels: tuple[Level, ...]
    matched_idxs: Tensor
    positive: Tensor
    labels: Tensor
    boxes: Tensor
    quality: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)
    extra_known: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """The P positives: image int64 (P,), anchor int64 (P,)."""
        image, anchor = self.positive.nonzero(as_tuple=True)
        return image, anchor

    def at_positives(self, values: Tensor) -> Tensor:
        """Spread a loss of the positives, (P,), over all anchors: (B,N), 0 elsewhere."""
        return values.new_zeros(self.positive.shape).index_put(self.places, values)


class RawOutput(NamedTuple):
    """What a detector hands to its postprocess, for `densedet export`.

    Attributes:
        boxes: float32 (B,N,4) xyxy in pixels of the input, clipped to each image.
        scores: float32 (B,N,C) in 0..1.
        counts: anchors of each level, N in all, in the anchors' order.
        extra: (B,N,*shape) per name, what a detection of each anchor carries in `Detections.extra`.
    """

    boxes: Tensor
    scores: Tensor
    counts: tuple[int, ...]
    extra: dict[str, Tensor]


@dataclass
class Branch:
    """An output of a head beside class and box, e.g. FCOS's centre-ness. ``head.branches`` maps the names in
    `Prediction.extra` to these.

    Attributes:
        loss: (values (B,N,E), targets) -> (B,N), 0 where it does not count. The detector sums it, divides by
            its loss normalizer and multiplies by the branch's weight in the recipe.
        adjust: (scores (B,N,C), values (B,N,E)) -> (B,N,C), how the branch changes the scores at prediction;
            or None.
        weight: targets -> (B,N), weights of the anchors in the box loss, for a detector whose ``box_weight``
            names this branch; or None.
        predict: (values (D,E), anchors (D,4)) -> (D,*shape), what each detection carries under the branch's
            name in `Detections.extra`; or None. Keypoints are in pixels of the network's input.
        kind: of what ``predict`` returns, as in `Extra`.
        needs: what ``loss`` reads from `Targets.extra`, by name: the source's ``extras`` must have the same
            names with the same shapes and kinds.
    """

    loss: Callable[[Tensor, Targets], Tensor]
    adjust: Callable[[Tensor, Tensor], Tensor] | None = None
    weight: Callable[[Targets], Tensor] | None = None
    predict: Callable[[Tensor, Tensor], Tensor] | None = None
    kind: ExtraKind = "plain"
    needs: dict[str, Extra] = field(default_factory=dict)


@dataclass(repr=False)
class Detections:
    """The objects found in one image, best first. D may be 0.

    Attributes:
        boxes: float32 (D,4) xyxy.
        scores: float32 (D,) in 0..1.
        labels: int64 (D,), 0..C-1.
        anchors: int64 (D,), index of the anchor that each came from, -1 where there is none.
        extra: (D,*shape) per name, further values of each detection.
        keypoints: names in ``extra`` whose values are keypoints (D,K,3): x, y in the boxes' pixels, and a
            visibility or score.
        classes: names in label order, for people; () where they are not known.
        shown_from: score from which `draw` shows a detection.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    anchors: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)
    keypoints: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    shown_from: float = DEFAULT_SCORE

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        shown = [f"{name} {score:.2f}" for name, score in zip(self.names(), self.scores.tolist())]
        listed = ", ".join([*shown[:5], *(["..."] if len(shown) > 5 else [])])
        return f"Detections({len(self)} object{'s' * (len(self) != 1)}{': ' * bool(listed)}{listed})"

    def names(self) -> list[str]:
        """Return the class of each detection by name, or as "class 3" where its name is not known."""
        labels = self.labels.tolist()
        return [self.classes[i] if 0 <= i < len(self.classes) else f"class {i}" for i in labels]

    def to_dict(self) -> dict[str, list[Any]]:
        """Return plain lists with an entry per detection: boxes, scores, labels, names, and the values of
        ``extra`` by their names."""
        columns = {**self.extra, "boxes": self.boxes, "scores": self.scores, "labels": self.labels}
        return {**{name: values.tolist() for name, values in columns.items()}, "names": self.names()}

    def draw(self, image: Any, *, min_score: float | None = None) -> Any:
        """Draw the detections on an image; `densedet.draw` describes the arguments.

        Returns:
            A Pillow image, which a notebook shows.
        """
        import densedet

        return densedet.draw(image, self, min_score=min_score)

    @classmethod
    def empty(cls, device: torch.device | str = "cpu") -> Detections:
        """Return detections of an image in which nothing was found."""
        import torch

        none = torch.zeros(0, dtype=torch.int64, device=device)
        return Detections(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), none, none.clone())

    def where(self, keep: Tensor | np.ndarray) -> Detections:
        """Return the detections for which ``keep``, bool (D,), holds; or those at int64 positions."""
        return self._mapped(lambda column: column[keep])

    def to(self, device: torch.device | str) -> Detections:
        """Return the same detections on ``device``."""
        return self._mapped(lambda column: column.to(device))

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> Detections:
        return replace(
            self,
            boxes=function(self.boxes),
            scores=function(self.scores),
            labels=function(self.labels),
            anchors=function(self.anchors),
            extra={name: function(values) for name, values in self.extra.items()},
        )

    def moved(self, scale_xy: Tensor, offset_xy: Tensor) -> Detections:
        """Return them with boxes and keypoints at ``xy * scale_xy + offset_xy``, both float (2,) or (D,2)."""
        import torch

        scale, offset = scale_xy[..., None, :], offset_xy[..., None, :]  # for K points of each
        points = {
            name: torch.cat([self.extra[name][..., :2] * scale + offset, self.extra[name][..., 2:]], -1)
            for name in self.keypoints
        }
        boxes = (self.boxes.unflatten(-1, (2, 2)) * scale + offset).flatten(-2)
        return replace(self, boxes=boxes, extra={**self.extra, **points})


@dataclass(frozen=True)
class Reasons:
    """Why each anchor of a batch was matched as it was, for `densedet show explain`.

    Attributes:
        rules: sentences about an anchor. ``{name}`` in one stands for the anchor's entry in ``values`` or
            ``objects``.
        rule: int64 (B,N), the position in ``rules`` of each anchor's sentence.
        values: float32 (B,N) by name: IoU, thresholds, pixels ...
        objects: int64 (B,N) by name, slots of objects; -1 where the anchor's sentence names none.
    """

    rules: tuple[str, ...]
    rule: Tensor
    values: dict[str, Tensor]
    objects: dict[str, Tensor]


@dataclass
class Explanation:
    """The inside of a dense detector on one batch, for pictures and `show`.

    Attributes:
        levels: as in `Targets`.
        anchors: (N,4).
        scores: (B,N,C), the input of the postprocess.
        boxes: (B,N,4), decoded.
        targets: the training targets of the anchors.
        reasons: returns why they are so, or None where the matcher does not tell.
        detect: returns the detections of the same pass, as the detector's predict does, and fills a trace;
            None: only predict returns them.
    """

    levels: tuple[Level, ...]
    anchors: Tensor
    scores: Tensor
    boxes: Tensor
    targets: Targets
    reasons: Callable[[], Reasons | None] = lambda: None
    detect: Callable[[Trace | None], list[Detections]] | None = None

    def score_maps(self) -> list[Tensor]:
        """Return (B,C,h,w) per level: the best score of each cell over its anchors."""
        maps = []
        for level, part in zip(self.levels, self.scores.split([level.count for level in self.levels], dim=1)):
            cells = part.unflatten(1, (level.height, level.width, level.anchors)).amax(dim=3)
            maps.append(cells.permute(0, 3, 1, 2))
        return maps


class Fate:
    """Values of a trace: what happened to the candidate (anchor, class)."""

    LOW_SCORE, CUT_BY_TOP_K, REMOVED_BY_NMS, CUT_BY_MAX_DETECTIONS, KEPT = range(5)


class Trace(TypedDict, total=False):
    """Record of one prediction, a dict that its caller hands over empty. A candidate is a pair of anchor and
    class.

    A postprocess writes ``fate`` and ``by``. A detector writes the rest, and one that has no postprocess
    writes all; what a detector cannot give is left out.

    Attributes:
        fate: a tensor int8 (N,C) per image, with values of `Fate`.
        by: a tensor int32 (N,C) per image: the candidate that removed this one, as anchor * C + class; -1
            where none did.
        scores: float32 (B,N,C), the scores that the postprocess got.
        boxes: float32 (B,N,4) xyxy in pixels of the batch's images, clipped to ``valid_hw``.
        anchors: float32 (N,4) xyxy in pixels of the batch's images.
        matched_idxs: int64 (B,N), the matcher's choice for the batch's objects as in `Assignment`; written by
            a detector's ``evaluate``.
    """

    fate: list[Tensor]
    by: list[Tensor]
    scores: Tensor
    boxes: Tensor
    anchors: Tensor
    matched_idxs: Tensor
