"""What one case may do: its outcome, and everything forbidden that it tried."""

from __future__ import annotations

import os
import sys
import sysconfig
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densedet.core.errors import DensedetError, sentence
from densedet.registry import RegistryError

LEGAL = (DensedetError, RegistryError)
SECONDS = 10.0
MEGABYTES = 1024

FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "subprocess.Popen",
    "pty.spawn",
)
FORBIDDEN += ("socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request", "ftplib.connect")
FORBIDDEN += ("pickle.find_class", "webbrowser.open", "os.kill")
WRITES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
)
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


@dataclass
class Watch:
    """The audit hook of a process. Audit hooks cannot be removed; ``active`` switches this one.

    Attributes:
        home: the only folder that may be written to.
        secrets: files that nothing may open.
        found: sentences about what was done and may not be.
    """

    home: Path
    secrets: tuple[str, ...] = ()
    active: bool = False
    found: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in FORBIDDEN:
            self.found.append(f"{event} {arguments[:2]!r:.200}")
        elif event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes, os.PathLike)):
                written = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
                self._touched(event, path, written=bool(written))
        elif event in WRITES:
            for path in arguments[:2]:
                if isinstance(path, (str, bytes, os.PathLike)):
                    self._touched(event, path, written=True)
        elif event == "exec":
            file = str(getattr(arguments[0], "co_filename", ""))
            if os.path.isabs(file) and not (file.startswith(LIBRARIES) or _ours(file)):
                self.found.append(f"code of {file} was run")

    def _touched(self, event: str, path: Any, *, written: bool) -> None:
        text = os.path.realpath(os.fsdecode(path))
        peak = f"/proc/{os.getpid()}/clear_refs"  # where a process sets the peak of its memory back
        if text in self.secrets:
            self.found.append(f"{event} opened {text}")
        elif written and not text.startswith((str(self.home), "/dev/null", "/dev/tty", peak)):
            self.found.append(f"{event} wrote to {text}")


def _ours(file: str) -> bool:
    return Path(file).resolve().is_relative_to(Path(__file__).resolve().parent.parent.parent)


@dataclass
class Outcome:
    """What a case came to.

    Attributes:
        word: "accepted", "refused" or "failed".
        text: the sentence of a refusal, or the reason of a failure.
        seconds: of the processor.
    """

    word: str
    text: str
    seconds: float


def judged(watch: Watch, use: Callable[[], str | None], limit: float = SECONDS) -> Outcome:
    """Use a case's files, and see what comes of it."""
    watch.found.clear()
    before, begin = peak_mb(), time.process_time()
    word, text = "accepted", ""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        watch.active = True
        try:
            word = use() or "accepted"
        except LEGAL as error:
            word, text = "refused", sentence(error)
            if not str(error).strip() or "fault of densedet" in text:
                word, text = "failed", f"no sentence: {text!r}"
        except BaseException as error:
            word = "failed"
            lines = traceback.format_exception(error)
            text = "".join(lines if len(lines) < 40 else [*lines[:5], "...\n", *lines[-15:]])
        finally:
            watch.active = False
    seconds, grown = time.process_time() - begin, peak_mb() - before
    told = [str(w.message) for w in warned if issubclass(w.category, RuntimeWarning)]
    problems = [*watch.found, *(f"RuntimeWarning: {t}" for t in told)]
    if grown > MEGABYTES:
        problems.append(f"the memory grew by {grown:.0f} MB")
    if seconds > limit:
        problems.append(f"it took {seconds:.1f} s")
    if problems:
        word, text = "failed", "; ".join([*problems, *([text] if text else [])])
    return Outcome(word, text, seconds)


def peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 << 20 if sys.platform == "darwin" else 1024
    )
