"""A student's file: what it holds, and its functions called with care."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densedet.core.errors import UsageError
from densedet.core.lessons.names import NAMES
from densedet.core.lessons.task import Given, lesson
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.registry import Component


@dataclass(frozen=True)
class Slip:
    """A call that gave no tensor.

    Attributes:
        kind: the exception's class, or "" where there was none.
        text: a sentence for the student.
        line: of the student's file, 0 where there is none.
        always: whether it does not depend on the arguments, so that one sentence is enough.
    """

    kind: str
    text: str
    line: int = 0
    always: bool = False


@dataclass
class Solution:
    """A student's file.

    Attributes:
        file: its path.
        lesson: the name that its LESSON line gives.
        tree: its syntax tree.
        fault: why it cannot be used, as a sentence; "" where it can.
        module: the module; None where it does not load.
        component: the part that it registers; None where it does not load.
    """

    file: Path
    lesson: str
    tree: ast.Module
    fault: str = ""
    module: Any = None
    component: Any = None

    @property
    def part(self) -> str:
        """The name of the part that it registers."""
        return str(self.component.name)

    def function(self, name: str) -> Callable[..., Any]:
        """Return one of its functions."""
        found: Callable[..., Any] = getattr(self.module, name)
        return found

    def definition(self, name: str) -> ast.FunctionDef | None:
        """Return the syntax tree of a function at the file's top level, the last of its name."""
        found = [n for n in self.tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
        return found[-1] if found else None

    def place(self, name: str, got: Any = None) -> str:
        """Return where a function stands, or the line at which a call of it failed: "my_iou.py line 34"."""
        defined = self.definition(name)
        line = getattr(got, "line", 0) or (defined.lineno if defined else 0)
        return f"{self.file.name} line {line}" if line else self.file.name

    def holes(self, names: Sequence[str]) -> dict[str, str]:
        """Say for each function that is not written yet what to fill in."""
        found = {}
        for name in names:
            defined = self.definition(name)
            if defined is not None and is_hole(defined):
                task = (ast.get_docstring(defined) or "").partition("\n")[0]
                arguments = ", ".join(a.arg for a in defined.args.args)
                line = defined.body[-1].lineno
                found[name] = (
                    f"{self.file.name} line {line}: fill in the body of {name}({arguments}). {task}".strip()
                )
        return found

    def outcome(self, name: str, given: Given) -> Tensor | Slip:
        """Call a function with copies of the arguments."""
        copies = tuple(value.clone() if isinstance(value, Tensor) else value for value in given)
        try:
            got = self.function(name)(*copies)
        except (Exception, SystemExit) as error:
            return self.raised(error)
        for number, (before, after) in enumerate(zip(given, copies)):
            if isinstance(before, Tensor) and not same(after, before):
                return self._changed(name, number)
        if isinstance(got, Tensor):
            return got
        what = (
            "returns nothing: is the line with return missing"
            if got is None
            else (
                f"returns {type(got).__name__} instead of a tensor: make one by torch.tensor or torch.stack"
            )
        )
        return Slip("", f"{name} {what}{'?' if got is None else ''}", always=True)

    def _changed(self, name: str, number: int) -> Slip:
        defined = self.definition(name)
        argument, line = f"argument {number + 1}", 0
        if defined is not None:
            argument = defined.args.args[number].arg
            lines = (getattr(n, "lineno", 0) for n in ast.walk(defined) if _writes(n, argument))
            line = min(lines, default=0)
        text = (
            f"{name} changes its input {argument} in place: work on a copy ({argument}.clone()), and write "
            f"a = a + b instead of a += b"
        )
        return Slip("", text, line, always=True)

    def raised(self, error: BaseException) -> Slip:
        """Make a sentence of an exception, with the line of the student's file at which it came."""
        text = " ".join(str(error).split()) or "without a message"
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(self.file)]
        line = int(lines[-1] or 0) if lines else 0
        where = f"line {line} raises " if line else "it raises "
        if isinstance(error, NotImplementedError):
            return Slip("", f"{where}NotImplementedError: there is still something to fill in", line, True)
        return Slip(type(error).__name__, f"{where}{type(error).__name__}: {text}", line)


def read(file: Path) -> Solution:
    """Read a file of a lesson, and import it as a plug-in.

    Raises:
        UsageError: there is no such file, or it is of no lesson.
    """
    file = Path(file).resolve()
    try:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read ({error.strerror or error}): give a lesson's file"
        ) from error
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", 0)
        raise UsageError(
            f"{file.name} line {line}: {getattr(error, 'msg', error)}: Python cannot read this line"
        ) from error
    name = _lesson_of(tree)
    if name not in NAMES:
        raise UsageError(
            f"{file} is no lesson's file: it has no line LESSON = {NAMES[0]!r} ({', '.join(NAMES)}). "
            f"`densedet new lesson {NAMES[0]}` writes one"
        )
    solution, of = Solution(file, name, tree), lesson(name)
    plugins = load_plugins([file], strict=False)
    plugin = plugins.plugins[-1]
    if plugin.status != "loaded":
        solution.fault = f"{file.name} does not load: {plugin.reason}"
        return solution
    solution.module = plugin.plugin
    parts = [part for kind, part in plugin.parts if kind == of.kind]
    missing = [t.function for t in of.tasks if not callable(getattr(solution.module, t.function, None))]
    if missing:
        solution.fault = f"{file.name} has no function {missing[0]}: keep the name that the lesson gave it"
    elif not parts:
        solution.fault = (
            f"{file.name} registers no {of.kind}: keep the line @densedet.register({of.kind!r}, 'mine')"
        )
    else:
        solution.component = plugins.components.get(of.kind, parts[0])
        assert isinstance(solution.component, Component)
    return solution


def _lesson_of(tree: ast.Module) -> str:
    """Return the value of the line LESSON = "...", or ""."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and "LESSON" in map(ast.unparse, node.targets):
            return str(node.value.value) if isinstance(node.value, ast.Constant) else ""
    return ""


def is_hole(function: ast.FunctionDef) -> bool:
    """Whether a function has nothing but a docstring, ``...``, ``pass`` or a NotImplementedError."""
    body = function.body[ast.get_docstring(function) is not None :]
    return all(_is_nothing(statement) for statement in body)


def _is_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise) and statement.exc is not None:
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    dots = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass) or dots


def _writes(node: ast.AST, name: str) -> bool:
    """Whether a statement or call changes what a variable holds: a += b, a[0] = b, a.add_(b)."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        targets = [node.func.value] if node.func.attr.endswith("_") else []
    elif isinstance(node, ast.Assign):
        targets = [target for target in node.targets if isinstance(target, ast.Subscript)]
    else:
        targets = [node.target] if isinstance(node, ast.AugAssign) else []
    names = (n for target in targets for n in ast.walk(target))
    return any(isinstance(n, ast.Name) and n.id == name for n in names)


def same(got: Any, expected: Any) -> bool:
    """Whether two results are equal: whole numbers and shapes exactly, others up to rounding."""
    if not isinstance(got, Tensor) or not isinstance(expected, Tensor):
        return False
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return False
    if not got.is_floating_point():
        return torch.equal(got, expected)
    return torch.allclose(got, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def shown(value: Any) -> str:
    """Write an argument or result in a sentence: small tensors as lists, large ones by their shape."""
    if isinstance(value, Tensor):
        if value.numel() > 24:
            return f"<{tuple(value.shape)}>"
        return str(_rounded(value.tolist()))
    return str(_rounded(value))


def _rounded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_rounded(item) for item in value)
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e6 else float(f"{value:.4g}")
    return value
