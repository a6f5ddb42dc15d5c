"""SIGINT, SIGTERM, SIGHUP: the step is finished, all is written, a resumed run ends as an unbroken one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from densedet.core.errors import Interrupted
from densedet.core.hookspecs import hookimpl
from densedet.core.recipe.loading import load_recipe
from densedet.core.signals import STOPPING
from densedet.core.training import checkpoint, session
from densedet.core.training.run import Run
from densedet.plugins.detectors.dense import DenseDetector

SMALL = (
    "data.train.count=24",
    "data.val.count=6",
    "evaluate.batch_size=2",
    "train.batch_size=8",
    "train.evaluations=2",
    "train.budget.steps=4",
    "model.backbone.widths=[8, 8, 8]",
    "run.hooks=[{name: metrics}, {name: checkpoint}]",
)
TIMES = ("seconds", "step_seconds", "data_seconds")

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows knows Ctrl-C alone")


def recipe(folder: Path, *overrides: str) -> Any:
    return load_recipe("quickstart_ssd", [*SMALL, f"run.folder={json.dumps(str(folder))}", *overrides])


def lines(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


class Send:
    """Send this process a signal, ``times`` times, after a step."""

    def __init__(self, number: int, step: int, times: int = 1) -> None:
        self.number, self.step, self.times = number, step, times

    @hookimpl
    def densedet_run_step(self, run: Run) -> None:
        if run.step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return session.train(recipe(tmp_path_factory.mktemp("unbroken"))).folder


@pytest.mark.parametrize("number", STOPPING, ids=lambda number: number.name)
def test_a_signal_ends_the_run_after_its_step_with_all_written(
    tmp_path: Path, number: signal.Signals, unbroken: Path
) -> None:
    before = [signal.getsignal(known) for known in STOPPING]
    run = session.train(recipe(tmp_path), hooks=[Send(number, 3)])
    assert [signal.getsignal(known) for known in STOPPING] == before
    summary = json.loads((run.folder / "summary.json").read_text())
    assert (summary["status"], summary["reason"], summary["steps"]) == ("stopped", number.name, 3)
    assert run.exit_code == {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}[number.name]
    assert checkpoint.load(run.folder / "last.pt")["step"] == 3
    assert [line["step"] for line in lines(run.folder)] == [1, 2, 2, 3]  # no evaluation for the signal
    resumed = session.resume(run.folder)
    assert (resumed.step, resumed.exit_code, resumed.status) == (4, 0, "done")
    assert lines(resumed.folder) == lines(unbroken)
    ends = [checkpoint.load(folder / "last.pt")["ema"] for folder in (unbroken, resumed.folder)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_the_second_signal_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densedet.core.signals.REPEATED", -1.0)
    run = Run(recipe(tmp_path), hooks=[Send(signal.SIGTERM, 3, times=2)])
    with pytest.raises(Interrupted) as caught:
        session.conduct(run)
    assert caught.value.number == signal.SIGTERM
    assert run.status == "failed"
    assert checkpoint.load(run.folder / "last.pt")["step"] == 2  # of the evaluation


def test_a_signal_to_a_group_and_from_the_parent_is_one(tmp_path: Path) -> None:
    run = session.train(recipe(tmp_path), hooks=[Send(signal.SIGTERM, 3, times=2)])
    assert (run.status, run.step, run.exit_code) == ("stopped", 3, 143)


def test_a_closing_terminal_sends_its_signal_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densedet.core.signals.REPEATED", -1.0)
    run = session.train(recipe(tmp_path), hooks=[Send(signal.SIGHUP, 3, times=2)])
    assert (run.status, run.step, run.exit_code) == ("stopped", 3, 129)


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """`nohup densedet train` is meant to outlive its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = session.train(recipe(tmp_path), hooks=[Send(signal.SIGHUP, 1)])
        assert (run.step, run.status) == (4, "done")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_evaluation_is_left_and_done_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: Path
) -> None:
    """Six images, two a batch: the signal comes in the first batch of the evaluation after step 2."""
    asked: list[int] = []
    evaluate = DenseDetector.evaluate

    def watched(self: DenseDetector, batch: Any) -> Any:
        asked.append(round(4 * self.progress))
        if asked[-1] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, batch)

    monkeypatch.setattr(DenseDetector, "evaluate", watched)
    run = session.train(recipe(tmp_path))
    assert asked == [0, 0, 2]  # tried before the first step, on two batches, then left after one
    assert [line["event"] for line in lines(run.folder)] == ["step", "step"]
    monkeypatch.undo()
    assert lines(session.resume(run.folder).folder) == lines(unbroken)


