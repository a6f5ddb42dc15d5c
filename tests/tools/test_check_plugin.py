"""`densedet check plugin` runs the conformance kit on the parts of a file, a module or a package."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from densedet.tools.check_plugin import load
from densedet.tools.main import main

LOSSES = """
import densedet
from torch import nn

@densedet.register("schedule", "down")
class Down:
    '''Straight down.'''
    def __init__(self, *, final: float = 0.0): self.final = final
    def __call__(self, progress, step): return 1 - progress * (1 - self.final)

@densedet.register("schedule", "wild")
class Wild:
    '''Another factor each time.'''
    def __init__(self): self.calls = 0
    def __call__(self, progress, step): self.calls += 1; return self.calls / (1 + self.calls)

@densedet.register("source", "files")
class Files:
    '''Needs a folder.'''
    def __init__(self, *, folder: str): ...
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    file = tmp_path / "dd_losses.py"
    file.write_text(LOSSES)
    return str(file)


def test_a_line_a_part(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "plugin", plugin]) == 1
    good, bad, missing = capsys.readouterr().out.splitlines()
    assert good == "schedule down: ok"
    assert bad.startswith("schedule wild: failed: ")
    assert missing == "source files: unchecked: give source.files.folder=VALUE (folder: str)"


def test_json_and_arguments(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "plugin", plugin, "schedule.down.final=-1", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [(row["kind"], row["name"], row["status"]) for row in rows] == [
        ("schedule", "down", "failed"),  # its factor ends at -1
        ("schedule", "wild", "failed"),
        ("source", "files", "unchecked"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schedule.up.final=1", "its parts: schedule.down, schedule.wild, source.files"),
        ("schedule.down.final", "is not kind.name.argument=value"),
        ("schedule.down.finl=1", "Did you mean 'final'"),
        ("schedule.down.final=low", "given 'low'"),
    ],
)
def test_wrong_use(plugin: str, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    assert main(["check", "plugin", plugin, text]) == 2
    assert said in capsys.readouterr().err


def test_a_plugin_that_does_not_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dd_bad.py"
    file.write_text("1 / 0\n")
    assert main(["check", "plugin", str(file)]) == 2
    assert "ZeroDivisionError: division by zero (dd_bad.py line 1)" in capsys.readouterr().err


def test_a_detector_gets_the_parts_that_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "plugin", "cells", "--kind", "detector"]) == 0
    assert main(["check", "plugin", "densedet-cells/densedet_cells.py", "detector.cells.top_k=5"]) == 0


def test_modules_and_installed_packages(
    plugin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ("head", "retinanet") in load("densedet")[1].parts  # the built-ins are a plug-in too
    monkeypatch.syspath_prepend(Path(plugin).parent)
    importlib.invalidate_caches()
    assert [name for _, name in load("dd_losses")[1].parts] == ["down", "wild", "files"]
