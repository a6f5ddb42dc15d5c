"""Loads plug-ins: the built-ins, installed packages (entry-point group ``densedet``), and the files and
modules that a recipe names.

Each is loaded on its own: one that fails is kept with its reason and leaves no component behind. A plug-in of
a recipe is seen by that recipe only (`PluginSet.components`), so that two recipes with two files may both
call their head ``mine``.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import pluggy

from densedet import registry as registry_module
from densedet.core import hookspecs
from densedet.core.errors import PluginError
from densedet.registry import Component, Registry

GROUP = "densedet"
VARIABLE = "DENSEDET_PLUGINS"
"""Environment variable: unset loads every installed plug-in, empty none, else a comma list of the names to
load."""

Rows = dict[tuple[str, str], Component]


@dataclass
class Plugin:
    """One line of ``densedet show plugins``. status: loaded, failed or disabled. hooks: names of the hooks it
    implements."""

    name: str
    version: str
    origin: str
    hooks: tuple[str, ...] = ()
    status: str = "loaded"
    reason: str = ""
    error: BaseException | None = None
    plugin: Any = field(default=None, repr=False)


@dataclass
class PluginSet:
    """What one recipe may use. plugins: built-ins first. components: their table. manager: calls hooks in
    that order."""

    plugins: list[Plugin]
    components: Registry
    manager: pluggy.PluginManager

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self.plugins)


@dataclass
class _Module:
    """A module that was imported once. rows: what it registered while it was imported, by a bare
    ``@densedet.register``."""

    module: Any
    rows: Rows
    stamp: tuple[int, int] | None = None


@dataclass
class _Base:
    """What every recipe of a registry stands on."""

    plugins: list[Plugin]
    file_rows: dict[int, Component] = field(default_factory=dict)
    """By its id, every row that ever came from what a recipe named; two files may have rows of the same
    name."""


_modules: dict[str, _Module] = {}
_bases: WeakKeyDictionary[Registry, _Base] = WeakKeyDictionary()


def load_plugins(
    files: Sequence[Path | str] = (),
    *,
    registry: Registry = registry_module.components,
    builtins: bool = True,
    strict: bool = True,
) -> PluginSet:
    """The built-ins, the installed plug-ins and those in ``files`` (paths of .py files, or names of
    importable modules).

    May be called as often as one likes; a file is read again only when it has changed. builtins: False at the
    first call for a registry leaves the built-ins and installed plug-ins out (tests). Raises PluginError for
    the first of ``files`` that does not load; with ``strict=False`` it is a row of status "failed" instead.
    What an installed plug-in does wrong is always a row only.
    """
    base = _bases.get(registry)
    if base is None:
        base = _bases[registry] = _Base(_load_base(registry) if builtins else [])
    before = registry.snapshot()
    shared = {key: row for key, row in before.items() if id(row) not in base.file_rows}
    plugins, view = list(base.plugins), dict(shared)
    for named in dict.fromkeys(str(f) for f in files):
        registry.restore(view)
        plugin, rows = _load_one(named, registry)
        registry.restore(before)
        plugins.append(plugin)
        view |= rows
        base.file_rows |= {id(row): row for row in rows.values()}
        if plugin.error is not None and strict:
            raise PluginError(f"plug-in {plugin.name} does not load: {plugin.reason}") from plugin.error
    registry.restore({**before, **view})
    components = Registry()
    components.restore(view)
    return PluginSet(
        plugins, components, hookspecs.manager_of([p.plugin for p in plugins if p.status == "loaded"])
    )


def _load_base(registry: Registry) -> list[Plugin]:
    builtin = Plugin("densedet", _version("densedet"), "densedet.plugins")
    _register(
        builtin,
        lambda: (importlib.import_module("densedet.plugins"), {}),
        registry,
        f"densedet {builtin.version}",
    )
    if builtin.error is not None:  # a broken checkout, not a user's mistake
        raise PluginError(f"the built-in parts do not load: {builtin.reason}") from builtin.error
    plugins = [builtin]
    wanted = os.environ.get(VARIABLE)
    names = None if wanted is None else {n.strip() for n in wanted.split(",") if n.strip()}
    found: set[str] = set()
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        package = entry.dist.name if entry.dist else ""
        plugin = Plugin(
            entry.name,
            entry.dist.version if entry.dist else "",
            f"{package or entry.value} (entry point {entry.name})",
        )
        found |= {entry.name, package}
        if names is not None and not names & {entry.name, package}:
            plugin.status, plugin.reason = "disabled", f"{VARIABLE} does not name it"
        else:
            _register(
                plugin,
                partial(_imported, f"entry point {entry.value}", entry.load),
                registry,
                f"{package} {plugin.version}".strip(),
            )
        plugins.append(plugin)
    for name in sorted((names or set()) - found):
        plugins.append(
            Plugin(
                name, "", VARIABLE, status="failed", reason=f"{VARIABLE} names it, but it is not installed"
            )
        )
    return plugins


def _load_one(named: str, registry: Registry) -> tuple[Plugin, Rows]:
    if not is_file(named):
        plugin = Plugin(named, _version(named.partition(".")[0]), named)
        return plugin, _register(plugin, lambda: _imported(named, lambda: _import(named)), registry, named)
    path = Path(named).resolve()
    plugin = Plugin(named, "", str(path))
    return plugin, _register(plugin, lambda: _executed(path), registry, str(path))


def is_file(named: str) -> bool:
    """Whether a plug-in is named as a file rather than as an importable module."""
    return named.endswith(".py") or "/" in named or "\\" in named


def _register(plugin: Plugin, load: Callable[[], tuple[Any, Rows]], registry: Registry, origin: str) -> Rows:
    """Load and register one plug-in; gives its rows. On failure: no rows, and the reason in ``plugin``."""
    before = registry.snapshot()
    try:
        with registry.registering(origin):
            plugin.plugin, rows = load()
            for (kind, name), row in rows.items():
                registry.add(kind, name, row.target, row.summary)
            plugin.hooks = _check_hooks(plugin.plugin)
            manager = hookspecs.manager_of([plugin.plugin])
            manager.check_pending()
            manager.hook.densedet_register(registry=registry)
    except (Exception, SystemExit) as error:
        plugin.status, plugin.reason, plugin.error = "failed", _reason(error, plugin.origin), error
        return {}
    return {key: row for key, row in registry.snapshot().items() if before.get(key) is not row}


def _check_hooks(plugin: Any) -> tuple[str, ...]:
    """Names of its hooks. Raises PluginError for one that does not exist, or that lacks the mark and would
    never be called."""
    known = [n for n in vars(hookspecs) if n.startswith("densedet_")]
    named = [
        n
        for n in dir(plugin)
        if n.startswith("densedet_") and n != "densedet_impl" and callable(getattr(plugin, n, None))
    ]
    for name in named:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Hooks: {', '.join(known)}"
            raise PluginError(f"there is no hook {name!r}.{hint}")
        if getattr(getattr(plugin, name), f"{hookspecs.PROJECT}_impl", None) is None:
            raise PluginError(f"{name} would never be called: write @densedet.hookimpl above it")
    return tuple(n for n in known if n in named)


def _imported(key: str, load: Callable[[], Any]) -> tuple[Any, Rows]:
    if key not in _modules:
        with _catching() as rows:
            module = load()
        _modules[key] = _Module(module, rows.found)
    return _modules[key].module, _modules[key].rows


def _executed(path: Path) -> tuple[Any, Rows]:
    """The module of a plug-in file; under a name that follows from its path, so that a spawned process finds
    the same one."""
    if not path.is_file():
        raise PluginError(f"there is no file {path}")
    key, stat = str(path), path.stat()
    stamp = (stat.st_mtime_ns, stat.st_size)
    if key not in _modules or _modules[key].stamp != stamp:
        name = f"densedet_plugin_{path.stem}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None:
            raise PluginError(f"{path} is no Python file: its name must end in .py")
        module, before = importlib.util.module_from_spec(spec), sys.modules.get(name)
        sys.modules[name] = module
        try:
            with _catching() as rows:
                # Compiled here and not by the loader: its cache in __pycache__ takes a file changed within a
                # second for unchanged.
                exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
        except BaseException:
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
            raise
        _modules[key] = _Module(module, rows.found, stamp)
    return _modules[key].module, _modules[key].rows


class _catching:
    """Takes out of the process-wide table what bare ``@densedet.register`` puts in while a module is
    imported; ``found`` afterwards."""

    def __enter__(self) -> _catching:
        self.before = registry_module.components.snapshot()
        self.found: Rows = {}
        return self

    def __exit__(self, *error: object) -> None:
        now = registry_module.components.snapshot()
        self.found = {key: row for key, row in now.items() if self.before.get(key) is not row}
        registry_module.components.restore(self.before)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise PluginError(
                f"there is no module {name!r} to import; a file is written with its ending, ./{name}.py"
            ) from error
        raise


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""


def _reason(error: BaseException, file: str) -> str:
    """One sentence, with the line of the plug-in's file where it happened."""
    text = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return text
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if isinstance(error, SyntaxError):
        lines, text = [error.lineno], error.msg
    where = f" ({Path(file).name} line {lines[-1]})" if lines and lines[-1] else ""
    return f"{type(error).__name__}: {text}{where}"
