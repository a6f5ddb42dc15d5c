"""The hooks a plug-in may implement (pluggy). Mark a function with ``densedet.hookimpl``.

`densedet_register` runs when plug-ins load; the run hooks are called by the runner in the order in which the
recipe lists them. ``run`` is `densedet.core.training.run.Run`. A built-in run hook acts on rank 0 only;
``run.is_main`` tells.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import argparse

    from densedet.registry import Registry

PROJECT = "densedet"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def densedet_register(registry: Registry) -> None:
    """Add components: ``registry.add("head", "mine", MyHead)``."""


@hookspec
def densedet_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add sub-commands to ``densedet``; set ``defaults(run=function(arguments) -> exit code)``."""


@hookspec
def densedet_run_start(run: Any) -> None:
    """The run folder exists, the detector is built, a resume is done; before the first step."""


@hookspec
def densedet_run_step(run: Any, step: dict[str, Any]) -> None:
    """After each optimizer step. ``step``: losses, loss, learning_rate, step_seconds, data_seconds,
    images."""


@hookspec
def densedet_run_epoch(run: Any, epoch: int) -> None:
    """After the last step of an epoch (counted from 1), before its evaluation."""


@hookspec
def densedet_run_evaluated(run: Any, metrics: dict[str, Any]) -> None:
    """After an evaluation."""


@hookspec
def densedet_run_end(run: Any, summary: dict[str, Any]) -> None:
    """The run is over: done, stopped or failed (``summary["status"]``)."""


@hookspec
def densedet_state(run: Any) -> dict[str, Any]:  # type: ignore[empty-body]
    """What must survive a resume: ``{unique key: tensors and plain values}``."""


@hookspec
def densedet_restore(run: Any, state: dict[str, Any]) -> None:
    """Take back what `densedet_state` gave; ``state`` holds every plug-in's keys."""


@hookspec
def densedet_report_section(comparison: Any) -> str:  # type: ignore[empty-body]
    """An HTML fragment to append to a comparison's report."""


def manager_of(hooks: Sequence[Any]) -> pluggy.PluginManager:
    """A manager that calls ``hooks`` in this order: pluggy calls the last registered first, so they are
    registered backwards."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(sys.modules[__name__])
    for hook in reversed(hooks):
        manager.register(hook)
    return manager
