"""A detector as an ONNX model or a torch.export program, with all that describes it."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.errors import DensedetError, ExportError, UsageError, sentence
from densedet.core.export.network import CandidateNetwork, RawNetwork, raw_output
from densedet.core.files import atomic_path
from densedet.core.inference.description import Description
from densedet.core.training.prediction import Predictor
from densedet.core.types import RawOutput

EXAMPLES = 2
"""Images of the batch that the graph is traced with. One would be taken for a constant."""


def example_input(description: Description) -> tuple[Tensor, Tensor]:
    """Return images of noise, of which one does not fill its frame, and their valid (height, width)."""
    height, width = description.height, description.width
    assert height is not None and width is not None
    generator = torch.Generator().manual_seed(0)
    shape = (EXAMPLES, description.channels, height, width)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    valid_hw = torch.tensor([[height, width], [max(1, height - height // 8), max(1, width - width // 8)]])
    return images if description.image_type == "uint8" else images.float(), valid_hw


def raw_example(detector: nn.Module, description: Description) -> RawOutput:
    """Run a detector once as it will be traced, and return its raw output.

    Raises:
        UsageError: the detector cannot be exported.
    """
    with torch.no_grad():
        return raw_output(detector, *example_input(description))


def network_of(predictor: Predictor, description: Description) -> nn.Module:
    """Return what is traced: a network that stops before suppression, or before it looks for candidates."""
    if description.nms:
        assert description.suppression is not None
        return CandidateNetwork(predictor.detector, description.suppression).eval()
    return RawNetwork(predictor.detector).eval()


def to_onnx(predictor: Predictor, description: Description, opset: int | None) -> Any:
    """Trace a detector into an ONNX model, with metadata.

    Args:
        predictor: its detector is on the CPU and has run with `raw_example`, so that its anchors are made.
        description: what the model is to be; ``opset`` is filled in.
        opset: of the model; None: what torch's exporter writes best.

    Raises:
        UsageError: onnx or onnxscript is not installed, or torch cannot write this opset.
        ExportError: a part cannot be traced.
    """
    require_onnx()
    network, example = network_of(predictor, description), example_input(description)
    batch = torch.export.Dim("batch", min=1)
    names = ["boxes", "scores", *(["labels", "anchors"] if description.nms else []), *description.extra]
    with torch.no_grad(), _quiet(), _told(predictor):
        program = torch.onnx.export(
            network,
            example,
            dynamo=True,
            dynamic_shapes=({0: batch}, {0: batch}),
            input_names=["images", "valid_hw"],
            output_names=names,
            opset_version=opset,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
        candidates = network(*example)[0].shape[1]
    description.opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if opset is not None and description.opset != opset:
        raise UsageError(
            f"torch writes opset {description.opset} instead of {opset}: leave out --opset {opset}"
        )
    if description.nms:
        from densedet.core.export.nms_nodes import append_nms

        assert description.suppression is not None
        append_nms(model, description.suppression, len(description.classes), description.extra, candidates)
    return model


def save_onnx(model: Any, description: Description, file: Path) -> None:
    """Write an ONNX model with its description as one file."""
    import onnx

    model.producer_name, model.producer_version = "densedet", description.densedet
    onnx.helper.set_model_props(model, description.entries())
    with atomic_path(file) as temporary:
        onnx.save(model, str(temporary))


def add_description(file: Path, description: Description) -> None:
    """Write a description into an ONNX file anew."""
    import onnx

    save_onnx(onnx.load(str(file)), description, file)


def save_program(predictor: Predictor, description: Description, file: Path) -> None:
    """Trace a detector with torch.export and write the program (.pt2) with its description beside it.

    Raises:
        ExportError: a part cannot be traced.
    """
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad(), _quiet(), _told(predictor):
        program = torch.export.export(
            network_of(predictor, description),
            example_input(description),
            dynamic_shapes=({0: batch}, {0: batch}),
            strict=False,
        )
        told = {"densedet.json": json.dumps(description.model_dump(mode="json"), ensure_ascii=False)}
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files=told)
    with atomic_path(file) as temporary:
        temporary.write_bytes(buffer.getvalue())


def require_onnx() -> None:
    """Raise UsageError where a package is missing that writes or runs ONNX."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError as error:
            raise UsageError(f"densedet export needs {name}: pip install 'densedet[export]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from reporting its progress."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


@contextlib.contextmanager
def _told(predictor: Predictor) -> Iterator[None]:
    """Turn an error of torch's exporter into a sentence that names the part.

    Raises:
        ExportError: something went wrong.
    """
    try:
        yield
    except DensedetError:
        raise
    except Exception as error:
        causes = list(_causes(error))
        part = part_at_fault(predictor, causes)
        why = sentence(causes[-1]).partition(" Developer debug")[0]
        raise ExportError(f"{part} stands in the way of the export: {why:.300}") from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, the innermost last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def part_at_fault(predictor: Predictor, causes: Sequence[BaseException]) -> str:
    """Return the part in whose file the errors arose, as the recipe names it; else the detector."""
    parts = {}
    for kind, spec in predictor.recipe.values["model"].items():
        part = getattr(predictor.detector, kind, None)
        if part is not None and isinstance(spec, dict):
            parts[inspect.getfile(type(part))] = f"model.{kind} {spec['name']!r}"
    named = f"model.detector {predictor.recipe.values['model']['detector']['name']!r}"
    for error in reversed(causes):
        files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
        found = [parts[file] for file in files if file in parts]
        # torch's exporter writes the user's own lines into its text
        found += [part for file, part in parts.items() if file in str(error)]
        if found:
            return found[-1]
    return named
