"""A judgement: all that a detector found on a set of images beside the truth, and the file that keeps it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from densedet.core import sealed_file

FORMAT = 1
"""Version of the file."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The G objects of the judged images, image after image, in the source's order within each.

    Attributes:
        image: int64 (G,), position in `Judgement.image_ids`.
        boxes: float64 (G,4) xyxy in source pixels.
        labels: int64 (G,), 0..C-1.
        areas: float64 (G,) in square source pixels, as the source gives them.
        ignored: bool (G,), True for crowds and other objects that neither count nor hurt.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """The D detections of the judged images, image after image, best first within each.

    Attributes:
        image: int64 (D,), position in `Judgement.image_ids`.
        boxes: float32 (D,4) xyxy in source pixels.
        scores: float32 (D,) in 0..1.
        labels: int64 (D,), 0..C-1.
        extra: (D,*shape) per name, as in `densedet.core.types.Detections`.
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    extra: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What training and prediction did about each of the G objects.

    A candidate is a pair of anchor and class. It reaches an object where its class is the object's and their
    IoU is at least `Judgement.iou`.

    Attributes:
        positives: int64 (G,), anchors that the recipe's matcher gives the object; -1 where that is unknown.
        ignored_anchors: int64 (G,), anchors that overlap this object most and are ignored in training; -1
            where that is unknown.
        filtered: bool (G,), whether the object is below the training's filter.
        traced: bool (G,), whether the detector gave a trace; the rest has no meaning where it did not.
        best_score: float32 (G,), best score of the candidates that reach the object; -1 where none does.
        best_iou: float32 (G,), best IoU of any candidate.
        lost_fate: int64 (G,), `densedet.core.types.Fate` of the candidate of the best score among those that
            reach the object, are above the postprocess's score and are no detection; -1 where there is none.
        lost_score: float32 (G,), its score.
        lost_box: float32 (G,4), its box, xyxy in source pixels.
        by_label: int64 (G,), class of the candidate that removed it; -1 where none did or it is unknown.
        by_score: float32 (G,), score of that candidate.
        by_box: float32 (G,4), box of that candidate, xyxy in source pixels.
    """

    positives: np.ndarray
    ignored_anchors: np.ndarray
    filtered: np.ndarray
    traced: np.ndarray
    best_score: np.ndarray
    best_iou: np.ndarray
    lost_fate: np.ndarray
    lost_score: np.ndarray
    lost_box: np.ndarray
    by_label: np.ndarray
    by_score: np.ndarray
    by_box: np.ndarray


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a detector found on I images beside their truth.

    Attributes:
        classes: names of the C classes in label order; an empty one stands for no class.
        image_ids: the source's id of each image.
        file_names: the source's name of each image.
        indices: int64 (I,), position of each image in the source.
        sizes_wh: int64 (I,2), width and height of each source image.
        scales_xy: float64 (I,2), pixels of the network's input per source pixel, x and y.
        truth: the objects.
        found: the detections, those below `score` too.
        evidence: about the objects.
        metrics: the evaluator's numbers.
        max_detections: detections per image and class that count, those of the best scores.
        iou: the IoU from which on a detection or candidate reaches an object in ``evidence``.
        thresholds: score of each class from which on `densedet predict` shows a detection.
        thresholds_from: where these come from, in words.
        weights: digest of the weights.
        data: fingerprint of the images and their truth, see `densedet.core.data.fingerprint`.
        settings: the recipe's section ``evaluate``.
        recipe: the resolved recipe, YAML text.
        recipe_name: its name.
        split: "val" or "train", the recipe's source that was judged.
        seconds: what the pass over the images took.
    """

    classes: tuple[str, ...]
    image_ids: tuple[int | str, ...]
    file_names: tuple[str, ...]
    indices: np.ndarray
    sizes_wh: np.ndarray
    scales_xy: np.ndarray
    truth: Truth
    found: Found
    evidence: Evidence
    metrics: dict[str, Any]
    max_detections: int
    iou: float
    thresholds: tuple[float, ...]
    thresholds_from: str
    weights: str
    data: dict[str, Any]
    settings: dict[str, Any]
    recipe: str
    recipe_name: str
    split: str
    seconds: float

    def __post_init__(self) -> None:
        wrong = _misfit(self)
        if wrong:
            raise ValueError(wrong)

    def __len__(self) -> int:
        return len(self.image_ids)


TABLES = {"truth": Truth, "found": Found, "evidence": Evidence}
COLUMNS = ("indices", "sizes_wh", "scales_xy")


def _misfit(judgement: Judgement) -> str:
    """Return what does not fit together, or ""."""
    for name in ("indices", "sizes_wh", "scales_xy", "file_names"):
        if len(getattr(judgement, name)) != len(judgement):
            return f"{name} has another length than image_ids"
    if len(judgement.thresholds) != len(judgement.classes):
        return "thresholds has another length than classes"
    objects, detections = len(judgement.truth.image), len(judgement.found.image)
    for name, count in (("truth", objects), ("found", detections), ("evidence", objects)):
        table = getattr(judgement, name)
        columns = {f.name: getattr(table, f.name) for f in fields(table) if f.name != "extra"}
        for column, values in {**columns, **getattr(table, "extra", {})}.items():
            if len(values) != count:
                return f"{name}.{column} has {len(values)} rows, not {count}"
    for table in (judgement.truth, judgement.found):
        for column, most in ((table.image, len(judgement)), (table.labels, len(judgement.classes))):
            if len(column) and not 0 <= column.min() <= column.max() < most:
                return "an image or a label is out of range"
    return ""


def save(path: Path, judgement: Judgement) -> None:
    """Write a judgement atomically, as a NumPy archive with a checksum.

    Raises:
        OSError or OutputError: it cannot be written.
        TypeError or ValueError: the metrics are more than JSON can hold.
    """
    plain = {
        f.name: getattr(judgement, f.name) for f in fields(judgement) if f.name not in (*TABLES, *COLUMNS)
    }
    text = json.dumps({"format": FORMAT, **plain}).encode()
    arrays = {name: getattr(judgement, name) for name in COLUMNS}
    for name in TABLES:
        table = getattr(judgement, name)
        arrays |= {f"{name}.{f.name}": getattr(table, f.name) for f in fields(table) if f.name != "extra"}
    arrays |= {f"found.extra.{name}": values for name, values in judgement.found.extra.items()}
    content = io.BytesIO()
    np.savez(content, about=np.frombuffer(text, dtype=np.uint8), **arrays)
    sealed_file.write_archive(path, content.getvalue())


def load(path: Path) -> Judgement:
    """Read a judgement that `save` has written.

    Raises:
        OSError: it cannot be read.
        ValueError: a byte of it has changed, or it is of another version.
    """
    with open(path, "rb") as file:  # once: it may be replaced meanwhile
        sealed_file.check_seal(file)
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
            return _from_arrays(arrays)
        except OSError:
            raise
        except Exception as error:  # whatever a stranger has put into it
            raise ValueError(f"no judgement of this version: {error}") from error


def _from_arrays(arrays: dict[str, np.ndarray]) -> Judgement:
    about = json.loads(arrays.pop("about").tobytes())
    if about.pop("format") != FORMAT:
        raise ValueError("another format")
    for name in ("classes", "image_ids", "file_names", "thresholds"):
        about[name] = tuple(about[name])
    extra = {name.removeprefix("found.extra."): values for name, values in arrays.items() if "extra." in name}
    parts: dict[str, Any] = {name: arrays[name] for name in COLUMNS}
    for name, table in TABLES.items():
        columns = {f.name: arrays[f"{name}.{f.name}"] for f in fields(table) if f.name != "extra"}
        parts[name] = table(**columns, **({"extra": extra} if name == "found" else {}))
    return Judgement(**about, **parts)
