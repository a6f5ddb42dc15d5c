"""The two commands of the README, for a machine that has Python >= 3.10 and nothing of ours (Linux, macOS,
Windows).

    python tools/bootstrap.py quickstart    make .venv, install, train SSD and RetinaNet on embedded data,
    compare them python tools/bootstrap.py test          make .venv if need be, install, lint, type-check and
    run the tests

Only the standard library is used here; everything else runs inside .venv.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if sys.version_info < (3, 10):  # noqa: UP036 (this file is what an old Python meets first)
    sys.exit(
        f"densedet needs Python 3.10 or newer, this is {sys.version.split()[0]}: use a newer one, e.g. "
        f"python3.11 tools/bootstrap.py"
    )


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment on this system."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command: str | Path, folder: Path = ROOT) -> None:
    """Run a step and stop with its exit code if it fails."""
    print("+", *command, flush=True)
    # Without this a stray PYTHONPATH could bring in another copy of what is being installed.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([str(part) for part in command], cwd=folder, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def prepare(environment: Path, extras: str = "") -> Path:
    """Make the environment and install densedet from this checkout, unless that was done for this setup.cfg;
    its interpreter."""
    python = python_of(environment)
    stamp = environment / f"densedet-installed{'-' + extras if extras else ''}"
    wanted = hashlib.sha256((ROOT / "setup.cfg").read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    if not python.exists():
        print(f"+ making {environment}", flush=True)
        venv.create(environment, with_pip=True)
    run(python, "-m", "pip", "install", "-e", f"{ROOT}[{extras}]" if extras else ROOT)
    stamp.write_text(wanted)
    return python


def quickstart(environment: Path) -> None:
    """Install, train both, compare; the last lines say where results and pictures are."""
    python = prepare(environment)
    run(python, "-m", "densedet.tools.main", "compare", "quickstart_ssd", "quickstart_retinanet")


def test(environment: Path, arguments: list[str]) -> None:
    """ruff, mypy and pytest."""
    python = prepare(environment, "dev")
    run(python, "-m", "ruff", "check", ".")
    run(python, "-m", "ruff", "format", "--check", ".")
    type_check(python)
    run(python, "-m", "pytest", *arguments)


def type_check(python: Path) -> None:
    """mypy on an installed copy: it cannot follow an editable install whose folder is not named like the
    package."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "source"
        leave_out = shutil.ignore_patterns(".*", "build", "runs", "tests", "*.egg-info", "__pycache__")
        shutil.copytree(ROOT, exported, ignore=leave_out)
        run(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            Path(folder) / "installed",
            exported,
        )
        run(
            python,
            "-m",
            "mypy",
            "--config-file",
            ROOT / "setup.cfg",
            "--cache-dir",
            ROOT / ".mypy_cache",
            folder=Path(folder) / "installed",
        )


def main() -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("quickstart", "test"))
    parser.add_argument(
        "--venv",
        type=Path,
        default=ROOT / ".venv",
        help="the virtual environment (default: .venv beside the README)",
    )
    arguments, rest = parser.parse_known_args()
    if rest and arguments.command != "test":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    if arguments.command == "quickstart":
        quickstart(arguments.venv)
    else:
        test(arguments.venv, rest)


if __name__ == "__main__":
    main()
