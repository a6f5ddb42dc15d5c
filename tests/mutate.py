"""Change small files of every kind by the hundred thousand, and use each as densedet does.

    python tests/mutate.py --count 100000 --seed 0 --processes 2

Kinds: database (.db), sqlite, coco, voc, yolo, labelme, cvat, image, recipe, checkpoint, and command, which
runs the command line on changed files of all of them. Each case is either used or refused with a sentence, an
exception of densedet.core.errors. Everything else is a failure: another exception, a RuntimeWarning, a crash,
a hang or 10 s of the processor, 1 GB more memory, a file written outside of the temporary folder, a program,
a connection or code of a file that was started, a changed checkpoint that is taken.

A case follows from (seed, kind, number) alone. Failures are kept, one archive each, in --keep; ``--replay
FILE`` uses one again. The exit code is 1 where there is a failure.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import select
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

KILLED_SECONDS = 75.0
"""Of the processor, after which a case is ended."""

CHUNK = 500
"""Cases of one process."""

WALL_SECONDS = 120.0
"""After which a case that waits for something counts as a hang, whatever else the machine does."""

SHARES = {
    "database": 0.22,
    "sqlite": 0.10,
    "coco": 0.10,
    "voc": 0.08,
    "yolo": 0.08,
    "labelme": 0.04,
    "cvat": 0.04,
    "image": 0.14,
    "recipe": 0.10,
    "checkpoint": 0.0989,
    "command": 0.0011,
}
"""Of --count, by kind."""

CRASHED = "crashed"


def make_kind(name: str, corpus: Path) -> Any:
    """Make a kind of cases with its unchanged files."""
    if name == "image":
        from mutations.images import ImageKind

        return ImageKind(corpus)
    if name == "recipe":
        from mutations.recipes import RecipeKind

        return RecipeKind(corpus)
    if name == "checkpoint":
        from mutations.checkpoints import CheckpointKind

        return CheckpointKind(corpus)
    if name == "command":
        from mutations.commands import CommandKind

        return CommandKind(corpus)
    from mutations.annotations import AnnotationKind

    return AnnotationKind(name, corpus)


@dataclass
class Chunk:
    """Cases ``start`` to ``stop`` - 1 of a kind, and the process that uses them."""

    kind: str
    start: int
    stop: int
    pid: int = 0
    pipe: int = -1
    buffer: bytes = b""
    case: int = -1
    begun: float = 0.0
    processor: float = 0.0


@dataclass
class Row:
    """What came of the cases of a kind."""

    words: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    reasons: Counter[str] = field(default_factory=Counter)


class Mutating:
    """All cases of a run, spread over processes that are forked from this one."""

    def __init__(self, arguments: argparse.Namespace, home: Path) -> None:
        self.seed, self.keep, self.home = arguments.seed, arguments.keep, home
        self.processes: int = arguments.processes
        counts = {name: round(arguments.count * SHARES[name]) for name in arguments.kinds}
        if set(arguments.kinds) != set(SHARES):
            total = sum(SHARES[name] for name in arguments.kinds)
            counts = {name: round(arguments.count * SHARES[name] / total) for name in arguments.kinds}
        self.rows = {name: Row() for name in counts}
        self.kinds = {name: make_kind(name, home / "corpus") for name in counts}
        self.waiting = [
            Chunk(name, start, min(start + CHUNK, arguments.first + count))
            for name, count in counts.items()
            for start in range(arguments.first, arguments.first + count, CHUNK)
        ]
        self.failures = 0

    def run(self) -> None:
        """Use all cases."""
        running: list[Chunk] = []
        while self.waiting or running:
            while self.waiting and len(running) < self.processes:
                running.append(self._started(self.waiting.pop(0)))
            ready = select.select([chunk.pipe for chunk in running], [], [], 1.0)[0]
            for chunk in list(running):
                alive = True
                if chunk.pipe in ready:
                    alive = self._heard(chunk)
                if alive and (why := self._hangs(chunk)):
                    os.kill(chunk.pid, signal.SIGKILL)
                    self._ended(chunk, why)
                    alive = False
                elif not alive:
                    self._ended(chunk, "")
                if not alive:
                    running.remove(chunk)

    def _started(self, chunk: Chunk) -> Chunk:
        reading, writing = os.pipe()
        sys.stdout.flush()
        chunk.pid = os.fork()
        if chunk.pid == 0:
            try:
                os.close(reading)
                self._work(chunk, writing)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(writing)
        chunk.pipe, chunk.begun = reading, time.monotonic()
        return chunk

    def _work(self, chunk: Chunk, pipe: int) -> None:
        """Use a chunk's cases, in a process of its own."""
        import resource

        from mutations.watch import SECONDS, Watch, judged

        home = self.home / f"process{os.getpid()}"
        (home / "case").mkdir(parents=True)
        quiet = os.open(home / "output", os.O_WRONLY | os.O_CREAT)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(home / "case")
        os.environ |= {
            "DENSEDET_CACHE": str(home / "cache"),
        }
        tempfile.tempdir = str(home)
        size = psutil.Process().memory_info().vms + (6 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        secret = self.home / "secret.jpg"
        watch = Watch(home, (str(secret), "/etc/hostname"))
        sys.addaudithook(watch)
        for number in range(chunk.start, chunk.stop):
            os.write(pipe, json.dumps({"case": number}).encode() + b"\n")
            folder = home / "case"
            shutil.rmtree(folder)
            folder.mkdir()
            os.chdir(folder)
            shutil.rmtree(home / "cache", ignore_errors=True)
            os.truncate(quiet, 0)
            kind = self.kinds[chunk.kind]
            kind.make(random.Random(f"{self.seed} {chunk.kind} {number}"), folder)
            draw = random.Random(f"{self.seed} {chunk.kind} {number} use")
            outcome = judged(watch, partial(kind.use, draw, folder), getattr(kind, "seconds", SECONDS))
            if outcome.word == "failed":
                self._keep(chunk.kind, number, outcome.text, folder)
            told = {"word": outcome.word, "text": outcome.text[:8000], "seconds": outcome.seconds}
            os.write(pipe, json.dumps(told).encode() + b"\n")
        os.chdir("/")
        shutil.rmtree(home)

    def _heard(self, chunk: Chunk) -> bool:
        """Take in what a process says; return whether it goes on."""
        content = os.read(chunk.pipe, 1 << 16)
        chunk.buffer += content
        *lines, chunk.buffer = chunk.buffer.split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "case" in told:
                chunk.case, chunk.begun = told["case"], time.monotonic()
                chunk.processor = processor_seconds(chunk.pid)
            else:
                self._note(chunk, told["word"], told["text"], told["seconds"])
                chunk.start, chunk.case = chunk.case + 1, -1
        return bool(content)

    def _hangs(self, chunk: Chunk) -> str:
        if chunk.case < 0:
            return ""
        if processor_seconds(chunk.pid) - chunk.processor > KILLED_SECONDS:
            return f"it took more than {KILLED_SECONDS:g} s of the processor"
        return "it hangs" if time.monotonic() - chunk.begun > WALL_SECONDS else ""

    def _ended(self, chunk: Chunk, why: str) -> None:
        """Wait for a process. Unless it came to its end, its case is a failure and the rest starts anew."""
        os.close(chunk.pipe)
        _, status = os.waitpid(chunk.pid, 0)
        if chunk.case >= 0:
            why = why or f"{CRASHED}: {status_text(status)}"
            output = self.home / f"process{chunk.pid}" / "output"
            why += "\n" + output.read_text(errors="replace")[-2000:] if output.exists() else ""
            self._keep(chunk.kind, chunk.case, why, self.home / f"process{chunk.pid}" / "case")
            self._note(chunk, "failed", why, time.monotonic() - chunk.begun)
            chunk.start = chunk.case + 1
        elif chunk.start < chunk.stop:
            self._note(chunk, "failed", f"the process ended between cases: {status_text(status)}", 0.0)
            chunk.start += 1
        shutil.rmtree(self.home / f"process{chunk.pid}", ignore_errors=True)
        if chunk.start < chunk.stop:
            self.waiting.insert(0, Chunk(chunk.kind, chunk.start, chunk.stop))

    def _note(self, chunk: Chunk, word: str, text: str, seconds: float) -> None:
        row = self.rows[chunk.kind]
        row.words[word] += 1
        row.slowest = max(row.slowest, (seconds, max(chunk.case, chunk.start)))
        if word == "failed":
            self.failures += 1
            print(f"--- {chunk.kind} {chunk.case} (seed {self.seed}): {text}", flush=True)

    def _keep(self, kind: str, number: int, why: str, folder: Path) -> None:
        """Write a case's files and its number into an archive."""
        self.keep.mkdir(parents=True, exist_ok=True)
        told = json.dumps({"seed": self.seed, "kind": kind, "number": number, "why": why}, indent=1).encode()
        with tarfile.open(self.keep / f"{kind}-{self.seed}-{number}.tar", "w") as archive:
            entry = tarfile.TarInfo("case.json")
            entry.size = len(told)
            archive.addfile(entry, io.BytesIO(told))
            archive.add(folder, "case", recursive=True)

    def table(self) -> Iterator[str]:
        """Give the lines of the outcome."""
        heads = ("kind", "cases", "accepted", "refused", "failures", "slowest")
        yield "{:<11}{:>9}{:>10}{:>10}{:>10}  {}".format(*heads)
        total: Counter[str] = Counter()
        for name, row in self.rows.items():
            total += row.words
            numbers = (row.words.total(), row.words["accepted"], row.words["refused"], row.words["failed"])
            slowest = f"{row.slowest[0]:.2f} s (case {row.slowest[1]})"
            yield "{:<11}{:>9,}{:>10,}{:>10,}{:>10,}  {}".format(name, *numbers, slowest)
        numbers = (total.total(), total["accepted"], total["refused"], total["failed"])
        yield "{:<11}{:>9,}{:>10,}{:>10,}{:>10,}".format("all", *numbers)


def processor_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def status_text(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def replay(file: Path, home: Path) -> int:
    """Use the case in an archive once more, with a traceback."""
    from mutations.watch import SECONDS, Watch, judged

    with tarfile.open(file) as archive:
        archive.extractall(home, filter="fully_trusted")
    told = json.loads((home / "case.json").read_text())
    kind = make_kind(told["kind"], home / "corpus")
    os.chdir(home / "case")
    os.environ["DENSEDET_CACHE"] = str(home / "cache")
    tempfile.tempdir = str(home)
    draw = random.Random(f"{told['seed']} {told['kind']} {told['number']} use")
    watch = Watch(home)
    sys.addaudithook(watch)
    outcome = judged(watch, partial(kind.use, draw, home / "case"), getattr(kind, "seconds", SECONDS))
    print(f"{outcome.word} in {outcome.seconds:.2f} s: {outcome.text}")
    return int(outcome.word == "failed")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000, help="cases of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of each kind's first case")
    parser.add_argument("--kinds", default=",".join(SHARES), help="some of %(default)s")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, default=Path("mutate_failures"), help="folder of failures")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="use the case of a failure again")
    arguments = parser.parse_args()
    arguments.kinds = arguments.kinds.split(",")
    if unknown := set(arguments.kinds) - set(SHARES):
        parser.error(f"there is no kind {', '.join(unknown)}: {', '.join(SHARES)}")
    arguments.keep = arguments.keep.resolve()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    platform.processor()  # starts a program once
    import torch  # noqa: F401 (its import starts one, too)

    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="densedet_mutate_") as folder:
        home = Path(folder).resolve()
        (home / "corpus").mkdir()
        if arguments.replay is not None:
            return replay(arguments.replay.resolve(), home)
        mutating = Mutating(arguments, home)
        (home / "secret.jpg").write_bytes(b"")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            mutating.run()
        except KeyboardInterrupt:
            print("stopped before the end")
    print("\n".join(mutating.table()))
    print(f"seed {arguments.seed}, {time.monotonic() - begin:.0f} s on {arguments.processes} processes")
    return int(mutating.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
