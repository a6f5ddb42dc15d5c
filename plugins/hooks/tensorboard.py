"""TensorBoard events in the run folder: ``tensorboard --logdir runs`` shows every run, with the same tags for
every head."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from PIL import Image

from densedet.core.arguments import NonNegativeInt, PositiveInt, Probability
from densedet.core.errors import sentence
from densedet.core.hookspecs import hookimpl
from densedet.core.report.drawing import grid, side_by_side
from densedet.core.report.pictures import heatmap_picture, prediction_picture, shown_classes, truth_picture
from densedet.core.text import visible
from densedet.core.training.memory import used_mb
from densedet.core.types import Batch

STEP_TAGS = {
    "loss": "train/loss",
    "learning_rate": "lr",
    "grad_norm": "train/grad_norm",
    "step_seconds": "time/step",
    "data_seconds": "time/data",
}
"""Key of a step -> tag of its curve."""
MEMORY_EVERY_SECONDS = 5.0
"""Reading the memory of a process tree takes milliseconds, as much as a small network's step."""


class TensorBoardHook:
    """Write losses, learning rate, times, memory and metrics, and at each evaluation pictures of the same few
    validation images. Acts on rank 0 only.

    Tags: train/loss, train/loss_class, train/loss_box, train/loss_<branch>, train/grad_norm, lr, time/step
    (waiting for data included), time/data, time/images_per_second, memory/used_mb; val/loss,
    val/loss_class..., val/AP, val/AP50 and the evaluator's other numbers, val_class/<name>/AP, val_pr/<name>;
    images/predictions, heatmaps/<name>; recipe, hparams. Numbers that are -1 (nothing to judge) or missing
    are left out.

    Args:
        images: validation images to draw; 0: none.
        every: steps between two points of the training curves; a point is the mean since the last one.
        heatmap_classes: classes, those with most objects in these images, whose score maps per level are
            drawn; 0: none.
        min_score: detections with a lower score are not drawn.
    """

    in_folder = True

    def __init__(
        self,
        *,
        images: NonNegativeInt = 4,
        every: PositiveInt = 10,
        heatmap_classes: NonNegativeInt = 3,
        min_score: Probability = 0.3,
    ) -> None:
        self.images, self.every, self.heatmap_classes, self.min_score = (
            images,
            every,
            heatmap_classes,
            min_score,
        )
        self._writer: Any = None
        self._sums: dict[str, list[float]] = defaultdict(list)
        self._unread: list[dict[str, Any]] = []
        self._batch: Batch | None = None
        self._memory_read = -MEMORY_EVERY_SECONDS

    @hookimpl
    def densedet_run_start(self, run: Any) -> None:
        if not run.is_main:
            return
        # Here and not above: it takes a second, and a listing of components should not pay for it.
        from torch.utils.tensorboard import SummaryWriter

        # Its thread keeps the error of a full disk for the next write, which raises it here; Python would
        # print the traceback of the thread besides.
        self._told_before, threading.excepthook = threading.excepthook, self._told
        # What a killed run wrote after its last checkpoint is hidden, since those steps are taken again.
        self._writer = SummaryWriter(str(run.folder), purge_step=run.step + 1 if run.step else None)
        if not run.step:
            self._writer.add_text(
                "recipe", "\n".join("    " + line for line in run.recipe.to_yaml().splitlines()), 0
            )
        self._write_hparams(run)

    @hookimpl
    def densedet_run_step(self, run: Any, step: dict[str, Any]) -> None:
        if self._writer is None:
            return
        self._unread.append(step)
        if step.get("images") and step.get("step_seconds"):
            self._sums["time/images_per_second"].append(step["images"] / step["step_seconds"])
        if time.monotonic() - self._memory_read > MEMORY_EVERY_SECONDS:
            self._memory_read = time.monotonic()
            self._sums["memory/used_mb"].append(used_mb())
        if run.step % self.every == 0 or run.step == 1:
            self._write_means(run.step)

    def _read(self) -> None:
        """Take the numbers of the steps, which a GPU tells late, when they are wanted."""
        for step in self._unread:
            for key, tag in STEP_TAGS.items():
                if step.get(key) is not None:
                    self._sums[tag].append(float(step[key]))
            for name, value in step.get("losses", {}).items():
                self._sums[f"train/loss_{name}"].append(float(value))
        self._unread.clear()

    @hookimpl
    def densedet_state(self, run: Any) -> dict[str, Any]:
        """The numbers since the last point of the curves."""
        self._read()
        return {"sums": dict(self._sums)}

    @hookimpl
    def densedet_restore(self, run: Any, state: dict[str, Any]) -> None:
        self._sums.update(state["sums"])

    @hookimpl
    def densedet_run_evaluated(self, run: Any, metrics: dict[str, Any]) -> None:
        if self._writer is None:
            return
        self._write_means(run.step)
        for name, value in metrics.items():
            if isinstance(value, float):  # a count of images is no curve
                self._number(f"val/{name}", value, run.step)
        losses = metrics.get("losses") or {}
        for name, value in losses.items():
            self._number(f"val/loss_{name}", value, run.step, lowest=-np.inf)
        if losses and "loss" not in metrics:
            self._number("val/loss", sum(losses.values()), run.step, lowest=-np.inf)
        for name, numbers in (metrics.get("classes") or {}).items():
            for key, value in numbers.items():
                self._number(f"val_class/{visible(name)}/{key}", value, run.step)
        for name, precision in (metrics.get("curves") or {}).items():
            self._write_curve(name, precision, run.step)
        try:
            self._write_pictures(run)
        except Exception as error:
            # Hours of training are worth more than a picture; the warning says what to look into.
            warnings.warn(
                visible(f"hook tensorboard: no pictures of step {run.step}: {sentence(error)}"),
                RuntimeWarning,
                stacklevel=2,
            )
        self._writer.flush()

    @hookimpl
    def densedet_run_end(self, run: Any, summary: dict[str, Any]) -> None:
        if self._writer is None:
            return
        try:
            with contextlib.closing(self._writer):
                if summary["status"] == "done":  # else a resumed run goes on with them
                    self._write_means(run.step)
                for key in ("AP", "AP50", "minutes", "predict_images_per_second"):
                    self._number(f"summary/{key}", summary.get(key), run.step)
        finally:
            self._writer, self._batch = None, None
            threading.excepthook = self._told_before

    def _told(self, failed: threading.ExceptHookArgs) -> None:
        """Print what ended a thread, unless TensorBoard's tells the run itself."""
        if not type(failed.thread).__module__.startswith("tensorboard."):
            self._told_before(failed)

    def _number(self, tag: str, value: Any, step: int, *, lowest: float = 0.0) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= lowest:
            self._writer.add_scalar(tag, float(value), step)

    def _write_means(self, step: int) -> None:
        self._read()
        for tag, values in self._sums.items():
            self._writer.add_scalar(tag, sum(values) / len(values), step)
        self._sums.clear()

    def _write_curve(self, name: str, precision: list[float], step: int) -> None:
        """Precision over 101 recalls 0..1; the plug-in wants rising thresholds, that is falling recall.
        Counts are not known."""
        falling = np.clip(np.asarray(precision, dtype=np.float64)[::-1], 0, 1)
        recall = np.linspace(1, 0, len(falling))
        unknown = np.zeros(len(falling))
        self._writer.add_pr_curve_raw(
            f"val_pr/{visible(name)}",
            unknown,
            unknown,
            unknown,
            unknown,
            falling,
            recall,
            global_step=step,
            num_thresholds=len(falling),
        )

    def _write_hparams(self, run: Any) -> None:
        """The recipe's values for the HPARAMS page, which the writer's own add_hparams would put into a run
        of its own."""
        from torch.utils.tensorboard.summary import hparams

        values = flat_values(run.recipe.values)
        for summary in hparams(values, {"val/AP": 0.0, "val/AP50": 0.0, "val/loss": 0.0}):
            self._writer.file_writer.add_summary(summary)

    @torch.no_grad()
    def _write_pictures(self, run: Any) -> None:
        if not self.images:
            return
        if self._batch is None:
            self._batch = run.sample_batch(split="val", count=self.images)
        batch, classes = self._batch, tuple(run.classes)
        if batch is None or not len(batch):
            return
        detector = run.eval_detector
        training = detector.training
        detector.eval()
        try:
            detections = detector.predict(batch)
            explanation = (
                detector.explain(batch) if self.heatmap_classes and hasattr(detector, "explain") else None
            )
        finally:
            detector.train(training)
        pairs = [
            side_by_side(
                [
                    truth_picture(batch, i, classes),
                    prediction_picture(batch, i, found, classes, min_score=self.min_score),
                ],
                [f"{batch.image_ids[i]}: truth", f"found, score from {self.min_score:.2f}"],
            )
            for i, found in enumerate(detections)
        ]
        self._picture("images/predictions", grid(pairs, columns=1, gap=12), run.step)
        if explanation is None:
            return
        for label in shown_classes(batch, self.heatmap_classes):
            panels = [heatmap_picture(explanation, batch, i, label, classes) for i in range(len(batch))]
            self._picture(f"heatmaps/{visible(classes[label])}", grid(panels, columns=1, gap=12), run.step)

    def _picture(self, tag: str, picture: Image.Image, step: int) -> None:
        """Write a picture as it is: the writer's own add_image takes a dozen times its memory on the way."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        file = io.BytesIO()
        picture.save(file, "PNG")
        image = Summary.Image(
            width=picture.width, height=picture.height, colorspace=3, encoded_image_string=file.getvalue()
        )
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def flat_values(values: Any, path: str = "") -> dict[str, bool | int | float | str]:
    """A recipe's mappings as {"model.head.name": "ssd", ...}; lists and null as text."""
    if isinstance(values, dict):
        return {
            key: leaf
            for name, inner in values.items()
            for key, leaf in flat_values(inner, f"{path}.{name}" if path else name).items()
        }
    if isinstance(values, bool | int | float | str):
        return {path: values}
    return {path: json.dumps(values, default=str)}
