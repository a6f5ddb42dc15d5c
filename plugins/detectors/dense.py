"""The dense detector: backbone -> neck -> head on a grid of anchors; SSD, RetinaNet, FCOS and their crosses
by recipe alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from densedet.core import boxes as box_ops
from densedet.core.arguments import NonNegativeFloat
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
from densedet.core.distributed import shared_normalizer
from densedet.core.errors import PartError, UsageError
from densedet.core.types import (
    Assignment,
    Batch,
    Detections,
    Explanation,
    Level,
    Prediction,
    RawOutput,
    Reasons,
    Targets,
    Trace,
)
from densedet.plugins.detectors._checks import box_loss_keys, check_extras, check_parts, names_progress
from densedet.plugins.detectors._dry_run import dry_run, map_sizes
from densedet.plugins.detectors._targets import (
    IGNORED_COVER,
    ignore_covered,
    make_targets,
    with_one_slot,
)

LossNormalizer = Literal["positives", "positives_per_image", "quality"]
ANCHOR_CACHE = 16
COVERED = (
    f"At least {IGNORED_COVER:.0%} of it lies on an object that does not count (a crowd, for example): it is "
    f"ignored, and no loss is taken here."
)
"""The sentence about an anchor that the detector ignores, whatever the matcher chose."""


class Output:
    """The network's output for a batch in float32, levels joined.

    Attributes:
        levels: one `Level` per feature map.
        anchors: (N,4).
        logits: (B,N,K).
        box: (B,N,R).
        extra: (B,N,E) per branch name.
    """

    def __init__(self, prediction: Prediction, levels: tuple[Level, ...], anchors: Tensor) -> None:
        self.levels, self.anchors = levels, anchors
        self.logits = torch.cat(prediction.logits, dim=1).float()
        self.box = torch.cat(prediction.box, dim=1).float()
        self.extra = {name: torch.cat(values, dim=1).float() for name, values in prediction.extra.items()}


class DenseDetector(nn.Module):
    """Single-stage detector over anchors.

    Args:
        backbone: (wired) from images to maps.
        neck: (wired) between backbone and head, or None.
        anchors: (wired) reference boxes of each cell.
        head: (wired) from maps to logits, regressions and branches.
        matcher: (wired) assigns objects to anchors.
        coder: (wired) between boxes and regressions.
        class_loss: (wired) on the logits of all anchors.
        box_loss: (wired) one or more, on the regressions of positive anchors.
        postprocess: (wired) from scores and boxes to detections.
        num_classes: (wired) C.
        class_loss_weight: (wired) factor on the class loss, its ``weight`` in the recipe.
        class_weights: (wired) factor on the class loss of the anchors of each class, its ``class_weights`` in
            the recipe (Cui et al. 2019, equation 4); None: 1 for all. Background anchors always have 1.
        box_loss_weights: (wired) factor on each box loss, its ``weight`` in the recipe.
        box_loss_names: (wired) name of each box loss in the recipe, by which several are logged.
        loss_normalizer: what the summed losses are divided by. "positives": positive anchors of the batch
            (over all processes), so that curves of different recipes compare; "positives_per_image": each
            image by its own, then the mean (torchvision's RetinaNet); "quality": the sum of the positives'
            quality (GFL, task-aligned). Never less than 1.
        box_weight: weight of a positive anchor in the box loss: "none", "quality", "score" (the score of its
            class, detached; GFL) or the name of a branch of the head ("centerness"). The box loss is then
            divided by the sum of the weights instead.
        branch_weights: factor on the loss of each branch of the head, by the branch's name; 1 where a branch
            is not named.

    Attributes:
        progress: share of the training that is done, 0..1, set by the runner; 1 outside of a training. Handed
            to the matcher and the losses whose call names ``progress``.

    Raises:
        PartError: a box loss works in a space that the coder lacks, ``box_weight`` or ``branch_weights``
            names no branch, or two losses have the same name.
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
        class_weights: tuple[float, ...] | None = None,
        box_loss_weights: tuple[float, ...] = (1.0,),
        box_loss_names: tuple[str, ...] = (),
        loss_normalizer: LossNormalizer = "positives",
        box_weight: str = "none",
        branch_weights: dict[str, NonNegativeFloat] | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head, self.class_loss = backbone, neck, head, class_loss
        modules: Any = box_loss  # a Protocol cannot derive from nn.Module
        self.box_losses: Any = nn.ModuleList(modules)
        self.anchors, self.matcher, self.coder, self.postprocess = anchors, matcher, coder, postprocess
        self.num_classes = num_classes
        self.class_loss_weight, self.box_loss_weights = class_loss_weight, tuple(box_loss_weights)
        self.box_loss_keys = box_loss_keys(box_loss, box_loss_names)
        self.loss_normalizer, self.box_weight = loss_normalizer, box_weight
        self.branch_weights = dict(branch_weights or {})
        self.strides = tuple((backbone if neck is None else neck).strides)
        self.progress = 1.0
        check_parts(self)
        self._with_progress = {
            name
            for name, part in {"matcher": matcher, "class": class_loss, **self._named_box_losses()}.items()
            if names_progress(part)
        }
        self.class_weights: Tensor | None
        weights = None if class_weights is None else torch.tensor([*class_weights, 1.0])  # (C+1,)
        self.register_buffer("class_weights", weights, persistent=False)
        self.image_mean: Tensor
        self.image_std: Tensor
        for name, value in (("image_mean", backbone.mean), ("image_std", backbone.std)):
            self.register_buffer(name, torch.tensor(value).view(1, -1, 1, 1) * 255, persistent=False)
        self._anchor_cache: dict[Any, tuple[Tensor, tuple[Level, ...]]] = {}
        self._map_sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def _named_box_losses(self) -> dict[str, Any]:
        return dict(zip(self.box_loss_keys, self.box_losses))

    # -- the network --------------------

    def normalise(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Return float32 (image - mean) / std, 0 outside of each image's valid (height, width).

        Args:
            images: uint8, or float 0..255, (B,ch,H,W).
            sizes: int64 (B,2), valid (height, width).
        """
        normal = (images - self.image_mean).div_(self.image_std)  # uint8 - float32 is float32
        height, width = images.shape[-2:]
        # An exported graph cannot look, and a GPU would have to be waited for.
        looks = sizes.device.type == "cpu" and not torch.compiler.is_compiling()
        if looks and bool((sizes == sizes.new_tensor([height, width])).all()):
            return normal
        rows = torch.arange(height, device=images.device) < sizes[:, :1]
        columns = torch.arange(width, device=images.device) < sizes[:, 1:]
        return normal * (rows[:, None, :, None] & columns[:, None, None, :])

    def features(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """Return the input of the head: list of (B,c_l,h_l,w_l), fine to coarse. Arguments as `normalise`."""
        x = self.normalise(images, sizes)
        if images.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous(memory_format=torch.channels_last)
        features: list[Tensor] = self.backbone(x)
        return features if self.neck is None else self.neck(features)

    def run_network(self, batch: Batch) -> Output:
        """Run backbone, neck and head, under the caller's autocast.

        Raises:
            UsageError: the input is no batch.
        """
        if not isinstance(batch, Batch):
            raise UsageError(
                f"a detector takes a densedet Batch, not a {type(batch).__name__}: make one with "
                f"densedet.make_batch(recipe, images)"
            )
        return self._run(batch.images, batch.valid_hw)

    def _run(self, images: Tensor, valid_hw: Tensor) -> Output:
        features = self.features(images, valid_hw)
        sizes = [(f.shape[-2], f.shape[-1]) for f in features]
        anchors, levels = self.grid(sizes, (images.shape[-2], images.shape[-1]), images.device)
        return Output(self.head(features), levels, anchors)

    def grid(
        self, sizes: list[tuple[int, int]], image_hw: tuple[int, int], device: torch.device
    ) -> tuple[Tensor, tuple[Level, ...]]:
        """Return all anchors (N,4) and the levels; kept for the last few sizes."""
        key = (tuple(sizes), image_hw, device)
        self._map_sizes[image_hw] = sizes
        if key not in self._anchor_cache:
            if len(self._anchor_cache) >= ANCHOR_CACHE:
                self._anchor_cache.pop(next(iter(self._anchor_cache)))
            per_level = self.anchors(sizes, image_hw, device)
            levels = tuple(
                Level(h, w, a, s) for (h, w), a, s in zip(sizes, self.anchors.num_anchors, self.strides)
            )
            self._anchor_cache[key] = torch.cat(list(per_level)), levels
            if device.type == "cuda" and torch.cuda.is_available():
                torch.cuda.current_stream(device).synchronize()  # `with_targets` takes them in another stream
        return self._anchor_cache[key]

    # -- training --------------------

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return `losses`: DistributedDataParallel wraps forward."""
        return self.losses(batch)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch by name: scalars, weighted and normalised.

        The names are "class", "box" (several box losses: "box_giou", "box_dfl", ... by their names in the
        recipe) and those of the head's branches. On a batch without positive anchors a box loss is exactly 0
        and still connected to the graph.
        """
        output = self.run_network(batch)
        with torch.autocast(batch.images.device.type, enabled=False):
            return self._losses(output, self.assign(output, batch))

    def with_targets(self, batch: Batch) -> Batch:
        """Return a batch with its training targets, for a GPU that makes them beside another step.

        They are those that the batch would get in its own step; where they depend on it, by predictions or
        progress, or the sizes of the maps are not known yet, the batch stays as it is.
        """
        image_hw = batch.images.shape[-2], batch.images.shape[-1]
        sizes = self._map_sizes.get(image_hw)
        if self.matcher.uses_predictions or "matcher" in self._with_progress or sizes is None:
            return batch
        anchors, levels = self.grid(sizes, image_hw, batch.images.device)
        return replace(batch, targets=self._matched(batch, anchors, levels, None))

    def match(self, batch: Batch) -> Targets | None:
        """Return a batch's training targets without running the network on its images; None where the
        matcher goes by its predictions."""
        if self.matcher.uses_predictions:
            return None
        image_hw = batch.images.shape[-2], batch.images.shape[-1]
        sizes = self._map_sizes.get(image_hw) or map_sizes(self, batch.images.shape[1], image_hw)
        anchors, levels = self.grid(sizes, image_hw, batch.images.device)
        return self._matched(batch, anchors, levels, None)

    def assign(self, output: Output, batch: Batch) -> Targets:
        """Match the batch's objects to the anchors."""
        with torch.no_grad():
            targets = batch.targets
            if targets is None or targets.anchors is not output.anchors:
                targets = self._matched(batch, output.anchors, output.levels, self._predictions(output))
            wants_quality = (
                self.class_loss.quality == "required"
                or self.loss_normalizer == "quality"
                or self.box_weight == "quality"
            )
            if targets.quality is None and wants_quality:
                decoded = self.coder.decode(output.box, output.anchors)
                targets = replace(targets, quality=box_ops.iou(decoded, targets.boxes) * targets.positive)
        return targets

    @torch.no_grad()
    def _matched(
        self,
        batch: Batch,
        anchors: Tensor,
        levels: tuple[Level, ...],
        predictions: tuple[Tensor, Tensor] | None,
    ) -> Targets:
        check_extras(self.head, batch)
        if batch.boxes.shape[1] == 0:
            batch = with_one_slot(batch)
        assignment = self.matcher(
            batch.boxes,
            batch.labels,
            batch.valid & ~batch.ignore,
            anchors,
            levels,
            predictions,
            **self._progress_for("matcher"),
        )
        return make_targets(assignment, batch, anchors, levels, self.num_classes)

    def _predictions(self, output: Output) -> tuple[Tensor, Tensor] | None:
        """The matcher's optional input: scores (B,N,C) and decoded boxes (B,N,4), or None."""
        if not self.matcher.uses_predictions:
            return None
        adjusted = self.matcher.uses_predictions == "adjusted"
        scores = self._scores(output) if adjusted else self.class_loss.scores(output.logits)
        return scores, self.coder.decode(output.box, output.anchors)

    def _progress_for(self, part: str) -> dict[str, float]:
        return {"progress": self.progress} if part in self._with_progress else {}

    def _losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        scale = self._scale(targets)
        quality = None if self.class_loss.quality == "unused" else targets.quality
        per_anchor = self.class_loss(
            output.logits, targets.labels, quality, **self._progress_for("class")
        )  # (B,N)
        if self.class_weights is not None:
            # -1, an ignored anchor, has no loss, whatever it is multiplied by.
            per_anchor = per_anchor * self.class_weights[targets.labels]
        losses = {"class": (per_anchor.sum(dim=1) * scale).sum() * self.class_loss_weight}
        losses |= self._box_losses(output, targets, scale)
        for name, branch in self.head.branches.items():
            loss = (branch.loss(output.extra[name], targets).sum(dim=1) * scale).sum()
            losses[name] = loss * self.branch_weights.get(name, 1.0)
        return losses

    def _scale(self, targets: Targets) -> Tensor:
        """(B,), the factor on each image's losses."""
        if self.loss_normalizer == "positives_per_image":
            images = shared_normalizer(targets.anchors.new_full((), float(len(targets.positive))))
            return 1 / (targets.positive.sum(dim=1).clamp(min=1) * images)
        counted = targets.positive
        if self.loss_normalizer == "quality" and targets.quality is not None:
            counted = targets.quality * targets.positive
        return (1 / shared_normalizer(counted.sum().float())).expand(len(targets.positive))

    def _box_losses(self, output: Output, targets: Targets, scale: Tensor) -> dict[str, Tensor]:
        image, anchor = targets.places  # (P,) each
        raw, anchors, boxes = output.box[image, anchor], output.anchors[anchor], targets.boxes[image, anchor]
        factor = scale[image]
        weights = self._box_weights(output, targets, image, anchor)
        if weights is not None:
            factor = weights / shared_normalizer(weights.sum(), minimum=1e-6)
        losses = {}
        for (name, loss), weight in zip(self._named_box_losses().items(), self.box_loss_weights):
            prediction, target = self._in_space(loss.space, raw, anchors, boxes)
            per_positive = loss(prediction, target, **self._progress_for(name))
            losses[name] = (per_positive * factor).sum() * weight
        return losses

    def _in_space(self, space: str, raw: Tensor, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(prediction, target) of P positives in the space of a box loss."""
        if space == "boxes":
            return self.coder.decode(raw, anchors), boxes
        target = self.coder.encode(boxes, anchors)
        return (raw if space == "bins" else self.coder.deltas(raw)), target

    def _box_weights(self, output: Output, targets: Targets, image: Tensor, anchor: Tensor) -> Tensor | None:
        """(P,) weights of the positives in the box loss, or None for equal ones."""
        if self.box_weight == "none":
            return None
        if self.box_weight == "quality":
            assert targets.quality is not None
            return targets.quality[image, anchor]
        if self.box_weight == "score":
            labels = targets.labels[image, anchor]
            scores: Tensor = self.class_loss.scores(output.logits.detach())[image, anchor]
            return scores.gather(1, labels.unsqueeze(1)).squeeze(1)
        weight = self.head.branches[self.box_weight].weight
        assert weight is not None
        return weight(targets)[image, anchor].detach()

    # -- prediction --------------------

    def _scores(self, output: Output) -> Tensor:
        """(B,N,C), the class loss's scores after the branches' adjustments."""
        scores: Tensor = self.class_loss.scores(output.logits)
        for name, branch in self.head.branches.items():
            if branch.adjust is not None:
                scores = branch.adjust(scores, output.extra[name])
        return scores

    @torch.no_grad()
    def _detections(
        self, output: Output, batch: Batch, trace: Trace | None = None, lowest: float | None = None
    ) -> list[Detections]:
        boxes, scores = self.coder.decode(output.box, output.anchors), self._scores(output)
        if lowest is not None and hasattr(self.postprocess, "suppression"):
            # By those settings a candidate has no effect on better ones, and a score of 0 makes none.
            # `threshold`, a tenth of masked_fill's time, keeps what is above a number: here the next lower.
            below = float(torch.tensor(lowest).nextafter(torch.tensor(0.0)))
            scores = functional.threshold(scores, below, 0.0)
        if trace is not None:
            trace["scores"], trace["boxes"] = scores, box_ops.clip(boxes, batch.valid_hw)
            trace["anchors"] = output.anchors
        found = self.postprocess(scores, boxes, output.levels, batch.valid_hw, trace)
        carried = {name: branch.predict for name, branch in self.head.branches.items() if branch.predict}
        if not carried:
            return found
        keypoints = tuple(name for name in carried if self.head.branches[name].kind == "keypoints")
        for image, detections in enumerate(found):
            at = detections.anchors
            if bool((at < 0).any()):
                raise PartError(
                    f"{type(self.postprocess).__name__} gives boxes that come from no anchor (-1), so that "
                    f"branch {next(iter(carried))!r} cannot tell their values: choose another postprocess",
                    part="postprocess",
                )
            detections.extra = {
                name: predict(output.extra[name][image, at], output.anchors[at])
                for name, predict in carried.items()
            }
            detections.keypoints = keypoints
        return found

    @torch.no_grad()
    def raw(self, images: Tensor, valid_hw: Tensor) -> RawOutput:
        """Return the input of the postprocess and what each anchor carries, for `densedet export`.

        Args:
            images: uint8, or float 0..255, (B,ch,H,W).
            valid_hw: int64 (B,2), valid (height, width).
        """
        output = self._run(images, valid_hw)
        boxes = box_ops.clip(self.coder.decode(output.box, output.anchors), valid_hw)
        extra = {
            name: branch.predict(
                output.extra[name].flatten(0, 1), output.anchors.repeat(images.shape[0], 1)
            ).unflatten(0, (images.shape[0], len(output.anchors)))
            for name, branch in self.head.branches.items()
            if branch.predict
        }
        return RawOutput(boxes, self._scores(output), tuple(level.count for level in output.levels), extra)

    @torch.no_grad()
    def predict(
        self, batch: Batch, trace: Trace | None = None, *, lowest: float | None = None
    ) -> list[Detections]:
        """Return B detections in pixels of the batch's images, float32.

        Args:
            batch: the images.
            trace: as in `Trace`.
            lowest: a score; detections of lower ones may be left out. None: none are.
        """
        output = self.run_network(batch)
        with torch.autocast(batch.images.device.type, enabled=False):
            return self._detections(output, batch, trace, lowest)

    @torch.no_grad()
    def evaluate(
        self, batch: Batch, trace: Trace | None = None
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        """Return `losses` and `predict` of a batch from one forward pass; ``trace`` as in `Trace`."""
        output = self.run_network(batch)
        with torch.autocast(batch.images.device.type, enabled=False):
            targets = self.assign(output, batch)
            if trace is not None:
                trace["matched_idxs"] = targets.matched_idxs
            return self._losses(output, targets), self._detections(output, batch, trace)

    @torch.no_grad()
    def explain(self, batch: Batch) -> Explanation:
        """Return scores, boxes and targets of every anchor, for pictures."""
        output = self.run_network(batch)
        with torch.autocast(batch.images.device.type, enabled=False):
            boxes, targets = self.coder.decode(output.box, output.anchors), self.assign(output, batch)
            return Explanation(
                output.levels,
                output.anchors,
                self._scores(output),
                boxes,
                targets,
                partial(self._reasons, output, targets, batch),
                partial(self._detections, output, batch),
            )

    @torch.no_grad()
    def _reasons(self, output: Output, targets: Targets, batch: Batch) -> Reasons | None:
        """Return why the matcher chose the targets, or None where it does not tell."""
        explain = getattr(self.matcher, "reasons", None)
        if explain is None:
            return None
        if batch.boxes.shape[1] == 0:
            batch = with_one_slot(batch)
        found: Reasons = explain(
            Assignment(targets.matched_idxs, targets.quality),
            batch.boxes,
            batch.labels,
            batch.valid & ~batch.ignore,
            output.anchors,
            output.levels,
            self._predictions(output),
        )
        background = torch.full_like(targets.matched_idxs, -1)
        covered = (targets.matched_idxs == -2) & (ignore_covered(background, batch, output.anchors) == -2)
        rule = found.rule.masked_fill(covered, len(found.rules))
        return replace(found, rules=(*found.rules, COVERED), rule=rule)

    def dry_run(self, channels: int, image_hw: tuple[int, int]) -> None:
        """Run the network on the meta device (shapes only) for (height, width) images. Raises PartError,
        naming the part, where the parts cannot work together."""
        dry_run(self, channels, image_hw)
