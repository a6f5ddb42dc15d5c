"""Detectors."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.conformance.postprocessing import check_detections, check_fates, same_detections
from densedet.core.conformance.requirements import (
    Factory,
    check,
    check_gradients,
    finite,
    require,
    same,
    steady,
    tensors,
    wire,
)
from densedet.core.examples import CLASSES, example_batch
from densedet.core.training.evaluation import takes
from densedet.core.types import Batch, Trace

STEPS = 12


@check("detector")
def check_detector(factory: Factory, **arguments: Any) -> None:
    """Check losses (finite, connected, falling by training, not changed by padding, by empty slots or by the
    objects' order), predictions (all that a postprocess is held to, whatever the other images of the batch),
    evaluate, the state dict; images without objects.

    Args:
        factory: the class or function.
        **arguments: its arguments; built parts too.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments, num_classes=CLASSES)
    require(isinstance(part, nn.Module), "a detector is an nn.Module")
    channels = len(getattr(getattr(part, "backbone", None), "mean", (0.0,)))
    for objects in (2, 0):
        _check_losses(part, example_batch(channels, objects))
    batch = example_batch(channels)
    _check_padding(part.eval(), batch)
    _check_predictions(part, batch)
    for method in ("predict", "evaluate"):
        if takes(getattr(part, method, None), "trace"):
            _check_trace(part, method, batch)
    if takes(part.predict, "lowest"):
        _check_lowest(part, batch)
    _check_state(part, batch)
    _check_training(copy.deepcopy(part).train(), batch)


def _losses(part: Any, batch: Batch) -> dict[str, Tensor]:
    with torch.no_grad():
        return part.losses(batch)  # type: ignore[no-any-return]


def _check_losses(part: Any, batch: Batch) -> None:
    before = copy.deepcopy(batch)
    losses = part.train().losses(batch)
    require(same(before, batch), "losses changes the batch in place: work on a copy")
    require(
        isinstance(losses, dict)
        and losses
        and all(isinstance(v, Tensor) and v.ndim == 0 and finite(v) for v in losses.values()),
        f"losses are finite scalars by name, got {losses}",
    )
    check_gradients(part, torch.stack(list(losses.values())).sum(), "the detector")
    require(
        set(part(batch)) == set(losses),
        "forward(batch) is losses(batch): DistributedDataParallel wraps forward",
    )


def _check_padding(part: Any, batch: Batch) -> None:
    """What must not change the losses: noise beyond the valid size, empty slots, the order of objects."""
    right = _losses(part, batch)
    require(same(right, _losses(part, batch), 1e-5), "losses differ for the same batch in eval mode")
    images = batch.images.clone()
    for row, (height, width) in enumerate(batch.valid_hw.tolist()):
        images[row, :, height:], images[row, :, :, width:] = 255, 255
    require(
        same(right, _losses(part, replace(batch, images=images)), 1e-3),
        "pixels beyond an image's valid size change the losses: zero them after normalising",
    )
    empty = {"boxes": torch.zeros(2, 2, 4), "labels": torch.full((2, 2), -1)}
    none = torch.zeros(2, 2, dtype=torch.bool)
    slots = {name: torch.cat([getattr(batch, name), value], 1) for name, value in empty.items()}
    slots |= {name: torch.cat([getattr(batch, name), none], 1) for name in ("valid", "ignore")}
    require(
        same(right, _losses(part, replace(batch, **slots)), 1e-3),  # type: ignore[arg-type]
        "empty slots (valid False) change the losses: they are no objects",
    )
    order = torch.arange(batch.boxes.shape[1]).flip(0)
    turned = {n: getattr(batch, n)[:, order] for n in ("boxes", "labels", "valid", "ignore")}
    require(
        same(right, _losses(part, replace(batch, **turned)), 1e-3), "the objects' order changes the losses"
    )
    bare = replace(batch, valid=torch.zeros_like(batch.valid), ignore=torch.zeros_like(batch.ignore))
    fewer = example_batch(batch.images.shape[1], 0)
    require(
        same(_losses(part, bare), _losses(part, replace(fewer, images=batch.images)), 1e-3),
        "a batch of empty slots must have the losses of one without slots (G = 0)",
    )


