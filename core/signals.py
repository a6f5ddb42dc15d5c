"""The signals by which people, clusters and terminals end a program. No torch here."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h."""

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, a cluster's or container's end, a closing terminal (which Windows does not have)."""


@contextmanager
def held() -> Iterator[None]:
    """Hold back the stopping signals from this thread and from processes that are started meanwhile.

    None is lost: this thread gets them at the end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_helpers(method: str) -> None:
    """Start the process that Python needs beside spawned ones, so that `held` holds for those.

    Args:
        method: "fork", "spawn" or "forkserver".
    """
    if method != "fork" and os.name == "posix":
        from multiprocessing import resource_tracker

        with held():
            resource_tracker.ensure_running()  # Python before 3.12 lets SIGINT and SIGTERM through in here


def leave_to_parent(parent: int) -> None:
    """Let a worker process, started while signals were `held`, outlive a signal to the whole group.

    A Ctrl-C, a closing terminal and a cluster reach the workers too. The parent needs them until it has
    finished its step, and ends them itself.

    Args:
        parent: the process that may end this one by SIGTERM.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # Linux: end when the parent does
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
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
