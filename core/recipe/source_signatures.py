"""What a constructor takes, read from its source: a recipe's faults are found without importing torch.

Importing a built-in part imports torch, which takes seconds; parsing its file takes milliseconds. Names in
annotations and defaults are followed through the imports of densedet and torchvision. A class of any other
package, such as ``torch.Tensor``, becomes an unknown type, which takes any value as the class itself does.
Where the source alone does not tell, `Unreadable` is raised and the part has to be imported.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import importlib
import importlib.util
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

READ = ("densedet", "torchvision")
"""Packages whose source is read; a stranger's part is imported."""

IMPORTED = frozenset(
    ("typing", "collections.abc", "enum", "math", "numbers", "pathlib", "pydantic", "densedet.core.arguments")
)
"""Modules that are imported, since that takes no time."""


class Unreadable(Exception):
    """The source alone does not tell what the constructor takes."""


@dataclass(frozen=True)
class SourceSignature:
    """A constructor as its source has it.

    Attributes:
        parameters: (hint, default) by name, in order; `inspect.Parameter.empty` where there is none.
        docstrings: of the class or function, of the classes that it inherits from, and of the constructor.
    """

    parameters: dict[str, tuple[Any, Any]]
    docstrings: tuple[str, ...]


def read_signature(target: str) -> SourceSignature:
    """The signature of ``"module:attribute"``. Raises Unreadable."""
    module, _, attribute = target.partition(":")
    if module.partition(".")[0] not in READ:
        raise Unreadable(f"{module} is not read")
    source, node = _source(module).definition(attribute)
    if isinstance(node, ast.FunctionDef):
        return SourceSignature(source.parameters(node, skip=0), _docstrings([node]))
    classes = list(_mro(source, node))
    for owner, definition in classes:
        for statement in definition.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                nodes = [*(definition for _, definition in classes), statement]
                return SourceSignature(owner.parameters(statement, skip=1), _docstrings(nodes))
    raise Unreadable(f"{target} has no constructor of its own")


def _mro(source: _Source, node: ast.ClassDef) -> Iterator[tuple[_Source, ast.ClassDef]]:
    """A class and the first of each one's bases, as far as they are written in packages that are read."""
    if node.decorator_list:
        raise Unreadable(f"{node.name} is decorated")
    yield source, node
    if not node.bases:
        return
    try:
        base, definition = source.definition(ast.unparse(node.bases[0]))
    except Unreadable:
        return
    if isinstance(definition, ast.ClassDef):
        yield from _mro(base, definition)


def _docstrings(nodes: list[Any]) -> tuple[str, ...]:
    return tuple(text for text in map(ast.get_docstring, nodes) if text)


class _Unknown(type):
    """The type of classes that are not imported; their attributes are such classes too."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unknown(name, (), {})


@functools.cache
def _source(module: str) -> _Source:
    return _Source(module)


class _Source:
    """A module's definitions and imports, from its file."""

    def __init__(self, module: str) -> None:
        self.module, path = module, _file_of(module)
        self.package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        self.typing_only: set[str] = set()
        for statement in ast.parse(path.read_bytes()).body:
            self._note(statement)

    def _note(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.ImportFrom):
            origin = "." * statement.level + (statement.module or "")
            module = importlib.util.resolve_name(origin, self.package) if statement.level else origin
            self.imports |= {alias.asname or alias.name: (module, alias.name) for alias in statement.names}
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                self.imports[alias.asname or alias.name.partition(".")[0]] = (alias.name, "")
        elif isinstance(statement, ast.ClassDef | ast.FunctionDef):
            self.definitions[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            self.definitions |= {target.id: statement for target in targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING"):
            for inner in statement.body:
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    self.typing_only |= {alias.asname or alias.name for alias in inner.names}

    def definition(self, name: str) -> tuple[_Source, ast.ClassDef | ast.FunctionDef]:
        """A class or function of this name, or ``module.name``, followed to the module that defines it."""
        first, _, rest = name.partition(".")
        module, attribute = self.imports.get(first, ("", ""))
        if rest:
            module, attribute = f"{module}.{attribute}".strip("."), rest
        if attribute and module.partition(".")[0] in READ:
            return _source(module).definition(attribute)
        node = self.definitions.get(name)
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            raise Unreadable(f"{self.module} does not define {name}")
        return self, node

    def parameters(self, node: ast.FunctionDef, skip: int) -> dict[str, tuple[Any, Any]]:
        """(hint, default) of a function's parameters, without the first ``skip``."""
        given = node.args
        if given.vararg or given.kwarg or node.decorator_list:
            raise Unreadable(f"{node.name} hides its arguments")
        positional = [*given.posonlyargs, *given.args]
        missing: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
        pairs = [*zip(positional, [*missing, *given.defaults]), *zip(given.kwonlyargs, given.kw_defaults)]
        empty = inspect.Parameter.empty
        return {
            row.arg: (self._hint(row.annotation), empty if default is None else self.evaluate(default))
            for row, default in pairs[skip:]
        }

    def _hint(self, node: ast.expr | None) -> Any:
        if node is None:
            return Any
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        return Any if names & self.typing_only else self.evaluate(node)

    def evaluate(self, node: ast.expr) -> Any:
        """The value of an expression, its names looked up in this module."""
        try:
            return eval(compile(ast.Expression(node), self.module, "eval"), self._names(node))
        except Exception as error:
            raise Unreadable(f"{ast.unparse(node)} in {self.module}: {error}") from error

    def _names(self, node: ast.AST) -> dict[str, Any]:
        """The names that an expression or a class reads, with their values; not those that it assigns."""
        rows = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
        own = {row.id for row in rows if isinstance(row.ctx, ast.Store)}
        names = {row.id for row in rows} - own - set(dir(builtins))
        return {name: self.value(name) for name in names}

    def value(self, name: str) -> Any:
        """What a name of this module stands for."""
        if name in self.imports:
            module, attribute = self.imports[name]
            if module in IMPORTED:
                imported = importlib.import_module(module)
                return getattr(imported, attribute) if attribute else imported
            if attribute and module.partition(".")[0] in READ:
                return _source(module).value(attribute)
            return _Unknown(attribute or name, (), {})
        node = self.definitions.get(name)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            return self.evaluate(node.value)
        if isinstance(node, ast.ClassDef):
            return self._class(node)
        raise Unreadable(f"{self.module} does not define {name}")

    def _class(self, node: ast.ClassDef) -> Any:
        """A class of values, such as an enum or a table of fields, by running its definition; an unknown type
        where a base is one."""
        bases = [self.evaluate(base) for base in node.bases]
        if not bases or any(base is Protocol or isinstance(base, _Unknown) for base in bases):
            return _Unknown(node.name, (), {})
        if node.decorator_list:
            raise Unreadable(f"{node.name} is decorated")
        bare = copy.copy(node)
        bare.body = [inner for inner in node.body if not isinstance(inner, ast.FunctionDef)] or [ast.Pass()]
        names = self._names(bare) | {"__name__": self.module}
        made = ast.fix_missing_locations(ast.Module([bare], []))
        exec(compile(made, self.module, "exec", dont_inherit=True), names)
        return names[node.name]


def _file_of(module: str) -> Path:
    package, *inside = module.split(".")
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for file in (Path(folder, *inside, "__init__.py"), Path(folder, *inside).with_suffix(".py")):
            if os.path.isfile(file):
                return file
    raise Unreadable(f"{module} has no source file")
