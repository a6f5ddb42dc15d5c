"""The hooks that a plug-in may implement (pluggy). Mark a function with ``densedet.hookimpl``.

A hook is a function of a plug-in's module, called whenever the plug-in is loaded, or a method of a class that
is registered as a part of kind "hook", called where a recipe lists it in ``run.hooks``. A run calls them so,
listed hooks in their order, then those of modules; under ``torchrun`` on rank 0 only, unless the class or
module has ``all_ranks = True``::

    densedet_restore(run, state)                 # only when a run is resumed
    densedet_run_start(run)
    while not run.finished:
        densedet_run_step(run, step)             # after each optimizer step
        if the epoch is over:
            densedet_run_epoch(run, epoch)
        if an evaluation is due:
            densedet_run_evaluated(run, metrics)
        if a checkpoint is due:                  # the hook `checkpoint` writes it from the hooks above
            state = densedet_state(run)
    densedet_run_end(run, summary)               # always, after an error too

A hook of which everything that it does stays in the run folder says so by ``in_folder = True``: ``--plan``
calls it, to see what it costs, and calls no other.

An implementation names the arguments that it wants: ``def densedet_run_end(self, summary)`` will do.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from densedet.core.errors import PluginError, sentence
from densedet.core.text import say
from densedet.registry import suggest

if TYPE_CHECKING:
    import argparse

    from densedet.core.report.records import RunRecord
    from densedet.core.training.run import Run
    from densedet.registry import Registry

PROJECT = "densedet"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def densedet_register(registry: Registry) -> None:
    """Add parts: ``registry.add("head", "mine", MyHead)``. Called once, when the plug-in is loaded."""


@hookspec
def densedet_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add sub-commands to ``densedet``; each sets ``defaults(run=function(arguments) -> exit code)``."""


@hookspec
def densedet_run_start(run: Run) -> None:
    """The run folder exists, the detector is built, a resume is done; before the first step."""


@hookspec
def densedet_run_step(run: Run, step: dict[str, Any]) -> None:
    """After each optimizer step.

    Args:
        run: The run; ``run.step`` counts this step already.
        step: losses ({name: float}, weighted, the mean over accumulated batches and processes), loss (their
            sum), learning_rate (of the first parameter group), grad_norm (before clipping; None where
            float16's scaler skipped the step), step_seconds (all of it), data_seconds (the part spent waiting
            for data), images (of all processes). On a GPU the losses and the norm are read, and waited for,
            when they are asked for: a hook that wants those of every step keeps ``step`` and reads it
            ``run.lag`` steps later.
    """


@hookspec
def densedet_run_epoch(run: Run, epoch: int) -> None:
    """After the last step of an epoch (counted from 1), before its evaluation."""


@hookspec
def densedet_run_evaluated(run: Run, metrics: dict[str, Any]) -> None:
    """After an evaluation. metrics: of the recipe's evaluator; "losses" has the validation losses."""


@hookspec
def densedet_run_end(run: Run, summary: dict[str, Any]) -> None:
    """The run is over. summary: the content of summary.json; its "status" is done, stopped or failed."""


@hookspec
def densedet_state(run: Run) -> dict[str, Any] | None:
    """What must survive a resume, as tensors and plain values; None: nothing. Every hook has a place of its
    own in the checkpoint: two hooks may use the same key. It is called before each checkpoint is written."""


@hookspec
def densedet_restore(run: Run, state: dict[str, Any]) -> None:
    """Take back what `densedet_state` of this hook gave. Not called where the checkpoint has nothing of
    it."""


@hookspec
def densedet_report_section(comparison: list[RunRecord]) -> str:  # type: ignore[empty-body]
    """An HTML fragment to append to a comparison's report."""


SPECS = {name: spec for name, spec in dict(globals()).items() if name.startswith("densedet_")}
OF_A_RUN = tuple(n for n in SPECS if n.startswith(("densedet_run_", "densedet_state", "densedet_restore")))
"""The hooks that a run calls; a hook class has these only."""


def check_hooks(plugin: Any) -> tuple[str, ...]:
    """Look whether each hook of a plug-in will be called.

    Args:
        plugin: A module, a class of kind "hook", or an object of one.

    Returns:
        Names of the hooks that it implements, in the order of this file; may be empty for a module.

    Raises:
        PluginError: A hook does not exist, lacks ``@densedet.hookimpl``, or names an argument that the hook
            does not have; or a class implements no hook of a run.
    """
    of_part = not isinstance(plugin, ModuleType)
    known = OF_A_RUN if of_part else tuple(SPECS)
    found = []
    for attribute in dir(plugin):
        mark = getattr(inspect.getattr_static(plugin, attribute, None), f"{PROJECT}_impl", None)
        if mark is None and not attribute.startswith("densedet_"):
            continue
        method = getattr(plugin, attribute, None)
        if not callable(method) or isinstance(method, pluggy.HookimplMarker):
            continue
        name = (mark or {}).get("specname") or attribute
        at = _place(method)
        if name in SPECS and name not in known:
            raise PluginError(
                f"{attribute} of a hook class is never called{at}: write it as a function of the module"
            )
        if name not in known:
            raise PluginError(
                f"there is no hook {name!r}{at}.{suggest(name, list(known), count=1)} Hooks: "
                f"{', '.join(known)}"
            )
        if getattr(method, f"{PROJECT}_impl", None) is None:
            raise PluginError(f"{attribute} would never be called{at}: write @densedet.hookimpl above it")
        _check_arguments(plugin, attribute, method, name)
        found.append(name)
    if of_part and not found:
        raise PluginError(
            f"{_title(plugin)} has no hook, so it would never be called: give it a method such as "
            f"densedet_run_step(self, run, step), with @densedet.hookimpl above it"
        )
    return tuple(n for n in known if n in found)


