"""Compare recipes or finished runs, with several seeds and data sets: table, curves and pictures side by side
in one HTML file. With --ladder, go from one recipe to another part by part. Interrupted, the same command
goes on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.core.text import counted, say

if TYPE_CHECKING:
    from densedet.core.jobs import Job
    from densedet.core.report.arms import Comparison
    from densedet.core.report.records import RunRecord
    from densedet.core.report.rungs import Ladder
    from densedet.core.statistics.differences import Difference
    from densedet.core.study.planning import Plan
    from densedet.core.study.study import Study, StudyRun


def add_parser(subparsers: Any) -> None:
    """densedet compare RUN|RECIPE ... [--seeds N] [--budget minutes=5] [--vary PATH=a,b] [--on NAME=PATH]"""
    parser = subparsers.add_parser("compare", help="compare recipes or runs", description=__doc__)
    parser.add_argument(
        "what",
        nargs="+",
        metavar="RUN|RECIPE",
        help="run folders, recipes (which are trained first), or path=value",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train each recipe with the seeds 0 to N-1 (default: its own seed)",
    )
    parser.add_argument(
        "--budget",
        metavar="UNIT=N",
        help="the same budget for all recipes: minutes=5, epochs=10 or steps=500",
    )
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="PATH=A,B",
        help="train each recipe with each of these values; given several times, with each combination",
    )
    parser.add_argument(
        "--on",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="train and evaluate each recipe on these data sets instead of its own, and evaluate finished "
        "runs on them: annotations as for densedet train --db, TRAIN,VAL, or a recipe with a section data",
    )
    parser.add_argument(
        "--on-images",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=DIR",
        help="folder of the images of a data set, or TRAIN_DIR,VAL_DIR (default: where the format has them)",
    )
    parser.add_argument(
        "--ladder",
        action="store_true",
        help="go from the first recipe to the second one by their differing parts, one a step, and tell what "
        "each gains",
    )
    parser.add_argument(
        "--order",
        metavar="PART,PART",
        help="the parts that change first on the ladder, e.g. neck,anchors+head; the two change together "
        "(default: neck, anchors, head, matcher, coder, losses, postprocess, then the others)",
    )
    parser.add_argument(
        "--swaps",
        metavar="N|PART,PART",
        help="which pairs of neighbouring steps of the ladder are trained in the other order, too: the N "
        "lowest ones, or those of these parts (default: all that can be built)",
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at a time (default 1, or one on each GPU)"
    )
    parser.add_argument(
        "--launcher",
        metavar="NAME",
        help="where the runs run: local (default), slurm or ray, or with arguments, {name: slurm, cpus: 8}",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the commands of the runs, for any scheduler; the same command without it takes the runs",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        metavar="N",
        help="how often the speeds are measured, all recipes in turns (default 5; 0: as while training)",
    )
    parser.add_argument(
        "--reach",
        type=float,
        metavar="VALUE",
        help="tell the minutes of training to this value of the metric (default: that of the weakest recipe)",
    )
    parser.add_argument(
        "--fail-if-worse",
        type=float,
        metavar="VALUE",
        help="exit with 1 where another recipe (of a ladder the highest) is worse than the first one by more "
        "than this, even at the better end of the difference's 95 %% interval, or where that cannot be told",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="a new HTML file, with its numbers in a JSON file beside it (default: runs/compare/N/...)",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a plug-in file that brings the launcher or a data format, or that finished runs need",
    )
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train what is not trained yet, then write and print the comparison."""
    plan, root = planned(arguments)
    if arguments.output:
        check_output(Path(arguments.output))
    trained = place(plan, root)
    if arguments.dry_run:
        return dry_run(plan, trained, root)
    before = contents(plan)
    train(plan, trained, root, arguments)
    plan.study.notes += [
        f"A plug-in, weights or another file of {arm} has changed meanwhile: what was trained before was "
        f"judged with what is there now. The same command trains it anew."
        for arm, digest in contents(plan).items()
        if digest != before[arm]
    ]
    return report(plan, root, arguments)


