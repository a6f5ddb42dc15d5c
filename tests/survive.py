"""Stop a small run at random moments in every way, resume it, and compare it with one that was never stopped.

python tests/survive.py --moments 100 --seed 0      # each way of stopping, 100 moments (about 40 minutes)
python tests/survive.py --moments 3 --variants 0    # a short form

Ways: kill -9, SIGTERM, SIGHUP, SIGINT, and a full disk (no file may grow beyond a random size). Variants: no
worker, 2 forked, 2 spawned, and 2 processes on gloo. Compared bit for bit: all of last.pt and best.pt, and
metrics.jsonl and summary.json but for times and memory. torch is imported once: each run is a fork of this
process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

RECIPE = (
    "../small.yaml",
    "data.train.count=24",
    "data.val.count=8",
    "data.batch_transforms=[{name: flip}, {name: crop}, {name: photometric}]",
    "model.backbone.widths=[8, 8, 8]",
    "train.batch_size=8",
    "train.budget.steps=14",
    "train.evaluations=4",
    "train.ema_decay=0.9",
    "train.threads=1",
    "evaluate.batch_size=4",
    "run.folder=runs",
    "run.hooks=[{name: metrics}, {name: checkpoint, every_steps: 3}, {name: progress},"
    " {name: tensorboard, images: 0, every: 4}, {name: pictures, images: 1}]",
)
DROP = """
import densedet
import torch

@densedet.hookimpl
def densedet_run_start(run):
    run.detector.backbone.register_forward_hook(drop)

def drop(module, images, maps):
    return [torch.nn.functional.dropout(one, 0.1, module.training) for one in maps]
"""
"""Dropout: a part that draws from torch's generator."""

VARIANTS = {
    "0": ("no worker", 0, "fork", 1, 6),
    "fork": ("2 forked workers", 2, "fork", 1, 6),
    "spawn": ("2 spawned workers", 2, "spawn", 1, 1),
    "two": ("2 processes", 0, "fork", 2, 3),
}
"""Name: (title, workers, start method, processes, share of the moments)."""

WAYS = {
    "kill": signal.SIGKILL,
    "term": signal.SIGTERM,
    "hup": signal.SIGHUP,
    "int": signal.SIGINT,
    "disk": None,
}
TIMES = {
    "seconds",
    "step_seconds",
    "data_seconds",
    "minutes",
    "images_per_second",
    "predict_images_per_second",
    "peak_memory_mb",
    "import_memory_mb",
}
HANGS = 300.0
"""Seconds after which a run counts as hung."""
AGENT_WAITS = 30.0
"""Seconds that the others of a killed process have to notice; then they are ended, as torchrun does."""


# -- one life --------------------


def start(folder: Path, arguments: list[str], variant: str) -> list[int]:
    """Fork the processes of a run, which work in ``folder``, and return their ids."""
    _, _, method, processes, _ = VARIANTS[variant]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    stopping = [number for number in WAYS.values() if number not in (None, signal.SIGKILL)]
    for rank in range(processes):
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping)  # one that comes early waits for the child
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
            pids.append(pid)
            continue
        code = 99
        try:
            os.setsid()
            # Both are ignored under nohup and in the background; the console program resets them, too.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
            os.chdir(folder)
            log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if processes > 1:
                places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": processes}
                for name, value in {**places, "RANK": rank, "LOCAL_RANK": rank}.items():
                    os.environ[name] = str(value)
            multiprocessing.set_start_method(method, force=True)
            from densedet.tools.main import main

            code = main(arguments)
            sys.stdout.flush()
            if processes > 1:
                from densedet.core.distributed import leave

                leave()
        except OSError:  # on a full disk the log is full, too
            code = 1
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 2
        finally:
            os._exit(code)
    return pids


def wait(pids: list[int], until: float) -> dict[int, int]:
    """Return the exit codes of the processes that have ended by ``until`` (of time.monotonic)."""
    codes: dict[int, int] = {}
    while len(codes) < len(pids) and time.monotonic() < until:
        for pid in pids:
            if pid not in codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return codes


