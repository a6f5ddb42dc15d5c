"""Loads plug-ins: the built-ins, installed packages (entry-point group ``densedet``), and the files and
modules that a recipe names.

Each is loaded on its own: one that fails is kept with its reason and leaves no component behind. A plug-in of
a recipe is seen by that recipe only (`PluginSet.components`), so that two recipes with two files may both
call their head ``mine``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import pluggy

from densedet import registry as registry_module
from densedet.core import hookspecs
from densedet.core.errors import PluginError, author_place
from densedet.core.text import say
from densedet.registry import Component, Registry

GROUP = "densedet"
VARIABLE = "DENSEDET_PLUGINS"
"""Environment variable: unset loads every installed plug-in, empty none, else a comma list of the names to
load."""

LOOKED_AT = 100
"""Python files beside a recipe that are searched for a part that it does not know."""

OWN_NAME = "densedet_plugin_"
"""Begin of the names in sys.modules under which plug-in files are run."""

Rows = dict[tuple[str, str], Component]


@dataclass
class Plugin:
    """One line of ``densedet show plugins``.

    Attributes:
        name: As the recipe or the entry point names it.
        version: Of its package; empty for a file.
        origin: The file, the module, or the package with its entry point.
        hooks: Names of the hooks that its module implements.
        status: loaded, failed or disabled.
        reason: Why it is not loaded.
        error: The exception of a failed one.
        plugin: Its module.
        parts: (kind, name) of the parts that it registers.
    """

    name: str
    version: str
    origin: str
    hooks: tuple[str, ...] = ()
    status: str = "loaded"
    reason: str = ""
    error: BaseException | None = None
    plugin: Any = field(default=None, repr=False)
    parts: tuple[tuple[str, str], ...] = ()


@dataclass
class PluginSet:
    """What one recipe may use. plugins: built-ins first. components: their table. manager: calls hooks in
    that order."""

    plugins: list[Plugin]
    components: Registry
    manager: pluggy.PluginManager

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self.plugins)

    def warn_of_failures(self) -> None:
        """Name on standard error each plug-in that did not load."""
        for plugin in self.plugins:
            if plugin.status == "failed":
                warn(f"plug-in {plugin.name} does not load, so what it brings is missing: {plugin.reason}")

    def call_each(self, hook: str, **arguments: Any) -> Iterator[tuple[Plugin, Any]]:
        """Call a hook of each plug-in by itself. One that raises is named on standard error and costs only
        itself.

        Yields:
            (plug-in, what its hook returned; None too).
        """
        rows = {id(p.plugin): p for p in self.plugins if p.status == "loaded"}
        for outcome in hookspecs.call_each(self.manager, hook, **arguments):
            plugin = rows[id(outcome.plugin)]
            if outcome.error is None:
                yield plugin, outcome.result
            else:
                warn(f"plug-in {plugin.name} failed at {hook}: {_reason(outcome.error, plugin.origin)}")


Stamps = dict[str, tuple[int, int]]


@dataclass
class _Module:
    """A module that was imported once. rows: what it registered while it was imported, by a bare
    ``@densedet.register``. stamps: time and size of its file and of the files beside it that were imported
    when it was."""

    module: Any
    rows: Rows
    stamps: Stamps = field(default_factory=dict)


_modules: dict[str, _Module] = {}
_helpers: dict[str, str] = {}
"""Name in sys.modules -> file, of the plug-in files, and of the modules beside them that they have
imported."""
_folders: list[str] = []
"""Folders of plug-in files that stand in sys.path because of it, the latest first."""
_bases: WeakKeyDictionary[Registry, list[Plugin]] = WeakKeyDictionary()
"""Built-in and installed plug-ins, which every recipe of a registry may use."""


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
        base = _bases[registry] = _load_base(registry) if builtins else []
    before = registry.snapshot()
    shared = {key: row for key, row in before.items() if not row.local}
    plugins, view = list(base), dict(shared)
    for named in dict.fromkeys(str(f) for f in files):
        registry.restore(view)
        plugin, rows = _load_one(named, registry)
        registry.restore(before)
        plugins.append(plugin)
        view |= rows
        # A file that was imported in Python too, or an installed package, stays known to every recipe.
        for key, row in rows.items():
            row.local = key not in shared
        if plugin.error is not None and strict:
            raise PluginError(f"plug-in {plugin.name} does not load: {plugin.reason}") from plugin.error
    registry.restore({**before, **view})
    components = Registry()
    components.restore(view)
    return PluginSet(
        plugins, components, hookspecs.manager_of([p.plugin for p in plugins if p.status == "loaded"])
    )


def warn(text: str) -> None:
    """A line on standard error."""
    say(f"warning: {text}", error=True)


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
            plugin.hooks = hookspecs.check_hooks(plugin.plugin)
            hookspecs.manager_of([plugin.plugin]).hook.densedet_register(registry=registry)
            found = {key: row for key, row in registry.snapshot().items() if before.get(key) is not row}
            for (kind, name), row in found.items():
                if kind == "hook" and inspect.isclass(row.target):
                    _check_hook_class(name, row.target)
    except (Exception, SystemExit) as error:
        plugin.status, plugin.reason, plugin.error = "failed", _reason(error, plugin.origin), error
        return {}
    plugin.parts = tuple(found)
    return found


def _check_hook_class(name: str, target: Any) -> None:
    try:
        hookspecs.check_hooks(target)
    except PluginError as error:
        raise PluginError(f"hook {name!r}: {error}") from error


def _imported(key: str, load: Callable[[], Any]) -> tuple[Any, Rows]:
    if key not in _modules:
        with _catching() as rows:
            module = load()
        # It may have been imported before, as a plug-in file or in Python.
        known = next((m.rows for m in _modules.values() if m.module is module), None)
        _modules[key] = _Module(module, rows.found or known or _rows_of(module))
    return _modules[key].module, _modules[key].rows


def _executed(path: Path) -> tuple[Any, Rows]:
    """The module of a plug-in file: the one that was imported in Python already, or else the file is run, and
    run again when it has changed."""
    if not os.path.isfile(path):
        raise PluginError(f"there is no file {path}")
    key = str(path)
    known = _modules.get(key)
    if known is None and (module := _imported_before(path)) is not None:
        known = _modules[key] = _Module(module, _rows_of(module), _stamps([key]))
    if known is None or known.stamps != _stamps(known.stamps):
        known = _modules[key] = _execute(path)
    return known.module, known.rows


def _imported_before(path: Path) -> Any:
    """The module of ``path`` that Python code has imported under a name of its own, or None."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if getattr(module, "__name__", "").startswith(OWN_NAME):
            continue
        if isinstance(file, str) and os.path.basename(file) == path.name and Path(file).resolve() == path:
            return module
    return None


