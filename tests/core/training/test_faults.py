"""A full disk, a deleted folder, a killed or faulty worker: one sentence, exit 1, and the old files whole."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core.data.loader import portable
from densedet.core.errors import (
    ConvertedError,
    DataError,
    DensedetError,
    OutputError,
    PluginError,
    TrainingError,
    WorkerError,
)
from densedet.core.hookspecs import hookimpl
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint, session
from densedet.core.training.run import Run
from densedet.plugins.sources.digits import DigitsSource

resource = pytest.importorskip("resource")

SMALL = (
    "data.train.count=24",
    "data.val=null",
    "data.cache_gb=0",
    "train.batch_size=8",
    "train.budget.steps=4",
    "model.backbone.widths=[8, 8, 8]",
    "run.hooks=[{name: metrics}, {name: checkpoint, every_steps: 2}]",
)


EACH_STEP = "run.hooks=[{name: checkpoint, every_steps: 2}]"


def run_of(folder: Path, *overrides: str, hooks: Any = ()) -> Run:
    given = [*SMALL, f"run.folder={json.dumps(str(folder))}", *overrides]
    return Run(load_recipe("quickstart_ssd", given), hooks=hooks)


@contextmanager
def full_from(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes, which a program sees as it sees a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class After:
    """Call a function after a step."""

    def __init__(self, step: int, call: Any) -> None:
        self.step, self.call = step, call

    @hookimpl
    def densedet_run_step(self, run: Run) -> None:
        if run.step == self.step:
            self.call(run)


@pytest.mark.parametrize(("name", "limit"), [("last.pt", 2000), ("metrics.jsonl", 300)])
def test_a_full_disk_is_told_with_its_file_and_the_run_goes_on_later(
    tmp_path: Path, name: str, limit: int
) -> None:
    """The first checkpoint, of step 2, is written; then no file holds more than a line or two."""
    run = run_of(tmp_path)
    with full_from(10**8):
        run.hooks.register(After(3, lambda run: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))))
        with pytest.raises(OutputError, match=rf"{name} cannot be written \(File too large\): make room"):
            session.conduct(run)
    assert checkpoint.load(run.folder / "last.pt")["step"] == 2
    assert not list(run.folder.glob(".*.tmp"))
    resumed = session.resume(run.folder)
    steps = [json.loads(line)["step"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert (resumed.status, steps) == ("done", [1, 2, 3, 4])


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_told_once_where_tensorboard_meets_it(tmp_path: Path) -> None:
    """TensorBoard writes in a thread of its own, whose traceback nobody shall see besides."""
    run = run_of(tmp_path, "run.hooks=[{name: tensorboard, every: 1, images: 0}]")
    before = threading.excepthook
    with full_from(10**8):
        run.hooks.register(After(1, lambda run: resource.setrlimit(resource.RLIMIT_FSIZE, (300, -1))))
        with pytest.raises(OutputError, match=r"cannot be written \(File too large\): make room"):
            session.conduct(run)
    assert threading.excepthook is before


@pytest.mark.parametrize("validation", [(), ("data.val={name: digits, split: val, count: 4}", EACH_STEP)])
def test_a_folder_that_is_deleted_in_mid_run_is_told(tmp_path: Path, validation: tuple[str, ...]) -> None:
    """Neither last.pt nor the best.pt of an evaluation makes it anew."""
    run = run_of(tmp_path, *validation, hooks=[After(1, lambda run: shutil.rmtree(run.folder))])
    with pytest.raises(OutputError, match="has been deleted"):
        session.conduct(run)
    assert (run.status, run.folder.exists()) == ("failed", False)


def test_a_killed_worker_is_told_in_a_sentence(tmp_path: Path) -> None:
    def kill(run: Run) -> None:
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    run = run_of(tmp_path, "data.workers=2", "train.budget.steps=1000", hooks=[After(1, kill)])
    with pytest.raises(
        WorkerError, match=r"^a loader process has ended unasked \(.*\): .*data\.workers"
    ) as told:
        session.conduct(run)
    assert "\n" not in str(told.value)
    assert json.loads((run.folder / "summary.json").read_text())["reason"] == str(told.value)


def test_a_fault_in_a_worker_is_told_as_in_the_main_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = DigitsSource.image

    def broken(self: Any, index: int) -> Any:
        if multiprocessing.parent_process() is None:
            return image(self, index)
        raise DataError(f"scene {index} is broken")

    monkeypatch.setattr(DigitsSource, "image", broken)
    with pytest.raises(DensedetError, match=r"^scene \d+ is broken$") as told:
        session.conduct(run_of(tmp_path, "data.workers=1"))
    assert told.value.exit_code == 3


class Failing:
    """Raise at step 2: in a hook, in an evaluation's hook, or in the next forward pass or batch."""

    def __init__(self, where: str) -> None:
        self.where = where

    @hookimpl
    def densedet_run_step(self, run: Run) -> None:
        if run.step != 2:
            return
        if self.where == "step":
            raise ZeroDivisionError
        if self.where == "forward":  # which has moved the statistics of batch norm
            run.detector.register_forward_hook(lambda *_: 1 / 0)
        if self.where == "gradient":
            next(run.detector.parameters()).register_hook(lambda gradient: gradient * torch.inf)
        if self.where == "worker":  # torch raises its death where SIGCHLD comes in, which is here
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
            try:
                for child in multiprocessing.active_children():
                    os.kill(child.pid or 0, signal.SIGKILL)
                    os.waitid(os.P_PID, child.pid or 0, os.WEXITED | os.WNOWAIT)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

    @hookimpl
    def densedet_run_evaluated(self, run: Run) -> None:
        if self.where == "evaluation" and run.step == 2:
            raise ZeroDivisionError


