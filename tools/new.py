"""Start something of your own: a plug-in package that installs, passes its tests and shows up in the
registry, or a lesson, a part of a detector to write yourself."""

from __future__ import annotations

import argparse
import keyword
import os
import re
import string
import sys
from pathlib import Path
from typing import Any

from densedet.core.text import say
from densedet.registry import KINDS
from densedet.tools import new_lesson

TEMPLATES = Path(__file__).resolve().parent / "templates"

SETUP = """[metadata]
name = $package
version = 0.1.0
description = The $kind $name for densedet

[options]
py_modules = $module
python_requires = >=3.10
install_requires =
    densedet

[options.entry_points]
densedet =
    $name = $module
"""

PYPROJECT = """[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"
"""

README = """# $package

The $kind `$name` for densedet.

    pip install -e .
    pytest
    densedet check plugin $module.py
    densedet show components $kind $name
    densedet train recipe.yaml
"""

RECIPE = "base: densedet:quickstart_retinanet.yaml\n"
PLACES = {
    "detector": """model:
  detector: {name: $name}
  neck: null
  anchors: null
  head: null
  matcher: null
  coder: null
  class_loss: null
  box_loss: null
  postprocess: null
""",
    "source": """data:
  root: .
  classes: null
  train: {name: $name, folder: photographs/train, classes: [cat, dog]}
  val: {name: $name, folder: photographs/val, classes: [cat, dog]}
""",
    "sampler": "data:\n  sampler: {name: $name}\n",
    "resize": "data:\n  resize: {name: $name}\n",
    "transform": "data:\n  transforms: [{name: $name}]\n",
    "batch_transform": "data:\n  batch_transforms: [{name: $name}]\n",
    "optimizer": "train:\n  optimizer: {name: $name}\n",
    "schedule": "train:\n  schedule: {name: $name}\n",
    "evaluator": "evaluate:\n  evaluator: {name: $name}\n  metric: recall\n",
    "weight_map": "# model: {weights: theirs.pth} reads a file with their names.\n",
    "launcher": "# densedet compare recipe.yaml --launcher $name runs it by this launcher.\n",
    "hook": "run:\n  hooks: [metrics, checkpoint, tensorboard, progress, {name: $name}]\n",
}
"""kind -> where a recipe names a part of it; all others are parts of the section ``model``."""


def add_parser(subparsers: Any) -> None:
    """densedet new plugin NAME --kind KIND, densedet new lesson NAME"""
    command = subparsers.add_parser("new", help="start a plug-in package or a lesson", description=__doc__)
    topics = command.add_subparsers(dest="topic", metavar="TOPIC", required=True)
    parser = topics.add_parser("plugin", help="a package with a part of its own", description=run.__doc__)
    parser.add_argument("name", help="the part's name in recipes, e.g. lite")
    parser.add_argument(
        "--kind",
        choices=tuple(KINDS),
        default="head",
        metavar="KIND",
        help=f"{', '.join(KINDS)} (default head)",
    )
    parser.add_argument("--output", metavar="DIR", help="the package's folder (default: ./densedet-NAME)")
    parser.set_defaults(run=run)
    new_lesson.add_parser(topics)


def run(arguments: argparse.Namespace) -> int:
    """Write the package; an existing folder is left alone."""
    from densedet.core.errors import UsageError
    from densedet.core.files import make_folder

    name, kind = part_name(arguments.name, arguments.kind), arguments.kind
    words = words_of(name, kind)
    folder = Path(arguments.output or words["package"])
    if os.path.lexists(folder):
        raise UsageError(f"{folder} is there already: give another name or --output")
    make_folder(folder, "give another --output")
    for file, text in package_files(words).items():
        (folder / file).write_text(text, encoding="utf-8")
    say(
        f"{folder} written. Next: cd {folder}; pip install -e .; pytest; densedet show components "
        f"{kind} {name}; densedet train recipe.yaml"
    )
    return 0


def part_name(given: str, kind: str) -> str:
    """The name of a new part, as an identifier: "Lite-Head" becomes "lite_head".

    Raises:
        UsageError: The name is taken by a part of this kind, or no module, class and folder can be called so.
    """
    from densedet.core.errors import UsageError
    from densedet.core.recipe.plugin_loading import load_plugins

    name = given.lower().replace("-", "_")
    wanted = "write small letters, digits and _, beginning with a letter, e.g. lite_head"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{given!r} cannot be a part's name: {wanted}")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise UsageError(
            f"{given!r} is a word of Python's own language: give another name, e.g. {name}_{kind}"
        )
    if name in sys.stdlib_module_names or name == "densedet":
        raise UsageError(
            f"{given!r} is a module of Python's or densedet: give another name, e.g. {name}_{kind}"
        )
    row = load_plugins().components.snapshot().get((kind, name))
    if row is not None:
        raise UsageError(f"{row.origin} has a {kind} {name!r} already: give another name, e.g. my_{name}")
    return name


def words_of(name: str, kind: str) -> dict[str, str]:
    """What the templates' placeholders stand for."""
    ending = "".join(word.capitalize() for word in kind.split("_"))
    title = "".join(word.capitalize() for word in name.split("_"))
    return {
        "name": name,
        "kind": kind,
        "package": f"densedet-{name.replace('_', '-').strip('-')}",
        "module": f"densedet_{name}",
        "class_name": title.removesuffix(ending) + ending,
    }


def package_files(words: dict[str, str]) -> dict[str, str]:
    """File name -> text."""
    kind = words["kind"]
    test = TEMPLATES / f"test_{kind}.txt"
    texts = {
        f"{words['module']}.py": '"""The $kind $name for densedet."""\n\n' + _read(TEMPLATES / f"{kind}.txt"),
        f"test_{words['name']}.py": _read(test if test.exists() else TEMPLATES / "test.txt"),
        "setup.cfg": SETUP,
        "pyproject.toml": PYPROJECT,
        "recipe.yaml": RECIPE + PLACES.get(kind, "model:\n  $kind: {name: $name}\n"),
        "README.md": README,
    }
    return {file: string.Template(text).substitute(words) for file, text in texts.items()}


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
