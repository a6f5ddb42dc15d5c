"""`densedet new lesson` and `densedet check lesson`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from densedet.core.lessons import process
from densedet.core.lessons.names import NAMES, file_name, text_of
from densedet.tools.main import main


@pytest.mark.parametrize("name", NAMES)
def test_a_new_lesson_is_written_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "lesson", name]) == 0
    assert (tmp_path / file_name(name)).read_text() == text_of(name)
    assert f"densedet check lesson {file_name(name)}" in capsys.readouterr().out
    (tmp_path / file_name(name)).write_text("my work")
    assert main(["new", "lesson", name, "--output", "."]) == 2
    assert "there already" in capsys.readouterr().err
    assert (tmp_path / file_name(name)).read_text() == "my work"
    assert main(["new", "lesson", name, "--output", "course"]) == 0
    assert (tmp_path / "course" / file_name(name)).exists()


def test_a_lesson_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["new", "lesson", "fpn"])
    assert ended.value.code == 2
    assert "choose from" in capsys.readouterr().err


ENDLESS = """    while True:
        stride + 1
"""
CENTERS = """    print("mine")
    rows = [[(x + 0.5) * stride, (y + 0.5) * stride] for y in range(height) for x in range(width)]
    return torch.tensor(rows)
"""


def anchors_lesson(folder: Path, sides: str) -> Path:
    """A file whose first function is right and prints something."""
    hole = '    raise NotImplementedError("write the body of {}")\n'
    text = text_of("anchors").replace(hole.format("cell_centers"), CENTERS)
    file = folder / "my_anchors.py"
    file.write_text(text.replace(hole.format("anchor_sides"), sides))
    return file


def test_a_loop_without_an_end_gets_a_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = anchors_lesson(tmp_path, ENDLESS)
    first = file.read_text().splitlines().index("    while True:") + 1
    verdict = process.judge_apart(file, train=False, quiet=True, seconds=2)
    assert verdict["state"] == "wrong"
    assert verdict["lines"][0] == "cell_centers: all 2 cases by hand and 20 random ones are right"
    place, _, told = verdict["lines"][1].partition(": ")
    assert place in (f"my_anchors.py line {first}", f"my_anchors.py line {first + 1}")
    called = "anchor_sides(stride=8, base_scale=2, octaves=1, ratios=(1,))"
    assert told == f"{called} has not ended after 2 seconds: is there a loop without an end?"
    assert "mine" in capfd.readouterr().err  # not on standard output, where the JSON is


@pytest.mark.long
def test_a_function_that_ends_the_process_gets_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = anchors_lesson(tmp_path, "    import os\n    os._exit(5)\n")
    assert main(["check", "lesson", str(file), "--no-train"]) == 1
    said = capfd.readouterr().out
    assert "mine" in said
    assert "ended the process with exit code 5: a function returns its result" in said
    assert said.endswith("not solved yet\n")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of the other process is done in this one, which has imported torch already."""

    def run(command: list[str], **given: Any) -> Any:
        monkeypatch.setattr(sys, "argv", command[2:])
        process.main()
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(process, "subprocess", SimpleNamespace(run=run, DEVNULL=None))


@pytest.mark.usefixtures("here")
def test_check_lesson_says_what_is_to_write_as_json_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my_nms.py"
    file.write_text(text_of("nms"))
    assert main(["check", "lesson", str(file), "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["lesson"], verdict["state"]) == ("nms", "unsolved")
    assert "fill in the body of nms(boxes, scores, labels, threshold)" in verdict["lines"][0]
    assert main(["check", "lesson", str(file)]) == 1
    assert capsys.readouterr().out == f"{verdict['lines'][0]}\nstill to write\n"


@pytest.mark.usefixtures("here")
def test_check_lesson_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.py").write_text("x = 1\n")
    assert main(["check", "lesson", str(tmp_path / "x.py")]) == 2
    assert "is no lesson's file" in capsys.readouterr().err
    assert main(["check", "lesson", str(tmp_path / "none.py")]) == 2
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err
