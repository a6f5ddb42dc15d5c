"""SIGINT, SIGTERM and SIGHUP in any command: one line, the exit code, nothing half written, nobody left."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from densedet.core import files, signals
from densedet.core.errors import Interrupted
from densedet.core.training.folders import write_together
from densedet.tools import predict
from densedet.tools.main import main

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows knows Ctrl-C alone")

KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"


@pytest.mark.parametrize("number", signals.STOPPING, ids=lambda number: number.name)
def test_a_command_is_interrupted_with_one_line_and_leaves_no_file(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The signal comes when the whole temporary file is brought to the disk."""
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    image = {"id": 1, "file_name": "a.png", "width": 9, "height": 9}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "in.json").write_text(json.dumps(content))
    before = [signal.getsignal(known) for known in signals.STOPPING]
    monkeypatch.setattr(files.os, "fsync", lambda handle: os.kill(os.getpid(), number))
    code = main(["convert", str(tmp_path / "in.json"), str(tmp_path / "out.db")])
    assert code == {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}[signal.Signals(number).name]
    assert capfd.readouterr().err == f"densedet: interrupted by {signal.Signals(number).name}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["in.json"]
    assert [signal.getsignal(known) for known in signals.STOPPING] == before


def test_a_signal_that_is_handed_on_is_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    with signals.handled(lambda number, frame: asked.append(number)):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == [signal.SIGINT]
        monkeypatch.setattr(signals, "REPEATED", -1.0)
        os.kill(os.getpid(), signal.SIGTERM)
    assert asked == [signal.SIGINT, signal.SIGTERM]


def test_a_signal_that_another_thread_takes_waits_as_well() -> None:
    """Python handles it in the main thread, also while this one holds signals back."""
    asked: list[int] = []
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()
    with signals.handled(lambda number, frame: asked.append(number)):
        with signals.held(), signals.held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            assert asked == []
        assert asked == [signal.SIGTERM]
    ended.set()


def test_a_signal_in_an_import_comes_again_and_then_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An exception in the import of torch's C++ would abort it."""
    (tmp_path / "kills_itself.py").write_text(
        KILL + "import time\ntime.sleep(1000)  # ended by the signal: a test may take 300 s\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(signals, "REPEATED", 0.01)
    monkeypatch.setattr(signals.os, "_exit", sys.exit)
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    with pytest.raises(SystemExit) as caught, signals.raised([]):
        importlib.import_module("kills_itself")
    assert caught.value.code == 143
    assert capfd.readouterr().err == "densedet: interrupted by SIGTERM\n"


def test_a_signal_in_a_finalizer_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python prints and swallows what is raised in a ``__del__``."""

    class Closing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(signals, "REPEATED", 0.01)

    def work() -> None:
        with signals.raised(asked):
            Closing()
            time.sleep(1000)  # ended by the signal: a test may take 300 s

    asked: list[int] = []
    with pytest.raises(Interrupted):
        work()
    assert asked == [signal.SIGTERM, signal.SIGTERM]


def test_a_signal_while_a_tensor_comes_from_a_worker_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's thread prints a traceback where its peer goes in the midst of a handshake."""
    monkeypatch.setattr(signals, "REPEATED", 0.01)
    space = {"__name__": "multiprocessing.resource_sharer", "os": os, "signal": signal}
    exec("def arrive():\n    os.kill(os.getpid(), signal.SIGTERM)\n    return 'whole'", space)
    arrived, asked = [], []

    def work() -> None:
        with signals.raised(asked):
            arrived.append(space["arrive"]())
            time.sleep(1000)  # ended by the signal: a test may take 300 s

    with pytest.raises(Interrupted):
        work()
    assert arrived == ["whole"]
    assert asked == [signal.SIGTERM, signal.SIGTERM]


CHILD = """
import os, pathlib, signal, sys, time
def stop(number, frame):
    pathlib.Path(sys.argv[1]).write_text(signal.Signals(number).name)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(60)
"""


def test_a_child_is_stopped_and_waited_for(tmp_path: Path) -> None:
    """It keeps its work."""
    with pytest.raises(Interrupted) as caught, signals.raised([]):
        signals.run_to_end([sys.executable, "-c", CHILD, str(tmp_path / "kept")])
    assert caught.value.told  # by the child
    assert (tmp_path / "kept").read_text() == "SIGTERM"


def test_the_output_of_a_child_is_taken() -> None:
    script = "import sys; print('é'); print('why', file=sys.stderr); sys.exit(3)"
    done = signals.run_to_end([sys.executable, "-X", "utf8", "-c", script], with_errors=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "é\n", "why\n")


def test_predict_that_is_interrupted_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped:
        def stream(self, *_: object, **__: object) -> None:
            raise Interrupted(signal.SIGTERM)

    wanted = predict.Wanted([], [], [], [], "")
    monkeypatch.setattr("densedet.core.training.prediction.load", lambda *_, **__: Stopped())
    monkeypatch.setattr(predict, "_wanted", lambda *_: wanted)
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "run", "a.png", "--score", "0.3", "--output", str(tmp_path / "out")]) == 143
    assert main(["predict", "run", "a.png", "--score", "0.3"]) == 143
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "runs" / "predict").iterdir()) == []


def test_a_report_that_is_interrupted_leaves_no_file(tmp_path: Path) -> None:
    def stopped(page: Path) -> None:
        page.with_suffix(".json").touch()
        raise Interrupted(signal.SIGTERM)

    for in_number in (True, False):
        with pytest.raises(Interrupted):
            write_together(tmp_path / "c.html", stopped, in_number=in_number)
        assert list(tmp_path.iterdir()) == []
