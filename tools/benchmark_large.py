"""A run on a set of COCO train2017's size: its memory by epoch, its cache, its first step, and its resume."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from densedet.core.hookspecs import hookimpl
from densedet.tools.benchmark_files import BOXES, IMAGES, coco_like_table

DISTINCT = 4
"""JPEGs of each size; their hard links stand for all images of the size."""

SMALL = (
    "data.input_size_wh=[128, 64]",
    "data.holdout=null",
    "model.backbone={name: convnet, widths: [8, 8, 16], depths: [0, 0, 0], stem: 4}",
    "model.neck.channels=8",
    "train.batch_size=64",
    "train.evaluations=1",
    "run.hooks=[{name: metrics}, {name: checkpoint}]",
)
"""A network that costs next to nothing, so that whole epochs take minutes: what grows with the number of
images or of epochs grows all the same."""


def large(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make a set of COCO train2017's size (118,287 hard links to a few JPEGs, 860,001 boxes), train on it,
    with loader processes and without, stop halfway, resume, and evaluate on all images, each in a
    process of its own. Memory is the proportional set size of the process tree, at its peak in each phase."""
    from densedet.tools.benchmark import in_process

    count = int(IMAGES * arguments.scale), int(BOXES * arguments.scale)
    rows: dict[str, Any] = {"images": count[0], "boxes": count[1]}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make(folder, *count)

        def measure(label: str, *settings: str) -> None:
            rows.update({f"{label}: {key}": v for key, v in in_process(SCRIPT, name, *settings).items()})

        measure("too small a cache_gb", "open", "flatbuffers", "0", "data.cache_gb=0.001")
        rows["too small a cache_gb: cache MB on the disk"] = on_disk_mb(folder / "cache")
        measure("COCO JSON, 3 steps", "open", "coco", "0")
        epochs = f"train.budget={{epochs: {arguments.epochs}}}"
        measure("2 workers, stopped halfway", "stop", "flatbuffers", "2", epochs)
        measure("resumed", "resume", "flatbuffers", "2")
        measure("no workers", "train", "flatbuffers", "0", epochs)
        measure("evaluating all images", "evaluate", "flatbuffers", "2")
        rows["cache MB on the disk"] = on_disk_mb(folder / "cache")
    return rows


SCRIPT = "import sys; from densedet.tools.benchmark_large import child; child(*sys.argv[1:])"


def make(folder: Path, images: int, boxes: int) -> None:
    """Write x.json, x.db and images/ into a folder.

    Args:
        folder: an empty folder.
        images: number of images, of COCO's sizes.
        boxes: number of boxes.
    """
    from densedet.tools.benchmark import part

    table = coco_like_table(images, boxes)
    part("source", "coco").write(table, folder / "x.json")
    part("source", "flatbuffers").write(table, folder / "x.db")
    pictures, links = folder / "pictures", folder / "images"
    pictures.mkdir()
    links.mkdir()
    for index, (width, height) in enumerate(table.sizes.tolist()):
        picture = pictures / f"{width}x{height}_{index % DISTINCT}.jpg"
        if not picture.exists():
            draw(picture, width, height, seed=index)
        os.link(picture, links / table.name(index))


