"""Compare recipes or finished runs: one table, curves and pictures side by side, in one HTML file."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from densedet.core.text import say


def add_parser(subparsers: Any) -> None:
    """densedet compare RUN|RECIPE ... [--budget minutes=5]"""
    parser = subparsers.add_parser("compare", help="compare recipes or runs", description=__doc__)
    parser.add_argument(
        "what",
        nargs="+",
        metavar="RUN|RECIPE",
        help="run folders, recipes (trained first, one after the other), or path=value",
    )
    parser.add_argument(
        "--budget",
        metavar="UNIT=N",
        help="the same budget for all recipes: minutes=5, epochs=10 or steps=500",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="a new HTML file, with its numbers in a JSON file beside it (default: runs/compare/N/...)",
    )
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train the recipes, then write and print the comparison."""
    overrides = [w for w in arguments.what if "=" in w and not os.path.exists(w)] + budget_override(
        arguments.budget
    )
    names = [w for w in arguments.what if w not in overrides]
    prepare(names, overrides)
    if arguments.output:
        check_output(Path(arguments.output))
    folders = [Path(name) if is_run(Path(name)) else train(name, overrides) for name in names]

    from densedet.core.recipe.plugin_loading import load_plugins, warn
    from densedet.core.report.arms import Arm, Comparison
    from densedet.core.report.comparison import table_text
    from densedet.core.report.page import named_apart, write_report
    from densedet.core.report.records import read_run
    from densedet.core.training.folders import new_folder

    records = [read_run(folder) for folder in folders]
    sections = []
    for plugin, text in load_plugins().call_each("densedet_report_section", comparison=records):
        if isinstance(text, str):
            sections.append(text)
        elif text is not None:
            warn(f"plug-in {plugin.name}: densedet_report_section gave a {type(text).__name__}, not HTML")
    path = Path(arguments.output) if arguments.output else new_folder(Path("runs"), "compare") / "report.html"
    comparison = Comparison(named_apart([Arm(record.name, [record]) for record in records]))
    if not arguments.json:
        say(table_text(comparison))
    title = " / ".join(dict.fromkeys(record.name for record in records))
    try:
        report = write_report([comparison], path, title=title, sections=sections)
    except BaseException:
        if not arguments.output:
            with contextlib.suppress(OSError):  # it holds something
                path.parent.rmdir()
        raise
    if arguments.json:
        say(report.with_suffix(".json").read_text(encoding="utf-8"))
    say(f"report with curves and pictures: {report.resolve()}", error=True)
    say(f"TensorBoard: tensorboard --logdir {folders[0].parent.parent}", error=True)
    return 0


def check_output(path: Path) -> None:
    """Refuse a file that is there, or that is not the page, before a recipe has trained for an hour."""
    from densedet.core.errors import UsageError
    from densedet.core.files import check_free
    from densedet.core.report.page import files_of

    if path.suffix in (".json", ".md", ".csv"):
        raise UsageError(f"--output {path} names the HTML file: write {path.with_suffix('.html')}")
    check_free(*files_of(path))


def is_run(path: Path) -> bool:
    """Return whether ``path`` is a folder, and not a recipe."""
    return os.path.isdir(path)


def prepare(names: list[str], overrides: list[str]) -> None:
    """Refuse a faulty recipe before the first one has trained for an hour."""
    from densedet.core.errors import UsageError

    if not names:
        raise UsageError(
            "give at least one run folder or recipe, e.g. densedet compare quickstart_ssd "
            "quickstart_retinanet"
        )
    recipes = [name for name in names if not is_run(Path(name))]
    if overrides and not recipes:
        raise UsageError(f"{overrides[0]} changes nothing: everything to compare is trained already")
    if recipes:
        from densedet.core.recipe.loading import load_recipe
        from densedet.core.recipe.merging import find_recipe

        for name in recipes:
            find_recipe(name, "there is neither such a run folder nor such a recipe")
            load_recipe(name, overrides)


def budget_override(budget: str | None) -> list[str]:
    """Turn ``minutes=5`` into the override that replaces the budget of any recipe."""
    if budget is None:
        return []
    from densedet.core.errors import UsageError

    unit, _, amount = budget.partition("=")
    if unit not in ("minutes", "epochs", "steps") or not amount:
        raise UsageError(f"--budget {budget!r}: write minutes=5, epochs=10 or steps=500")
    return [f"train.budget.{unit}={amount}"]


def train(recipe: str, overrides: list[str]) -> Path:
    """Train a recipe in a process of its own, so that nothing carries over, and return the run folder."""
    from densedet.core.errors import DensedetError
    from densedet.core.signals import run_to_end

    command = [sys.executable, "-m", "densedet.tools.main", "train", recipe, *overrides, "--json"]
    done = run_to_end(command)
    if done.returncode:
        error = DensedetError(f"training {recipe} failed (its message stands above)")
        error.exit_code = done.returncode
        raise error
    return Path(json.loads(done.stdout.strip().splitlines()[-1])["folder"])


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
