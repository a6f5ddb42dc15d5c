"""How far the predictions of ``densedet train --plan`` are from short runs."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PIXELS = 2_200_000
"""Of a batch: larger batches are cut down, so that each recipe runs on a laptop within minutes."""
WORK = 24_000_000
"""Pixels that the optimizer steps of a run see, by which their number is chosen."""
SHOWN = (
    ("peak memory MB", "peak_memory_mb"),
    ("beyond the imports", "beyond"),
    ("minutes", "minutes"),
    ("of training", "minutes_training"),
    ("disk MB", "disk_mb"),
)


def plan(arguments: argparse.Namespace) -> dict[str, Any]:
    """Plan recipes and run them, each in a process of its own: peak memory with and without the imports,
    minutes from start to end and of training, disk; predicted, measured, and the error in %. All recipes run
    on scenes of digits of their own size, with smaller batches where these would take a laptop hours; what
    was changed is shown."""
    from densedet.core.recipe.merging import shipped_recipes

    rows: dict[str, Any] = {}
    for recipe in arguments.recipes or shipped_recipes():
        changes = [*short(recipe), *arguments.set]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            places = [f"run.folder={folder / 'runs'}", f"data.cache_folder={folder / 'cache'}"]
            predicted = told([recipe, *changes, *places, "--plan"])
            if predicted.get("too_large"):
                rows[recipe] = {"refused": "; ".join(predicted["too_large"])}
                continue
            # The plan has cached a few images, which the run shall not find.
            places[1] = f"data.cache_folder={folder / 'anew'}"
            begin = time.perf_counter()
            summary = told([recipe, *changes, *places])
            measured = {
                "peak_memory_mb": summary["peak_memory_mb"],
                "import_memory_mb": summary["import_memory_mb"],
                "minutes": (time.perf_counter() - begin) / 60,
                "minutes_training": summary["minutes"],
                "disk_mb": (size(folder / "runs") + size(folder / "anew")) / 1e6,
            }
        rows[recipe] = {
            "changes": changes,
            **{label: compared(predicted, measured, key) for label, key in SHOWN},
        }
        print(line(recipe, rows[recipe]), file=sys.stderr, flush=True)
    return rows


def short(name: str) -> list[str]:
    """The overrides by which a recipe runs within minutes, on data that everybody has."""
    from densedet.core.recipe.loading import load_recipe

    recipe = load_recipe(name)
    width, height = recipe.data.input_size_wh
    batch = max(2, min(recipe.train.images, PIXELS // (width * height)))
    steps = max(4, min(60, WORK // (width * height * batch)))
    source = f"name: digits, size: [{width}, {height}], color: {recipe.data.color}"
    held = 2 * min(recipe.evaluate.batch_size, 2 * batch)
    return [
        f"data.train={{{source}, split: train, count: {math.ceil(steps / 3) * batch}}}",
        f"data.val={{{source}, split: val, count: {held}}}",
        *("data.holdout=null", "data.classes=null", "data.category_ids=null", "model.weights=null"),
        "data.workers=0" if recipe.data.workers in (0, "auto") else "data.workers=1",
        f"train.batch_size={batch}",
        f"evaluate.batch_size={min(recipe.evaluate.batch_size, 2 * batch)}",
        *("train.budget.epochs=null", "train.budget.minutes=null", f"train.budget.steps={steps}"),
        "train.evaluations=2",
    ]


def told(words: list[str]) -> dict[str, Any]:
    """What a command of ``densedet train`` prints as JSON."""
    from densedet.core.errors import TrainingError
    from densedet.core.signals import run_to_end

    done = run_to_end(
        [sys.executable, "-m", "densedet.tools.main", "train", *words, "--json"], with_errors=True
    )
    if not done.stdout.strip():
        raise TrainingError(
            f"densedet train {' '.join(words)} failed: {done.stderr.strip().splitlines()[-1]}"
        )
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def compared(predicted: dict[str, Any], measured: dict[str, Any], key: str) -> dict[str, float]:
    """A prediction, what it came to, and the error in %."""
    one, other = (
        side["peak_memory_mb"] - side["import_memory_mb"] if key == "beyond" else side[key]
        for side in (predicted, measured)
    )
    return {
        "predicted": round(one, 2),
        "measured": round(other, 2),
        "error %": round(100 * (one / other - 1), 1),
    }


def size(folder: Path) -> int:
    """Bytes on the disk of the files below a folder; holes in them take none."""
    files = [Path(at) / name for at, _, names in os.walk(folder) for name in names]
    return sum(512 * getattr(file.stat(), "st_blocks", -(-file.stat().st_size // 512)) for file in files)


def line(recipe: str, row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [
        f"{label} {row[label]['predicted']:g} / {row[label]['measured']:g} ({row[label]['error %']:+.0f} %)"
        for label, _ in SHOWN
    ]
    return f"{recipe:<34} {'; '.join(cells)}"
