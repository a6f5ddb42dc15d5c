"""Check a data set before training on it (classes, broken boxes and images, duplicates, sizes after resizing,
class balance), a recipe, the parts of a plug-in, or a lesson."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from densedet.core.text import counted, json_text, say
from densedet.tools import check_lesson, check_nan, check_plugin

WIDTH = 120
"""Columns of the class table, whatever the terminal: names are not cut."""

LISTED = 10
"""Findings of a kind that are printed; --json has up to a hundred."""


def add_parser(subparsers: Any) -> None:
    """densedet check data RECIPE | FILE, densedet check plugin FILE | PACKAGE"""
    parser = subparsers.add_parser(
        "check", help="look for trouble before it costs a night", description=__doc__
    )
    topics = parser.add_subparsers(dest="topic", metavar="TOPIC", required=True)
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
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a plug-in file with a source of its own",
    )
    one.add_argument("--json", action="store_true", help="print everything as JSON")
    one.set_defaults(run=data)
    one = topics.add_parser(
        "recipe", help="build all that training builds, and train nothing", description=recipe.__doc__
    )
    one.add_argument("recipe", help="a YAML file or a shipped recipe's name")
    one.add_argument("overrides", nargs="*", metavar="path=value")
    one.add_argument("--no-data", action="store_true", help="leave out what needs the images and boxes")
    one.set_defaults(run=recipe)
    check_plugin.add_parser(topics)
    check_nan.add_parser(topics)
    check_lesson.add_parser(topics)


def data(arguments: argparse.Namespace) -> int:
    """Look at every annotation and every image. Exit code 3 where boxes or images cannot be used."""
    from densedet.core.data.checking import check_source, problems, shared_images
    from densedet.core.terminal import Terminal, progress

    splits, resize, decoding, rules_of = sources(arguments)
    facts: dict[str, dict[str, Any]] = {}
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
    shared = shared_images(*facts.values()) if len(facts) == 2 else 0
    wrong = sum(problems(row) for row in facts.values())
    empty = any(row.get("filter") and not row["filter"]["boxes"] for row in facts.values())
    for row in facts.values():
        row.pop("digests", None)
    if arguments.json:
        say(json_text({**facts, "shared_images": shared, "problems": wrong}, indent=1))
        return 3 if wrong or empty else 0
    console = Terminal()
    console.width = max(console.width, WIDTH)
    for split, row in facts.items():
        show(console, split, row, decoded=not arguments.no_images)
    if len(facts) == 2:
        train, val = ([r["name"] for r in row["classes"] if r["boxes"]] for row in facts.values())
        if lacking := sorted(set(val) - set(train)):
            console.print(f"classes with boxes in val and none in train: {', '.join(lacking)}")
    if shared:
        console.print(
            f"{counted(shared, 'image')} of val, byte for byte, in train too: AP on them says nothing"
        )
    what = "box or image" if wrong == 1 else "boxes or images"
    console.print(f"{wrong:,} {what} cannot be used" if wrong else "no box and no image is broken")
    return 3 if wrong or empty else 0


def recipe(arguments: argparse.Namespace) -> int:
    """Refuse a recipe that training would refuse: load it, build its parts together and run the network once
    without computing, then open its data, build the hooks, evaluate a few images and compute the losses of
    one batch. Nothing is trained, and no run folder is made."""
    from densedet.core.recipe.loading import load_recipe

    loaded = load_recipe(arguments.recipe, arguments.overrides)
    from densedet.core.training.fit import check_fit, try_run  # imports torch: faults of the text come first

    check_fit(loaded)
    lines = [] if arguments.no_data else try_run(loaded)
    say("\n".join([*lines, f"{loaded.name} can be trained"]))
    return 0


def _advance(bar: Any, task: Any, done: int) -> None:
    bar.update(task, completed=done)


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


def sources(arguments: argparse.Namespace) -> tuple[dict[str, Any], Any, Any, dict[str, Any]]:
    """({split: source}, resize, colour, {split: `what_is_left` of its source}) of a recipe, the sources
    unfiltered, or of an annotation file."""
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
    return splits, resize, decoding, rules_of


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
    if not counting:
        console.print("  no box counts: nothing can be learnt from these images")
    absent = [row["name"] for row in facts["classes"] if not row["boxes"]]
    if absent:
        console.print(f"  classes without a box: {', '.join(absent)}")
    if left := facts.get("filter"):
        kept = f"{counted(left['images'], 'image')}, {counted(left['boxes'], 'box')} that count"
        console.print(f"  left by {left['rules']}: {kept}")
    findings(console, facts["wrong"] or "worth a look", facts["invalid_boxes"])
    findings(console, f"{counted(len(facts['duplicate_boxes']), 'box')} twice", facts["duplicate_boxes"])
    findings(console, "file names that stand twice", facts["duplicate_names"])
    findings(
        console,
        "images that are the same byte for byte",
        [" = ".join(group) for group in facts["duplicate_images"]],
    )
    findings(console, f"{counted(facts['broken_count'], 'image')} cannot be read", facts["broken_images"])
    if not decoded:
        console.print("  images were not looked at (--no-images)")


def findings(console: Any, title: str, sentences: list[str]) -> None:
    """A title and the first of its findings; nothing where there is none."""
    if sentences:
        console.print(f"  {title}:")
        for sentence in sentences[:LISTED]:
            console.print(f"    {sentence}", soft_wrap=True)
        if len(sentences) > LISTED:
            console.print("    ... (--json has more)")


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
