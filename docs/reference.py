"""The reference of the site, from docstrings: what Python is offered, every part, every command.

The directives that this writes are read by Sphinx's autodoc; :func:`write` is called by docs/build.py.
"""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import densedet
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.registry import KINDS
from densedet.tools import main

CONTRACTS = ("contracts", "types", "errors", "hookspecs", "layers", "boxes", "sources", "conformance")
"""Modules of densedet.core on which a plug-in builds."""


def write(folder: Path) -> None:
    """Write one page for each kind of part, one for the commands, one for Python, one for the contracts.

    Args:
        folder: an existing folder; files in it are overwritten.
    """
    pages = {"python": python(), "contracts": contracts(), "commands": commands(), **dict(kinds())}
    head = "# Reference\n\nFrom the docstrings of the code.\n\n```{toctree}\n:maxdepth: 1\n\n"
    (folder / "index.md").write_text(head + "\n".join(pages) + "\n```\n", encoding="utf-8")
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def directive(text: str) -> str:
    return "```{eval-rst}\n" + text + "```\n"


def python() -> str:
    """What `import densedet` offers."""
    lines = ["# Python\n"]
    for name in densedet.__all__:
        if name == "__version__":
            continue
        found = getattr(densedet, name)
        if name == "hookimpl":
            lines.append(directive(".. autodata:: densedet.core.hookspecs.hookimpl\n"))
        elif isinstance(found, type):
            lines.append(directive(f".. autoclass:: {found.__module__}.{name}\n   :members:\n"))
        else:
            lines.append(directive(f".. autofunction:: {found.__module__}.{name}\n"))
    return "\n".join(lines)


def contracts() -> str:
    """The modules on which plug-ins build."""
    lines = ["# For plug-ins: contracts, types and what parts share\n"]
    for name in CONTRACTS:
        lines += [
            f"## densedet.core.{name}\n",
            directive(f".. automodule:: densedet.core.{name}\n   :members:\n   :no-index:\n"),
        ]
    return "\n".join(lines)


def kinds() -> Iterator[tuple[str, str]]:
    """A page for each kind, with each of its parts that densedet itself brings."""
    components = load_plugins().components
    classes: dict[str, list[str]] = defaultdict(list)
    for kind in KINDS:
        for name in components.names(kind):
            part = components.get(kind, name)
            if part.target.startswith("densedet."):
                path = part.target.replace(":", ".")
                classes[kind].append(
                    f"## {name}\n\n{part.summary}\n\n{directive(f'.. autoclass:: {path}' + chr(10))}"
                )
    for kind, texts in classes.items():
        yield kind, f"# Parts of kind {kind}\n\n{KINDS[kind]}\n\n" + "\n".join(texts)


def commands() -> str:
    """The help of every command and of every topic."""
    lines = ["# Commands\n"]
    for title, parser in parsers(main.build_parser()):
        help_text = io.StringIO()
        parser.print_help(help_text)
        lines.append(f"## {title}\n\n```text\n{help_text.getvalue()}```\n")
    return "\n".join(lines)


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser and those of its sub-commands, with what one types for each."""
    yield parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from parsers(one)
