"""`densedet check data`: classes, broken boxes and images, copies, sizes, and the anchors' reach."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.core.text import counted, json_text, say

if TYPE_CHECKING:
    from densedet.core.checking.anchor_check import AnchorCheck
    from densedet.core.checking.findings import Finding

WIDTH = 120
"""Columns of the class table, whatever the terminal: names are not cut."""

LISTED = 10
"""Examples of a finding that are printed; --json has up to a hundred."""


def add_parser(topics: Any) -> None:
    """densedet check data RECIPE | FILE"""
    one = topics.add_parser(
        "data", help="a recipe's images and annotations, or a file of annotations", description=data.__doc__
    )
    one.add_argument("what", help="a recipe, or an annotation file or folder")
    one.add_argument("overrides", nargs="*", metavar="path=value", help="for a recipe, e.g. data.root=DIR")
    one.add_argument("--images", metavar="DIR", help="for an annotation file: its folder of images")
    one.add_argument("--split", metavar="NAME", help="for a data set with several parts")
    one.add_argument(
        "--resize",
        nargs=2,
        type=int,
        metavar=("WIDTH", "HEIGHT"),
        default=(128, 64),
        help="for an annotation file (default 128 64)",
    )
    one.add_argument("--no-images", action="store_true", help="look at the annotations only")
    one.add_argument(
        "--augmented",
        type=int,
        metavar="N",
        default=1000,
        help="for a recipe: augmented images whose objects are matched with anchors (default 1000; 0: none)",
    )
    one.add_argument(
        "--cells",
        type=int,
        metavar="N",
        help="anchors that a cell may have in a proposal (default: as many as it has now)",
    )
    one.add_argument(
        "--apply", metavar="FILE", help="write the proposed anchors as a recipe that inherits from this one"
    )
    one.add_argument("--output", metavar="FILE", help="write a page with pictures, e.g. data.html")
    one.add_argument("--strict", action="store_true", help="exit code 1 where there is a warning")
    one.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a plug-in file with a source of its own",
    )
    one.add_argument("--json", action="store_true", help="print everything as JSON")
    one.set_defaults(run=data)


def data(arguments: argparse.Namespace) -> int:
    """Look at every annotation and every image, and for a recipe at the objects that its anchors reach once
    they are resized and augmented. Exit code 3 where boxes or images cannot be used, 1 with --strict where
    there is a warning."""
    from densedet.core.annotations.source import table_of
    from densedet.core.checking.anchor_check import check_anchors
    from densedet.core.checking.findings import SEVERITIES, coverage_findings, findings_of
    from densedet.core.data.checking import check_source, problems
    from densedet.core.errors import UsageError
    from densedet.core.files import check_free
    from densedet.core.terminal import Terminal, progress

    given = [Path(name) for name in (arguments.output, arguments.apply) if name]
    check_free(*given)
    recipe, splits, resize, decoding, rules_of = sources(arguments)
    if arguments.apply and (recipe is None or arguments.no_images or not arguments.augmented):
        raise UsageError(
            "--apply writes a recipe with other anchors: give a recipe, and let it see its images"
        )
    facts: dict[str, dict[str, Any]] = {}
    covered = None
    with progress() as bar:
        for split, source in splits.items():
            task = bar.add_task(f"{split} images", total=len(source))
            facts[split] = check_source(
                source,
                resize=resize,
                decoding=decoding,
                decode_images=not arguments.no_images,
                on_image=partial(_advance, bar, task),
            )
        for split, rules in rules_of.items():
            facts[split]["filter"] = rules(splits[split])
        wrong = sum(problems(row) for row in facts.values())
        left = all(any(one["boxes"] for one in row["classes"]) for row in facts.values())
        empty = any(row.get("filter") and not row["filter"]["boxes"] for row in facts.values())
        if recipe is not None and arguments.augmented > 0 and not (arguments.no_images or wrong or empty):
            task = bar.add_task("augmented images", total=arguments.augmented)
            if left:
                advance = partial(_advance, bar, task)
                covered = check_anchors(recipe, arguments.augmented, most=arguments.cells, on_images=advance)
    found = findings_of(facts, {split: table_of(source) for split, source in splits.items()})
    if covered is not None and covered.before is not None:
        found += coverage_findings(covered.before, covered.classes)
        found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    for row in facts.values():
        row.pop("digests", None)
        row.pop("thumbnails", None)
    if arguments.json:
        shared = sum(len(one.examples) for one in found if one.kind == "shared_images")
        told = {
            **facts,
            "coverage": None if covered is None else covered.plain(),
            "findings": [finding.plain() for finding in found],
            "shared_images": shared,
            "problems": wrong,
        }
        say(json_text(told, indent=1))
    else:
        console = Terminal()
        console.width = max(console.width, WIDTH)
        for split, row in facts.items():
            show(console, split, row, decoded=not arguments.no_images)
        if covered is not None:
            say("\n".join(covered.lines()))
        for finding in found:
            tell(console, finding)
        console.print(_count(found))
    if arguments.apply:
        assert covered is not None
        _write_heir(Path(arguments.apply), arguments, covered)
    if arguments.output:
        write_page(Path(arguments.output), arguments.what, splits, facts, found, covered)
    if wrong or empty:
        return 3
    return int(arguments.strict and any(finding.severity == "warning" for finding in found))


def _count(found: list[Finding]) -> str:
    errors, warnings = (sum(one.severity == name for one in found) for name in ("error", "warning"))
    if not errors:
        broken = "no box and no image is broken"
        return f"{broken}; {counted(warnings, 'warning')}" if warnings else broken
    return f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"


def _advance(bar: Any, task: Any, done: int) -> None:
    bar.update(task, completed=done)


def _write_heir(path: Path, arguments: argparse.Namespace, covered: AnchorCheck) -> None:
    from densedet.core.checking.proposal import heir
    from densedet.core.errors import UsageError
    from densedet.core.files import write_text

    if covered.proposal is None:
        raise UsageError(f"{path} is not written: {covered.heading()[-1]}")
    write_text(path, heir(arguments.what, arguments.overrides, covered.proposal, path), overwrite=False)
    say(f"{path} is {arguments.what} with these anchors", error=True)


def what_is_left(recipe: Any, split: str, source: Any) -> dict[str, Any] | None:
    """{"rules", "images", "boxes"}: what the recipe's filter leaves of a source; None where it has none."""
    from densedet.core import assembly
    from densedet.core.annotations.filters import describe
    from densedet.core.data.facts import data_facts
    from densedet.core.errors import DataError

    name = "filter" if split == "train" else "val_filter"
    rules = describe(getattr(recipe.data, name))
    if not rules:
        return None
    try:
        left = data_facts(
            assembly.filtered_source(recipe, split, source), assembly.class_table(recipe, source)
        )
    except DataError:
        left = {"images": 0, "boxes": 0}
    return {"rules": f"data.{name} ({rules})", "images": left["images"], "boxes": left["boxes"]}