def test_a_signal_before_there_is_anything_to_write_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "try_evaluation", lambda run: os.kill(os.getpid(), signal.SIGHUP))
    with pytest.raises(Interrupted):
        session.train(recipe(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_signal_to_the_whole_group_leaves_the_workers_alive(tmp_path: Path, unbroken: Path) -> None:
    class Group:
        @hookimpl
        def densedet_run_step(self, run: Run) -> None:
            if run.step == 2:
                pids = [str(worker.pid) for worker in multiprocessing.active_children()]
                for number in STOPPING:
                    subprocess.run(["kill", f"-{number}", *pids], check=True)

    run = session.train(recipe(tmp_path, "data.workers=2"), hooks=[Group()])
    assert run.status == "done"
    assert lines(run.folder) == lines(unbroken)


SPAWNED = """
import multiprocessing, sys
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    from densedet.tools.main import main
    sys.exit(main(sys.argv[2:]))
"""


def test_a_signal_in_a_finalizer_before_the_first_step_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python prints and swallows what is raised in a ``__del__``, such as that of a loader's iterator."""

    class Closing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(session, "try_evaluation", lambda run: Closing() and None)
    run = session.train(recipe(tmp_path))
    assert (run.status, run.step, run.exit_code) == ("stopped", 0, 143)


@pytest.mark.long
@pytest.mark.parametrize(("name", "method"), [("SIGINT", "spawn"), ("SIGTERM", "forkserver")])
def test_spawned_workers_are_still_starting(tmp_path: Path, name: str, method: str) -> None:
    """The signal reaches the group when the first workers have just begun to import torch."""
    number = signal.Signals[name]
    file = tmp_path / "main.py"
    file.write_text(SPAWNED)
    command = [*SMALL, "data.workers=2", "train.budget.steps=1000", f"run.folder={tmp_path}"]
    # Some schedulers start programs with SIGCHLD blocked, which a fork server needs.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        process = subprocess.Popen(
            [sys.executable, str(file), method, "train", "quickstart_ssd", *command], start_new_session=True
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    folder = tmp_path / "quickstart_ssd" / "1"
    try:
        while not (folder / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, number)
        assert process.wait(120) == 128 + number
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert json.loads((folder / "summary.json").read_text())["reason"] == number.name
    assert (folder / "last.pt").exists()


SLOW = """
import sys, time
if __name__ == "__mp_main__":
    time.sleep({seconds})
"""


def start_slowly(folder: Path, seconds: int) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """Train with spawned workers that take long to start; return the process and its children."""
    file = folder / "main.py"
    file.write_text(SLOW.format(seconds=seconds) + SPAWNED)
    command = [*SMALL, "data.workers=2", f"run.folder={folder}"]
    process = subprocess.Popen(
        [sys.executable, str(file), "spawn", "train", "quickstart_ssd", *command],
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(children := psutil.Process(process.pid).children()) < 3:  # the resource tracker and two workers
        assert process.poll() is None
    return process, children


@pytest.mark.long
def test_a_spawned_worker_that_takes_long_to_start_is_not_waited_for(tmp_path: Path) -> None:
    """It holds back SIGTERM, and would print a traceback where it wakes up after this process has gone."""
    process, _ = start_slowly(tmp_path, 40)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == 143
    assert "Traceback" not in said, said


@pytest.mark.long
def test_spawned_workers_that_were_still_starting_end_with_a_killed_run(tmp_path: Path) -> None:
    process, children = start_slowly(tmp_path, 3)
    process.kill()
    process.communicate()
    assert psutil.wait_procs(children, timeout=120)[1] == []
