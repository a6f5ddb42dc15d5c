"""A short run of mutate.py, in a process of its own: a crash of it must not be one of pytest."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("mutate.py")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be forked there")


KINDS = "database,sqlite,coco,voc,yolo,image,recipe,checkpoint"


def mutate(tmp_path, *arguments):
    """Return {kind: (cases, accepted, refused, failures)} of a run."""
    command = [sys.executable, str(SCRIPT), "--keep", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:-2]]
    return {row[0]: [int(cell.replace(",", "")) for cell in row[1:5]] for row in rows}


def test_changed_files_are_used_or_refused(tmp_path):
    found = mutate(tmp_path, "--count", "500", "--processes", "2", "--seed", "1", "--kinds", KINDS)
    assert all(cases == accepted + refused and refused for cases, accepted, refused, _ in found.values())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_ten_thousand_changed_files(tmp_path):
    found = mutate(tmp_path, "--count", "10000", "--seed", "2")
    assert all(accepted and refused for _, accepted, refused, _ in found.values())
