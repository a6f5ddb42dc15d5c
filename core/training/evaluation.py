"""Evaluation of a detector: one pass over a source, losses by the training code, detections in source pixels
to the evaluator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core import boxes as box_ops
from densedet.core.assembly.evaluators import build_evaluator
from densedet.core.class_table import of_classes
from densedet.core.contracts import Evaluator
from densedet.core.data.dataset import DetectionDataset
from densedet.core.distributed import alone, from_main, gather_objects, world
from densedet.core.recipe.loading import Recipe
from densedet.core.types import Batch, Detections, Trace


def to_source(found: list[Detections], batch: Batch) -> list[Detections]:
    """Return the detections of each image of a batch in source pixels, on the CPU: boxes and keypoints are
    moved from the network's input, boxes are clipped to the source image."""
    counts = torch.tensor([len(one) for one in found])
    image = torch.arange(len(found)).repeat_interleave(counts)
    boxes, scores, labels, anchors = (
        torch.cat([getattr(one, column) for one in found]).cpu()
        for column in ("boxes", "scores", "labels", "anchors")
    )
    placed, size_hw = batch.to_source.cpu()[image], batch.source_hw.cpu()[image]
    moved = Detections(boxes, scores, labels, anchors).moved(placed[:, :2], placed[:, 2:])
    boxes = box_ops.clip(moved.boxes[:, None], size_hw)[:, 0]
    columns = zip(*(column.split(counts.tolist()) for column in (boxes, scores, labels, anchors)))
    return [
        replace(_with_extra(one, placed), boxes=own[0], scores=own[1], labels=own[2], anchors=own[3])
        for one, placed, own in zip(found, batch.to_source.cpu(), columns)
    ]


def _with_extra(detections: Detections, placed: Tensor) -> Detections:
    """Return detections on the CPU with their keypoints in source pixels, by a row of `Batch.to_source`."""
    if not detections.extra:
        return detections
    return detections.to("cpu").moved(placed[:2], placed[2:])


