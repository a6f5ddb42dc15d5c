"""Convolutions of an ONNX file in int8: onnxruntime's static quantisation, by training images."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from densedet.core import assembly
from densedet.core.errors import ExportError, sentence
from densedet.core.inference.evaluation import ExportedEvaluation
from densedet.core.inference.pixels import Picture
from densedet.core.inference.predictor import ExportedPredictor
from densedet.core.recipe.loading import Recipe

CALIBRATED = 100
"""Training images by which the ranges of the activations are found."""

BATCH = 4


def calibration_pictures(recipe: Recipe, predictor: ExportedPredictor) -> list[Picture]:
    """Return training images at the network's size, evenly spread, without augmentation.

    Args:
        recipe: whose training source is read; its validation source never is.
        predictor: of the file.

    Raises:
        DataError: they are not there.
    """
    source = assembly.build_split(recipe, "train")
    assert source is not None
    places = np.linspace(0, len(source) - 1, min(CALIBRATED, len(source))).round().astype(int)
    return [predictor.picture(source.image(place)) for place in dict.fromkeys(places.tolist())]


def quantize(file: Path, target: Path, recipe: Recipe) -> int:
    """Write an ONNX file anew with int8 convolutions, all but the last ones before the outputs.

    Only convolutions and the ReLUs behind them are quantised, weights per channel: with additions,
    concatenations and resizing in int8, too, the quick start's RetinaNet lost .155 AP and BCCD's SSD .029,
    without them .003 and less. The last convolutions stay in float32: with them in int8, too, .004. Weights
    have 7 bits, since sums of products of 8 bits saturate on CPUs without VNNI.

    Args:
        file: from `densedet export`.
        target: a new file.
        recipe: whose training images calibrate.

    Returns:
        The number of quantised convolutions.

    Raises:
        ExportError: onnxruntime cannot quantise the file.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    predictor = ExportedPredictor(file, device="cpu")
    pictures = calibration_pictures(recipe, predictor)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Batches of training images, for onnxruntime."""

        def __init__(self) -> None:
            self.batches = iter(range(0, len(pictures), BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            start = next(self.batches, None)
            if start is None:
                return None
            images, valid_hw = predictor.input_of(pictures[start : start + BATCH])
            return {"images": images, "valid_hw": valid_hw}

    prepared = target.with_suffix(".prepared.onnx")
    try:
        with contextlib.redirect_stdout(io.StringIO()), _quiet():
            quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
            graph = onnx.load(str(prepared)).graph
            last = last_convolutions(graph)
            quantize_static(
                str(prepared),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Relu"],
                nodes_to_exclude=sorted(last),
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
                calibrate_method=CalibrationMethod.MinMax,
                calibration_providers=["CPUExecutionProvider"],
            )
    except Exception as error:
        raise ExportError(f"onnxruntime cannot quantise the network: {sentence(error):.300}") from error
    finally:
        prepared.unlink(missing_ok=True)
    return sum(node.op_type == "Conv" and node.name not in last for node in graph.node)


def last_convolutions(graph: Any) -> set[str]:
    """Return the names of the convolutions between which and an output there is no other: the heads'
    predictors."""
    producers = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in producers:
            continue
        seen.add(name)
        if producers[name].op_type == "Conv":
            found.add(producers[name].name)
        else:
            waiting += producers[name].input
    return found


def measured(files: Sequence[Path], on_image: Callable[[int, int], None] | None = None) -> list[float]:
    """Return the recipe's metric of each file on the recipe's validation images.

    Args:
        files: ONNX files of the same detector.
        on_image: called with (images that are done, all).
    """
    values = []
    for number, file in enumerate(files):
        evaluation = ExportedEvaluation(file, device="cpu")
        total = len(evaluation)

        def done(images: int, before: int = number * total, total: int = total) -> None:
            if on_image is not None:
                on_image(before + images, total * len(files))

        values.append(evaluation.run(on_batch=done).metric)
    return values


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep onnxruntime's tools from advising on how to call them."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