def _check_predictions(part: Any, batch: Batch) -> None:
    state = [t.clone() for t in part.state_dict().values()]
    found = steady("predict", part.predict, batch)
    check_detections(found, batch.valid_hw, CLASSES)
    require(same(state, list(part.state_dict().values())), "predict changes the detector's state")
    require(not part.training, "predict leaves the detector in training mode")
    small = replace(batch, valid_hw=torch.tensor([[40, 48], [64, 96]]))
    check_detections(part.predict(small), small.valid_hw, CLASSES)
    for row in range(2):
        values: dict[str, Any] = {n: v[[row]] for n, v in vars(batch).items() if isinstance(v, Tensor)}
        alone = replace(batch, image_ids=[batch.image_ids[row]], **values)
        require(
            same_detections(part.predict(alone), found[row : row + 1]),
            "an image's detections depend on the other images of the batch",
        )
    require(
        same_detections(part.predict(replace(batch, valid=batch.valid & False)), found),
        "predict looks at the truth in the batch: its detections change with the objects",
    )
    if hasattr(part, "evaluate"):
        losses, detections = part.evaluate(batch)
        require(
            same(losses, _losses(part, batch), 1e-3) and same_detections(detections, found),
            "evaluate(batch) gives other losses than losses(batch), or other detections than predict(batch)",
        )


def _check_trace(part: Any, method: str, batch: Batch) -> None:
    """A trace changes nothing, and its tensors have the shapes of the detections' candidates."""
    trace: Trace = {}
    plain, traced = getattr(part, method)(batch), getattr(part, method)(batch, trace=trace)
    require(same(plain, traced, 1e-4), f"{method}(batch) gives something else where a trace is asked for")
    if not trace:
        return
    scores: Any = trace.get("scores")
    require(
        isinstance(scores, Tensor) and scores.ndim == 3 and scores.shape[::2] == (len(batch), CLASSES),
        f"trace['scores'] of {method} has the shape (B,N,C)",
    )
    count = scores.shape[1]
    shapes = {"boxes": (len(batch), count, 4), "anchors": (count, 4), "matched_idxs": (len(batch), count)}
    values: dict[str, Any] = {**trace}
    for name, shape in shapes.items():
        if name in values:
            require(values[name].shape == shape, f"trace[{name!r}] of {method} has the shape {shape}")
    require("boxes" in trace, f"{method} writes trace['boxes'] beside the scores")
    if "fate" in trace:
        check_fates(trace, plain if method == "predict" else plain[1], count, CLASSES)


def _check_lowest(part: Any, batch: Batch) -> None:
    """Where low scores are not asked for, the other detections are what they are without that."""
    found = part.predict(batch)
    scores = torch.cat([one.scores for one in found])
    if not len(scores):
        return
    lowest = float(scores.median())
    fewer = [one.where(one.scores >= lowest) for one in part.predict(batch, lowest=lowest)]
    require(
        same_detections(fewer, [one.where(one.scores >= lowest) for one in found]),
        "predict(batch, lowest=...) changes detections of higher scores, too",
    )


def _check_state(part: Any, batch: Batch) -> None:
    other = copy.deepcopy(part)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1)
    other.load_state_dict(part.state_dict())
    require(
        same(_losses(part, batch), _losses(other, batch), 1e-4),
        "a detector that loads the state_dict of another has other losses: register all that it learns",
    )


def _check_training(part: Any, batch: Batch) -> None:
    """Some steps on one batch must lower the losses' sum, and the truth must matter."""
    losses = part.losses(batch)
    no_objects = part.losses(replace(batch, valid=torch.zeros_like(batch.valid)))
    require(
        len(losses) == len(no_objects) and not same(losses, no_objects, 1e-6),
        "the losses are the same with and without objects",
    )
    labels = (batch.labels + 1) % CLASSES
    require(not same(losses, part.losses(replace(batch, labels=labels)), 1e-7), "the labels change no loss")
    first = float(torch.stack(tensors(losses)).detach().sum())
    optimizer = torch.optim.AdamW([p for p in part.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        total = torch.stack(list(part.losses(batch).values())).sum()
        total.backward()
        optimizer.step()
    last = float(torch.stack(tensors(part.losses(batch))).detach().sum())
    require(last < first, f"{STEPS} steps on one batch raise the losses' sum from {first:.4g} to {last:.4g}")