def _rows_of(module: Any) -> Rows:
    """What a module, or a module below it, has put into the process-wide table."""
    table = registry_module.components.snapshot()
    return {k: r for k, r in table.items() if f"{_module_name(r.target)}.".startswith(f"{module.__name__}.")}


def _module_name(target: Any) -> str:
    return target.partition(":")[0] if isinstance(target, str) else getattr(target, "__module__", "")


def _stamps(files: Iterable[str]) -> Stamps:
    stats = {file: os.stat(file) for file in files if os.path.exists(file)}
    return {file: (stat.st_mtime_ns, stat.st_size) for file, stat in stats.items()}


def _execute(path: Path) -> _Module:
    """Run a plug-in file under a name that follows from its path, so that a spawned process finds the same
    one. It may import the modules beside it."""
    name = f"{OWN_NAME}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise PluginError(f"{path} is no Python file: its name must end in .py")
    _put_first(path.parent)
    module, modules = importlib.util.module_from_spec(spec), dict(sys.modules)
    sys.modules[name] = module
    try:
        with _catching() as rows:
            # Compiled here and not by the loader: its cache in __pycache__ takes a file changed within a
            # second for unchanged.
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        for new in [n for n in sys.modules if n not in modules and (n == name or _beside(n, path))]:
            del sys.modules[new]
        sys.modules |= {name: modules[name]} if name in modules else {}
        raise
    _make_importable(path, module)
    for new in [n for n in sys.modules if n not in modules and n != name and _beside(n, path)]:
        _helpers[new] = file = str(Path(str(sys.modules[new].__file__)).resolve())
        if file not in _modules:  # it may be named in a recipe as well
            own = {key: row for key, row in rows.found.items() if _module_name(row.target) == new}
            _modules[file] = _Module(sys.modules[new], own, _stamps([file]))
    helpers = [file for file in _helpers.values() if Path(file).is_relative_to(path.parent)]
    return _Module(module, rows.found, _stamps([str(path), *helpers]))


