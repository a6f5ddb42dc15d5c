"""A detector in PyTorch, in ONNX and in int8: from pixels to detections."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

BATCHES = (1, 16)
THREADS = (1, 2)
PAUSE = 0.1
"""Seconds before each side."""


def inference(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the network and its suppression, in turns, for images of the recipe's validation set that are
    decoded already: images a second, and times as fast as PyTorch. A recipe without weights gets random ones,
    which find little and lose no AP."""
    rows: dict[str, Any] = {}
    for path in arguments.detectors:
        with TemporaryDirectory() as name:
            rows |= _one(str(path), arguments.overrides, Path(name), arguments.rounds)
    return rows


def _one(path: str, overrides: list[str], folder: Path, rounds: int) -> dict[str, Any]:
    """Return the figures of one detector."""
    from densedet.core.export.exporting import export
    from densedet.core.training.prediction import load

    path, overrides, trained = _with_weights(path, overrides, folder)
    label = path  # run folders are called 1, 2, ...
    plain = export(path, overrides, output=folder / "float.onnx")
    int8 = export(
        path,
        overrides,
        output=folder / "int8.onnx",
        int8=True,
        worst_loss=1.0,
    )
    rows: dict[str, Any] = {f"{label}: largest difference to PyTorch": f"{plain.difference.largest:.1e}"}
    if trained and int8.int8 is not None:
        rows[f"{label}: {int8.int8['metric']}, float32 / int8"] = (
            f"{int8.int8['float32']:.4f} / {int8.int8['int8']:.4f}"
        )
    predictor = load(path, overrides, device="cpu")
    for threads in THREADS:
        for size in BATCHES:
            sides = _sides(predictor, {"ONNX": plain.file, "int8": int8.file}, size, threads)
            took = _timed(sides, rounds)
            where = f"{label}, batch {size}, {threads} thread{'s' * (threads > 1)}"
            for side, seconds in took.items():
                rows[f"{where}: {side} images/s"] = round(size / seconds, 1)
            for side in ("ONNX", "int8"):
                rows[f"{where}: {side} / PyTorch"] = round(took["PyTorch"] / took[side], 2)
    return rows


def _with_weights(path: str, overrides: list[str], folder: Path) -> tuple[str, list[str], bool]:
    """Return a detector that can be exported, and whether it was trained: a recipe gets random weights."""
    import torch

    from densedet.core.api import build
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.training.prediction import is_recipe

    if not is_recipe(path) or load_recipe(path, overrides).values["model"].get("weights") is not None:
        return path, overrides, True
    torch.manual_seed(0)
    file = folder / "random.pt"
    torch.save(build(path, overrides).state_dict(), file)
    return path, [*overrides, f"model.weights={file}"], False


def _sides(
    predictor: Any, files: dict[str, Path], size: int, threads: int
) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name, for a batch of ``size`` images."""
    import torch

    from densedet.core.data.dataset import sample_of
    from densedet.core.data.loader import collate
    from densedet.core.export.exporting import check_images_of
    from densedet.core.inference.predictor import ExportedPredictor

    torch.set_num_threads(threads)
    exported = {name: ExportedPredictor(file, device="cpu", threads=threads) for name, file in files.items()}
    found, _ = check_images_of(predictor, None)
    images = [found[index % len(found)] for index in range(size)]
    resize = next(iter(exported.values())).resize
    samples = [sample_of(image, decoding=predictor.decoding, resize=resize) for image in images]
    batch = collate(samples, pad_to=predictor.recipe.data.pad_to)
    pixels = batch.images.numpy(), batch.valid_hw.numpy()
    sides: dict[str, Callable[[], object]] = {"PyTorch": lambda: predictor.detector.predict(batch)}
    for name, one in exported.items():
        sides[name] = lambda one=one: one.detect(*pixels)  # type: ignore[misc]
    return sides


def _timed(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each side, all in turns.

    The threads of torch and of each session spin for a while after a call, on the cores of the next side, and
    wake slowly once they sleep: a pause before each side, and a call that does not count.
    """
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            time.sleep(PAUSE)
            call()
            begin = time.perf_counter()
            call()
            took[name].append(time.perf_counter() - begin)
    return {name: median(seconds) for name, seconds in took.items()}