def planned(arguments: argparse.Namespace) -> tuple[Plan, Path]:
    """Plan the study. Returns it, and the folder of all studies."""
    from densedet.core.errors import UsageError
    from densedet.core.study.data_sets import data_sets
    from densedet.core.study.planning import plan_study

    for name, least in (("seeds", 1), ("jobs", 1), ("rounds", 0), ("fail_if_worse", 0)):
        value = getattr(arguments, name)
        if value is not None and not value >= least:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} {value}: write a number that is at least {least}")
    overrides = [word for word in arguments.what if "=" in word and not os.path.exists(word)]
    names = [word for word in arguments.what if word not in overrides]
    overrides += budget_override(arguments.budget)
    if not names:
        raise UsageError(
            "give at least one run folder or recipe, e.g. densedet compare quickstart_ssd "
            "quickstart_retinanet"
        )
    check_ladder(arguments)
    sets = data_sets(arguments.on, arguments.on_images, arguments.plugin)
    if arguments.ladder:
        from densedet.core.study.ladder import plan_ladder

        order, swaps = arguments.order or "", arguments.swaps or ""
        plan = plan_ladder(names, overrides, sets=sets, seeds=arguments.seeds, order=order, swaps=swaps)
    else:
        plan = plan_study(names, overrides, vary=arguments.vary, sets=sets, seeds=arguments.seeds)
    plan.study.notes += [data.note for data in sets if data.note]
    below = next((recipe.run.folder for recipe in plan.recipes.values()), "runs")
    return plan, Path(below) / "compare"


def contents(plan: Plan) -> dict[str, str]:
    """Return a digest of the files on which the recipes of each arm depend."""
    from densedet.core.recipe.contents import contents_of, digest_of_contents

    found: dict[str, str] = {}
    for (arm, _), recipe in plan.recipes.items():
        found[arm] = found.get(arm, "") + digest_of_contents(contents_of(recipe))
    return found


