"""Detectors beside torchvision's after the same minutes of training, and the minutes until a given AP."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any

from densedet.core.errors import TrainingError, UsageError
from densedet.core.text import say

OURS = ("auto", "ssd", "retinanet")
"""`densedet train auto`, and the same with ``--head``."""

LONGER_SIDE = 320
"""Pixels of the peers' input."""

BATCH = 16

LEARNING_RATE = 1e-3
"""The peers' AdamW takes it, after `WARMUP` steps; down to 0 in half a cosine by the clock."""

WARMUP = 50

FIRST_MINUTES = 0.25
"""The first budget of a search for the minutes to an AP."""


def race(arguments: argparse.Namespace) -> dict[str, Any]:
    """AP after the same minutes of training from scratch on the same images, one after the other, each in a
    process of its own: `densedet train auto`, its two classic heads, torchvision's SSDlite320 (MobileNetV3)
    and RetinaNet-R18-FPN (320 pixels wide, flips, AdamW with a cosine by the clock), or recipes. Opening the
    data and the evaluation do not count. With --to, budgets are doubled from a quarter of a minute until the
    mean AP reaches what is asked."""
    from densedet.tools.train import database_overrides

    contestants = arguments.contestants or [*OURS, *PEERS]
    if arguments.to is not None and not 0 < arguments.to < 1:
        raise UsageError(f"--to {arguments.to:g} is no AP: write a number between 0 and 1, e.g. --to 0.35")
    if not 0 < arguments.minutes < math.inf:
        raise UsageError(f"--minutes {arguments.minutes:g} is no time to train in: write e.g. --minutes 10")
    data = [*database_overrides(arguments), *arguments.set]
    if arguments.to is not None:
        return {name: time_to(arguments.to, name, data, arguments) for name in contestants}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for seed in arguments.seeds:
        for name in contestants:
            runs[name].append(trained(name, data, arguments.minutes, seed))
            say(f"{name}, seed {seed}: {told(runs[name][-1:], arguments.minutes)}", error=True)
    return {name: told(done, arguments.minutes) for name, done in runs.items()}


