"""The inside of a detector on one image, and its score maps at several moments of its training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from densedet.core import boxes as box_ops
from densedet.core.errors import CheckpointError, UsageError
from densedet.core.report.drawing import class_color, drawn_name, to_image
from densedet.core.showing.subject import Subject, View
from densedet.core.text import visible
from densedet.core.training import checkpoint
from densedet.core.training.evaluation import traced
from densedet.core.training.prediction import is_recipe
from densedet.core.training.snapshots import snapshots_of
from densedet.core.types import Detections, Explanation, Fate, Level, Reasons, Trace

SHOWN = 60
"""Detections of a snapshot that are kept for the page."""
MOMENTS = 24
"""Snapshots that a page shows; of more, some that are spread evenly."""


@dataclass(frozen=True, eq=False)
class Found:
    """The D detections of an image, best first: boxes (D,4), scores (D,), labels (D,), anchors (D,)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    anchors: np.ndarray


@dataclass(frozen=True, eq=False)
class Moment:
    """A moment of the training.

    Attributes:
        step: of the training; None where it is not known.
        maps: float32 (C,h,w) per level, the best score of each cell over its anchors.
        found: the detections at this moment.
        walked: whether the page walks through the detector of this moment.
    """

    step: int | None
    maps: list[np.ndarray]
    found: Found
    walked: bool = False


@dataclass(frozen=True, eq=False)
class Cells:
    """What a detector of levels and anchors has for each anchor of one image.

    Attributes:
        levels: the feature maps.
        anchors: float32 (N,4).
        boxes: float32 (N,4), decoded and clipped to the image.
        scores: float32 (N,C), the input of the postprocess.
        matched: int64 (N,), the object that each is trained on, -1 background, -2 ignored.
        reasons: why; None where the matcher does not tell.
        iou: float32 (N,), the largest IoU with an object that counts.
        nearest: int64 (N,), that object; -1 where none overlaps it.
    """

    levels: tuple[Level, ...]
    anchors: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    matched: np.ndarray
    reasons: Reasons | None
    iou: np.ndarray
    nearest: np.ndarray


@dataclass(frozen=True, eq=False)
class Walk:
    """A detector on an image, for a column of the page.

    Attributes:
        title: the recipe's name.
        state: what was loaded, in words.
        picture: the network's input as a picture.
        objects: {"name", "box", "label", "counts"} of each object.
        classes: names as they are shown.
        colors: of each class, "rgb(r, g, b)".
        found: the detections.
        cells: what lies behind them; None where the detector gives none.
        fate: int8 (N,C) values of `Fate`; None where the detector gives no trace.
        by: int32 (N,C), the candidate that removed each, anchor * C + class, or -1; None as above.
        suppression: settings of the postprocess; None where it has none.
        moments: of the training, ascending; the one that is walked through is among them.
        notes: sentences about what is missing.
    """

    title: str
    state: str
    picture: Image.Image
    objects: list[dict[str, Any]]
    classes: list[str]
    colors: list[str]
    found: Found
    cells: Cells | None
    fate: np.ndarray | None
    by: np.ndarray | None
    suppression: dict[str, Any] | None
    moments: list[Moment]
    notes: list[str] = field(default_factory=list)


def walk_through(subject: Subject, view: View) -> Walk:
    """Run a detector on an image, and its snapshots where it has any.

    Raises:
        UsageError: its scores or boxes are not finite.
    """
    detector: Any = subject.detector
    notes = list(subject.notes)
    trace = Trace()
    inside, detections = look_inside(detector, view, trace)
    found, cells = found_of(detections), None
    name = type(detector).__name__
    if inside is not None:
        cells = cells_of(inside, view)
        if not (np.isfinite(cells.scores).all() and np.isfinite(cells.boxes).all()):
            raise UsageError(
                f"{subject.what}: scores or boxes are not finite on this image, so that there is nothing to "
                f"walk through: take an older checkpoint"
            )
    else:
        notes.append(
            f"{name} has no explain(batch), so that this page cannot walk through its cells: it shows what "
            f"is "
            f"found."
        )
    tells = "fate" in trace and cells is not None
    if cells is not None and not tells:
        notes.append(f"{name} takes no trace, so that the fate of a candidate is not known.")
    if not view.known:
        notes.append("The objects of this image are not known, so that no anchor is matched with any.")
    settings = getattr(getattr(detector, "postprocess", None), "suppression", None)
    if cells is not None and settings is None:
        notes.append("Its postprocess has no settings that could be moved here: its own result is shown.")
    maps = [] if cells is None else score_maps(cells)
    now = Moment(None if not subject.trained else step_of(subject), maps, found, walked=True)
    classes = [drawn_name(label, subject.classes) for label in range(len(subject.classes))]
    return Walk(
        title=visible(subject.recipe.name),
        state=subject.state,
        picture=to_image(view.batch.images[0]),
        objects=objects_of(view, classes),
        classes=classes,
        colors=["rgb({}, {}, {})".format(*class_color(label)) for label in range(len(classes))],
        found=found,
        cells=cells,
        fate=trace["fate"][0].cpu().numpy() if tells else None,
        by=trace["by"][0].cpu().numpy() if tells and "by" in trace else None,
        suppression=None if settings is None or cells is None else asdict(settings),
        moments=moments_of(subject, view, now, notes),
        notes=notes,
    )


