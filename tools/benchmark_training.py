"""How long training waits for its data."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def training(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train both heads of the short form (128x64 grey, batches of 16) on a .db made from the data, with the
    cache of decoded images and without, each in a process of its own; the share of the steps' time that went
    by waiting for data, in the first epoch and in all later ones."""
    from densedet.core.annotations.conversion import convert, open_source, recognise, writer_of
    from densedet.core.errors import UsageError
    from densedet.core.recipe.plugin_loading import load_plugins

    if arguments.epochs < 2:
        raise UsageError("--epochs must be 2 or more: the later epochs are what counts")
    components = load_plugins([]).components
    path = Path(arguments.data)
    source = open_source(
        recognise(path, components, split=arguments.split if os.path.isdir(path) else None), components
    )
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows["images"] = convert(source, writer_of(folder / "x.db", components), folder / "x.db").images
        for head in ("ssd", "retinanet"):
            for label, gigabytes in (("cached", 4), ("uncached", 0)):
                command = [
                    "--db",
                    str(folder / "x.db"),
                    "--images",
                    str(source.images_folder),
                    "--head",
                    head,
                ]
                command += [
                    "--epochs",
                    str(arguments.epochs),
                    f"data.cache_gb={gigabytes}",
                    f"data.cache_folder={folder / head}",
                ]
                command += [f"run.folder={folder / 'runs'}", "train.evaluations=1"]
                command += [f"train.threads={arguments.threads}"] if arguments.threads else []
                rows |= {f"{head}, {label}: {key}": value for key, value in waiting(trained(command)).items()}
    return rows


def trained(command: list[str]) -> Path:
    """The folder of a run of `densedet train`. Raises TrainingError with its last words."""
    words = ["-m", "densedet.tools.main", "train", *command, "--json"]
    said = printed(f"densedet train {' '.join(command)}", words)
    return Path(json.loads(said.strip().splitlines()[-1])["folder"])


def printed(name: str, words: list[str]) -> str:
    """Return what a fresh Python prints that is run with ``words``.

    Raises:
        TrainingError: it failed; with ``name`` and its last words.
    """
    from densedet.core.errors import TrainingError
    from densedet.core.signals import run_to_end

    done = run_to_end([sys.executable, *words], with_errors=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise TrainingError(f"{name} failed: {lines[-1]}")
    return done.stdout


def waiting(folder: Path) -> dict[str, float]:
    """From a run's metrics.jsonl: shares of time (0..1) and, of the later epochs, milliseconds a step."""
    steps = [
        row
        for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        if row["event"] == "step"
    ]
    # A row says where the run stands after its step: the last step of the first epoch stands in the second.
    first = next(number for number, row in enumerate(steps) if row["epoch"] > 0) + 1
    begin, rest = (
        [sum(row[key] for row in part) for key in ("data_seconds", "step_seconds")]
        for part in (steps[:first], steps[first:])
    )
    count = len(steps) - first
    return {
        "share waiting, first epoch": round(begin[0] / begin[1], 4),
        "share waiting, later epochs": round(rest[0] / rest[1], 4),
        "waiting ms a step": round(1e3 * rest[0] / count, 2),
        "step ms": round(1e3 * rest[1] / count, 1),
    }