def time_to(wanted: float, name: str, data: Sequence[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the row of the first budget whose mean AP is ``wanted``, or of the largest."""
    row: dict[str, Any] = {}
    for minutes in budgets(arguments.minutes):
        row = told([trained(name, data, minutes, seed) for seed in arguments.seeds], minutes)
        say(f"{name}: {row}", error=True)
        if row["AP"] >= wanted:
            break
    return row | {"reached": row["AP"] >= wanted}


def told(runs: Sequence[dict[str, Any]], minutes: float) -> dict[str, Any]:
    """Return the row of a contestant."""
    found = [run["AP"] for run in runs]
    return {
        "minutes": minutes,
        "AP": round(mean(found), 4),
        "each": [round(value, 4) for value in found],
        "images/s": [round(run["images_per_second"], 1) for run in runs],
        "peak memory MB": round(max(run["peak_memory_mb"] for run in runs)),
    }


def budgets(most: float) -> Iterator[float]:
    """Give `FIRST_MINUTES`, twice as many, and so on, and ``most`` at last."""
    minutes = FIRST_MINUTES
    while minutes < most:
        yield minutes
        minutes *= 2
    yield most


def trained(name: str, data: Sequence[str], minutes: float, seed: int) -> dict[str, Any]:
    """Train a contestant in a process of its own.

    Args:
        name: one of `OURS` or `PEERS`, or a recipe.
        data: overrides that name the data.
        minutes: of training.
        seed: of weights, order and augmentation.

    Returns:
        Numbers by the names of summary.json, "AP", "images_per_second" and "peak_memory_mb" among them.

    Raises:
        TrainingError: it failed; with its last words.
    """
    from densedet.tools.benchmark_training import printed

    with tempfile.TemporaryDirectory() as folder:
        if name in PEERS:
            words = ["-m", __name__, name, f"{minutes:g}", str(seed), *data]
        else:
            words = ["-m", "densedet.tools.main", "train", "auto" if name in OURS else name, *data]
            words += ["--minutes", f"{minutes:g}", f"train.seed={seed}", "train.evaluations=1", "--json"]
            words += [f"run.folder={folder}", "run.hooks=[{name: metrics}]"]
            words += ["--head", name] if name in OURS[1:] else []
        said = printed(name, words)
    summary: dict[str, Any] = json.loads(said[said.index("{") :])
    if "AP" not in summary:
        raise TrainingError(f"{name} gives no AP: write evaluate.evaluator=coco")
    return summary


def _ssdlite(classes: int, size: tuple[int, int]) -> Any:
    """torchvision's SSDlite320 on MobileNetV3-large, for images of ``size`` (width, height)."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes + 1)
    half = [0.5, 0.5, 0.5]
    model.transform = GeneralizedRCNNTransform(
        min(size), max(size), half, half, size_divisible=1, fixed_size=size
    )
    return model


def _retinanet_r18(classes: int, size: tuple[int, int]) -> Any:
    """torchvision's RetinaNet on a ResNet-18 with FPN; its anchors keep their share of the image, where the
    reference's images are 800 pixels high, and are twice that, for the objects of small images fill more."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    from densedet.tools.benchmark_step import reference

    shrunk = min(1.0, min(size) / 400)
    sizes = tuple(
        tuple(max(1, int(side * shrunk * 2 ** (third / 3))) for third in range(3))
        for side in (32, 64, 128, 256, 512)
    )
    return reference(classes, size, AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5))


PEERS: dict[str, tuple[Callable[[int, tuple[int, int]], Any], int]] = {
    "torchvision_ssdlite": (_ssdlite, 1),
    "torchvision_retinanet_r18": (_retinanet_r18, 0),
}
"""Name -> (what builds it for a number of classes and a (width, height), the label of its first class)."""


def peer(name: str, minutes: float, seed: int, data: Sequence[str]) -> dict[str, Any]:
    """Train one of `PEERS` in this process, from scratch, on the images and boxes that our loader gives.

    Args:
        name: of the detector.
        minutes: of training.
        seed: of weights, order and flips.
        data: overrides that name the data.

    Returns:
        As `trained` does.
    """
    import torch

    from densedet.core import assembly
    from densedet.core.assembly.evaluators import build_evaluator
    from densedet.core.data.facts import image_size
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.training.evaluation import evaluate_detector
    from densedet.core.training.memory import keep_freed_memory, peak_mb
    from densedet.core.training.run import Run
    from densedet.core.training.session import process_settings
    from densedet.tools.benchmark_step import as_theirs

    keep_freed_memory()
    build, first = PEERS[name]
    wide, high = image_size(assembly.build_sources(load_recipe("laptop_small", data))[0])
    size = [round(side * LONGER_SIDE / max(wide, high)) for side in (wide, high)]
    own = [f"data.input_size_wh={size}", "data.color=rgb", "data.batch_transforms=[{name: flip}]"]
    plain = [f"train.seed={seed}", f"train.batch_size={BATCH}", "train.precision=float32", "run.hooks=[]"]
    with tempfile.TemporaryDirectory() as folder:
        run = Run(load_recipe("laptop_small", [*own, *data, *plain, f"run.folder={folder}"]))
        with process_settings(run):
            model = build(len(run.classes), (size[0], size[1])).train()
            optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
            begin, seen = time.perf_counter(), 0
            for step, (batch, _) in enumerate(run.batches(), start=1):
                progress = (time.perf_counter() - begin) / (60 * minutes)
                if progress >= 1 and seen:  # the first batch may take longer than that
                    break
                for group in optimizer.param_groups:
                    falling = (1 + math.cos(math.pi * min(1, progress))) / 2
                    group["lr"] = LEARNING_RATE * min(1, step / WARMUP) * falling
                images, targets = as_theirs(batch)
                losses = model(images, [{**target, "labels": target["labels"] + first} for target in targets])
                optimizer.zero_grad()
                sum(losses.values()).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
                optimizer.step()
                seen += len(batch)
            seconds = time.perf_counter() - begin
            assert run.val_set is not None  # a tenth is held out where no images are named
            loader = assembly.make_eval_loader(run.recipe, run.val_set)
            evaluator = build_evaluator(run.recipe, run.val_set.source, run.classes)
            numbers = evaluate_detector(
                adapted(model, first), loader, evaluator, device=torch.device("cpu"), with_losses=False
            )
    return {"AP": numbers["AP"], "images_per_second": seen / seconds, "peak_memory_mb": peak_mb()}


def adapted(model: Any, first: int) -> Any:
    """Return a detector of torchvision's as our evaluation takes one.

    Args:
        model: of torchvision's.
        first: the label of its first class.
    """
    import torch
    from torch import nn

    from densedet.core.types import Batch, Detections

    class Adapted(nn.Module):
        def predict(self, batch: Batch) -> list[Detections]:
            found = model([image.float() / 255 for image in batch.images])
            return [
                Detections(
                    one["boxes"], one["scores"], one["labels"] - first, torch.full_like(one["labels"], -1)
                )
                for one in found
            ]

    whole = Adapted()
    whole.model = model
    return whole


if __name__ == "__main__":
    print(json.dumps(peer(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])))
