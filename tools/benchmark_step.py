"""A training step of ours beside torchvision's, with the same network, weights and images."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

RECIPE = "torchvision/retinanet_resnet50_fpn"
SIZE = (128, 64)
"""WIDTH, HEIGHT"""

LEARNING_RATE = 0.0002
"""Of both sides. At ten times as much, torchvision leaves a twin of itself whose weights differ by one
rounding by 1e-3 of the box loss in
13 steps (the gradient of L1 jumps with its sign): no two programs would agree longer. At this rate the twins
stay within 1e-4 for 50."""

SAME = (
    "model.backbone={name: resnet18, norm: batch, frozen_stages: 0}",
    f"data.input_size_wh={list(SIZE)}",
    "data.resize={name: exact, antialias: false}",
    "data.train={name: digits, split: train, count: 512, color: rgb}",
    "data.val=null",
    "data.classes=null",
    "data.category_ids=null",
    "data.batch_transforms=[]",
    "data.workers=0",
    "train.budget={steps: 100000}",
    "train.batch_size=16",
    f"train.optimizer={{name: sgd, lr: {LEARNING_RATE}, momentum: 0.9, weight_decay: 0.0}}",
    "train.schedule={name: constant, warmup_steps: 0}",
    "run.hooks=[]",
)
"""torchvision's RetinaNet with ResNet-18 at 128x64, on our embedded digits."""

PLAIN = (
    "train.precision=float32",
    "train.channels_last=false",
    "train.clip_norm=null",
    "train.ema_decay=null",
)
"""What torchvision's reference does."""

FAST = ("train.clip_norm=10.0", "train.ema_decay=0.998")
"""Our defaults: precision auto, channels last, fused optimizer, gradient clipping, averaged weights."""

NANO = ("quickstart_retinanet", "quickstart_ssd")


def reference(num_classes: int, size: tuple[int, int] = SIZE, anchors: Any = None) -> Any:
    """torchvision's RetinaNet-R18-FPN for images of ``size``, with its own anchors where none are given."""
    import torch
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=torch.nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    return RetinaNet(backbone, num_classes, anchor_generator=anchors, min_size=min(size), max_size=max(size))


def ours(folder: Path, model: Any, *changes: str) -> Any:
    """A run of ours that has not begun, with the weights of torchvision's ``model``."""
    import torch

    from densedet.core.recipe.loading import load_recipe
    from densedet.core.training.run import Run

    torch.save(model.state_dict(), folder / "theirs.pth")
    recipe = load_recipe(
        RECIPE, [*SAME, f"run.folder={folder}", f"model.weights={folder / 'theirs.pth'}", *changes]
    )
    return Run(recipe)


def as_theirs(batch: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """A batch of ours as torchvision takes it: images in 0..1, targets."""
    images = [image.float() / 255 for image in batch.images]
    targets = [
        {"boxes": batch.boxes[row][valid], "labels": batch.labels[row][valid]}
        for row, valid in enumerate(batch.valid)
    ]
    return images, targets


def optimizer_of(model: Any) -> Any:
    """The one of `SAME`."""
    import torch

    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, momentum=0.9)


def step_of(model: Any, optimizer: Any, images: list[Any], targets: list[dict[str, Any]]) -> dict[str, float]:
    """torchvision's reference training step; its losses."""
    losses = model(images, targets)
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    return {name: float(value.detach()) for name, value in losses.items()}


def step(arguments: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of training steps of 16 images, in turns in one process: torchvision's, ours in float32,
    ours by default, the bare network; then what a small network's step spends outside the network."""
    import torch

    from densedet.core.training.engine import optimizer_step
    from densedet.core.training.memory import keep_freed_memory
    from densedet.core.training.probing import choose_precision

    rows: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "freed memory kept": keep_freed_memory(),
    }  # for both sides
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = reference(10).train()
        plain, fast = ours(folder, model, *PLAIN), ours(folder, model, *FAST)
        batch = next(plain.batches())[0]
        for run in (plain, fast):
            choose_precision(run)
            run.detector.train()
        images, targets = as_theirs(batch)
        optimizer = optimizer_of(model)
        acts = {
            "torchvision's step": lambda: step_of(model, optimizer, images, targets),
            "ours, float32": lambda: optimizer_step(plain, (batch,)),
            "ours, default": lambda: optimizer_step(fast, (batch,)),
            "bare network, float32": lambda: bare(plain, batch),
        }
        times = in_turns(acts, arguments.rounds)
        theirs = times.pop("torchvision's step")
        rows["torchvision's step s"] = round(median(theirs), 4)
        rows |= {f"{key} s": round(median(values), 4) for key, values in times.items()}
        rows |= {f"{key} / torchvision's": round(ratio(values, theirs), 3) for key, values in times.items()}
        rows["default precision"] = str(fast.dtype or torch.float32)
        precisions = dict.fromkeys([str(fast.chosen_precision), "float32"])
        for recipe in NANO:
            for precision in precisions:
                rows |= nano(recipe, precision, folder, arguments.rounds)
    return rows


