"""A detector in an ONNX file at work on images, through onnxruntime and without torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from densedet.core.assembly.sources import build_resize, decoding_of
from densedet.core.class_table import of_classes
from densedet.core.data.ahead import made_ahead
from densedet.core.errors import CheckpointError, DataError, UsageError
from densedet.core.inference.description import read_entries
from densedet.core.inference.pixels import Picture, input_of, read_picture
from densedet.core.inference.suppressing import suppress
from densedet.core.machine import usable_cores
from densedet.core.mappings import differing
from densedet.core.recipe.merging import Overrides
from densedet.core.thresholds import shown_from
from densedet.core.types import Detections

SUFFIX = ".onnx"
FIXED = ("input_size_wh", "color", "value_range", "resize", "pad_to", "classes")
"""Keys of a recipe's section ``data`` on which the network and its input depend."""


def is_exported(path: str | Path) -> bool:
    """Whether ``path`` means an ONNX file, by its name."""
    return Path(path).suffix.lower() == SUFFIX


class ExportedPredictor:
    """A detector in an ONNX file of `densedet export`, ready to predict.

    Args:
        path: the file.
        overrides: changes to its recipe: to the data and the evaluator alone, since the network is built.
        device: "auto" (a GPU where onnxruntime has one), "cpu" or "cuda".
        threads: that onnxruntime uses; None: OMP_NUM_THREADS where it is set, else all cores.
        plugins: plug-in files that the recipe's data need.

    Attributes:
        description: what the file tells of itself.
        recipe: the recipe.
        classes: names in label order; an empty one is a slot that stands for nothing, and is never predicted.
        category_ids: the data set's id of each class; None for an empty slot.
        thresholds: score of each class from which on a detection counts, and their origin, or None.
        decoding: how image files become pixels.

    Raises:
        CheckpointError: the file is missing, damaged, or not one of `densedet export`.
        UsageError: onnxruntime is not installed or has no such device, or a change reaches the network.
    """

    def __init__(
        self,
        path: str | Path,
        overrides: Overrides = (),
        *,
        device: str = "auto",
        threads: int | None = None,
        plugins: Sequence[str] = (),
    ) -> None:
        self.session = open_session(Path(path), device=device, threads=threads)
        entries = self.session.get_modelmeta().custom_metadata_map
        self.description = description = read_entries(entries, str(path))
        recipe = description.load_recipe(plugins)
        self.recipe = recipe.with_overrides(overrides) if overrides else recipe
        _check_changes(recipe.values, self.recipe.values, path)
        self.classes, self.category_ids = tuple(description.classes), tuple(description.category_ids)
        self.thresholds = None if description.thresholds is None else description.thresholds.model_dump()
        self.changed: tuple[str, ...] = ()
        self.decoding, self.resize = decoding_of(self.recipe), build_resize(self.recipe)
        if not description.nms and description.suppression is None:
            raise UsageError(
                f"{path} gives the boxes and scores of all anchors, and its recipe's postprocess has not "
                f"told how to suppress them: use the run folder that it was exported from"
            )

    def score_thresholds(self, score: float | None = None) -> tuple[list[float], str]:
        """Return the score of each class from which on a detection is shown, and its origin in words.

        Args:
            score: one for all classes; None: those of the file, else the default.
        """
        return shown_from(self.thresholds, len(self.classes), score)

    def picture(self, image: Any, **told: Any) -> Picture:
        """Decode an image at the network's size; ``told`` is `read_picture`'s expected and name."""
        return read_picture(image, decoding=self.decoding, resize=self.resize, **told)

    def stream(
        self,
        images: Iterable[Any],
        *,
        batch_size: int = 16,
        score: float | None = None,
        on_broken: Callable[[int, DataError], None] | None = None,
    ) -> Iterator[tuple[int, Detections]]:
        """Find the objects of many images.

        Args:
            images: paths, encoded bytes, or uint8 arrays (H,W) or (H,W,3).
            batch_size: images at once.
            score: detections with a lower score are left out. None: those below the file's thresholds are,
                where it has some, else none.
            on_broken: called with the position of an image that cannot be decoded, and why; None raises.

        Yields:
            The position of each image and its detections, of arrays, boxes in source pixels.
        """
        lowest = None
        if score is not None or self.thresholds is not None:
            lowest = np.array(self.score_thresholds(score)[0], dtype=np.float32)
        cores = usable_cores()
        made = made_ahead(self._numbered, enumerate(images), threads=cores, count=max(2 * batch_size, cores))
        with contextlib.closing(made):
            while part := list(islice(made, batch_size)):
                pictures = {index: one for index, one in part if not isinstance(one, DataError)}
                for index, fault in part:
                    if isinstance(fault, DataError):
                        if on_broken is None:
                            raise fault
                        on_broken(index, fault)
                least = None if lowest is None else float(lowest.min())
                for index, found in zip(pictures, self.find(list(pictures.values()), least)):
                    if lowest is not None:
                        found = replace(found.where(found.scores >= lowest[found.labels]), shown_from=0.0)
                    yield index, replace(found, classes=self.classes)

    def _numbered(self, numbered: tuple[int, Any]) -> tuple[int, Picture | DataError]:
        index, image = numbered
        try:
            return index, self.picture(image)
        except DataError as error:
            return index, error

    def find(self, pictures: Sequence[Picture], lowest: float | None = None) -> list[Detections]:
        """Return the detections of pictures, of arrays, in source pixels; ``lowest`` as for `detect`."""
        if not pictures:
            return []
        images, valid_hw = self.input_of(pictures)
        moved = [to_source(d, p) for d, p in zip(self.detect(images, valid_hw, lowest), pictures)]
        return [of_classes(detections, self.classes) for detections in moved]

    def input_of(self, pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray]:
        """Return the network's input, images (B,ch,H,W) and valid (height, width) int64 (B,2)."""
        told = self.description
        return input_of(
            pictures,
            dtype=told.image_type,
            size_hw=(told.height, told.width),
            pad_to=self.recipe.data.pad_to,
        )

    def detect(
        self, images: np.ndarray, valid_hw: np.ndarray, lowest: float | None = None
    ) -> list[Detections]:
        """Return the detections of a batch in pixels of the network's input.

        Args:
            images: from `input_of`, like ``valid_hw``.
            valid_hw: sizes.
            lowest: a score; detections of lower ones may be left out. None: none are.
        """
        outputs = self.run(images, valid_hw)
        if self.description.nms:
            return self._padded(outputs)
        if lowest is not None:  # a candidate has no effect on better ones, and a score of 0 makes none
            scores = outputs["scores"]
            outputs = {**outputs, "scores": np.where(scores < np.float32(lowest), np.float32(0), scores)}
        return self._suppressed(outputs)

    def run(self, images: np.ndarray, valid_hw: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network: its outputs by name."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, {"images": images, "valid_hw": valid_hw})))

    def _padded(self, outputs: dict[str, np.ndarray]) -> list[Detections]:
        """Return the detections of a graph that suppresses."""
        names = ("boxes", "scores", "labels", "anchors")
        return [
            self._detections(
                {name: outputs[name][image, :count] for name in names},
                {name: outputs[name][image, :count] for name in self.description.extra},
            )
            for image, count in enumerate(outputs["count"].tolist())
        ]

    def _suppressed(self, outputs: dict[str, np.ndarray]) -> list[Detections]:
        """Suppress the boxes of a graph that gives all anchors."""
        how = self.description.suppression
        assert how is not None
        results = []
        for image, (boxes, scores) in enumerate(zip(outputs["boxes"], outputs["scores"])):
            counts = self.description.counts or outputs["counts"].tolist()
            anchors, labels, values = suppress(scores, boxes, counts, how)
            columns = {"boxes": boxes[anchors], "scores": values, "labels": labels, "anchors": anchors}
            extra = {name: outputs[name][image, anchors] for name in self.description.extra}
            results.append(self._detections(columns, extra))
        return results

    def _detections(self, columns: dict[str, Any], extra: dict[str, Any]) -> Detections:
        return Detections(**columns, extra=extra, keypoints=tuple(self.description.keypoints))


def to_source(detections: Detections, picture: Picture) -> Detections:
    """Return the detections of a picture, of arrays, in source pixels: boxes are clipped to the image."""
    width, height = picture.source_wh
    values = np.array(picture.placement.to_source(picture.source_wh), dtype=np.float32)
    scale, offset = values[:2], values[2:]
    boxes: Any = np.asarray(detections.boxes) * np.tile(scale, 2) + np.tile(offset, 2)
    extra: dict[str, Any] = dict(detections.extra)
    for name in detections.keypoints:
        extra[name] = extra[name].copy()
        extra[name][..., :2] = extra[name][..., :2] * scale + offset
    limit = np.array([width, height, width, height], dtype=np.float32)
    boxes = boxes.clip(min=0, max=limit)
    return replace(detections, boxes=boxes, extra=extra)


def open_session(path: Path, *, device: str = "auto", threads: int | None = None) -> Any:
    """Open an ONNX file.

    Args:
        path: the file.
        device: "auto", "cpu" or "cuda".
        threads: for one operator; None: OMP_NUM_THREADS where it is set, else all cores.

    Raises:
        CheckpointError: it is missing, or onnxruntime cannot read it.
        UsageError: onnxruntime is not installed, or has no such device.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"{path} needs onnxruntime: pip install 'densedet[export]'") from error
    if not os.path.isfile(path):
        raise CheckpointError(f"there is no file {path}: make one with densedet export RUN")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    told = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(told) if told.isdecimal() else 0)
    try:
        return onnxruntime.InferenceSession(path, options, providers=_providers(onnxruntime, device))
    except UsageError:
        raise
    except Exception as error:  # onnxruntime has a class for each of its states
        why = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} cannot be read by onnxruntime: {why}") from error


def _providers(onnxruntime: Any, device: str) -> list[str]:
    gpu = "CUDAExecutionProvider"
    there = gpu in onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and not there):
        return ["CPUExecutionProvider"]
    if device not in ("auto", "cuda") or not there:
        raise UsageError(
            f"this onnxruntime has no device {device!r}, but "
            f"{', '.join(onnxruntime.get_available_providers())}: write --device cpu"
        )
    return [gpu, "CPUExecutionProvider"]


def _check_changes(own: dict[str, Any], changed: dict[str, Any], path: str | Path) -> None:
    """Raise UsageError where changes to a recipe would change the network or its input."""

    def fixed(values: dict[str, Any]) -> dict[str, Any]:
        return {"model": values["model"], "data": {key: values["data"].get(key) for key in FIXED}}

    for where, _ in differing(fixed(own), fixed(changed)):
        raise UsageError(
            f"{where} is fixed in {path}: change it with densedet export RUN {where}=..., which makes "
            f"another file"
        )
