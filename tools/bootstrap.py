"""The two commands of the README, for a machine that has Python >= 3.10 and nothing of ours (Linux, macOS,
Windows).

    python tools/bootstrap.py quickstart   make .venv, install, train SSD and RetinaNet on embedded data and
                                           compare them
    python tools/bootstrap.py test         make .venv, install, run the linter, the type checker and the tests

A torch that this Python has already is used where it is new enough; otherwise pip installs one. On Linux
pip's usual torch brings more than 4 GB of CUDA libraries; a laptop without a GPU takes the small CPU build
with --torch-index and the CPU index that PyTorch's own install page names.

Only the standard library is used here; everything else runs inside .venv.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TELL_TORCH = (
    "import torch; cuda = torch.version.cuda; build = 'with CUDA ' + cuda if cuda else 'for the CPU'; "
    "print('torch', torch.__version__, build, 'from', torch.__path__[0])"
)
LARGE_TORCH = """note: this machine shows no NVIDIA GPU, and on Linux pip's usual torch brings more than
4 GB of CUDA libraries. For the small build stop here (Ctrl-C) and add --torch-index with the CPU index of
PyTorch's own install page."""
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
        print("failed:", *command, flush=True)
        sys.exit(done.returncode)


def requirements() -> dict[str, str]:
    """The oldest torch and torchvision that setup.cfg allows, by name: ``{"torch": "2.4", ...}``."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].split()
    return dict(line.split(">=") for line in lines if line.startswith("torch"))


def installed_torch(paths: Sequence[str], wanted: dict[str, str]) -> Path | None:
    """Find a torch and a torchvision beside it that are new enough.

    Args:
        paths: folders to look in, such as ``sys.path``.
        wanted: the oldest version of each.

    Returns:
        The folder that holds both, or None. Nothing is imported.
    """
    for folder in map(Path, dict.fromkeys(paths)):
        found = {d.metadata["Name"]: d.version for d in distributions(path=[str(folder)])}
        if all(name in found and numbers(found[name]) >= numbers(least) for name, least in wanted.items()):
            return folder
    return None


def numbers(version: str) -> tuple[int, ...]:
    """``"2.14.1+cpu"`` -> (2, 14, 1)."""
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0]))


def make_environment(environment: Path, borrowed: Path | None) -> None:
    """Make a virtual environment that also sees the packages in the folder ``borrowed``, after its own."""
    print(f"+ making {environment}", flush=True)
    venv.create(environment, with_pip=True)
    if borrowed is not None:
        # Unlike --system-site-packages this works from within another virtual environment too.
        site = next(environment.glob("[Ll]ib*/**/site-packages"))
        (site / "borrowed_torch.pth").write_text(f"{borrowed}\n", encoding="utf-8")


def prepare(environment: Path, torch_index: str | None, extras: str = "") -> Path:
    """Make the environment and install densedet from this checkout, unless that was done for this setup.cfg.

    Args:
        environment: the folder of the virtual environment.
        torch_index: where pip gets torch and torchvision from; None: from where this Python has them already,
            else from pip's usual index.
        extras: names of setup.cfg's extras to install as well.

    Returns:
        The environment's interpreter.
    """
    python = python_of(environment)
    stamp = environment / f"densedet-installed{'-' + extras if extras else ''}"
    wanted = hashlib.sha256((ROOT / "setup.cfg").read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    if not python.exists():
        borrowed = installed_torch(sys.path, requirements()) if torch_index is None else None
        if torch_index is None and borrowed is None and not shutil.which("nvidia-smi"):
            print(LARGE_TORCH, flush=True)
        make_environment(environment, borrowed)
    if torch_index is not None:
        packages = [f"{name}>={least}" for name, least in requirements().items()]
        run(python, "-m", "pip", "install", "--index-url", torch_index, *packages)
    run(python, "-m", "pip", "install", "-e", f"{ROOT}[{extras}]" if extras else ROOT)
    run(python, "-c", TELL_TORCH)
    stamp.write_text(wanted)
    return python


def quickstart(python: Path) -> None:
    """Train both recipes and compare them; the last lines say where results and pictures are."""
    run(python, "-m", "densedet.tools.main", "compare", "quickstart_ssd", "quickstart_retinanet")


def test(python: Path, arguments: list[str]) -> None:
    """Run ruff, mypy and pytest; ``arguments`` are pytest's."""
    run(python, "-m", "ruff", "check", ".")
    run(python, "-m", "ruff", "format", "--check", ".")
    # One process a core, at most four, each with one thread (tests/conftest.py).
    processes = min(os.cpu_count() or 1, 4)
    with ThreadPoolExecutor(1) as pool:  # mypy takes a minute of one core: the tests need not wait for it
        checked = pool.submit(type_check, python)
        run(python, "-m", "pytest", "-n", str(processes), "--dist", "worksteal", *arguments)
        checked.result()


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
    """Read the command line and run the command."""
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
    parser.add_argument(
        "--torch-index",
        metavar="URL",
        help="the package index that pip gets torch and torchvision from, e.g. the CPU index that "
        "PyTorch's own install page names",
    )
    arguments, rest = parser.parse_known_args()
    if rest and arguments.command != "test":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    if arguments.command == "quickstart":
        quickstart(prepare(arguments.venv, arguments.torch_index))
    else:
        test(prepare(arguments.venv, arguments.torch_index, "dev"), rest)


if __name__ == "__main__":
    main()