def _check_arguments(plugin: Any, attribute: str, method: Any, name: str) -> None:
    """pluggy fills in an argument by its name, and only one that has no default."""
    wanted = list(inspect.signature(SPECS[name]).parameters)
    given = list(inspect.signature(method).parameters.values())
    raw = inspect.getattr_static(plugin, attribute)
    if inspect.isclass(plugin) and inspect.isfunction(raw):
        given = given[1:]  # self
    wrong = [
        str(p).split(":")[0]
        for p in given
        if p.name not in wanted
        or p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        or p.default is not p.empty
    ]
    if wrong:
        own = ["self"] if not isinstance(plugin, ModuleType) else []
        raise PluginError(
            f"{attribute} takes {', '.join(wrong)}{_place(method)}, which is never filled in: write "
            f"def {attribute}({', '.join(own + wanted)}), or only those of these that it needs, without "
            f"defaults and stars"
        )


def _place(method: Any) -> str:
    code = getattr(inspect.unwrap(method), "__code__", None)
    return f" ({Path(code.co_filename).name} line {code.co_firstlineno})" if code else ""


def _title(hook: Any) -> str:
    """The name of a hook in checkpoints and messages: its class, or the stem of its module's file."""
    if isinstance(hook, ModuleType):
        return Path(hook.__file__).stem if hook.__file__ else hook.__name__
    return (hook if inspect.isclass(hook) else type(hook)).__name__


def manager_of(hooks: Sequence[Any]) -> pluggy.PluginManager:
    """A manager that calls ``hooks`` in this order.

    Each is registered under its title and its position among those of that title, "StopAt#1". pluggy calls
    the last registered first, so they are registered backwards.

    Raises:
        PluginError: One has a hook that would not be called (`check_hooks`).
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(sys.modules[__name__])
    names: dict[str, Any] = {}
    for hook in {id(hook): hook for hook in hooks}.values():
        check_hooks(hook)
        title = _title(hook)
        names[f"{title}#{1 + sum(n.rpartition('#')[0] == title for n in names)}"] = hook
    for name, hook in reversed(names.items()):
        manager.register(hook, name=name)
    return manager


@dataclass
class Outcome:
    """What one hook made of a call.

    Attributes:
        name: Under which `manager_of` has registered it.
        plugin: The module or object.
        result: Its return value; None where it raised.
        error: What it raised, or None.
    """

    name: str
    plugin: Any
    result: Any = None
    error: BaseException | None = None


def call_each(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> Iterator[Outcome]:
    """Call each implementation of a hook by itself, in listed order, so that one that raises stops no other.

    Args:
        manager: From `manager_of`.
        hook: The hook's name.
        arguments: All arguments of the hook.
    """
    plugins = manager.list_name_plugin()[::-1]
    for name, plugin in plugins:
        caller = manager.subset_hook_caller(hook, [other for _, other in plugins if other is not plugin])
        if not any(implementation.plugin is plugin for implementation in caller.get_hookimpls()):
            continue
        try:
            results = caller(**arguments)
        except (Exception, SystemExit) as error:  # SystemExit: argparse's way to complain
            yield Outcome(name, plugin, error=error)
        else:
            yield Outcome(name, plugin, results[0] if results else None)


def collect_state(manager: pluggy.PluginManager, run: Run) -> dict[str, dict[str, Any]]:
    """What the hooks of a run must find again after a resume.

    Returns:
        {name of the hook in the manager: what its `densedet_state` gave}.

    Raises:
        PluginError: A hook raised, or gave something else than a dict.
    """
    kept = {}
    for outcome in call_each(manager, "densedet_state", run=run):
        if outcome.error is not None:
            raise PluginError(f"{outcome.name}: densedet_state: {sentence(outcome.error)}") from outcome.error
        if outcome.result is None:
            continue
        if not isinstance(outcome.result, dict):
            raise PluginError(
                f"{outcome.name}: densedet_state gives a {type(outcome.result).__name__}: return a dict of "
                f"tensors and plain values"
            )
        kept[outcome.name] = outcome.result
    return kept


def restore_state(manager: pluggy.PluginManager, run: Run, kept: dict[str, dict[str, Any]]) -> None:
    """Hand each hook its own part of `collect_state`'s result."""
    for name, plugin in manager.list_name_plugin()[::-1]:
        if name in kept:
            others = [other for other in manager.get_plugins() if other is not plugin]
            manager.subset_hook_caller("densedet_restore", others)(run=run, state=kept[name])


def end_run(manager: pluggy.PluginManager, run: Run, summary: dict[str, Any]) -> None:
    """Tell every hook that the run is over.

    A hook that raises costs only itself: it is named on standard error, and the others are called. The error
    of one with ``essential = True`` (it writes results of the run) is raised when all have been called.
    """
    broken = [o for o in call_each(manager, "densedet_run_end", run=run, summary=summary) if o.error]
    for outcome in broken:
        said = f"hook {outcome.name} failed at densedet_run_end: {sentence(outcome.error)}"  # type: ignore[arg-type]
        say(f"warning: {said}", error=True)
    essential = [o.error for o in broken if getattr(o.plugin, "essential", False)]
    if essential and essential[0] is not None and summary["status"] != "failed":
        raise essential[0]