def sources(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any], Any, Any, dict[str, Any]]:
    """Return (recipe or None, {split: source}, resize, decoding, {split: `what_is_left` of its source}) of a
    recipe, the sources unfiltered, or of an annotation file."""
    from densedet.core import assembly
    from densedet.core.annotations.conversion import holds_annotations, open_source
    from densedet.core.annotations.faults import Faults
    from densedet.core.annotations.parts import choose
    from densedet.core.data.decoding import Decoding
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.recipe.merging import shipped_recipes
    from densedet.core.recipe.plugin_loading import load_plugins

    path = Path(arguments.what)
    components = load_plugins(arguments.plugin).components
    rules_of: dict[str, Any] = {}
    recipe: Any = None
    if arguments.what in shipped_recipes() or (
        path.suffix in (".yaml", ".yml") and not holds_annotations(path, components)
    ):
        recipe = load_recipe(arguments.what, arguments.overrides)
        found = {split: assembly.build_source(recipe, split) for split in ("train", "val")}
        splits, resize, decoding = (
            {k: v for k, v in found.items() if v is not None},
            assembly.build_resize(recipe),
            assembly.decoding_of(recipe),
        )
        rules_of = {split: partial(what_is_left, recipe, split) for split in splits}
    else:
        spec, _, note = choose(path, components, split=arguments.split)
        if note:
            say(note, error=True)
        name = arguments.split or "data"
        splits = {name: open_source(spec, components, images=arguments.images)}
        resize = components.get("resize", "exact").load()(size_wh=tuple(arguments.resize))
        decoding = Decoding("grey")
    for source in splits.values():
        if hasattr(source, "faults"):
            source.faults = Faults(strict=False)
    return recipe, splits, resize, decoding, rules_of


def show(console: Any, split: str, facts: dict[str, Any], *, decoded: bool) -> None:
    """Print one split."""
    from rich.table import Table

    console.print(
        f"{split}: {counted(facts['images'], 'image')} ({facts['empty_images']:,} without a box), "
        f"{counted(facts['boxes'], 'box')}"
    )
    table = Table(
        "label",
        "category id",
        "class",
        "boxes",
        "share",
        "images",
        "ignored",
        "crowd",
        "side in the input: 10 %",
        "median",
        "90 %",
        box=None,
    )
    for column in table.columns[3:]:
        column.justify = "right"
    for row in facts["classes"]:
        quantiles = facts["sides"]["classes"][row["name"]]
        sides = [f"{quantiles[i]:.1f}" for i in (1, 2, 3)] if quantiles else ["-"] * 3
        numbers = [
            f"{row['boxes']:,}",
            f"{row['share']:.1%}",
            f"{row['images']:,}",
            f"{row['ignored']:,}",
            f"{row['crowd']:,}",
        ]
        table.add_row(str(row["label"]), str(row["category_id"]), row["name"], *numbers, *sides)
    console.print(table)
    counting = sum(row["boxes"] for row in facts["classes"])
    below = ", ".join(
        f"{count:,} ({count / max(counting, 1):.0%}) below {side}"
        for side, count in facts["sides"]["below"].items()
    )
    console.print(f"  sides (square root of the area) in pixels of the network's input: {below}")
    if left := facts.get("filter"):
        kept = f"{counted(left['images'], 'image')}, {counted(left['boxes'], 'box')} that count"
        console.print(f"  left by {left['rules']}: {kept}")
    if not decoded:
        console.print("  images were not looked at (--no-images)")


def tell(console: Any, finding: Finding) -> None:
    """Print a finding with its first examples."""
    console.print(f"{finding.severity}: {finding.sentence}", soft_wrap=True)
    for example in finding.examples[:LISTED]:
        console.print(f"    {example}", soft_wrap=True)
    if len(finding.examples) > LISTED:
        console.print("    ... (--json has more)")


def write_page(
    path: Path,
    what: str,
    splits: dict[str, Any],
    facts: dict[str, dict[str, Any]],
    found: list[Finding],
    covered: AnchorCheck | None,
) -> None:
    """Write the page with pictures."""
    from densedet.core.checking.data_page import data_page
    from densedet.core.files import write_text

    write_text(path, data_page(what, splits, facts, found, covered).html(), overwrite=False)
    say(f"{path} is the page", error=True)