def _put_first(folder: Path) -> None:
    """Let a file of ``folder`` import what lies beside it: after what is installed, and before what lies
    beside the plug-ins of other folders."""
    ours = str(folder)
    if ours not in sys.path or ours in _folders:
        sys.path[:] = [entry for entry in sys.path if entry not in _folders]
        _folders[:] = [ours, *(entry for entry in _folders if entry != ours)]
        sys.path += _folders
    importlib.invalidate_caches()
    for name, file in list(_helpers.items()):
        top, elsewhere = name.partition(".")[0], not Path(file).is_relative_to(folder)
        hides = elsewhere and (os.path.isfile(folder / f"{top}.py") or os.path.isdir(folder / top))
        known = None if elsewhere else _modules.get(file)
        changed = known is not None and known.stamps != _stamps(known.stamps)
        if hides or changed:
            sys.modules.pop(name, None)
            del _helpers[name]
            if changed:
                del _modules[file]


def _make_importable(path: Path, module: ModuleType) -> None:
    """``import my_head`` in another file beside it, or in a script, gives the plug-in that is loaded
    already."""
    if not path.stem.isidentifier() or (path.stem in sys.modules and path.stem not in _helpers):
        return
    sys.modules.pop(path.stem, None)
    spec = importlib.util.find_spec(path.stem)
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path:
        sys.modules[path.stem] = module
        _helpers[path.stem] = str(path)


def _beside(name: str, path: Path) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    return isinstance(file, str) and Path(file).resolve().is_relative_to(path.parent)


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
        place = f"{Path(error.filename or file).name} line {error.lineno}"
        return f"SyntaxError: {error.msg} ({place})"
    where = f" ({Path(file).name} line {lines[-1]})" if lines and lines[-1] else author_place(error)
    return f"{type(error).__name__}: {text}{where}{_import_hint(error, file)}"


def _import_hint(error: BaseException, file: str) -> str:
    """What to write where a plug-in file fails to import what lies beside it."""
    if not isinstance(error, ImportError) or not is_file(file):
        return ""
    if "relative import" in str(error):
        return ": a plug-in file is no package, write 'import helper' for helper.py beside it"
    top = (error.name or "").partition(".")[0]
    mine = Path(file).parent / f"{top}.py"
    if top and os.path.isfile(mine) and error.path and Path(error.path).resolve() != mine:
        return f": {error.path} is imported in place of {mine}: give that file another name"
    return ""


def registered_beside(folder: Path, kind: str, name: str) -> str:
    """The Python file in ``folder`` that seems to register a part, as a recipe names it ("./my_head.py");
    empty where there is none. Nothing is imported."""
    key = r"\s*,\s*".join(rf"""["']{re.escape(word)}["']""" for word in (kind, name))
    pattern = re.compile(rf"(?:register|add)\(\s*{key}")
    for file in sorted(folder.glob("*.py"))[:LOOKED_AT]:
        if pattern.search(file.read_text(encoding="utf-8", errors="replace")):
            return f"./{file.name}"
    return ""
