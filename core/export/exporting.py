"""`densedet export`: write a detector as a file, and check the file against PyTorch on real images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from densedet.core import assembly
from densedet.core.annotations.images import find_images
from densedet.core.data.dataset import sample_of
from densedet.core.data.loader import collate
from densedet.core.errors import DensedetError, ExportError, UsageError
from densedet.core.export.comparing import LIMIT, Difference
from densedet.core.export.writing import (
    add_description,
    raw_example,
    require_onnx,
    save_onnx,
    save_program,
    to_onnx,
)
from densedet.core.files import check_free, rename_new, temporary_folder
from densedet.core.inference.description import Description, Thresholds
from densedet.core.inference.predictor import ExportedPredictor
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.recipe.merging import Overrides
from densedet.core.suppression import Suppression
from densedet.core.text import counted
from densedet.core.training import checkpoint
from densedet.core.training.judging import densedet_version
from densedet.core.training.prediction import Predictor, is_recipe, load

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}

CHECKED = 50
"""Images that a file is checked on."""

FEW = 20
"""Detections below which a check says little."""

BATCH = 4
"""Images of a batch meanwhile; the last one is smaller."""

EXAMPLES = "quickstart_ssd"
"""The recipe whose pictures a file is checked on where its own are not there."""

SHAPES = ((640, 480), (480, 640), (1000, 333), (31, 57))
"""(width, height) of images by which a resize shows whether its canvas has one size."""


@dataclass
class Exported:
    """A file that was written.

    Attributes:
        file: the file.
        description: what it tells of itself.
        difference: to PyTorch.
        images: what it was checked on, in words.
        int8: what `quantized` measured; None: the file is not quantised.
        notes: sentences that the user must read.
    """

    file: Path
    description: Description
    difference: Difference
    images: str
    int8: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def export(
    path: str | Path,
    overrides: Overrides = (),
    *,
    format: Format = "onnx",
    output: Path | None = None,
    nms: bool | None = None,
    opset: int | None = None,
    images: Path | None = None,
    int8: bool = False,
    worst_loss: float = 0.01,
    plugins: Sequence[str] = (),
    on_image: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a trained detector as a file that runs without densedet.

    Args:
        path: a run folder, a checkpoint, or a recipe with ``model.weights``.
        overrides: changes to its recipe.
        format: "onnx", or "torch" for torch.export's .pt2.
        output: a new file; None: beside the checkpoint, of its name.
        nms: whether the graph suppresses; None: where it can.
        opset: of ONNX; None: torch's choice.
        images: a file or folder to check the file on; None: the recipe's validation images.
        int8: whether the convolutions become int8, calibrated on the recipe's training images. The float32
            file is checked first, and the loss by int8 is measured on the recipe's validation images.
        worst_loss: the largest loss for which an int8 file is kept.
        plugins: plug-in files that the recipe needs.
        on_image: called with (images that were compared or evaluated, all).

    Raises:
        ExportError: a part cannot be exported, the file gives other detections than PyTorch, or int8 costs
            too much.
        UsageError: the options do not go together, or a package is missing.
    """
    if format == "onnx":
        require_onnx()
    elif nms or int8 or opset is not None:
        option = "--nms" if nms else "--int8" if int8 else "--opset"
        raise UsageError(f"{option} goes with --format onnx: leave it out")
    target = output or default_output(path, ".int8.onnx" if int8 else SUFFIXES[format])
    check_free(target)
    predictor = load(path, overrides, device="cpu", plugins=plugins)
    description, notes = describe(predictor, nms=False if format == "torch" else nms)
    real, told = check_images_of(predictor, images)
    with temporary_folder(target) as folder:
        draft = folder / target.name
        if format == "torch":
            save_program(predictor, description, draft)
        else:
            model = to_onnx(predictor, description, opset)
            save_onnx(model, description, draft)
        difference = compare(predictor, draft, description, real, on_image)
        if not difference.largest <= LIMIT:
            raise ExportError(
                f"{target} is not kept: {difference.in_words()}, more than {LIMIT:.0e}, on {told}"
            )
        if difference.detections < FEW or difference.alone > difference.detections / 10:
            notes.append(
                f"the check says little: {counted(difference.detections, 'detection')}, {difference.alone} "
                f"found by one of the two alone; train the detector, or check on other images"
            )
        description.checked = {"images": difference.images, "difference": difference.largest}
        if format == "onnx":
            save_onnx(model, description, draft)
        numbers = None
        if int8:
            draft, numbers = quantized(predictor.recipe, draft, description, worst_loss, on_image)
        rename_new(draft, target)
    return Exported(target, description, difference, told, numbers, notes)


