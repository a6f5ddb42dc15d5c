"""Processes of this machine: what each gets, and how they end."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from densedet.core.errors import Interrupted
from densedet.core.jobs import LOG, Job
from densedet.core.signals import raised
from densedet.plugins.launchers.local import LocalLauncher

SHOW = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('OMP_NUM_THREADS'))"


def jobs_of(folder: Path, count: int, program: str = SHOW, gpus: int = 1) -> list[Job]:
    command = (sys.executable, "-S", "-c", program)
    return [Job(str(number), command, folder / str(number), gpus=gpus) for number in range(count)]


def test_each_run_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    launcher = LocalLauncher()
    jobs = jobs_of(tmp_path, 2)
    assert "2 at a time, each with a GPU of its own" in launcher.describe(jobs)
    assert {outcome.code for outcome in launcher(jobs)} == {0}
    assert sorted((tmp_path / n / LOG).read_text().split()[0] for n in "01") == ["3", "5"]


def test_more_jobs_than_gpus_wait_unless_runs_share_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    # Each fails where another one is there.
    program = "import os, time; os.mkdir('one'); time.sleep(0.3); os.rmdir('one')"
    monkeypatch.chdir(tmp_path)
    assert [o.code for o in LocalLauncher(jobs=2)(jobs_of(tmp_path, 2, program))] == [0, 0]
    shared = LocalLauncher(runs_per_gpu=2)
    assert [o.code for o in shared(jobs_of(tmp_path, 2))] == [0, 0]
    assert "each with one of 2 on a GPU" in shared.describe(jobs_of(tmp_path, 2))
    assert [(tmp_path / n / LOG).read_text().split()[0] for n in "01"] == ["3", "3"]


def test_jobs_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densedet.plugins.launchers.local.usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    launcher = LocalLauncher(jobs=3)
    assert launcher.cores == 2  # 8 // 3
    assert "each with 2 of 8 cores" in launcher.describe(jobs_of(tmp_path, 3, gpus=0))
    list(launcher(jobs_of(tmp_path, 1, gpus=0)))
    assert (tmp_path / "0" / LOG).read_text().split()[1] == "2"
    assert LocalLauncher(jobs=1).cores is None
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert launcher.cores == 1  # what the user gives each process counts


def test_a_program_that_is_not_there_is_an_outcome(tmp_path: Path) -> None:
    job = Job("none", ("no-such-program",), tmp_path / "run")
    (outcome,) = LocalLauncher()([job])
    assert outcome.code is None
    assert "no-such-program" in outcome.reason


def test_an_interrupt_lets_the_jobs_write_their_checkpoints(tmp_path: Path) -> None:
    # Each job tells this process to end once it is ready, and writes a file when it is asked to end.
    program = (
        "import os, signal, sys, time\n"
        "def end(*_):\n    open(sys.argv[1], 'w').close(); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    file = tmp_path / "checkpoint"
    job = Job("a", (sys.executable, "-S", "-c", program, str(file)), tmp_path / "a")
    with (
        pytest.raises(Interrupted) as caught,
        raised([]),
        contextlib.closing(LocalLauncher()([job])) as outcomes,
    ):
        list(outcomes)
    assert caught.value.number == 15
    assert file.exists()
