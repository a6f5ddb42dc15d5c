"""Training on a GPU: images a second, how busy the GPU is, what the host waits for, and memory."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECIPES = ("quickstart_retinanet", "quickstart_ssd", "bccd_retinanet")
LARGE = "torchvision/retinanet_resnet50_fpn"
WAYS = (("float32", "off"), ("bf16", "off"), ("float32", "on"))
"""Precision and train.compile of the runs of a recipe."""
PROFILED = 10
"""Steps under torch's profiler, which slows them: nothing is timed there."""
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize")
LAUNCHES = (
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cudaGraphLaunch",
)


def gpu(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train recipes on scenes of digits of their own size, in batches of 16, in float32 and bf16, and in
    float32 with the network as CUDA graphs: images/s through the whole loop, the share of a step in
    which the GPU works, kernel launches, waits and copies a step, peak memory; and RetinaNet-R50 at 800x1216,
    batch 8, its step beside the bare network's forward and backward pass."""
    from densedet.core.training.precision import resolve_device

    device = resolve_device(arguments.device)
    rows: dict[str, Any] = {"device": _name(device)}
    for recipe in arguments.recipes or RECIPES:
        for precision, compiled in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                key = f"{recipe}, {precision}, compile {compiled}"
                try:
                    run = run_of(recipe, device, Path(folder), precision, compiled, arguments.workers)
                    rows[key] = measured(run, arguments.seconds)
                except Exception as error:  # one figure that cannot be had costs no other
                    rows[key] = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
                print(key, rows[key], file=sys.stderr, flush=True)
    if device.type == "cuda":
        rows[f"{LARGE}, 1216x800, batch 8"] = over_the_network(device, arguments.seconds)
    return rows


def _name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def run_of(recipe: str, device: Any, folder: Path, precision: str, compiled: str, workers: int) -> Any:
    """A run that is ready for its steps, without hooks or evaluations."""
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.training.compiling import compile_network
    from densedet.core.training.run import Run

    plain = load_recipe(recipe)
    width, height = plain.data.input_size_wh
    source = f"name: digits, size: [{width}, {height}], color: {plain.data.color}, count: 256"
    changes = [
        f"data.train={{{source}}}",
        *("data.val=null", "data.holdout=null", "data.classes=null", "data.category_ids=null"),
        *("model.weights=null", "run.hooks=[]", f"run.folder={folder}", f"data.workers={workers}"),
        *("train.batch_size=16", "train.budget.minutes=null", "train.budget.epochs=null"),
        *("train.budget.steps=1000000", f"train.device={device}"),
        *(f"train.precision={precision}", f"train.compile={compiled}"),
    ]
    run = Run(load_recipe(recipe, changes), folder=folder)
    compile_network(run)
    run.detector.train()
    return run


def measured(run: Any, seconds: float) -> dict[str, Any]:
    """The figures of a run's steps."""
    import torch

    from densedet.core.distributed import synchronize
    from densedet.core.training.engine import advance

    batches = run.batches()
    for _ in range(PROFILED):
        advance(run, batches)
    synchronize(run.device)
    steps, waited, begin = 0, 0.0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        waited += advance(run, batches)["data_seconds"]
        steps += 1
    synchronize(run.device)
    taken = time.perf_counter() - begin
    figures: dict[str, Any] = {
        "images/s": round(steps * run.sampler.batch_size / taken, 1),
        "step ms": round(1e3 * taken / steps, 2),
        "of it for data ms": round(1e3 * waited / steps, 2),
        "numbers read late by steps": run.lag,
    }
    if run.device.type != "cuda":
        return figures
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        for _ in range(PROFILED):
            advance(run, batches)
        synchronize(run.device)
    return figures | profiled(profile.events(), taken / steps) | {"GPU peak MB": run.gpu_peak_memory_mb}


def profiled(events: Any, step_seconds: float) -> dict[str, Any]:
    """What a profile of `PROFILED` steps shows."""
    from torch.autograd import DeviceType

    counts: Counter[str] = Counter()
    spans = []
    for event in events:
        if event.device_type == DeviceType.CUDA:
            spans.append((event.time_range.start, event.time_range.end))
            counts["copies"] += event.name.startswith("Memcpy")
        counts["launches"] += event.name in LAUNCHES
        counts["waits"] += event.name in WAITS
    busy, end = 0.0, float("-inf")
    for first, last in sorted(spans):  # streams overlap: what two do at once counts once
        busy += max(0.0, last - max(first, end))
        end = max(end, last)
    return {
        "GPU busy ms": round(busy / PROFILED / 1e3, 2),
        "GPU busy": round(busy / PROFILED / 1e6 / step_seconds, 3),
        **{f"{name} a step": round(count / PROFILED, 1) for name, count in counts.items()},
    }


def over_the_network(device: Any, seconds: float) -> dict[str, Any]:
    """RetinaNet-R50's step over the forward and backward pass of its network alone, in turns."""
    import torch

    from densedet.core.distributed import synchronize
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.training.engine import optimizer_step
    from densedet.core.training.run import Run

    source = "name: digits, size: [1216, 800], color: rgb, count: 8"
    changes = [
        f"data.train={{{source}}}",
        *("data.val=null", "data.holdout=null", "data.classes=null", "data.category_ids=null"),
        *(
            "data.resize={name: exact}",
            "data.input_size_wh=[1216, 800]",
            "run.hooks=[]",
            "model.weights=null",
        ),
        *("train.batch_size=8", "train.budget.epochs=null", "train.budget.steps=1000000"),
        *(f"train.device={device}", "train.precision=bf16", "train.compile=off"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        run = Run(load_recipe(LARGE, changes), folder=Path(folder))
        detector: Any = run.detector.train()
        batch, _ = next(run.batches())
        if run.settings.channels_last:
            batch.images = batch.images.contiguous(memory_format=torch.channels_last)

        def bare() -> None:
            with run.autocast():
                output = detector.run_network(batch)
            (output.logits.sum() + output.box.sum()).backward()
            run.optimizer.zero_grad(set_to_none=True)

        acts: dict[str, Callable[[], Any]] = {
            "step": lambda: optimizer_step(run, (batch,)),
            "network": bare,
        }
        times: dict[str, list[float]] = {name: [] for name in acts}
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds or len(times["step"]) < 5:
            for name, act in acts.items():
                synchronize(device)
                now = time.perf_counter()
                for _ in range(5):  # so that the host is ahead, as in a training
                    act()
                synchronize(device)
                times[name].append((time.perf_counter() - now) / 5)
        best = {name: min(values[1:]) for name, values in times.items()}
    return {
        **{f"{name} ms": round(1e3 * value, 2) for name, value in best.items()},
        "step over network": round(best["step"] / best["network"], 3),
    }