def quantized(
    recipe: Recipe,
    file: Path,
    description: Description,
    worst_loss: float,
    on_image: Callable[[int, int], None] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Write an int8 file beside a float32 one, and measure what it costs.

    Args:
        recipe: the detector's.
        file: in float32.
        description: of the file; it becomes that of the new one.
        worst_loss: the largest loss of the metric.
        on_image: as for `export`.

    Returns:
        The new file, and {"metric", "float32", "int8", "loss", "convolutions"}.

    Raises:
        ExportError: the loss is larger.
        UsageError: the recipe has no validation images.
    """
    from densedet.core.export.quantizing import measured, quantize

    if recipe.data.val is None and recipe.data.holdout is None:
        raise UsageError("--int8 measures what it costs on validation images: give data.val")
    target = file.with_name(f"int8_{file.name}")
    convolutions = quantize(file, target, recipe)
    description.weights = "int8"
    add_description(target, description)
    before, after = measured([file, target], on_image)
    loss = before - after if recipe.evaluate.higher_is_better else after - before
    name = recipe.evaluate.metric
    if not loss <= worst_loss:
        raise ExportError(
            f"the int8 file is not kept: it loses {loss:.4f} {name} ({before:.4f} in float32, {after:.4f} in "
            f"int8 on data.val), more than {worst_loss:g}: export without --int8, or allow more by --max-loss"
        )
    numbers = {"float32": before, "int8": after, "loss": loss}
    return target, {"metric": name, **numbers, "convolutions": convolutions}


def default_output(path: str | Path, suffix: str) -> Path:
    """Return the file of an export: beside the checkpoint, or in the working folder for a recipe."""
    if is_recipe(path):
        return Path(f"{Path(path).stem}{suffix}")
    return checkpoint.resolve(Path(path)).with_suffix(suffix)


def describe(predictor: Predictor, *, nms: bool | None) -> tuple[Description, list[str]]:
    """Describe a detector as an exported file does, and say what the user must know.

    Args:
        predictor: the detector.
        nms: whether the graph is to suppress; None: where it can.

    Raises:
        UsageError: the detector or its postprocess cannot be exported.
    """
    recipe, detector = predictor.recipe, predictor.detector
    height, width = canvas_hw(predictor)
    how = getattr(getattr(detector, "postprocess", None), "suppression", None)
    why = _no_nms(predictor, how)
    if nms and why:
        raise UsageError(f"--nms: {why}: write --no-nms")
    notes = [f"without NMS in the graph: {why}"] if nms is None and why else []
    sample = assembly.build_resize(recipe)(width, height)
    thresholds = predictor.thresholds
    description = Description(
        densedet=densedet_version(),
        recipe=recipe.to_yaml(),
        recipe_name=recipe.name,
        classes=list(predictor.classes),
        category_ids=list(predictor.category_ids),
        thresholds=None if thresholds is None else Thresholds.model_validate(thresholds),
        channels=recipe.data.channels,  # type: ignore[arg-type]
        image_type="uint8" if sample.antialias else "float32",
        height=height,
        width=width,
        mean=_values(detector, "image_mean"),
        std=_values(detector, "image_std"),
        counts=None,
        nms=not why if nms is None else nms,
        suppression=how,
    )
    raw = raw_example(detector, description)
    description.counts, description.extra = list(raw.counts), list(raw.extra)
    branches = getattr(getattr(detector, "head", None), "branches", {})
    description.keypoints = [name for name in raw.extra if branches[name].kind == "keypoints"]
    return description, notes


def _values(detector: torch.nn.Module, name: str) -> list[float]:
    buffer = getattr(detector, name, None)
    return [] if buffer is None else [float(value) for value in buffer.flatten()]


def _no_nms(predictor: Predictor, how: Suppression | None) -> str:
    """Return why a graph cannot suppress, or an empty text."""
    name = (predictor.recipe.values["model"].get("postprocess") or {}).get("name")
    if how is None:
        return f"model.postprocess {name!r} has no `suppression`, which tells how to"
    if how.method != "hard":
        return f"model.postprocess {name!r} lowers scores ({how.method}), for which ONNX has no operator"
    return ""


def canvas_hw(predictor: Predictor) -> tuple[int, int]:
    """Return the (height, width) of the network's input.

    Raises:
        UsageError: images have inputs of different sizes.
    """
    resize, multiple = assembly.build_resize(predictor.recipe), predictor.recipe.data.pad_to
    found = {resize(*shape).canvas_wh for shape in SHAPES}
    if len(found) > 1:
        name = predictor.recipe.data.resize["name"]
        raise UsageError(
            f"data.resize {name!r} gives each image an input of its own size, and an exported file has "
            f"one: add data.resize='{{name: letterbox}}' data.input_size_wh=[1344,800], say"
        )
    ((width, height),) = found
    return tuple(math.ceil(side / multiple) * multiple for side in (height, width))  # type: ignore[return-value]


def check_images_of(predictor: Predictor, given: Path | None) -> tuple[list[Any], str]:
    """Return up to `CHECKED` images, evenly spread, and what they are in words.

    Args:
        predictor: its recipe's validation images are taken, where they are there.
        given: a file or folder instead, or None.
    """
    if given is not None:
        files, _ = find_images([given])
        return _spread(files), f"images of {given}"
    for split in ("val", "train"):
        try:
            source = assembly.build_split(predictor.recipe, split)
            if source is None:
                continue
            found = [source.image(index) for index in _spread(range(len(source)))]
        except DensedetError:  # the data need not be on this machine
            continue
        if all(not isinstance(one, str) or os.path.isfile(one) for one in found):
            return found, f"images of data.{split}"
    source = assembly.build_split(load_recipe(EXAMPLES), "val")
    assert source is not None
    found = [source.image(index) for index in _spread(range(len(source)))]
    return found, "example pictures (the recipe's own images are not here: --images DIR has others)"


def _spread(items: Sequence[Any]) -> list[Any]:
    places = np.linspace(0, len(items) - 1, min(CHECKED, len(items))).round().astype(int)
    return [items[place] for place in places.tolist()]


def compare(
    predictor: Predictor,
    file: Path,
    description: Description,
    images: Sequence[Any],
    on_image: Callable[[int, int], None] | None = None,
) -> Difference:
    """Compare PyTorch and a file on images: from the image files to the detections where the file gives
    detections or densedet can make them, else the boxes and scores of all anchors."""
    difference = Difference()
    done = on_image or (lambda *_: None)
    if file.suffix == SUFFIXES["onnx"] and description.suppression is not None:
        theirs = ExportedPredictor(file, device="cpu")
        streams = (one.stream(images, batch_size=BATCH, score=0.0) for one in (predictor, theirs))
        for (index, ours), (_, found) in zip(*streams):
            width, height = theirs.picture(images[index]).source_wh
            difference.add(ours, found, (width, height), description.suppression)
            done(index + 1, len(images))
        return difference
    with _runner(file) as run:
        resize = assembly.build_resize(predictor.recipe)
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            samples = [sample_of(image, decoding=predictor.decoding, resize=resize) for image in part]
            batch = collate(samples, pad_to=predictor.recipe.data.pad_to)
            with torch.no_grad():
                raw = predictor.detector.raw(batch.images, batch.valid_hw)  # type: ignore[operator]
            ours_raw = [one.numpy() for one in (raw.boxes, raw.scores, *raw.extra.values())]
            side = max(batch.images.shape[-2:])
            difference.add_arrays(ours_raw, run(batch.images, batch.valid_hw), side)
            done(start + len(part), len(images))
    return difference


@contextmanager
def _runner(file: Path) -> Iterator[Callable[[torch.Tensor, torch.Tensor], list[np.ndarray]]]:
    """Yield a function from images and valid (height, width) to the outputs of a file."""
    if file.suffix == SUFFIXES["torch"]:
        program = torch.export.load(str(file)).module()

        def run_program(images: torch.Tensor, valid_hw: torch.Tensor) -> list[np.ndarray]:
            with torch.no_grad():
                return [output.numpy() for output in program(images, valid_hw)]

        yield run_program
        return
    from densedet.core.inference.predictor import open_session

    session = open_session(file, device="cpu")

    def run_session(images: torch.Tensor, valid_hw: torch.Tensor) -> list[np.ndarray]:
        given = {"images": images.numpy(), "valid_hw": valid_hw.numpy()}
        return list(session.run(None, given))

    yield run_session


def summary(result: Exported) -> list[str]:
    """Return the lines that `densedet export` prints."""
    told = result.description
    size = os.path.getsize(result.file) / 1e6
    kind = f"ONNX, opset {told.opset}" if told.opset else "torch.export"
    picture = "grey" if told.channels == 1 else "RGB"
    outputs = "boxes, scores, labels, anchors, count" if told.nms else "boxes, scores"
    outputs = ", ".join([outputs, *told.extra])
    int8 = []
    if (numbers := result.int8) is not None:
        int8.append(
            f" int8    {numbers['convolutions']} convolutions; {numbers['metric']} on data.val "
            f"{numbers['int8']:.4f}, in float32 {numbers['float32']:.4f}: loss {numbers['loss']:.4f}"
        )
    return [
        f"{result.file}: {kind}, {told.weights}, {size:.1f} MB",
        f" input   images {told.image_type} (batch, {told.channels}, {told.height}, {told.width}) {picture} "
        f"0..255, valid_hw int64 (batch, 2)",
        f" output  {outputs} ({'after' if told.nms else 'before'} NMS), "
        f"{counted(len(told.classes), 'class')}",
        f" checked {result.difference.in_words()}: {result.images}{', in float32' * bool(int8)}",
        *int8,
        *result.notes,
    ]
