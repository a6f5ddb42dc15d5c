"""Whether a network can learn one batch by heart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from densedet.core import assembly
from densedet.core.annotations.views import Subset
from densedet.core.boxes import pairwise_iou
from densedet.core.data.dataset import DetectionDataset
from densedet.core.errors import DataError
from densedet.core.recipe.loading import Recipe
from densedet.core.text import counted
from densedet.core.training import engine
from densedet.core.training.evaluation import evaluate_on
from densedet.core.training.run import Run
from densedet.core.training.session import process_settings
from densedet.core.training.step_numbers import NotFiniteError
from densedet.core.types import Batch

IMAGES = 4
"""Images of the batch."""
STEPS, EVERY = 400, 25
"""Steps at most, and from one evaluation to the next."""
ENOUGH = 0.99
"""AP, over the IoU thresholds .50 to .95, from which on the batch is learned."""
FOUND, EXACT = 0.5, 0.95
"""IoU from which on an object is found, and from which on its box is exact."""

STILL = (
    "data.transforms=[]",
    "data.batch_transforms=[]",
    "data.input_sizes_wh=null",
    "data.val=null",
    "data.holdout=null",
    "train.ema_decay=null",
    "train.accumulate=1",
    "train.frozen=[]",
    "train.compile=off",
    "train.schedule={name: cosine, warmup_steps: 0}",
    f"train.batch_size={IMAGES}",
)
"""Overrides that leave nothing to generalise to."""


@dataclass
class Overfit:
    """How a network learned one batch.

    Attributes:
        images: of the batch.
        objects: that count.
        steps: that were taken.
        most: steps that were allowed.
        curve: (step, AP at an IoU of .5, AP) of each evaluation; AP is the recipe's own metric where that is
            another.
        losses: by name, (first, last).
        stuck: a sentence for each object that is not found, or not exactly; empty where the batch is learned.
        fault: what ended it early; empty where nothing did.
    """

    images: int
    objects: int
    most: int
    steps: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    losses: dict[str, tuple[float, float]] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)
    fault: str = ""

    @property
    def learned(self) -> bool:
        """Whether AP came to `ENOUGH`."""
        return bool(self.curve) and self.curve[-1][2] >= ENOUGH

    def lines(self) -> list[str]:
        """Return what to tell."""
        what = f"{counted(self.images, 'image')} with {counted(self.objects, 'object')}"
        losses = ", ".join(f"{name} {first:.3g} to {last:.3g}" for name, (first, last) in self.losses.items())
        if self.learned:
            step, _, ap = self.curve[-1]
            told = f"overfit: {what} are learned by heart in {counted(step, 'step')}"
            return [f"{told} (AP {ap:.3f}; {losses})"]
        reached = f"AP {self.curve[-1][2]:.3f}, AP50 {self.curve[-1][1]:.3f}" if self.curve else "no AP"
        told = f"overfit: {what} are not learned by heart in {counted(self.steps, 'step')}"
        return [f"{told}: {reached} ({losses})", *([self.fault] if self.fault else []), *self.stuck]


def overfit(recipe: Recipe, *, steps: int = STEPS, on_step: Callable[[int], None] | None = None) -> Overfit:
    """Train on the first images that have objects, without augmentation, from the recipe's full learning rate
    down to 0, until all is learned.

    No run folder is made.

    Args:
        recipe: what to train.
        steps: at most.
        on_step: called after each.

    Raises:
        DataError: no image has an object.
    """
    own = recipe.with_overrides([*STILL, f"train.budget={{steps: {steps}, epochs: null, minutes: null}}"])
    run = Run(own)
    dataset, batch = _first_images(run)
    counting = batch.valid & ~batch.ignore
    found = Overfit(len(batch), int(counting.sum()), steps)
    with process_settings(run):
        run.detector.train()
        while run.step < steps and not found.learned:
            try:
                report = engine.optimizer_step(run, (batch,))
            except NotFiniteError as error:
                found.fault = str(error)
                break
            for name, value in report["losses"].items():
                found.losses[name] = (found.losses.get(name, (value, value))[0], value)
            found.steps = run.step
            if run.step % EVERY == 0 or run.step == steps:
                metrics = evaluate_on(own, run.detector, dataset, run.classes, [batch], device=run.device)
                ap = float(metrics.get(own.evaluate.metric, metrics.get("AP", -1)))
                found.curve.append((run.step, float(metrics.get("AP50", ap)), ap))
                run.detector.train()
            if on_step is not None:
                on_step(run.step)
        if not found.learned:
            found.stuck = _stuck(run.detector, batch, run.classes)
    return found


def _first_images(run: Run) -> tuple[DetectionDataset, Batch]:
    source = run.train_set.source
    chosen = []
    for index in range(len(source)):
        truth = source.annotation(index)
        if bool((~truth.ignore).any()):
            chosen.append(index)
        if len(chosen) == IMAGES:
            break
    if not chosen:
        raise DataError("no training image has an object that counts: there is nothing to learn by heart")
    dataset = assembly.make_dataset(run.recipe, Subset(source, chosen), run.classes)
    return dataset, assembly.first_batch(run.recipe, dataset, len(chosen)).to(run.device)


@torch.no_grad()
def _stuck(detector: Any, batch: Batch, classes: tuple[str, ...]) -> list[str]:
    """Tell of each object that is not found what is nearest to it, and of each other one whose box is not
    exact how far it is off."""
    detector.eval()
    index = None
    if hasattr(detector, "explain"):
        index = detector.explain(batch).targets.matched_idxs
    sentences = []
    for row, detections in enumerate(detector.predict(batch)):
        for slot in (batch.valid[row] & ~batch.ignore[row]).nonzero().flatten().tolist():
            box, label = batch.boxes[row, slot], int(batch.labels[row, slot])
            overlap = pairwise_iou(box[None], detections.boxes)[0]
            same = detections.labels == label
            best = float(overlap[same].max()) if bool(same.any()) else 0.0
            if best >= EXACT:
                continue
            where = f"  image {batch.image_ids[row]}, {classes[label]} {[round(v, 1) for v in box.tolist()]}"
            if index is not None and not bool((index[row] == slot).any()):
                sentences.append(f"{where}: no anchor is positive for it, so that nothing is learned of it")
            elif best >= FOUND:
                sentences.append(f"{where}: found, with an IoU of {best:.2f}")
            elif len(overlap) and float(overlap.max()) >= FOUND:
                other = classes[int(detections.labels[overlap.argmax()])]
                sentences.append(f"{where}: found as {other}")
            else:
                sentences.append(f"{where}: the nearest detection of its class has an IoU of {best:.2f}")
    return sentences or ["  all boxes are exact: wrong detections, or scores in a wrong order, cost the rest"]
