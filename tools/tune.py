"""Search for the values of a recipe with the best metric. Optuna proposes them, poor runs are stopped early,
and finished ones are reused. The metric is of the validation images; no test images are touched."""

from __future__ import annotations

import argparse
import html
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.core.text import counted, say

if TYPE_CHECKING:
    from densedet.core.study.tuning import Search

STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:0 auto;padding:1em;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{padding:.3em .8em .3em 0;text-align:left;vertical-align:top;border-bottom:1px solid #8886}"
    "th,td:not(:last-child){white-space:nowrap}td:last-child{width:100%}"
    ".bar{display:block;height:1em;margin:.25em 0;background:#0072b2;print-color-adjust:exact}"
    "@media(max-width:40em){th,td{padding-right:.5em;font-size:13px}}"
)


def add_parser(subparsers: Any) -> None:
    """densedet tune RECIPE --search PATH=low..high ... --trials N"""
    parser = subparsers.add_parser("tune", help="search for the best values of a recipe", description=__doc__)
    parser.add_argument("recipe", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="changes in all trials")
    parser.add_argument(
        "--search",
        action="append",
        required=True,
        metavar="PATH=SPACE",
        help="low..high (integers where both are), log:low..high, or values a,b,c; may be given again",
    )
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="runs (default 20)")
    parser.add_argument("--budget", metavar="UNIT=N", help="of each run: minutes=5, epochs=10 or steps=500")
    parser.add_argument("--seed", type=int, default=0, help="of the proposals (default 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trials at a time (default 1)")
    parser.add_argument(
        "--launcher", metavar="NAME", help="where the runs run, as for densedet compare (default local)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="a new YAML file for the best recipe (default: runs/tune/N/best.yaml)",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a plug-in file that brings the launcher",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Search, and write the best recipe and the page."""
    from densedet.core.errors import DensedetError, UsageError
    from densedet.core.files import check_free, sweep, write_text
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.study.launching import build_launcher
    from densedet.core.study.search import spaces_of
    from densedet.core.study.tuning import search
    from densedet.core.training.folders import write_together
    from densedet.tools.compare import budget_override

    for name in ("trials", "jobs"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name} {getattr(arguments, name)}: write a number that is at least 1")
    if arguments.output:
        sweep(Path(arguments.output).parent)
        check_free(*files_of(Path(arguments.output)))
    overrides = [*arguments.overrides, *budget_override(arguments.budget)]
    runs = Path(load_recipe(arguments.recipe, overrides).run.folder)
    jobs = arguments.jobs if arguments.jobs > 1 else None
    found = search(
        arguments.recipe,
        overrides,
        spaces_of(arguments.search),
        trials=arguments.trials,
        root=runs / "compare",
        launcher=build_launcher(arguments.launcher, jobs=jobs, plugins=arguments.plugin),
        jobs=arguments.jobs,
        seed=arguments.seed,
    )
    if found.best is None:
        raise DensedetError(f"none of {counted(len(found.trials), 'trial')} has ended: see their log.txt")
    texts = found.best.recipe.to_yaml(), page_of(found, arguments.recipe), json.dumps(plain(found), indent=1)

    def write(path: Path) -> None:
        for file, text in zip(files_of(path), texts):
            write_text(file, text)

    path = Path(arguments.output or runs / "tune" / "best.yaml")
    recipe = write_together(path, write, in_number=not arguments.output)
    _, page, _ = files_of(recipe)
    say("\n".join(lines(found)))
    say(f"best recipe: {recipe}; what mattered: {page.resolve()}", error=True)
    return 0


def files_of(path: Path) -> tuple[Path, Path, Path]:
    """Return the files of a result: the recipe, the page, its numbers."""
    return path, path.with_suffix(".html"), path.with_suffix(".json")


def plain(found: Search) -> dict[str, Any]:
    """Return a search as plain values."""
    return {
        "metric": found.metric,
        "best": None if found.best is None else found.best.number,
        "importance": found.importance,
        "trials": [
            {
                "number": trial.number,
                "changes": trial.changes,
                "status": trial.run.status,
                "reason": trial.run.reason,
                "value": trial.value,
                "folder": str(trial.run.folder),
            }
            for trial in found.trials
        ],
    }


def lines(found: Search) -> list[str]:
    """Return what came of a search, in sentences."""
    best = found.best
    assert best is not None
    pruned = sum(trial.pruned for trial in found.trials)
    failed = sum(trial.run.status == "failed" for trial in found.trials)
    told = [
        f"{found.metric} {best.value:.3f} by {' '.join(best.changes)} (trial {best.number} of "
        f"{len(found.trials)}, {pruned} pruned, {failed} failed). It is the best of many on these very "
        f"images and one seed, which flatters: compare it with the recipe by densedet compare --seeds 3."
    ]
    shares = ", ".join(f"{path} {share:.0%}" for path, share in found.importance.items())
    told.append(f"What mattered: {shares}." if shares else "Too few trials have ended to say what mattered.")
    return told


def page_of(found: Search, name: str) -> str:
    """Return the page: what mattered, and the trials, the best first."""
    sign = -1 if found.higher_is_better else 1
    order = sorted(found.trials, key=lambda t: (t.value is None, sign * (t.value or 0.0), t.number))
    rows = [
        [
            str(t.number),
            "" if t.value is None else f"{t.value:.4f}",
            t.run.status,
            "<br>".join(map(html.escape, [*t.changes, *filter(None, [t.run.reason])])),
        ]
        for t in order
    ]
    bars = [
        [html.escape(path), f"{share:.0%}", f'<span class=bar style="width:{share:.1%}"></span>']
        for path, share in found.importance.items()
    ]
    title = f"Search from {name}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>"
        + "".join(f"<p>{html.escape(line)}</p>" for line in lines(found))
        + "<h2>What mattered</h2><p>How much of the difference between good and poor trials is due to each "
        + "path (Optuna's PED-ANOVA).</p>"
        + table(["path", "share", ""], bars)
        + "<h2>Trials</h2>"
        + table(["trial", found.metric, "status", "values"], rows)
        + "</html>\n"
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in HTML; the cells of the rows are HTML already."""
    cells = "".join(f"<th scope=col>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
