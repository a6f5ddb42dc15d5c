"""Whole runs on 1, 2 and 3 real processes (gloo): they do what one process does, and none waits for ever.

Three processes do all of it: two of them, then one, then all three.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

import densedet
from densedet.core import api
from densedet.core.distributed import alone, gather_objects, world
from densedet.core.errors import DataError, PeerError, TrainingError
from densedet.core.training import checkpoint, session
from densedet.core.training.run import Run
from densedet.tools.main import main

pytestmark = [
    pytest.mark.skipif(not distributed.is_gloo_available(), reason="this torch has no gloo"),
    pytest.mark.timeout(900),  # all runs are made in one fixture
]

SMALL = [
    "data.train={name: digits, split: train, count: 11, size: [64, 32], min_side: 10, max_side: 20}",
    "data.val={name: digits, split: val, count: 7, size: [64, 32], min_side: 10, max_side: 20}",
    "data.input_size_wh=[64, 32]",
    "data.cache_gb=0",
    "model.backbone.widths=[8, 16]",
    "model.neck.stages=[{out_channels: 16, hidden_channels: 8}]",
    "model.anchors.scales=[0.3, 0.5, 0.7, 1.0]",
    "train.batch_size=5",
    "train.budget.steps=4",
    "train.evaluations=2",
    "train.precision=float32",
    "train.optimizer={name: sgd, lr: 0.005, momentum: 0.9}",
    "evaluate.batch_size=3",
    "run.hooks=[{name: checkpoint}, {name: metrics}]",
]
GROUP = ["model.backbone.norm=group", "model.neck.stages.0.norm=group"]
AUGMENTED = [
    "data.batch_transforms=[{name: flip}, {name: crop}, {name: affine}, {name: photometric}]",
    "data.input_sizes_wh=[[64, 32], [80, 48]]",
    "train.accumulate=2",
    "train.clip_norm=0.5",
]
MIXED = [
    "data.batch_transforms=[{name: mosaic, p: 1.0, until: 0.75}, {name: mixup, until: 0.5}, copy_paste]",
    "data.sampler=repeat_factor",
    "model.class_loss.class_weights=inverse_frequency",
    "data.workers=1",
    "model.detector={name: dense, loss_normalizer: positives_per_image}",
]
SELDOM = Path(__file__).with_name("seldom_loss.py")
FEW = [
    "data.train={name: digits, count: 11, size: [64, 32], min_objects: 0, max_objects: 1, min_side: 10, "
    "max_side: 20}",
    "model.class_loss={name: seldom}",
    "model.detector={name: dense, loss_normalizer: quality, box_weight: score}",
]
"""Shares without an object, for which a parameter of the loss is not used."""
EQUAL = {"augmented": AUGMENTED, "mixed": MIXED, "few": FEW}


class Trouble:
    """A hook that makes trouble after a step on the last process."""

    all_ranks = True

    def __init__(self, kind: str, step: int = 2) -> None:
        self.kind, self.step = kind, step

    @densedet.hookimpl
    def densedet_run_step(self, run: Run, step: dict[str, Any]) -> None:
        if run.rank != run.world - 1 or run.step != self.step:
            return
        if self.kind == "stop":
            run.stop("enough")
        if self.kind == "nan":
            next(run.detector.parameters()).data.fill_(torch.nan)
        if self.kind == "error":
            raise DataError("image 7 cannot be read")


def train(folder: Path, *changes: str, hooks: tuple[Any, ...] = ()) -> Run:
    given = [*SMALL, *changes, f"run.folder={json.dumps(str(folder))}"]
    plugins = [str(SELDOM)] if any("seldom" in change for change in changes) else []
    recipe = api.load_recipe("quickstart_ssd", given, plugins=plugins)
    return session.train(recipe, hooks=hooks)


def numbers(run: Run) -> dict[str, Any]:
    """What a run has learned, printed and counted."""
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    evaluated = [line["metrics"] for line in lines if line["event"] == "evaluation"]
    return {
        "weights": run.detector.state_dict(),
        "average": run.eval_detector.state_dict(),
        "loss": [line["loss"] for line in steps],
        "grad_norm": [line["grad_norm"] for line in steps],
        "images": [line["images"] for line in steps],
        "val_loss": [list(metrics["losses"].values()) for metrics in evaluated],
        "AP": [metrics["AP"] for metrics in evaluated],
        "lost": json.loads((run.folder / "summary.json").read_text())["lost_boxes"],
    }


def equal_runs(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """What runs of these names come to."""
    found: dict[str, Any] = {}
    for name in names:
        found[name] = numbers(train(folder / name, *GROUP, *EQUAL[name]))
        assert [path.name for path in (folder / name / "quickstart_ssd").iterdir()] == ["1"]
    return found


def batch_norm(folder: Path) -> None:
    """Each process has the statistics of its own images, yet all hold and evaluate the same ones; and one
    process has no image to evaluate."""
    run = train(folder, "data.train.count=6", "data.val.count=1", "train.budget.steps=2")
    weights = {
        **run.detector.state_dict(),
        **{f"ema.{k}": v for k, v in run.eval_detector.state_dict().items()},
    }
    assert run.metrics["images"] == 1
    first = gather_objects((weights, run.metrics, run.best))[0]
    assert all(torch.equal(value, first[0][name]) for name, value in weights.items())
    assert (run.metrics, run.best) == first[1:]


def troubles(folder: Path) -> None:
    """The last process stops, or breaks its weights: all end after the same step, and know why."""
    stopped = train(folder / "stop", hooks=(Trouble("stop"),))
    assert (stopped.step, stopped.stop_reason) == (2, "enough")
    with pytest.raises(TrainingError, match="not finite") as refused:
        train(folder / "nan", hooks=(Trouble("nan"),))
    assert set(gather_objects(str(refused.value))) == {str(refused.value)}


def fault(folder: Path) -> None:
    """The last process fails, and ends: so do the others."""
    rank, count = world()
    failed = DataError if rank == count - 1 else PeerError
    with pytest.raises(failed, match="image 7" if rank == count - 1 else "another process"):
        train(folder, hooks=(Trouble("error"),))
    if rank == 0:
        summary = json.loads((folder / "quickstart_ssd/1/summary.json").read_text())
        assert summary["status"] == "failed"
        kept = checkpoint.load(folder / "quickstart_ssd/1/last.pt")
        assert (kept["step"], kept["evaluations"]) == (2, 0), "the last step that all have made"


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    # A run is begun by two processes, continued by one and finished by three.
    begun = Path(folder, "begun")
    for count, names in ((2, tuple(EQUAL)), (1, tuple(EQUAL)), (3, ("augmented",))):
        if rank >= count:
            continue
        place = Path(folder, str(count))
        with process_group(f"{place}.store", rank, count):
            hooks = (Trouble("stop", 4 - count),) if count < 3 else ()  # after 2 steps, then after 3 of 4
            if count == 2:
                run = train(begun, *GROUP, *EQUAL["augmented"], hooks=hooks)
            else:
                run = session.resume(begun / "quickstart_ssd/1", hooks=hooks)
            assert run.step == {2: 2, 1: 3, 3: 4}[count]
            found = equal_runs(place, names) | {"resumed": numbers(run)}
            if rank == 0:
                torch.save(found, f"{place}.pt")
            if count == 2:
                batch_norm(place / "batch")
                troubles(place)
            if count == 3:
                fault(place / "fault")


@contextmanager
def process_group(store: str, rank: int, count: int) -> Iterator[None]:
    """A group of ``count`` processes; what is inside may fail on one of them, and the others then notice."""
    if count == 1:
        yield
        return
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    try:
        yield
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def start(function: Any, count: int, *arguments: Any) -> None:
    """Call ``function(rank, *arguments)`` in ``count`` processes, forked from one that has imported torch."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([session.__name__, api.__name__])
    multiprocessing.start_processes(function, args=arguments, nprocs=count, start_method="forkserver")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """{number of processes: what its runs came to}."""
    folder = tmp_path_factory.mktemp("processes")
    start(work, 3, str(folder))
    return {count: torch.load(folder / f"{count}.pt", weights_only=False) for count in (1, 2, 3)}