def draw(path: Path, width: int, height: int, *, seed: int) -> None:
    """Write a JPEG of coloured clouds, which is about as large as a photograph."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for cell in (160, 40, 10, 2):
        noise = random.integers(0, 64, (height // cell + 1, width // cell + 1, 3), dtype=np.uint8)
        picture += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR))
    Image.fromarray(picture.astype(np.uint8)).save(path, quality=90)


def on_disk_mb(folder: Path) -> int:
    """Return the space that the files below a folder take on the disk, in MB."""
    return round(sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 1e6)


class Watch(threading.Thread):
    """Samples the memory of this process and its children.

    Args:
        interval: seconds between two samples.

    Attributes:
        peaks: {phase: (MB in all, MB of mapped files)} at each phase's peak.
        phase: the phase that samples are counted to.
    """

    def __init__(self, interval: float = 0.5) -> None:
        super().__init__(daemon=True)
        self.interval = interval
        self.peaks: dict[str, tuple[float, float]] = {}
        self.phase = "opening"

    def run(self) -> None:
        """Sample until the process ends."""
        while True:
            phase = self.phase
            self.peaks[phase] = max(self.peaks.get(phase, (0.0, 0.0)), tree_mb())
            time.sleep(self.interval)


def tree_mb() -> tuple[float, float]:
    """Return the memory of this process and its children (proportional set size), and how much of it is
    mapped files, in MB."""
    own, total, files = psutil.Process(), 0, 0
    for process in (own, *own.children(recursive=True)):
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:  # a child that has just ended
            continue
        sizes = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
        total += sizes["Pss:"]
        files += sizes["Pss_File:"]
    return total / 1024, files / 1024


class Phases:
    """A hook that names the phases of a run to a `Watch`.

    Args:
        watch: the watch.
        since: `time.perf_counter` at the end of the imports.
        stopping: whether to stop the run at half of its budget.

    Attributes:
        first_step: seconds from ``since`` to the end of the first step.
    """

    def __init__(self, watch: Watch, since: float, *, stopping: bool) -> None:
        self.watch, self.since, self.stopping = watch, since, stopping
        self.first_step = 0.0

    @hookimpl
    def densedet_run_step(self, run: Any) -> None:
        """Name the phase, and stop where the run is to stop."""
        self.first_step = self.first_step or time.perf_counter() - self.since
        self.watch.phase = f"epoch {run.epoch + 1}" if run.progress < 1 else "evaluation at the end"
        if self.stopping and run.progress >= 0.5:
            run.stop("the benchmark resumes it from here")


def child(folder: str, act: str, source: str, workers: str, *overrides: str) -> None:
    """Do one part of the benchmark in this process, and print its figures as JSON.

    Args:
        folder: what `make` has filled.
        act: "open" (three steps and no evaluation), "train", "stop" (at half of the budget), "resume" or
            "evaluate".
        source: name of the source.
        workers: number of loader processes.
        overrides: changes to the recipe.
    """
    import torch
    import torchvision

    from densedet.core import api
    from densedet.core.training import session

    del torch, torchvision
    begin, imports = time.perf_counter(), tree_mb()[0]
    watch = Watch()
    watch.start()
    phases = Phases(watch, begin, stopping=act == "stop")
    place = Path(folder, "runs", f"{source}_{workers}_{act}")
    stopped = place.with_name(f"{source}_{workers}_stop")
    result: dict[str, Any] = {"imports MB": round(imports)}
    if act == "evaluate":
        watch.phase = "evaluating"
        api.evaluate(stopped, split="train")
    else:
        if act == "resume":
            run: Any = session.resume(stopped, hooks=[phases])
        else:
            settings = [*recipe_changes(folder, source, workers), *overrides]
            settings += ["data.val=null", "data.val_filter={}"] if act == "open" else []
            run = session.train(api.load_recipe("laptop_nano", settings), folder=place, hooks=[phases])
        result |= {"first step after s": round(phases.first_step, 1), "steps": run.step}
        result["cache"] = next((note for note in run.notes if "cache" in note), "no word")
    result["seconds"] = round(time.perf_counter() - begin)
    for phase, (total, files) in sorted(watch.peaks.items()):
        result[f"{phase}, peak MB"] = round(total)
        result[f"{phase}, mapped files MB"] = round(files)
    print(json.dumps(result))


def recipe_changes(folder: str, source: str, workers: str) -> list[str]:
    """Return the overrides of laptop_nano that train on the set in ``folder``, three steps long."""
    file = "x.json" if source == "coco" else "x.db"
    part = f"{{name: {source}, annotations: {file}, images: images}}"
    return [
        *SMALL,
        f"data.root={folder}",
        f"data.train={part}",
        f"data.val={part}",
        "data.val_filter={limit: 5000}",
        f"data.workers={workers}",
        f"data.cache_folder={folder}/cache",
        "train.budget={steps: 3}",
    ]