def stop(pids: list[int], way: str, draw: random.Random) -> None:
    """Stop a run in one of `WAYS`: all of its processes or, of a signal to one, this one alone."""
    number = WAYS[way]
    if number is None:
        size = int(10 ** draw.uniform(0, 6))
        for pid in pids:
            for one in (pid, *children(pid)):
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(one, resource.RLIMIT_FSIZE, (size, size))
        return
    group = draw.random() < 0.5
    for pid in [draw.choice(pids)] if number == signal.SIGKILL and draw.random() < 0.5 else pids:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(pid, number)


def children(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


# -- one moment --------------------


def trial(
    root: Path, variant: str, way: str | None, draw: random.Random, length: float
) -> tuple[Path, list[str]]:
    """Run in a new folder below ``root`` until it is done, stopped once or twice on its way.

    Returns:
        The folder, and what is wrong: exit codes, tracebacks, hangs.
    """
    folder = Path(tempfile.mkdtemp(dir=root, prefix=f"{variant}-{way}-"))
    stops = 0 if way is None else 1 + (draw.random() < 0.3)
    number = None if way is None else WAYS[way]
    wrong: list[str] = []
    for life in range(stops + 2):
        runs = sorted(folder.glob("runs/*/*/last.pt"), key=lambda file: int(file.parent.name))
        if runs:
            arguments = [
                "train",
                "--resume",
                str(runs[-1].parent.relative_to(folder)),
                "--plugin",
                "../drop.py",
            ]
        else:
            arguments = ["train", *RECIPE, f"data.workers={VARIANTS[variant][1]}"]
        began = time.monotonic()
        pids = start(folder, arguments, variant)
        codes: dict[int, int] = {}
        if life < stops and way is not None:
            codes = wait(pids, began + draw.uniform(0, length))
            stop([pid for pid in pids if pid not in codes], way, draw) if len(codes) < len(pids) else None
        while len(codes) < len(pids) > 1 and not any(codes.values()) and time.monotonic() < began + HANGS:
            codes |= wait([pid for pid in pids if pid not in codes], time.monotonic() + 0.2)
        if any(codes.values()) and len(pids) > 1:  # torchrun's agent ends the others
            codes |= wait([pid for pid in pids if pid not in codes], time.monotonic() + AGENT_WAITS)
            for pid in set(pids) - set(codes):
                os.kill(pid, signal.SIGKILL)
        codes |= wait([pid for pid in pids if pid not in codes], began + HANGS)
        if len(codes) < len(pids):
            for pid in pids:
                if pid not in codes:
                    os.killpg(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            return folder, [*wrong, "hung"]
        allowed = {0} if life >= stops else {0, 1, 3} if number is None else {0, 128 + number, -number}
        if number is not None and len(pids) > 1 and life < stops:
            # It waited for a process that had ended before they met, or tells that this one has ended before
            # the signal, which goes to one after the other, has reached it.
            allowed |= {-signal.SIGKILL}
            if "another process of this run has ended" in (folder / "log.txt").read_text(errors="replace"):
                allowed |= {1}
        wrong += [f"exit code {code}" for code in codes.values() if code not in allowed]
        if is_done(folder):  # perhaps before the moment came
            break
    else:
        wrong.append("never done")
    if "Traceback (most recent call last)" in (folder / "log.txt").read_text(errors="replace"):
        wrong.append("traceback")
    return folder, wrong


def is_done(folder: Path) -> bool:
    """Whether the newest run of a folder is done, all files written."""
    summaries = sorted(folder.glob("runs/*/*/summary.json"), key=lambda file: int(file.parent.name))
    return bool(summaries) and json.loads(summaries[-1].read_text())["status"] == "done"


def results(folder: Path) -> dict[str, Any]:
    """What a finished run has left, by name, without times and memory."""
    from densedet.core.training import checkpoint

    (*_, summary) = sorted(folder.glob("runs/*/*/summary.json"), key=lambda file: int(file.parent.name))
    run = summary.parent
    found: dict[str, Any] = {"summary.json": timeless(json.loads(summary.read_text()))}
    lines = (run / "metrics.jsonl").read_text().splitlines()
    found["metrics.jsonl"] = [timeless(json.loads(line)) for line in lines]
    for name in ("last.pt", "best.pt"):
        for key, value in checkpoint.load(run / name).items():
            found[f"{name} {key}"] = None if key == "seconds" else timeless(value)
    found["temporary files"] = [file.name for file in run.glob(".*.tmp")]
    return found


def timeless(value: Any) -> Any:
    """Return a value without times and memory."""
    if isinstance(value, dict):
        kept = {
            k: v for k, v in value.items() if k not in TIMES and not str(k).startswith(("time/", "memory/"))
        }
        return {key: timeless(inner) for key, inner in kept.items()}
    return [timeless(inner) for inner in value] if isinstance(value, list | tuple) else value


def same(first: Any, second: Any) -> bool:
    """Whether two results are equal bit for bit."""
    import torch

    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


# -- all of them --------------------


def moments_of(count: int, variants: list[str]) -> list[str]:
    """Spread ``count`` moments over the variants by their shares."""
    weights = {name: VARIANTS[name][4] for name in variants}
    given: Counter[str] = Counter()
    for _ in range(count):
        given[min(variants, key=lambda name: (given[name] + 1) / weights[name])] += 1
    return list(given.elements())


def main() -> int:
    """Run all moments and print the table; 1 where a run differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moments", type=int, default=100, help="moments of each way of stopping")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--minutes", type=float, default=600, help="begin no moment after this time")
    parser.add_argument("--folder", help="where the runs lie; those that differ stay there")
    arguments = parser.parse_args()

    import torch
    import torch.utils.tensorboard

    from densedet.core import api  # noqa: F401 (once for all)

    torch.set_num_threads(1)
    root = Path(arguments.folder or tempfile.mkdtemp(prefix="survive-")).resolve()
    root.mkdir(parents=True, exist_ok=True)
    (root / "drop.py").write_text(DROP)
    (root / "small.yaml").write_text("base: densedet:quickstart_ssd.yaml\nplugins: [./drop.py]\n")
    os.environ["DENSEDET_CACHE"] = str(root / "cache")
    began = time.monotonic()
    unbroken, lengths = {}, {}
    for variant in arguments.variants:
        for _ in range(2):  # the first one fills the cache
            start_time = time.monotonic()
            folder, wrong = trial(root, variant, None, random.Random(0), 0.0)
            lengths[variant] = time.monotonic() - start_time
        if wrong:
            print(
                f"{VARIANTS[variant][0]}: the unbroken run fails ({', '.join(wrong)}): see {folder}/log.txt"
            )
            return 1
        unbroken[variant] = results(folder)
        print(f"{VARIANTS[variant][0]}: an unbroken run takes {lengths[variant]:.1f} s", flush=True)
    table: dict[tuple[str, str], Counter[str]] = {}
    for way in arguments.ways:
        for number, variant in enumerate(moments_of(arguments.moments, arguments.variants)):
            if time.monotonic() - began > 60 * arguments.minutes:
                continue
            draw = random.Random(f"{arguments.seed} {way} {variant} {number}")
            folder, wrong = trial(root, variant, way, draw, lengths[variant])
            if not wrong or wrong == ["traceback"]:
                left = results(folder)
                wrong += [
                    name for name, value in unbroken[variant].items() if not same(value, left.get(name))
                ]
            row = table.setdefault((way, variant), Counter())
            row["moments"] += 1
            row.update(f"differs: {name}" for name in wrong)
            row["differing"] += bool(wrong)
            if wrong:
                print(f"{way} {variant} moment {number}: {', '.join(wrong)}: see {folder}", flush=True)
            else:
                shutil.rmtree(folder)
    print(f"\n{'way':6} {'variant':20} {'moments':>8} {'identical':>10} {'differing':>10}  what differed")
    for (way, variant), row in table.items():
        what = ", ".join(
            f"{k.removeprefix('differs: ')} ({n})" for k, n in row.items() if k.startswith("differs")
        )
        good = row["moments"] - row["differing"]
        print(f"{way:6} {VARIANTS[variant][0]:20} {row['moments']:8} {good:10} {row['differing']:10}  {what}")
    bad = sum(row["differing"] for row in table.values())
    total = sum(row["moments"] for row in table.values())
    print(
        f"{total - bad} of {total} runs end bit-identical, in {(time.monotonic() - began) / 60:.1f} minutes"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