def look_inside(
    detector: Any, view: View, trace: Trace | None = None
) -> tuple[Explanation | None, Detections]:
    """Run a detector on an image, once where its explanation gives the detections, too.

    Args:
        detector: in evaluation mode.
        view: the image.
        trace: is filled where the detector takes one.

    Returns:
        Its inside, None where it gives none, and its detections.
    """
    inside = detector.explain(view.batch) if hasattr(detector, "explain") else None
    if inside is not None and inside.detect is not None:
        return inside, inside.detect(trace)[0]
    return inside, detector.predict(view.batch, **traced(detector.predict, trace))[0]


def objects_of(view: View, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the objects of an image by their slots; an ignored one does not count."""
    rows = zip(view.batch.boxes[0], view.batch.labels[0].tolist(), view.batch.ignore[0].tolist())
    return [
        {
            "name": classes[label] if label >= 0 else "another class",
            "box": [round(float(side), 3) for side in box],
            "label": label,
            "counts": label >= 0 and not ignored,
        }
        for (box, label, ignored), valid in zip(rows, view.batch.valid[0].tolist())
        if valid
    ]


def cells_of(inside: Explanation, view: View) -> Cells:
    """Return what a detector has for each anchor of the image."""
    batch = view.batch
    anchors, targets = inside.anchors.float(), inside.targets
    if batch.boxes.shape[1]:
        overlap = box_ops.pairwise_iou(batch.boxes[0], anchors)  # (G,N)
        counts = batch.valid[0] & ~batch.ignore[0]
        largest, nearest = overlap.masked_fill(~counts[:, None], 0).max(dim=0)
    else:
        largest, nearest = anchors.new_zeros(len(anchors)), targets.matched_idxs.new_zeros(len(anchors))
    return Cells(
        inside.levels,
        array(anchors),
        array(box_ops.clip(inside.boxes.float(), batch.valid_hw)[0]),
        array(inside.scores.float()[0]),
        array(targets.matched_idxs[0]),
        inside.reasons(),
        array(largest),
        array(nearest.masked_fill(largest <= 0, -1)),
    )


def score_maps(cells: Cells) -> list[np.ndarray]:
    """Return (C,h,w) per level: the best score of each cell over its anchors."""
    maps, start = [], 0
    for level in cells.levels:
        part = cells.scores[start : start + level.count]
        grid = part.reshape(level.height, level.width, level.anchors, -1).max(axis=2)
        maps.append(np.ascontiguousarray(grid.transpose(2, 0, 1)))
        start += level.count
    return maps


def found_of(detections: Detections, most: int | None = None) -> Found:
    """Return detections as arrays, at most ``most``."""
    best = detections.where(slice(most)) if most is not None else detections  # type: ignore[arg-type]
    return Found(array(best.boxes), array(best.scores), array(best.labels), array(best.anchors))


def array(values: Tensor) -> np.ndarray:
    """Return a tensor's values."""
    found: np.ndarray = values.detach().cpu().numpy()
    return found


def file_of(subject: Subject) -> Path | None:
    """Return the checkpoint that a subject was loaded from; None where it comes from a recipe."""
    return None if is_recipe(subject.what) else checkpoint.resolve(Path(subject.what))


def step_of(subject: Subject) -> int | None:
    """Return the step of a subject's weights, or None where they are not a run's."""
    file = file_of(subject)
    return None if file is None else int(checkpoint.load(file)["step"])


def moments_of(subject: Subject, view: View, now: Moment, notes: list[str]) -> list[Moment]:
    """Return the moments of a run's snapshots, at most `MOMENTS`, and ``now``, by their steps; a sentence
    about each snapshot that cannot be read goes to ``notes``."""
    file = file_of(subject)
    if file is None or now.step is None:
        return [now]
    kept = snapshots_of(Path(os.path.abspath(file)).parent)
    steps = [step for step in kept if step != now.step]
    if len(steps) > MOMENTS:
        steps = [steps[i] for i in np.linspace(0, len(steps) - 1, MOMENTS).round().astype(int).tolist()]
    detector: Any = subject.detector
    trained = {name: value.clone() for name, value in detector.state_dict().items()}
    moments = [now]
    for step in steps:
        try:
            state = checkpoint.load(kept[step])
            checkpoint.load_weights(detector, state["ema"] or state["detector"])
        except CheckpointError as error:
            notes.append(f"A snapshot is left out: {error}.")
            continue
        inside, found = look_inside(detector, view)
        maps = [] if inside is None else [array(level[0]) for level in inside.score_maps()]
        moments.append(Moment(step, maps, found_of(found, SHOWN)))
    detector.load_state_dict(trained)
    return sorted(moments, key=lambda moment: moment.step or 0)


def counted_fates(walk: Walk) -> dict[str, int]:
    """Return how many candidates had each fate, for the terminal."""
    if walk.fate is None:
        return {}
    names = {
        Fate.CUT_BY_TOP_K: "cut by top-k",
        Fate.REMOVED_BY_NMS: "removed by NMS",
        Fate.CUT_BY_MAX_DETECTIONS: "cut by the limit on detections",
        Fate.KEPT: "kept",
    }
    return {name: int((walk.fate == fate).sum()) for fate, name in names.items()}