@torch.no_grad()
def evaluate_detector(
    detector: Any,
    batches: Iterable[Batch],
    evaluator: Evaluator,
    *,
    classes: tuple[str, ...] = (),
    device: torch.device,
    with_losses: bool = True,
    on_batch: Callable[[int], None] | None = None,
    on_detections: Callable[[int, Detections], None] | None = None,
    on_trace: Callable[[Batch, Trace, list[Detections]], None] | None = None,
    leave: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Run the detector over all batches and compare its detections with the truth.

    In float32, whatever precision the recipe trains in, so that the numbers do not depend on the machine and
    are those of `densedet predict`. Every process of a torchrun evaluates its own batches, as many or few as
    there are, and they meet once at the end; all return the same.

    Args:
        detector: one forward pass gives losses and detections where it has ``evaluate``, else two do.
        batches: in pixels of the network's input.
        evaluator: gets the detections of each image in source pixels.
        classes: in label order; detections of a slot that stands for no class go no further.
        device: of the detector.
        with_losses: False leaves the validation losses out.
        on_batch: called with the number of images that are done, after each batch.
        on_detections: called with (index in the source, detections in source pixels) for each image.
        on_trace: called after each batch with the batch, what the detector wrote into a trace (nothing where
            it takes none), and the detections in the batch's pixels.
        leave: asked before each batch whether to break off, as all processes do where one is asked to.

    Returns:
        The evaluator's metrics; "images", their number; "losses", the mean over the images of the losses of
        their batch; and "broken_images", a sentence for each image that could not be read and was left out
        (where the recipe allows that). Empty where the evaluation was broken off.
    """
    training = detector.training
    detector.eval()
    sums: list[tuple[int, dict[str, float]]] = []
    broken: dict[int, str] = {}
    images = 0
    left = False

    def feed(indices: list[int], found: list[Detections]) -> None:
        for index, moved in zip(indices, found):
            named = of_classes(moved, classes)
            evaluator.add(index, named)
            if on_detections is not None:
                on_detections(index, named)

    fed: Future[None] | None = None
    # The evaluator works while a GPU runs the next batch; a CPU has other work for its cores.
    pool = ThreadPoolExecutor(1) if device.type == "cuda" else None
    try:
        for batch in batches:
            left = leave is not None and leave()
            if left:
                break
            broken.update(batch.broken)
            if not len(batch):
                continue
            held, batch = batch, batch.to(device)
            trace: Trace | None = None if on_trace is None else {}
            with alone():  # processes have different numbers of batches
                losses, found = _forward(detector, batch, trace, with_losses=with_losses)
            sums.append((int(held.indices[0]), {n: float(v) * len(batch) for n, v in losses.items()}))
            images += len(batch)
            work = partial(feed, held.indices.tolist(), to_source(found, held))
            if fed is not None:
                fed.result()
            fed = None if pool is None else pool.submit(work)
            if pool is None:
                work()
            if on_trace is not None and trace is not None:
                on_trace(batch, trace, found)
            if on_batch is not None:
                on_batch(images)
        if fed is not None:
            fed.result()
    finally:
        if pool is not None:
            pool.shutdown()
        detector.train(training)
    if any(gather_objects(left)):
        return {}
    return _combine(evaluator, sums, images, broken)


def evaluate_tiled(
    found: Iterable[tuple[int, Detections]],
    evaluator: Evaluator,
    broken: dict[int, str],
    *,
    on_batch: Callable[[int], None] | None = None,
    on_detections: Callable[[int, Detections], None] | None = None,
) -> dict[str, Any]:
    """Compare detections with the truth that have been merged from tiles; there are no losses.

    Args:
        found: index in the source and detections in source pixels of this process's images.
        evaluator: gets them.
        broken: {index: sentence} of images that cannot be read, complete when ``found`` has ended.
        on_batch: called with the number of images that are done, after each.
        on_detections: called with each of ``found``.

    Returns:
        As `evaluate_detector`.
    """
    images = 0
    for index, detections in found:
        evaluator.add(index, detections)
        images += 1
        if on_detections is not None:
            on_detections(index, detections)
        if on_batch is not None:
            on_batch(images)
    return _combine(evaluator, [], images, broken)


def _forward(
    detector: Any, batch: Batch, trace: Trace | None, *, with_losses: bool
) -> tuple[dict[str, Tensor], list[Detections]]:
    if with_losses and hasattr(detector, "evaluate"):
        losses, found = detector.evaluate(batch, **traced(detector.evaluate, trace))
        return losses, found
    losses = detector.losses(batch) if with_losses else {}
    return losses, detector.predict(batch, **traced(detector.predict, trace))


def traced(method: Any, trace: Trace | None) -> dict[str, Trace]:
    """Return the keyword that hands a trace to a detector's ``predict`` or ``evaluate``, where it has one."""
    return {"trace": trace} if trace is not None and takes(method, "trace") else {}


def takes(method: Any, argument: str) -> bool:
    """Whether a detector's method has an argument of this name; None has none."""
    return method is not None and argument in inspect.signature(method).parameters


def _combine(
    evaluator: Evaluator, sums: list[tuple[int, dict[str, float]]], images: int, broken: dict[int, str]
) -> dict[str, Any]:
    """Return the metrics of all processes.

    Args:
        evaluator: with this process's detections.
        sums: of each batch the position of its first image and, by name, its loss times its images.
        images: number of images.
        broken: {position: sentence} of images that could not be read.
    """
    own = evaluator.state() if world()[1] > 1 else None
    everyone: list[Any] = gather_objects((own, sums, images, broken))
    if len(everyone) > 1:
        evaluator.merge([part[0] for part in everyone])
    metrics: dict[str, Any] = dict(from_main(evaluator.result))
    total = sum(part[2] for part in everyone)
    # In the order of the batches, so that the sum is that of one process to the last digit.
    losses: dict[str, float] = {}
    for _, values in sorted((entry for part in everyone for entry in part[1]), key=lambda entry: entry[0]):
        for name, value in values.items():
            losses[name] = losses.get(name, 0.0) + value
    if losses and total:
        metrics["losses"] = {name: value / total for name, value in losses.items()}
    metrics["images"] = total
    faults = {index: text for part in everyone for index, text in part[3].items()}
    if faults:
        metrics["broken_images"] = [faults[index] for index in sorted(faults)]
    return metrics


def evaluate_on(
    recipe: Recipe,
    detector: nn.Module,
    dataset: DetectionDataset,
    classes: tuple[str, ...],
    batches: Iterable[Batch],
    *,
    device: torch.device,
    **callbacks: Any,
) -> dict[str, Any]:
    """A fresh evaluator of the recipe over ``batches`` of the dataset."""
    evaluator = build_evaluator(recipe, dataset.source, classes)
    return evaluate_detector(detector, batches, evaluator, classes=classes, device=device, **callbacks)
