"""Start a plug-in package: `densedet new plugin NAME --kind head` writes one that installs, passes its tests
and shows up in the registry."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).resolve().parent / "templates"

IMPORTS = {
    "head": (
        "from typing import Literal\n\nimport densedet\nfrom densedet.core.errors import "
        "PartError\nfrom densedet.core.layers import flatten_cells\n"
        "from densedet.core.types import Branch, Prediction\nfrom torch import Tensor, nn\n"
    ),
    "class_loss": (
        "import math\nfrom typing import Literal\n\nimport densedet\nimport torch\n"
        "from densedet.core.arguments import PositiveFloat, Probability\nfrom torch import Tensor, "
        "nn\nfrom torch.nn import functional\n"
    ),
    "box_loss": (
        "from typing import Literal\n\nimport densedet\nfrom densedet.core.arguments import "
        "PositiveFloat\nfrom torch import Tensor, nn\n"
    ),
    "matcher": (
        "import densedet\nimport torch\nfrom densedet.core.arguments import Probability\nfrom "
        "densedet.core.boxes import area, centers\n"
        "from densedet.core.types import Assignment, Level\nfrom torch import Tensor\n"
    ),
    "hook": "from typing import Any\n\nimport densedet\nfrom densedet.core.arguments import PositiveInt\n",
}
"""What each template needs; the kinds that can be started with."""

SETUP = """[metadata]
name = {package}
version = 0.1.0
description = {kind} {name} for densedet

[options]
py_modules = {module}
python_requires = >=3.10
install_requires =
    densedet

[options.entry_points]
densedet =
    {name} = {module}
"""

PYPROJECT = """[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"
"""

README = """# {package}

The {kind} `{name}` for densedet.

    pip install -e .
    pytest
    densedet show components {kind} {name}
    densedet train recipe.yaml
"""

RECIPES = {
    "head": "base: densedet:quickstart_retinanet.yaml\nmodel:\n  head: {{name: {name}}}\n",
    "class_loss": "base: densedet:quickstart_retinanet.yaml\nmodel:\n  class_loss: {{name: {name}}}\n",
    "box_loss": "base: densedet:quickstart_retinanet.yaml\nmodel:\n  box_loss: {{name: {name}}}\n",
    "matcher": "base: densedet:quickstart_retinanet.yaml\nmodel:\n  matcher: {{name: {name}}}\n",
    "hook": "base: densedet:quickstart_ssd.yaml\nrun:\n  hooks: [metrics, checkpoint, tensorboard, "
    "progress, {{name: {name}}}]\n",
}

TESTS = {
    "hook": (
        "from densedet.core.recipe.plugin_loading import load_plugins\n\n\ndef test_is_registered() -> "
        "None:\n"
        '    assert load_plugins().components.get("hook", "{name}").load()\n'
    ),
}
TEST = (
    "from densedet.core.conformance import check_{kind}\nfrom {module} import {class_name}\n\n\ndef "
    "test_keeps_its_contract() -> None:\n"
    "    check_{kind}({class_name})\n"
)


def add_parser(subparsers: Any) -> None:
    """densedet new plugin NAME --kind KIND"""
    parser = subparsers.add_parser("new", help="start a plug-in package", description=__doc__)
    parser.add_argument("what", choices=("plugin",))
    parser.add_argument("name", help="what recipes will call it, e.g. lite")
    parser.add_argument("--kind", choices=sorted(IMPORTS), default="head", help="what it is (default head)")
    parser.add_argument("--output", metavar="DIR", help="the package's folder (default: ./densedet-NAME)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the package; an existing folder is left alone."""
    from densedet.core.errors import UsageError

    name, kind = arguments.name, arguments.kind
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(
            f"{name!r} cannot be a part's name: write small letters, digits and _, beginning with a "
            f"letter, e.g. lite_head"
        )
    folder = Path(arguments.output or f"densedet-{name.replace('_', '-')}")
    if folder.exists():
        raise UsageError(f"{folder} is there already: give another name or --output")
    words = {
        "name": name,
        "kind": kind,
        "package": f"densedet-{name.replace('_', '-')}",
        "module": f"densedet_{name}",
        "class_name": "".join(word.capitalize() for word in name.split("_")),
    }
    folder.mkdir(parents=True)
    for file, text in package_files(words).items():
        (folder / file).write_text(text, encoding="utf-8")
    print(
        f"{folder} written. Next: cd {folder}; pip install -e .; pytest; densedet show components "
        f"{kind} {name}; densedet train recipe.yaml"
    )
    return 0


def package_files(words: dict[str, str]) -> dict[str, str]:
    """File name -> text."""
    kind = words["kind"]
    body = (TEMPLATES / f"{kind}.txt").read_text(encoding="utf-8").format(**words)
    module = (
        '"""The {kind} {name} for densedet."""\n\nfrom __future__ import annotations\n\n'.format(**words)
        + IMPORTS[kind]
    )
    module += '\n\n@densedet.register("{kind}", "{name}")\n'.format(**words) + body
    return {
        f"{words['module']}.py": module,
        f"test_{words['name']}.py": TESTS.get(kind, TEST).format(**words),
        "setup.cfg": SETUP.format(**words),
        "pyproject.toml": PYPROJECT,
        "recipe.yaml": RECIPES[kind].format(**words),
        "README.md": README.format(**words),
    }


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
