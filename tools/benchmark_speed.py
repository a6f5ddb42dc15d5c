"""What a small recipe trains a second and takes of the memory, and how long commands take to begin."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from densedet.core.errors import TrainingError

NANO = ("laptop_nano", "quickstart_ssd", "quickstart_retinanet")

DIGITS = (
    "data.train={name: digits, split: train, count: 2000}",
    "data.val={name: digits, split: val, count: 200}",
    "data.holdout=null",
)
"""The images of the quick start, for a recipe that has none of its own."""


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Images a second in training and peak memory above that of the imports, in float32 and in bf16, of runs
    of --steps steps with an evaluation at the end, each in a process of its own, in turns; medians."""
    cases = [(recipe, kind) for recipe in arguments.recipes or NANO for kind in ("float32", "bf16")]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {case: [] for case in cases}
    for _ in range(arguments.rounds):
        for case in cases:
            found[case].append(trained(*case, [f"train.budget={{steps: {arguments.steps}}}", *arguments.set]))
    rows: dict[str, Any] = {}
    for (recipe, kind), runs in found.items():
        speeds = [run["images_per_second"] for run in runs]
        above = [run["peak_memory_mb"] - run["import_memory_mb"] for run in runs]
        rows[f"{recipe}, {kind}: images/s"] = round(median(speeds), 1)
        rows[f"{recipe}, {kind}: images/s, least and most"] = [round(min(speeds), 1), round(max(speeds), 1)]
        rows[f"{recipe}, {kind}: memory above the imports MB"] = median(above)
    return rows


def trained(recipe: str, precision: str, changes: list[str]) -> dict[str, Any]:
    """Return the summary of a run in a process of its own."""
    from densedet.core.recipe.loading import load_recipe
    from densedet.tools.benchmark_training import printed

    own = () if load_recipe(recipe).data.train["name"] == "digits" else DIGITS
    with tempfile.TemporaryDirectory() as folder:
        words = [recipe, *own, f"train.precision={precision}", "train.evaluations=1", *changes]
        command = ["-m", "densedet.tools.main", "train", *words, f"run.folder={folder}", "--json"]
        told: dict[str, Any] = json.loads(printed(f"densedet train {' '.join(words)}", command))
    return told


def startup(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of fresh processes, in turns, medians: Python alone, the imports of torch and torchvision, of
    densedet, `densedet --help`, the first error of a faulty recipe, and a run of quickstart_ssd from the
    start of its process to the end of its first step, with its images in the cache and not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        acts: dict[str, Callable[[], Any]] = {
            "python": lambda: ran("-c", "pass"),
            "import torch, torchvision": lambda: ran("-c", "import torch, torchvision"),
            "import densedet": lambda: ran("-c", "import densedet"),
            "densedet --help": lambda: ran("-m", "densedet.tools.main", "--help"),
            "densedet train, an unknown key": lambda: ran(
                "-m", "densedet.tools.main", "train", "quickstart_ssd", "train.bach_size=1", code=2
            ),
            "quickstart_ssd to its first step, nothing cached": lambda: first_step(folder, anew=True),
            "quickstart_ssd to its first step": lambda: first_step(folder, anew=False),
        }
        seconds: dict[str, list[float]] = {name: [] for name in acts}
        for _ in range(arguments.rounds + 1):  # the first one reads the disk
            for label, act in acts.items():
                begin = time.perf_counter()
                act()
                seconds[label].append(time.perf_counter() - begin)
    return {f"{label} s": round(median(values[1:]), 3) for label, values in seconds.items()}


def ran(*words: str, code: int = 0) -> None:
    """Run Python.

    Raises:
        TrainingError: its exit code is another one.
    """
    from densedet.core.signals import run_to_end

    done = run_to_end([sys.executable, *words], with_errors=True)
    if done.returncode != code:
        raise TrainingError(f"python {' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")


FIRST_STEP = """
import os, sys
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import session
from densedet.core.hookspecs import hookimpl
class End:
    @hookimpl
    def densedet_run_step(self, run):
        os._exit(0)
session.train(load_recipe("quickstart_ssd", sys.argv[1:]), hooks=[End()])
"""


def first_step(folder: Path, *, anew: bool) -> None:
    """Start a run, and end its process with its first step."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        cache = Path(name) / "cache" if anew else folder / "cache"
        ran("-c", FIRST_STEP, f"run.folder={name}", f"data.cache_folder={cache}")
