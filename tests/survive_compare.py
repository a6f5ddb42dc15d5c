"""Kill a comparison of six small runs, with all its processes, at random moments; the same command goes on.

python tests/survive_compare.py --moments 10 --seed 0              # by the launcher local (about 15 minutes)
python tests/survive_compare.py --moments 10 --launcher forked     # torch is imported once (about 3 minutes)

The report of each comparison is compared with that of one which was never killed: all of its JSON, and the
pictures and headings of its page, but times, speeds and memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMAND = (
    *("compare", "../small_ssd.yaml", "../small_retinanet.yaml", "--budget", "steps=6", "--rounds", "0"),
    *("--output", "c/report.html"),
)
RECIPE = """
base: densedet:quickstart_{head}.yaml
data:
  train: {{count: 16}}
  val: {{count: 4}}
train: {{batch_size: 4, evaluations: 2, threads: 1}}
run: {{hooks: [metrics, {{name: checkpoint, every_steps: 2}}]}}
"""
TIMES = {
    *("seconds", "step_seconds", "data_seconds", "minutes", "images_per_second", "predict_images_per_second"),
    *("peak_memory_mb", "import_memory_mb", "date"),
}
"""Keys of the report that differ between equal comparisons."""
TIMED = re.compile("minutes|per second|memory|training time|unreliable", re.IGNORECASE)
"""What a sentence, or the title of a chart or table, has that is about times, speeds or memory."""
SEEN = re.compile(r'<img src="([^"]*)"|<h[123][^>]*>(.*?)</h[123]>')
"""Pictures and headings of a page."""
HANGS = 600.0


def timeless(value: Any) -> Any:
    """Return the numbers of a report without times, speeds and memory."""
    if isinstance(value, dict):
        if value.get("key") in TIMES or TIMED.search(str(value.get("title", ""))):
            return value.get("key", value.get("title"))
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [timeless(inner) for inner in value if not (isinstance(inner, str) and TIMED.search(inner))]
    return value


def told_by(folder: Path) -> tuple[Any, list[Any]]:
    """Return what a report says and shows, without times, speeds and memory."""
    page = (folder / "c" / "report.html").read_text()
    return timeless(json.loads((folder / "c" / "report.json").read_text())), SEEN.findall(page)


def start(folder: Path, command: list[str]) -> int:
    """Fork a comparison that works in ``folder``. Returns its process' id."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from densedet.tools.main import main

        code = main(command)
        sys.stdout.flush()
    finally:
        os._exit(code)


def ended(pid: int, until: float) -> int | None:
    """Return the exit code of a process that has ended by ``until`` (of time.monotonic), else None."""
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def kill_all(pid: int) -> None:
    """Kill a process and all that it has started, at once."""
    import psutil

    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    for one in family:
        one.suspend()
    for one in family:
        one.kill()
    os.waitpid(pid, 0)


def trial(root: Path, command: list[str], draw: random.Random, kills: int, length: float) -> tuple[Path, str]:
    """Compare in a new folder, killed ``kills`` times on the way.

    Returns:
        The folder, and what is wrong; empty where nothing is.
    """
    folder = Path(tempfile.mkdtemp(dir=root, prefix="killed-" if kills else "whole-"))
    for life in range(kills + 1):
        began = time.monotonic()
        pid = start(folder, command)
        last = life == kills
        code = ended(pid, began + (HANGS if last else draw.uniform(0, length)))
        if code is None:
            kill_all(pid)
            if last:
                return folder, "hung"
        elif code == 0:
            return folder, ""
        else:
            return folder, f"exit code {code}"
    return folder, "never done"


def main() -> int:
    """Run all moments; 1 where a report differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--seeds", type=int, default=3, help="of each of the two recipes")
    parser.add_argument("--launcher", default="local")
    parser.add_argument("--folder", help="where the comparisons lie; those that differ stay there")
    arguments = parser.parse_args()

    import torch

    from densedet.core import api  # noqa: F401 (once for all)

    torch.set_num_threads(1)
    root = Path(arguments.folder or tempfile.mkdtemp(prefix="survive-compare-")).resolve()
    root.mkdir(parents=True, exist_ok=True)
    os.environ["DENSEDET_CACHE"] = str(root / "cache")
    for head in ("ssd", "retinanet"):
        (root / f"small_{head}.yaml").write_text(RECIPE.format(head=head))
    command = [*COMMAND, "--seeds", str(arguments.seeds), "--launcher", arguments.launcher]
    if arguments.launcher == "forked":
        command += ["--plugin", str(Path(__file__).with_name("forked_launcher.py"))]
    draw = random.Random(arguments.seed)
    began = time.monotonic()
    folder, wrong = trial(root, command, draw, 0, 0.0)
    length = time.monotonic() - began
    if wrong:
        print(f"the comparison that is not killed fails ({wrong}): see {folder}/log.txt")
        return 1
    whole = told_by(folder)
    print(f"a comparison that is not killed takes {length:.1f} s", flush=True)
    good = 0
    for moment in range(arguments.moments):
        folder, wrong = trial(root, command, draw, 1 + (draw.random() < 0.3), length)
        if not wrong and told_by(folder) != whole:
            wrong = "another report"
        print(f"moment {moment}: {wrong or 'the same report'}", flush=True)
        if not wrong:
            good += 1
            shutil.rmtree(folder)
    print(f"{good} of {arguments.moments} comparisons end with the same report", flush=True)
    return 0 if good == arguments.moments else 1


if __name__ == "__main__":
    sys.exit(main())
