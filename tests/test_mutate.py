"""A short run of mutate.py, in a process of its own: a crash of it must not be one of pytest."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from densedet.core.errors import DataError

SCRIPT = Path(__file__).with_name("mutate.py")
sys.path.append(str(SCRIPT.parent))  # as it is when the script runs

from mutations.watch import Watch, judged  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be forked there")


KINDS = "database,sqlite,coco,voc,yolo,labelme,cvat,image,recipe,checkpoint"


def mutate(tmp_path, *arguments):
    """Return {kind: (cases, accepted, refused, failures)} of a run."""
    command = [sys.executable, str(SCRIPT), "--keep", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:-2]]
    return {row[0]: [int(cell.replace(",", "")) for cell in row[1:5]] for row in rows}


def raising(error):
    raise error


@pytest.mark.parametrize(
    ("use", "word", "text"),
    [
        (lambda: None, "accepted", ""),
        (lambda: raising(DataError("a.png is empty")), "refused", "a.png is empty"),
        (lambda: raising(DataError(" ")), "failed", "no sentence"),
        (lambda: raising(KeyError("a")), "failed", "KeyError: 'a'"),
        (lambda: raising(SystemExit(2)), "failed", "SystemExit: 2"),
        (lambda: warnings.warn("overflow", RuntimeWarning, stacklevel=1), "failed", "overflow"),
    ],
)
def test_what_a_case_comes_to(tmp_path, use, word, text):
    outcome = judged(Watch(tmp_path), use)
    assert outcome.word == word
    assert text in outcome.text


@pytest.mark.parametrize(
    ("event", "arguments", "told"),
    [
        ("os.system", (b"true",), "os.system"),
        ("subprocess.Popen", ("true", ["true"], None, None), "subprocess.Popen"),
        ("open", ("/nowhere/x", "w", os.O_WRONLY | os.O_CREAT), "wrote to /nowhere/x"),
        ("os.mkdir", ("/nowhere/x", 511, -1), "wrote to /nowhere/x"),
        ("open", ("/nowhere/secret", "r", os.O_RDONLY), "opened /nowhere/secret"),
        ("exec", (compile("1", "/nowhere/x.py", "exec"),), "code of /nowhere/x.py was run"),
    ],
)
def test_what_a_case_may_not_do_is_noticed(tmp_path, event, arguments, told):
    watch = Watch(tmp_path, ("/nowhere/secret",), active=True)
    watch("open", (str(tmp_path / "x"), "w", os.O_WRONLY))
    watch("open", ("/nowhere/y", "r", os.O_RDONLY))
    assert watch.found == []
    watch(event, arguments)
    assert told in watch.found[0]


def test_changed_files_are_used_or_refused(tmp_path):
    found = mutate(tmp_path, "--count", "120", "--processes", "2", "--seed", "1", "--kinds", KINDS)
    assert all(cases == accepted + refused and refused for cases, accepted, refused, _ in found.values())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_commands_on_changed_files(tmp_path):
    cases, accepted, refused, _ = mutate(tmp_path, "--count", "4", "--kinds", "command")["command"]
    assert cases == accepted + refused == 4
