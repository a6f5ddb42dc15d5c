"""Who may import whom (DESIGN: registry <- core <- plugins; tools use registry and core), read off the syntax
trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(p for folder in ("core", "plugins", "tools") for p in (ROOT / folder).rglob("*.py")) + [
    ROOT / "registry.py"
]


def imported(path: Path) -> set[str]:
    """densedet modules that a file imports, wherever in the file that stands; not what only a type checker
    reads."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = [
        n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"
    ]
    unseen = {node for block in for_types for statement in block.body for node in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "densedet"}


ROOMS = {
    "": set(),
    "annotations": {""},
    "data": {"", "annotations"},
    "recipe": {"", "annotations"},
    "weights": {""},
    "judgement": {""},
    "assembly": {"", "annotations", "data", "recipe", "weights"},
    "training": {"", "annotations", "data", "recipe", "weights", "judgement", "assembly"},
    "inference": {"", "annotations", "data", "recipe", "assembly"},
    "export": {"", "annotations", "data", "recipe", "judgement", "assembly", "training", "inference"},
    "report": {"", "annotations", "recipe", "judgement", "statistics"},
    "statistics": {""},
    "lessons": {"", "recipe", "assembly", "training", "report"},
    "study": {
        *("", "annotations", "data", "recipe", "weights", "judgement", "statistics"),
        *("assembly", "training", "report", "checking"),
    },
    "showing": {
        *("", "annotations", "data", "recipe", "weights", "judgement", "assembly", "training", "report"),
    },
    "checking": {
        *("", "annotations", "data", "recipe", "weights", "judgement", "assembly", "training", "report"),
        "showing",
    },
}
"""Room of core -> rooms that it may import beside itself; "" is core's root."""

EVERY_ROOM = {
    *("core/api.py", "core/picture.py", "core/sources.py", "core/conformance", "tools", "plugins/hooks"),
}
"""Files and folders that may import every room. core/sources.py hands on what authors of sources need."""


def allowed(path: Path, name: str) -> bool:
    """Whether the file may import densedet's ``name``."""
    place = path.relative_to(ROOT).parts
    if name == "densedet" or name.startswith("densedet.__version__"):
        return place[0] != "registry.py"
    parts = tuple(name.split(".")[1:])
    if place[0] == "registry.py":
        return False
    if parts[0] == "registry":
        return True
    if place == ("plugins", "_contracts.py") and parts[0] == "plugins":
        return True  # for mypy alone: it imports nothing at run time
    if parts[0] != "core":
        own_family = place[0] == parts[0] == "plugins" and parts[1] == place[1]
        return own_family or place[0] == parts[0] == "tools"
    if any(path.relative_to(ROOT).as_posix().startswith(free) for free in EVERY_ROOM):
        return True
    target = parts[1] if parts[1:] and parts[1] in ROOMS else ""
    if place[0] == "plugins":
        return target == ""
    own = place[1] if len(place) > 2 else ""
    return target == own or target in ROOMS[own]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_follow_the_layers(path: Path) -> None:
    wrong = sorted(name for name in imported(path) if not allowed(path, name))
    assert not wrong, f"{path.relative_to(ROOT)} may not import {wrong}"


def test_the_rule_would_catch_a_breach() -> None:
    assert not allowed(ROOT / "core" / "x.py", "densedet.plugins.heads.ssd")
    assert not allowed(ROOT / "plugins" / "heads" / "x.py", "densedet.plugins.losses.focal")
    assert not allowed(ROOT / "plugins" / "heads" / "x.py", "densedet.tools.main")
    assert not allowed(ROOT / "tools" / "x.py", "densedet.plugins.heads.ssd")
    assert allowed(ROOT / "plugins" / "heads" / "x.py", "densedet.plugins.heads._towers")


def run(code: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )


@pytest.mark.parametrize("name", ["registry", "core", "plugins"])
def test_a_bare_import_that_would_make_a_second_registry_is_refused(name: str) -> None:
    done = run(f"import {name}")
    assert done.returncode == 1
    assert f"imported as '{name}'" in done.stderr
    assert "from densedet import" in done.stderr


WITHOUT_TORCH = (
    *("types", "contracts", "placement", "class_table", "extras", "array_boxes", "sources"),
    *("annotations.views", "annotations.border", "assembly", "assembly.sources", "data.decoding"),
    *("recipe.loading", "report.drawing", "terminal", "results", "suppression", "evaluation_result"),
    *(
        "training.memory",
        "training.image_ids",
        "assembly.evaluators",
        "inference.predictor",
        "inference.evaluation",
        "annotations.images",
    ),
)
"""Files of core that an exported file is run by, or that its sources and evaluators are built by."""


def test_what_runs_an_exported_file_does_not_import_torch() -> None:
    names = [f"densedet.core.{name}" for name in WITHOUT_TORCH]
    parts = ["evaluators.coco", "evaluators.voc", "sources.coco", "sources.digits", "resize.letterbox"]
    names += [f"densedet.plugins.{name}" for name in parts]
    done = run(f"import sys, {', '.join(names)}\nprint('torch' in sys.modules)")
    assert done.stdout.strip() == "False", done.stdout + done.stderr


def test_listing_components_does_not_pay_for_torch() -> None:
    code = (
        "import sys, densedet\n"
        "from densedet.tools.main import build_parser\n"
        "build_parser(); assert 'train' in dir(densedet)\n"
        "assert len(densedet.list_components('head')) >= 4 and densedet.list_recipes()\n"
        "print('torch' in sys.modules)"
    )
    done = run(code)
    assert done.stdout.strip() == "False", done.stdout + done.stderr