@pytest.mark.long
@pytest.mark.parametrize(("name", "count"), [("augmented", 3), *((name, 2) for name in EQUAL)])
def test_processes_train_as_one_does(results: dict[int, dict[str, Any]], name: str, count: int) -> None:
    assert_equal(results[count][name], results[1][name])


@pytest.mark.long
def test_a_run_goes_on_with_another_number_of_processes(results: dict[int, dict[str, Any]]) -> None:
    assert_equal(results[3]["resumed"], results[1]["augmented"])


def assert_equal(many: dict[str, Any], one: dict[str, Any]) -> None:
    for kind in ("weights", "average"):
        for key, value in one[kind].items():
            torch.testing.assert_close(many[kind][key], value, atol=1e-5, rtol=0, msg=f"{kind} {key}")
    for kind in ("loss", "grad_norm", "val_loss", "AP"):
        torch.testing.assert_close(many[kind], one[kind], atol=1e-5, rtol=1e-5)
    assert many["images"] == one["images"]
    assert many["lost"] == one["lost"]


def few_images(rank: int, folder: str, numbers_of_images: tuple[int, ...], compared: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    with process_group(f"{folder}/store", rank, 2):
        for images in numbers_of_images:
            counts = [f"data.train.count={images}", f"data.val.count={41 - images}"]
            changes = [*counts, "train.budget.steps=2", "train.evaluations=1"]
            run = train(Path(folder, f"batch{images}"), *changes)
            assert run.metrics["images"] == 41 - images
            if images not in compared:
                continue
            run = train(Path(folder, f"group{images}"), *GROUP, *changes)
            if rank == 0:
                with alone():
                    one = train(Path(folder, f"one{images}"), *GROUP, *changes)
                assert_equal(numbers(run), numbers(one))


MANY = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 21, 32, 39, 40)
"""On both sides of the batches of 5 images, of their halves and of evaluation's batches of 3."""