RESCUED = (
    *("train.accumulate=2", "train.batch_size=4", "train.evaluations=2", "train.ema_decay=0.9"),
    *("data.val={name: digits, split: val, count: 4}", "run.hooks=[{name: metrics}, {name: checkpoint}]"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The last.pt of four steps without a fault."""
    return checkpoint.load(
        session.conduct(run_of(tmp_path_factory.mktemp("whole"), *RESCUED)).folder / "last.pt"
    )


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("step", ZeroDivisionError),
        ("evaluation", ZeroDivisionError),
        ("forward", ZeroDivisionError),
        ("gradient", TrainingError),
        ("batch", DataError),
        ("worker", WorkerError),
    ],
)
def test_a_run_that_fails_keeps_its_last_whole_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole: dict[str, Any],
    where: str,
    error: type[Exception],
) -> None:
    """No checkpoint is due before the evaluation of step 2; what was done by then is there after a resume."""
    run = run_of(tmp_path, *RESCUED, *(["data.workers=1"] if where == "worker" else []))
    run.hooks.register(Failing(where))  # called before all others, so that the metrics of step 2 lack yet
    with monkeypatch.context() as patched:
        if where == "batch":  # the second of step 3
            patched.setattr(Run, "batches", lambda run: _breaking_off(Run_batches(run), 5))
        with pytest.raises(error):
            session.conduct(run)
    assert checkpoint.load(run.folder / "last.pt")["step"] == 2
    assert f"holds step 2: go on with densedet train --resume {run.folder}" in capsys.readouterr().err
    resumed = session.resume(run.folder)
    again = checkpoint.load(run.folder / "last.pt")
    for part in ("detector", "ema"):
        assert all(torch.equal(value, again[part][name]) for name, value in whole[part].items()), part
    for key in ("epoch", "images", "counters", "best", "evaluations"):
        assert again[key] == whole[key], key
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["event"] == "step"] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if row["event"] == "evaluation"] == [2, 4]
    assert resumed.status == "done"


Run_batches = Run.batches


def _breaking_off(batches: Iterator[Any], count: int) -> Iterator[Any]:
    yield from itertools.islice(batches, count)
    raise DataError("an image is gone")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's prlimit limits another process")
@pytest.mark.timeout(60)
def test_a_worker_without_shared_memory_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    """torch's own thread, which hands over a batch, prints the error and drops the batch: waited for ever."""

    def limit(run: Run) -> None:
        for child in multiprocessing.active_children():
            resource.prlimit(child.pid or 0, resource.RLIMIT_FSIZE, (100, 100))

    run = run_of(tmp_path, "data.workers=1", "train.budget.steps=30", hooks=[After(1, limit)])
    with pytest.raises(DensedetError, match="a loader process has got no shared memory for a batch") as told:
        session.conduct(run)
    assert told.value.exit_code == 1
    assert checkpoint.load(run.folder / "last.pt")["step"] >= 1


def test_a_hook_that_fails_within_the_checkpoint_fails_once(tmp_path: Path) -> None:
    class Keeps:
        calls = 0

        @hookimpl
        def densedet_state(self, run: Run) -> None:
            self.calls += 1
            raise ZeroDivisionError

    keeps = Keeps()
    run = run_of(tmp_path, hooks=[keeps])
    with pytest.raises(PluginError, match="Keeps#1: densedet_state: ZeroDivisionError"):
        session.conduct(run)
    assert keeps.calls == 2, "at the checkpoint and at the end"
    assert not (run.folder / "last.pt").exists()


def test_threads_of_one_run_do_not_stay(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    run = run_of(tmp_path, f"train.threads={before + 2}", hooks=[After(1, lambda run: 1 / 0)])
    with pytest.raises(ZeroDivisionError):
        session.conduct(run)
    assert torch.get_num_threads() == before


class Needy(DataError):
    """An error whose constructor takes two arguments, so that torch cannot make one from its text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_an_error_that_torch_cannot_bring_over_from_a_worker_keeps_its_words_and_exit_code() -> None:
    told = portable(Needy(1, 2))
    assert (type(told), str(told)) == (DataError, "1 and 2")
    assert str(portable(OSError(28, "No space"))) == "OSError: [Errno 28] No space"
    assert str(portable(ValueError("one\ntwo"))) == "one two", "as in the main process"
    assert type(portable(ValueError("one\ntwo"))) is ConvertedError
    for error in (KeyError("x"), ValueError("x"), DataError("x"), MemoryError()):
        assert portable(error) is error


def test_the_death_of_a_worker_does_not_disturb_the_end() -> None:
    """torch raises it from a handler of SIGCHLD, wherever this process is."""

    def raised(number: int, frame: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 1) exited")

    before = signal.signal(signal.SIGCHLD, raised)
    try:
        with session.deaf_to_workers():
            os.kill(os.getpid(), signal.SIGCHLD)
        assert signal.getsignal(signal.SIGCHLD) is raised
    finally:
        signal.signal(signal.SIGCHLD, before)
