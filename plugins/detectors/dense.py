"""The dense detector: backbone -> neck -> head on a grid of anchors; SSD, RetinaNet, FCOS and their crosses
by recipe alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from densedet.core import boxes as box_ops
from densedet.core.contracts import (
    Anchors,
    Backbone,
    BoxLoss,
    ClassLoss,
    Coder,
    Head,
    Matcher,
    Neck,
    Postprocess,
)
from densedet.core.distributed import mean_over_processes
from densedet.core.errors import PartError, author_place
from densedet.core.types import Batch, Detections, Explanation, Level, Prediction, Targets, Trace
from densedet.plugins.detectors._targets import make_targets

LossNormalizer = Literal["positives", "positives_per_image", "quality"]
ANCHOR_CACHE = 16


class Output:
    """What the network said about a batch, float32, levels joined: logits (B,N,K), box (B,N,R), extra {name:
    (B,N,E)}."""

    def __init__(self, prediction: Prediction, levels: tuple[Level, ...], anchors: Tensor) -> None:
        self.levels, self.anchors = levels, anchors
        self.logits = torch.cat(prediction.logits, dim=1).float()
        self.box = torch.cat(prediction.box, dim=1).float()
        self.extra = {name: torch.cat(values, dim=1).float() for name, values in prediction.extra.items()}


class DenseDetector(nn.Module):
    """Single-stage detector over anchors.

    loss_normalizer: what the summed losses are divided by. "positives": positive anchors of the batch (over
    all processes), so that curves of different recipes compare; "positives_per_image": each image by its own,
    then the mean (torchvision's RetinaNet); "quality": the sum of the positives' quality (GFL, task-aligned).
    Never less than 1.
    box_weight: what weighs a positive anchor in the box loss: "none", "quality", "score" (its class's score,
    detached; GFL) or the name of a branch of the head ("centerness"). The box loss is then divided by the sum
    of the weights instead.
    class_loss_weight, box_loss_weights: the recipe's ``weight`` of each loss, wired.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None = None,
        anchors: Anchors,
        head: Head,
        matcher: Matcher,
        coder: Coder,
        class_loss: ClassLoss,
        box_loss: list[BoxLoss],
        postprocess: Postprocess,
        num_classes: int,
        class_loss_weight: float = 1.0,
        box_loss_weights: tuple[float, ...] = (1.0,),
        loss_normalizer: LossNormalizer = "positives",
        box_weight: str = "none",
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.anchors, self.matcher, self.coder, self.postprocess = anchors, matcher, coder, postprocess
        self.class_loss = class_loss
        modules: Any = box_loss  # a Protocol cannot derive from nn.Module
        self.box_losses: Any = nn.ModuleList(modules)
        self.num_classes = num_classes
        self.class_loss_weight, self.box_loss_weights = class_loss_weight, tuple(box_loss_weights)
        self.loss_normalizer, self.box_weight = loss_normalizer, box_weight
        self.strides = tuple((backbone if neck is None else neck).strides)
        self._check_parts()
        self.image_mean: Tensor
        self.image_std: Tensor
        for name, value in (("image_mean", self.backbone.mean), ("image_std", self.backbone.std)):
            self.register_buffer(name, torch.tensor(value).view(1, -1, 1, 1) * 255, persistent=False)
        self._anchor_cache: dict[Any, tuple[Tensor, tuple[Level, ...]]] = {}

    def _check_parts(self) -> None:
        spaces = tuple(self.coder.spaces)
        for loss in self.box_losses:
            if loss.space not in spaces:
                raise PartError(
                    f"{type(loss).__name__} works on {loss.space}, which the coder "
                    f"{type(self.coder).__name__} does not give "
                    f"(it gives {', '.join(spaces)}): choose a box loss on {' or '.join(spaces)}, or "
                    f"another coder",
                    part="box_loss",
                )
        if self.box_weight not in ("none", "quality", "score"):
            names = [name for name, branch in self.head.branches.items() if branch.weight is not None]
            if self.box_weight not in names:
                raise PartError(
                    f"box_weight {self.box_weight!r} is neither none, quality, score nor a branch of "
                    f"the head that can weigh "
                    f"({', '.join(names) or 'this head has none'})",
                    part="detector",
                )

    # -- the network --------------------

    def normalise(self, images: Tensor, sizes: Tensor) -> Tensor:
        """uint8 or float 0..255 (B,ch,H,W) -> float32 (image - mean) / std, 0 outside of each image's valid
        (height, width)."""
        normal = (images.float() - self.image_mean) / self.image_std
        height, width = images.shape[-2:]
        if sizes.device.type != "meta" and bool((sizes == sizes.new_tensor([height, width])).all()):
            return normal
        rows = torch.arange(height, device=images.device) < sizes[:, :1]
        columns = torch.arange(width, device=images.device) < sizes[:, 1:]
        return normal * (rows[:, None, :, None] & columns[:, None, None, :])

    def features(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """The maps that the head sees."""
        x = self.normalise(images, sizes)
        if images.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous(memory_format=torch.channels_last)
        features = self.backbone(x)
        return features if self.neck is None else self.neck(features)

    def run_network(self, batch: Batch) -> Output:
        """Backbone, neck and head, under the caller's autocast."""
        features = self.features(batch.images, batch.valid_hw)
        sizes = [(f.shape[-2], f.shape[-1]) for f in features]
        anchors, levels = self.grid(
            sizes, (batch.images.shape[-2], batch.images.shape[-1]), batch.images.device
        )
        return Output(self.head(features), levels, anchors)

    def grid(
        self, sizes: list[tuple[int, int]], image_hw: tuple[int, int], device: torch.device
    ) -> tuple[Tensor, tuple[Level, ...]]:
        """All anchors (N,4) and the levels. Kept for the last few sizes: they depend on nothing else."""
        key = (tuple(sizes), image_hw, device)
        if key not in self._anchor_cache:
            if len(self._anchor_cache) >= ANCHOR_CACHE:
                self._anchor_cache.pop(next(iter(self._anchor_cache)))
            per_level = self.anchors(sizes, image_hw, device)
            levels = tuple(
                Level(h, w, a, s) for (h, w), a, s in zip(sizes, self.anchors.num_anchors, self.strides)
            )
            self._anchor_cache[key] = torch.cat(list(per_level)), levels
        return self._anchor_cache[key]

    # -- training --------------------

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`losses`: DistributedDataParallel wraps forward."""
        return self.losses(batch)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """{"class", "box", branch names...}: scalars, weighted and normalised. An all-negative batch gives a
        box loss of exactly 0 that is still connected to the graph."""
        output = self.run_network(batch)
        with torch.autocast(batch.images.device.type, enabled=False):
            targets = self.assign(output, batch)
            return self._losses(output, targets)

    def assign(self, output: Output, batch: Batch) -> Targets:
        """Which anchor answers for what."""
        if batch.boxes.shape[1] == 0:
            batch = with_one_slot(batch)
        usable = batch.valid & ~batch.ignore
        predictions = None
        if self.matcher.uses_predictions:
            with torch.no_grad():
                predictions = (
                    self.class_loss.scores(output.logits),
                    self.coder.decode(output.box, output.anchors),
                )
        with torch.no_grad():
            assignment = self.matcher(
                batch.boxes, batch.labels, usable, output.anchors, output.levels, predictions
            )
            targets = make_targets(assignment, batch, output.anchors, output.levels, self.num_classes)
            wants_quality = (
                self.class_loss.quality == "required"
                or self.loss_normalizer == "quality"
                or self.box_weight == "quality"
            )
            if targets.quality is None and wants_quality:
                decoded = self.coder.decode(output.box, output.anchors)
                targets = replace(targets, quality=box_ops.iou(decoded, targets.boxes) * targets.positive)
        return targets

    def _losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        scale = self._scale(targets)
        quality = None if self.class_loss.quality == "unused" else targets.quality
        per_anchor = self.class_loss(output.logits, targets.labels, quality)
        losses = {"class": (per_anchor.sum(dim=1) * scale).sum() * self.class_loss_weight}
        losses["box"] = self._box_loss(output, targets, scale)
        for name, branch in self.head.branches.items():
            losses[name] = (branch.loss(output.extra[name], targets).sum(dim=1) * scale).sum()
        return losses

    def _scale(self, targets: Targets) -> Tensor:
        """(B,): what each image's losses are multiplied by."""
        if self.loss_normalizer == "positives_per_image":
            return 1 / (targets.positive.sum(dim=1).clamp(min=1) * len(targets.positive))
        counted = targets.positive
        if self.loss_normalizer == "quality" and targets.quality is not None:
            counted = targets.quality * targets.positive
        total = mean_over_processes(counted.sum().float()).clamp(min=1)
        return (1 / total).expand(len(targets.positive))

    def _box_loss(self, output: Output, targets: Targets, scale: Tensor) -> Tensor:
        image, anchor = targets.places
        raw, anchors, boxes = output.box[image, anchor], output.anchors[anchor], targets.boxes[image, anchor]
        weight = scale[image]
        lent = self._lent_weight(output, targets, image, anchor)
        if lent is not None:
            weight = lent / mean_over_processes(lent.sum()).clamp(min=1e-6)
        total = raw.new_zeros(())
        for loss, factor in zip(self.box_losses, self.box_loss_weights):
            prediction, target = self._in_space(loss.space, raw, anchors, boxes)
            total = total + (loss(prediction, target) * weight).sum() * factor
        return total

    def _in_space(self, space: str, raw: Tensor, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(prediction, target) of P positives as a box loss of this space wants them."""
        if space == "boxes":
            return self.coder.decode(raw, anchors), boxes
        target = self.coder.encode(boxes, anchors)
        return (raw if space == "bins" else self.coder.deltas(raw)), target

    def _lent_weight(self, output: Output, targets: Targets, image: Tensor, anchor: Tensor) -> Tensor | None:
        """(P,) weights of the positives in the box loss, or None for equal ones."""
        if self.box_weight == "none":
            return None
        if self.box_weight == "quality":
            assert targets.quality is not None
            return targets.quality[image, anchor]
        if self.box_weight == "score":
            labels = targets.labels[image, anchor]
            scores = self.class_loss.scores(output.logits.detach())[image, anchor]
            return scores.gather(1, labels.unsqueeze(1)).squeeze(1)
        weight = self.head.branches[self.box_weight].weight
        assert weight is not None
        return weight(targets)[image, anchor].detach()

    # -- prediction --------------------

    def _scores(self, output: Output) -> Tensor:
        scores = self.class_loss.scores(output.logits)
        for name, branch in self.head.branches.items():
            if branch.adjust is not None:
                scores = branch.adjust(scores, output.extra[name])
        return scores

    @torch.no_grad()
    def predict(self, batch: Batch, trace: Trace | None = None) -> list[Detections]:
        """B detections in pixels of the batch's images, float32."""
        output = self.run_network(batch)
        with torch.autocast(batch.images.device.type, enabled=False):
            boxes = self.coder.decode(output.box, output.anchors)
            return self.postprocess(self._scores(output), boxes, output.levels, batch.valid_hw, trace)

    @torch.no_grad()
    def explain(self, batch: Batch) -> Explanation:
        """Scores, boxes and targets of every anchor, for pictures."""
        output = self.run_network(batch)
        with torch.autocast(batch.images.device.type, enabled=False):
            boxes = self.coder.decode(output.box, output.anchors)
            return Explanation(
                output.levels, output.anchors, self._scores(output), boxes, self.assign(output, batch)
            )

    # -- checks while a recipe loads --------------------

    def dry_run(self, channels: int, image_hw: tuple[int, int]) -> None:
        """A forward pass on the meta device (shapes only). Raises PartError, naming the part, where the parts
        cannot work together on (height, width) images."""
        state = {name: value.to("meta") for name, value in (*self.named_parameters(), *self.named_buffers())}
        images = torch.empty(2, channels, *image_hw, device="meta")
        where = f"{image_hw[1]}x{image_hw[0]} images"
        features = self._dry(self.backbone, "backbone", state, images, where)
        source: Backbone | Neck = self.backbone
        if self.neck is not None:
            self._check_maps("backbone", features, source)
            features = self._dry(
                self.neck, "neck", state, features, f"the backbone's maps {shapes(features)} of {where}"
            )
            source = self.neck
        self._check_maps("backbone" if source is self.backbone else "neck", features, source)
        prediction = self._dry(self.head, "head", state, features, f"maps {shapes(features)} of {where}")
        self._check_predictions(prediction, features, image_hw)

    def _dry(self, part: Any, kind: str, state: dict[str, Tensor], given: Any, where: str) -> Any:
        own = {
            name.removeprefix(f"{kind}."): value
            for name, value in state.items()
            if name.startswith(f"{kind}.")
        }
        training = part.training
        try:
            part.eval()
            with torch.no_grad():
                return torch.func.functional_call(part, own, (given,))
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            smallest = (
                " (the image is probably too small for this many stages)" if "size" in reason.lower() else ""
            )
            raise PartError(
                f"the {kind} cannot take {where}: {reason}{author_place(error)}{smallest}", part=kind
            ) from error
        finally:
            part.train(training)

    @staticmethod
    def _check_maps(kind: str, features: list[Tensor], part: Backbone | Neck) -> None:
        given = tuple(f.shape[1] for f in features)
        if given != tuple(part.channels) or len(part.strides) != len(features):
            raise PartError(
                f"the {kind} gives maps of {given} channels but says channels={tuple(part.channels)}, "
                f"strides={tuple(part.strides)}",
                part=kind,
            )
        for level, feature in enumerate(features):
            if 0 in feature.shape[-2:]:
                side = max(part.strides)
                raise PartError(
                    f"level {level} (stride {part.strides[level]}) has no cells: images need sides of "
                    f"at least {side} pixels",
                    part=kind,
                )

    def _check_predictions(
        self, prediction: Prediction, features: list[Tensor], image_hw: tuple[int, int]
    ) -> None:
        counts = tuple(self.anchors.num_anchors)
        if len(counts) != len(features):
            raise PartError(
                f"the anchors are for {len(counts)} levels but the features have {len(features)}",
                part="anchors",
            )
        sizes = [(f.shape[-2], f.shape[-1]) for f in features]
        per_level = self.anchors(sizes, image_hw, "cpu")
        classes = self.num_classes + (self.class_loss.background_channel != "none")
        for level, ((height, width), boxes) in enumerate(zip(sizes, per_level)):
            said, regressed = prediction.logits[level].shape, prediction.box[level].shape
            name = f"level {level} ({width}x{height} cells, stride {self.strides[level]})"
            if len(boxes) != height * width * counts[level]:
                raise PartError(
                    f"{name}: {len(boxes)} anchors, but {counts[level]} per cell make "
                    f"{height * width * counts[level]}",
                    part="anchors",
                )
            if said[1] != len(boxes) or regressed[1] != len(boxes):
                raise PartError(
                    f"{name}: the head answers for {said[1]} anchors, there are {len(boxes)}", part="head"
                )
            if said[2] != classes or regressed[2] != self.coder.box_channels:
                raise PartError(
                    f"{name}: the head gives {said[2]} class and {regressed[2]} box channels, wanted "
                    f"are {classes} and {self.coder.box_channels}",
                    part="head",
                )
        missing = set(self.head.branches) - set(prediction.extra)
        if missing:
            raise PartError(
                f"the head announces branches {sorted(missing)} but gives none in Prediction.extra",
                part="head",
            )


def shapes(features: list[Tensor]) -> str:
    """'32x16, 16x8': widths and heights, for messages."""
    return ", ".join(f"{f.shape[-1]}x{f.shape[-2]}" for f in features)


def with_one_slot(batch: Batch) -> Batch:
    """A batch of G = 0 with one empty slot an image, so that gathering by slot works."""
    count = len(batch.boxes)
    device = batch.boxes.device
    empty = torch.zeros(count, 1, dtype=torch.bool, device=device)
    return replace(
        batch,
        boxes=torch.zeros(count, 1, 4, device=device),
        labels=torch.full((count, 1), -1, dtype=torch.int64, device=device),
        valid=empty,
        ignore=empty.clone(),
    )