def nano(name: str, precision: str, folder: Path, rounds: int) -> dict[str, Any]:
    """A shipped small recipe: its arithmetic, and the share of a step that is no network: matching, encoding,
    losses and optimizer, and with gradient clipping, averaged weights and all else."""
    import torch

    from densedet.core.recipe.loading import load_recipe
    from densedet.core.training import profile
    from densedet.core.training.engine import optimizer_step
    from densedet.core.training.run import Run

    run = Run(
        load_recipe(
            name, [f"run.folder={folder}", "run.hooks=[]", "data.val=null", f"train.precision={precision}"]
        )
    )
    key = f"{name}, {run.precision}"
    run.detector.train()
    batch = next(run.batches())[0]
    with run.autocast():
        output: Any = run.detector.run_network(batch)  # type: ignore[operator]
    acts: dict[str, Callable[[], Any]] = {
        "step": lambda: optimizer_step(run, (batch,)),
        "network": lambda: bare(run, batch),
        "loss": lambda: loss_alone(run, batch, output),
        "optimizer": lambda: run.optimizer.step(),
    }
    times = in_turns(acts, rounds * 4)
    counted = [loss + update for loss, update in zip(times["loss"], times["optimizer"])]
    width, height = run.recipe.data.input_size_wh
    flops = profile.forward_flops(run.detector, profile.blank_batch(1, 1, height, width, torch.device("cpu")))
    return {
        f"{key}: GFLOP forward": round(flops / 1e9, 3),
        f"{key}: step ms": round(1e3 * median(times["step"]), 2),
        f"{key}: bare network ms": round(1e3 * median(times["network"]), 2),
        f"{key}: matching, encoding, losses ms": round(1e3 * median(times["loss"]), 2),
        f"{key}: optimizer ms": round(1e3 * median(times["optimizer"]), 2),
        f"{key}: share of these four": round(ratio(counted, times["step"]), 3),
        f"{key}: share of all but the network": round(1 - ratio(times["network"], times["step"]), 3),
    }


def loss_alone(run: Any, batch: Any, output: Any) -> None:
    """Matching, encoding and losses on what the network said, and their gradient back to that."""
    import torch

    losses = run.detector._losses(output, run.detector.assign(output, batch))
    torch.autograd.grad(torch.stack(list(losses.values())).sum(), [output.logits, output.box])


def bare(run: Any, batch: Any) -> None:
    """Forward and backward of the network alone, as the run trains it."""
    import torch

    run.optimizer.zero_grad(set_to_none=True)
    if run.settings.channels_last:
        batch.images = batch.images.contiguous(memory_format=torch.channels_last)
    with run.autocast():
        output = run.detector.run_network(batch)
    (output.logits.sum() + output.box.sum()).backward()


def ratio(values: list[float], others: list[float]) -> float:
    """The median of the rounds' ratios: a machine that slows down for a while does so for both sides of a
    round."""
    return median(value / other for value, other in zip(values, others))


def in_turns(acts: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """{name: seconds of each round}, after two rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds + 2):
        for name, act in acts.items():
            begin = time.perf_counter()
            act()
            if number >= 2:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


MEMORY = """
import json, resource, sys
from pathlib import Path
from tempfile import TemporaryDirectory
import torch, torchvision
from densedet.core.training.memory import keep_freed_memory, used_mb
from densedet.tools import benchmark_step as b
from densedet.core.training.engine import optimizer_step
imports = used_mb()
with TemporaryDirectory() as name:
    torch.manual_seed(0)
    model = b.reference(10).train()
    run = b.ours(Path(name), model, *(b.FAST if sys.argv[1] == "default" else b.PLAIN))
    batch = next(run.batches())[0]
    images, targets = b.as_theirs(batch)
    if sys.argv[1] == "torchvision":
        del run
        optimizer = b.optimizer_of(model)
        act = lambda: b.step_of(model, optimizer, images, targets)
    else:
        del model
        keep_freed_memory()
        act = lambda: optimizer_step(run, (batch,))
    import gc; gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(4): act()
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(l.split()[1]) / 1e3 for l in lines if l.startswith("VmHWM"))
print(json.dumps({"peak MB": round(peak), "above the imports MB": round(peak - imports)}))
"""
"""Peak resident memory of four steps, each side in a process of its own; Linux only."""
