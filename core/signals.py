"""The signals by which people, clusters and terminals end a program. No torch here."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from densedet.core.errors import Interrupted

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h."""

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, a cluster's or container's end, a closing terminal (which Windows does not have)."""

REPEATED = 1.0
"""Seconds in which a signal that comes again is still the same one: a terminal, `timeout` and a cluster reach
the whole group of processes, and a parent hands on to its child what has reached the child already."""


@contextmanager
def handled(act: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call ``act(number, frame)`` at the stopping signals, in the main thread, until the block ends.

    A signal that this process was told to ignore stays ignored, and one that comes again within `REPEATED`
    seconds after the first is dropped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def note(number: int, frame: FrameType | None) -> None:
        if _late is not None:
            _late.append(number)
            return
        now = time.monotonic()
        if not first or now - first[0] > REPEATED:
            first.append(now)
            act(number, frame)

    heard = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def raised(asked: list[int]) -> Iterator[None]:
    """Raise `Interrupted` at the stopping signals, so that what is half written is removed.

    A signal in the midst of an import comes again a second later. A longer import ends there with the
    process, which has then nothing to remove.

    Args:
        asked: gets the numbers of the signals. An error after one is its consequence: a process of the same
            run may have ended by the same signal before.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        importing = within_import(frame)  # an exception in the import of torch's C++ aborts the process
        if importing and len(asked) > 1:
            with contextlib.suppress(OSError, ValueError):
                os.write(sys.stderr.fileno(), f"{words(number)}\n".encode())
            os._exit(128 + number)
        if not importing and not is_deaf(frame):
            raise Interrupted(number)
        again = threading.Timer(1.1 * REPEATED, _send_to_main_thread, (number,))
        again.daemon = True
        again.start()

    with handled(stop):
        yield


def _send_to_main_thread(number: int) -> None:
    """Send a signal that also ends a wait of the main thread, which `signal.raise_signal` does not."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, number)  # type: ignore[arg-type]
    else:  # Windows
        signal.raise_signal(number)


def words(number: int) -> str:
    """Return the last words of a command that a signal has ended."""
    return f"densedet: interrupted by {signal.Signals(number).name}"


def within_import(frame: FrameType | None) -> bool:
    """Return whether a module is being imported."""
    return any(code.f_globals.get("__name__") == "importlib._bootstrap" for code in _stack(frame))


def is_deaf(frame: FrameType | None) -> bool:
    """Return whether an exception at this moment would be swallowed, or printed by another process.

    Python swallows one in a ``__del__``. While a tensor comes from a worker process, the worker's thread that
    hands it over prints a traceback where its peer is gone.
    """
    return any(
        code.f_code.co_name == "__del__"
        or code.f_globals.get("__name__") == "multiprocessing.resource_sharer"
        for code in _stack(frame)
    )


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def run_to_end(command: Sequence[str], *, with_errors: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command, and wait for it whatever comes: it is handed the signals that stop this process.

    Args:
        command: the program and its arguments.
        with_errors: whether its standard error is taken, too, and not shown.

    Returns:
        Its exit code, its standard output and, where it was taken, its standard error.

    Raises:
        Interrupted: a signal came; the command has ended.
    """
    asked: KeyboardInterrupt | None = None
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err if with_errors else None)
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt as error:
                asked = asked or error
                if os.name == "posix":  # on Windows a Ctrl-C reaches all processes of a console
                    process.send_signal(getattr(error, "number", signal.SIGINT))
        if asked is not None:
            number = getattr(asked, "number", signal.SIGINT)
            raise Interrupted(number, told=not with_errors) from asked
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return subprocess.CompletedProcess(command, process.returncode, *texts)


@contextmanager
def held() -> Iterator[None]:
    """Hold back the stopping signals from this thread and from processes that are started meanwhile.

    None is lost: this thread gets them at the end. One that another thread takes meanwhile, which Python
    would handle here if this is the main thread, waits as well.
    """
    global _late
    late: list[int] = []
    if _late is None and threading.current_thread() is threading.main_thread():
        _late = late
    masked = hasattr(signal, "pthread_sigmask")  # Windows has none
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING) if masked else set()
    try:
        yield
    finally:
        if _late is late:
            _late = None
        if masked:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in late:
            signal.raise_signal(number)


_late: list[int] | None = None
"""The signals that came while the main thread had them `held`; None: it has not."""


def start_helpers(method: str) -> None:
    """Start the processes that Python needs beside spawned ones, so that `held` holds for those.

    Args:
        method: "fork", "spawn" or "forkserver".
    """
    if method == "fork" or os.name != "posix":
        return
    from multiprocessing import forkserver, resource_tracker

    with held():
        resource_tracker.ensure_running()  # Python before 3.12 lets SIGINT and SIGTERM through in here
    if method == "forkserver":
        with held():
            # It tells the ends of its processes by SIGCHLD. Where this process was started with that one
            # blocked, as some schedulers do, it would never tell them.
            before = signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            try:
                forkserver.ensure_running()
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, before & {signal.SIGCHLD})


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Let this process get a signal when the thread that started it has ended, where the system can."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # Linux has it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number))


def leave_to_parent(parent: int) -> None:
    """Let a worker process, started while signals were `held`, outlive a signal to the whole group.

    A Ctrl-C, a closing terminal and a cluster reach the workers too. The parent needs them until it has
    finished its step, and ends them itself.

    Args:
        parent: the process that may end this one by SIGTERM.
    """
    end_with_parent(signal.SIGKILL)
    owner = multiprocessing.parent_process()
    if owner is not None and not owner.is_alive():  # it went while this process was starting
        os._exit(0)
    if not hasattr(signal, "sigwaitinfo"):  # macOS, Windows
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        return
    threading.Thread(target=_wait_for, args=(parent,), daemon=True).start()


def _wait_for(parent: int) -> None:
    while True:
        told = signal.sigwaitinfo(STOPPING)
        if told.si_signo == signal.SIGTERM and told.si_pid == parent:
            os._exit(0)