def check_ladder(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go with a ladder, or only with one."""
    from densedet.core.errors import UsageError

    if arguments.ladder and arguments.vary:
        raise UsageError(
            f"--ladder changes one part a step, and --vary {arguments.vary[0]} another one: leave one out"
        )
    for name in ("order", "swaps"):
        if getattr(arguments, name) is not None and not arguments.ladder:
            raise UsageError(f"--{name} is for a ladder: write densedet compare --ladder A B --{name} ...")


def check_output(path: Path) -> None:
    """Refuse a file that is there, or that is not the page, before a recipe has trained for an hour."""
    from densedet.core.errors import UsageError
    from densedet.core.files import check_free, sweep
    from densedet.core.report.page import files_of

    if path.suffix in (".json", ".md", ".csv"):
        raise UsageError(f"--output {path} names the HTML file: write {path.with_suffix('.html')}")
    sweep(path.parent)
    check_free(*files_of(path), study_file(path))


def study_file(page: Path) -> Path:
    """Return where study.json of a report lies."""
    return page.with_name("study.json") if page.name == "report.html" else page.with_suffix(".study.json")


def budget_override(budget: str | None) -> list[str]:
    """Turn ``minutes=5`` into the override that replaces the budget of any recipe."""
    if budget is None:
        return []
    from densedet.core.errors import UsageError

    unit, _, amount = budget.partition("=")
    if unit not in ("minutes", "epochs", "steps") or not amount:
        raise UsageError(f"--budget {budget!r}: write minutes=5, epochs=10 or steps=500")
    return [f"train.budget.{unit}={amount}"]


def place(plan: Plan, root: Path) -> list[StudyRun]:
    """Give each run its folder, and say which are finished already. Returns those that are to be trained."""
    if not plan.recipes:
        return []
    from densedet.core.study.placing import Placer

    placer = Placer(root)
    for one in plan.study.runs:
        if recipe := plan.recipes.get((one.arm, one.data)):
            placer.place(one, recipe.with_overrides({"train.seed": one.seed}))
    if plan.ladder is not None:
        from densedet.core.report.ladder import plan_lines

        for line in plan_lines(plan.ladder, len(plan.study.seeds), len(plan.study.data)):
            say(line, error=True)
    for note in [*plan.study.notes, *placer.notes]:
        say(note, error=True)
    return [one for one in plan.study.runs if one.status == "planned"]


def jobs_of(plan: Plan, runs: Sequence[StudyRun], root: Path, cores: int | None) -> list[Job]:
    """Return the command of each run."""
    from densedet.core.study.running import job_of

    return [job_of(one, plan.recipes[one.arm, one.data], root, cores) for one in runs]


def dry_run(plan: Plan, runs: Sequence[StudyRun], root: Path) -> int:
    """Print the commands of the runs that are to be trained."""
    from densedet.core.study.running import shell_line

    for job in jobs_of(plan, runs, root, None):
        say(shell_line(job))
    done = len(plan.study.runs) - len(runs)
    say(
        f"{counted(len(runs), 'run')} to train, {done} finished; "
        f"the same command without --dry-run takes them",
        error=True,
    )
    return 0


def train(plan: Plan, runs: Sequence[StudyRun], root: Path, arguments: argparse.Namespace) -> None:
    """Train the runs by the launcher."""
    from densedet.core.study.decoding import decode_once
    from densedet.core.study.launching import build_launcher
    from densedet.core.study.running import carry_out

    launcher = build_launcher(arguments.launcher, jobs=arguments.jobs, plugins=arguments.plugin)
    if not runs:
        return
    jobs = jobs_of(plan, runs, root, launcher.cores)
    say(launcher.describe(jobs), error=True)
    if launcher.on_this_machine and len(runs) > 1:
        decode_once(plan.recipes[one.arm, one.data] for one in runs)
    carry_out(runs, jobs, launcher)


def report(plan: Plan, root: Path, arguments: argparse.Namespace) -> int:
    """Write and print the comparison. Returns 1 where a run failed."""
    from densedet.core.errors import DensedetError
    from densedet.core.files import write_text
    from densedet.core.report.ladder import comparison_text
    from densedet.core.report.page import write_report
    from densedet.core.report.sets import overview
    from densedet.core.study.evidence import Wanted, evidence
    from densedet.core.training.folders import write_together

    study = plan.study
    study.notes += [f"{one.title} failed: {one.reason}" for one in study.failed]
    records = records_of(plan, arguments.plugin)
    if not any(records):
        raise DensedetError(f"no run has left anything to compare: {study.notes[-1]}")
    comparisons = comparisons_of(study, records, plan.ladder)
    with evidence(comparisons, Wanted(arguments.rounds)) as pairs:
        sets = overview(comparisons, pairs, study.notes)
        sections = sections_of([record for record in records if record is not None])
        if not arguments.json:
            for comparison in comparisons:
                say(f"{comparison.name}:\n" * (sets is not None) + comparison_text(comparison))
            say("\n".join(["", *sets.lines()]) if sets is not None else "")
        title = " / ".join(arm.name for arm in study.arms)
        if plan.ladder is not None:
            title = f"From {plan.ladder.rungs[0]} to {plan.ladder.rungs[-1]}"
        about = {"title": title, "sections": sections, "reach": arguments.reach, "sets": sets}

        def write(path: Path) -> None:
            write_report(comparisons, path, **about)
            write_text(study_file(path), study.to_json())

        path = Path(arguments.output or root / "report.html")
        page = write_together(path, write, in_number=not arguments.output)
    if arguments.json:
        say(page.with_suffix(".json").read_text(encoding="utf-8"))
    say(f"report with curves and pictures: {page.resolve()}", error=True)
    say(f"TensorBoard: tensorboard --logdir {comparisons[0].runs[0].folder.parent}", error=True)
    for one in study.failed:
        say(f"warning: {one.title} failed: {one.reason}", error=True)
    worse = arguments.fail_if_worse is not None and too_bad(comparisons, pairs, arguments.fail_if_worse)
    return 1 if study.failed or worse else 0


def sections_of(records: list[RunRecord]) -> list[str]:
    """Return what plug-ins add to the report, as HTML."""
    from densedet.core.recipe.plugin_loading import load_plugins, warn

    sections = []
    for plugin, text in load_plugins().call_each("densedet_report_section", comparison=records):
        if isinstance(text, str):
            sections.append(text)
        elif text is not None:
            warn(f"plug-in {plugin.name}: densedet_report_section gave a {type(text).__name__}, not HTML")
    return sections


def too_bad(comparisons: Sequence[Comparison], pairs: Sequence[Sequence[Difference]], most: float) -> bool:
    """Say which arms are worse than the first one by more than ``most``, or of which that cannot be told."""
    from densedet.core.report.verdicts import worse_than

    found = False
    for comparison, differences in zip(comparisons, pairs):
        first, *others = (arm.name for arm in comparison.arms)
        if comparison.ladder is not None:
            others, first = [comparison.ladder.whole[0]], comparison.ladder.whole[1]
            differences = [pair for pair in differences if pair.first == others[0] and pair.second == first]
        known = worse_than(differences, first, most)
        told = {name for pair in differences for name in (pair.first, pair.second)}
        known |= {name: None for name in others if name not in told or first not in told}
        where = f" on {comparison.name}" if comparison.name else ""
        for name, least in known.items():
            why = "whether it is, cannot be told" if least is None else f"it is by {least:.3f} at least"
            say(f"--fail-if-worse {most:g}: {name} against {first}{where}: {why}", error=True)
        found |= bool(known)
    return found


def records_of(plan: Plan, plugins: Sequence[str]) -> list[RunRecord | None]:
    """Read the folder of each run, and judge finished detectors on other images; None where there is nothing
    to read."""
    from dataclasses import replace

    from densedet.core.errors import UsageError
    from densedet.core.report.records import read_run

    records: list[RunRecord | None] = []
    for one in plan.study.runs:
        recipe = plan.recipes.get((one.arm, one.data))
        named = recipe.values.get("plugins") or [] if recipe else []  # the user has named them, too
        try:
            record = replace(read_run(one.folder), plugins=(*plugins, *named))
            records.append(judged(one, record) if one.changes else record)
        except UsageError:
            records.append(None)
    return records


def comparisons_of(
    study: Study, records: Sequence[RunRecord | None], ladder: Ladder | None = None
) -> list[Comparison]:
    """Group the records by data set and arm, sorted by seed."""
    from densedet.core.report.arms import Arm, Comparison

    pairs = sorted(zip(study.runs, records), key=lambda pair: pair[0].seed)
    comparisons = []
    for data in study.data:
        arms = []
        for arm in study.arms:
            runs = [r for one, r in pairs if r is not None and (one.arm, one.data) == (arm.name, data)]
            arms += [Arm(arm.name, runs)] if runs else []
        notes = [] if len(study.data) > 1 else list(study.notes)
        own = None if ladder is None else ladder.blank()
        comparisons += [Comparison(arms, data, notes=notes, ladder=own)] if arms else []
    return comparisons


def judged(one: StudyRun, record: RunRecord) -> RunRecord:
    """Return the record of a finished detector with its numbers on the study's images."""
    from dataclasses import replace

    from densedet.core.recipe.yaml_marks import parse_yaml
    from densedet.core.report.comparison import COST_ROWS
    from densedet.core.training import judging

    say(f"judging {one.title} ({one.folder})", error=True)
    judgement = judging.judge(one.folder, one.changes, plugins=record.plugins)
    kept = ("status", "reason", "recipe", "machine", "device", "precision", *(row.key for row in COST_ROWS))
    summary = {name: record.summary[name] for name in kept if name in record.summary}
    summary |= judgement.metrics | {"fingerprints": {"train": None, "val": judgement.data}}
    recipe = parse_yaml(judgement.recipe, judgement.recipe_name).plain()
    changes = tuple(one.changes)
    return replace(record, recipe=recipe, summary=summary, evaluations=[], pictures={}, changes=changes)


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
