"""The one table of interchangeable parts: (kind, name) -> part.

Nothing here imports torch or anything else of densedet, so that listing parts stays instant. A part is
registered either as an object or as a lazy ``"module:attribute"`` string that is imported when the part is
first used.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

if __name__ != "densedet.registry":
    raise ImportError(
        f"registry.py was imported as {__name__!r}: that would make a second, empty registry. "
        "Write 'from densedet import registry' (and take the project's root off sys.path)."
    )

KINDS: dict[str, str] = {
    "detector": "a whole detector: losses(batch), predict(batch), optional explain(batch)",
    "backbone": "images -> feature maps, fine to coarse",
    "neck": "feature maps -> feature maps",
    "anchors": "map sizes -> boxes on a grid",
    "head": "feature maps -> class logits and box regressions",
    "matcher": "which anchors learn which object",
    "coder": "box <-> regression target",
    "class_loss": "logits against labels, and how logits become scores",
    "box_loss": "regressions or boxes against their targets",
    "postprocess": "scores and boxes -> detections",
    "source": "images and annotations",
    "sampler": "order of the training images in each epoch",
    "resize": "source size -> network size",
    "transform": "augmentation of one sample",
    "batch_transform": "augmentation of a uint8 batch",
    "optimizer": "parameters -> torch.optim.Optimizer",
    "schedule": "progress -> factor on the learning rate",
    "evaluator": "detections and truth -> metrics",
    "weight_map": "another library's names for a detector's weights",
    "launcher": "commands -> processes here or elsewhere",
    "hook": "called by the runner: loggers, checkpoints, displays",
}


class RegistryError(ValueError):
    """A registration or lookup that cannot be served; the message says what to write instead."""


class UnknownComponent(RegistryError, LookupError):
    """There is no part of that kind and name."""


class DuplicateComponent(RegistryError):
    """The name is taken by another part."""


class InvalidComponent(RegistryError):
    """The part cannot be used: it does not import, or its constructor hides its arguments."""


@dataclass
class Component:
    """One row of the registry.

    Attributes:
        kind: one of `KINDS`.
        name: unique within its kind.
        target: the class or function, or ``"module:attribute"``.
        summary: one line for listings.
        origin: the plug-in that registered it, e.g. ``"densedet 0.1"`` or ``"./my_head.py"``.
    """

    kind: str
    name: str
    target: Any
    summary: str = ""
    origin: str = ""
    _loaded: Any = field(default=None, repr=False)
    arguments: Any = field(default=None, repr=False, compare=False)
    """Kept by `densedet.core.recipe.signatures`: reading a signature takes milliseconds."""
    local: bool = field(default=False, compare=False)
    """Whether it came from a file that a recipe names: such a part belongs to that recipe, and Python code
    may use its name for another one."""
    arguments_read: bool = field(default=False, repr=False, compare=False)
    """Whether `arguments` were read from the source of a part that is not imported."""

    @property
    def loaded(self) -> bool:
        """Whether the class or function itself is at hand, without an import."""
        return self._loaded is not None or not isinstance(self.target, str)

    def load(self) -> Callable[..., Any]:
        """Return the class or function itself, imported at first use.

        Raises InvalidComponent when it does not import or its constructor takes ``*args`` or ``**kwargs``.
        """
        if self._loaded is None:
            target = self.target
            if isinstance(target, str):
                module, _, attribute = target.partition(":")
                try:
                    target = getattr(importlib.import_module(module), attribute)
                except Exception as error:
                    raise InvalidComponent(
                        f"{self.kind} {self.name!r} (from {self.origin or 'unknown'}) does not load "
                        f"from {self.target!r}: "
                        f"{type(error).__name__}: {error}"
                    ) from error
            check_constructor(self.kind, self.name, target)
            self._loaded = target
        return self._loaded


def check_constructor(kind: str, name: str, target: Any) -> None:
    """Refuse a target whose arguments cannot be listed: a typo in a recipe would vanish in ``**kwargs``."""
    if not callable(target):
        raise InvalidComponent(
            f"{kind} {name!r} is a {type(target).__name__}; register a class or a function"
        )
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as error:
        raise InvalidComponent(f"{kind} {name!r}: its signature cannot be read ({error})") from error
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            stars = "**" if parameter.kind is parameter.VAR_KEYWORD else "*"
            if inspect.isclass(target) and "__init__" not in vars(
                target
            ):  # nn.Module's own constructor takes both
                raise InvalidComponent(
                    f"{kind} {name!r} inherits a constructor that takes {stars}{parameter.name}: give "
                    f"{target.__qualname__} its own, "
                    "'def __init__(self) -> None: super().__init__()' if it has no arguments"
                )
            raise InvalidComponent(
                f"{kind} {name!r} takes {stars}{parameter.name}, which hides typing mistakes: name "
                f"every argument of {target.__qualname__}"
            )


def suggest(word: str, choices: list[str], *, count: int = 3) -> str:
    """``" Did you mean 'x'?"`` for the closest choices, or an empty string."""
    close = difflib.get_close_matches(word, choices, n=count, cutoff=0.55)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


def _same_source(first: Any, second: Any) -> bool:
    """Whether two targets are the same code, imported or run twice."""
    if _address(first) == _address(second):
        return True
    try:
        return (
            inspect.getsourcefile(first) == inspect.getsourcefile(second)
            and first.__qualname__ == second.__qualname__
        )
    except (TypeError, AttributeError):
        return False


def _address(target: Any) -> str:
    if isinstance(target, str):
        return target
    return f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', id(target))}"


class Registry:
    """Parts by kind and name; names are unique within a kind."""

    def __init__(self) -> None:
        self._components: dict[tuple[str, str], Component] = {}
        self._origin = ""

    @contextmanager
    def registering(self, origin: str) -> Iterator[None]:
        """Everything added inside the block is marked as coming from ``origin``; undone if the block
        raises."""
        before, previous = dict(self._components), self._origin
        self._origin = origin
        try:
            yield
        except BaseException:
            self._components = before
            raise
        finally:
            self._origin = previous

    def add(self, kind: str, name: str, target: Any, summary: str = "") -> None:
        """Register ``target`` (a class, a function or ``"module:attribute"``).

        The same code may register its part again: a notebook's cell that is run twice, a file that is
        imported in Python and named in a recipe. The later one takes the place of the earlier.

        Raises RegistryError for an unknown kind, DuplicateComponent for a taken name, InvalidComponent for
        ``**kwargs``.
        """
        if kind not in KINDS:
            raise RegistryError(
                f"unknown kind {kind!r}.{suggest(kind, list(KINDS))} Kinds: {', '.join(KINDS)}"
            )
        if not name or not isinstance(name, str):
            raise RegistryError(f"a {kind} needs a name, not {name!r}")
        if not isinstance(target, str):
            check_constructor(kind, name, target)
            summary = summary or " ".join((inspect.getdoc(target) or "").partition("\n\n")[0].split())
        known = self._components.get((kind, name))
        replaced = known is not None and known.local and not self._origin
        if known is not None and not replaced and not _same_source(known.target, target):
            raise DuplicateComponent(
                f"{kind} {name!r} is already registered by {known.origin or 'another plug-in'}: choose "
                f"another name"
            )
        self._components[kind, name] = Component(kind, name, target, summary, self._origin)

    def register(self, kind: str, name: str) -> Callable[[Any], Any]:
        """Decorator form of `add`: ``@densedet.register("head", "mine")``."""

        def decorate(target: Any) -> Any:
            self.add(kind, name, target)
            return target

        return decorate

    def get(self, kind: str, name: str) -> Component:
        """Return a part; UnknownComponent lists the closest names and all of that kind."""
        if kind not in KINDS:
            raise UnknownComponent(
                f"unknown kind {kind!r}.{suggest(kind, list(KINDS))} Kinds: {', '.join(KINDS)}"
            )
        try:
            return self._components[kind, name]
        except KeyError:
            names = self.names(kind)
            raise UnknownComponent(
                f"no {kind} is called {name!r}.{suggest(name, names)} Registered: "
                f"{', '.join(names) or 'none'}"
            ) from None

    def names(self, kind: str) -> list[str]:
        """Return the names of one kind, sorted."""
        return sorted(n for k, n in self._components if k == kind)

    def find(self, kind: str = "*", name: str = "*") -> list[Component]:
        """Return the parts whose kind and name match the wildcards, sorted by kind (in the order of KINDS)
        and name."""
        order = {k: i for i, k in enumerate(KINDS)}
        rows = [
            c
            for c in self._components.values()
            if fnmatch.fnmatch(c.kind, kind) and fnmatch.fnmatch(c.name, name)
        ]
        return sorted(rows, key=lambda c: (order[c.kind], c.name))

    def snapshot(self) -> dict[tuple[str, str], Component]:
        """A copy of the table, to hand back to `restore` (tests, failed plug-ins)."""
        return dict(self._components)

    def restore(self, components: dict[tuple[str, str], Component]) -> None:
        """Put a `snapshot` back."""
        self._components = dict(components)


components = Registry()
register = components.register