@pytest.mark.parametrize(
    ("images", "compared"),
    [
        pytest.param((17,), (17,), id="17"),
        pytest.param(MANY, (1, 2, 7, 16, 40), id="1 to 40", marks=pytest.mark.long),
    ],
)
@pytest.mark.timeout(1800)
def test_any_number_of_images(tmp_path: Path, images: tuple[int, ...], compared: tuple[int, ...]) -> None:
    """1 to 40 images to train on and 40 to 1 to evaluate: none hangs, and two processes do what one does."""
    start(few_images, 2, str(tmp_path), images, compared)


def torchrun(folder: Path, *arguments: str, kill_after: int | None = None) -> tuple[int, str]:
    """Run a command in two processes, and send SIGTERM to torchrun after so many steps.

    Returns:
        Exit code, and standard error.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["-m", "densedet.tools.main", *arguments]
    with open(folder / "error.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=log)
        while kill_after is not None and process.poll() is None:
            written = [
                path.read_text().count('"event": "step"') for path in folder.glob("runs/*/*/metrics.jsonl")
            ]
            if written and max(written) >= kill_after:
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.05)
        code = process.wait(timeout=120)
    return code, (folder / "error.log").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_torchrun_is_one_run(tmp_path: Path) -> None:
    small = ["quickstart_ssd", *SMALL, *GROUP, "data.val.count=17", "train.budget.steps=60"]
    code, told = torchrun(tmp_path, "train", *small, "train.batch_size=1")
    assert code == 1
    assert told.count("densedet train: train.batch_size=1 is the batch of all processes") == 1
    assert "2 processes" in told
    assert not (tmp_path / "runs").exists()
    code, told = torchrun(tmp_path, "train", *small, kill_after=2)
    assert code == 1, "torchrun's own code after a signal"
    run = tmp_path / "runs/quickstart_ssd/1"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "stopped"
    assert 2 <= summary["steps"] < 60
    assert torch.load(run / "last.pt", weights_only=True)["step"] == summary["steps"]
    more = summary["steps"] + 4
    code, told = torchrun(tmp_path, "train", "--resume", str(run), f"train.budget.steps={more}")
    assert (code, json.loads((run / "summary.json").read_text())["steps"]) == (0, more)
    assert [path.name for path in run.parent.iterdir()] == ["1"]
    code, told = torchrun(tmp_path, "evaluate", str(run), "--output", "two.json")
    assert code == 0
    assert main(["evaluate", str(run), "--output", str(tmp_path / "one.json")]) == 0
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert [row["image_id"] for row in two] == [row["image_id"] for row in one]
    assert [row["score"] for row in two] == pytest.approx([row["score"] for row in one], abs=1e-5)
    code, told = torchrun(tmp_path, "show", "recipe", "quickstart_ssd")
    assert (code, told.count("works in one process")) == (1, 1)
