"""A short run of fuzz_annotations.py, in a process of its own: a crash of it must not be one of pytest."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="there is no alarm signal")
def test_mutated_files_are_read_or_refused():
    script = Path(__file__).with_name("fuzz_annotations.py")
    done = subprocess.run(
        [sys.executable, str(script), "--db", "3000", "--others", "300"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = done.stdout.splitlines()
    assert len(rows) == 7
    assert all("'refused'" in row for row in rows)
    assert all("'read'" in row for row in rows)
