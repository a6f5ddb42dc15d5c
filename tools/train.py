"""Train a recipe, or a COCO-format data set without one; resume a run."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.core.text import json_text, say

if TYPE_CHECKING:
    from densedet.core.recipe.loading import Recipe

SHORT = {"ssd": "laptop_ssd", "retinanet": "laptop_retinanet"}
"""--head of the short form -> the shipped recipe it runs."""

SHORT_EPOCHS = 10

AUTO = "auto"
"""In place of a recipe: it is chosen by the data, the budget and this machine."""

AUTO_MINUTES = 10.0


def add_parser(subparsers: Any) -> None:
    """densedet train RECIPE [path=value ...] | --db FILE ... | --resume RUN"""
    parser = subparsers.add_parser("train", help="train a recipe", description=__doc__)
    parser.add_argument(
        "recipe",
        nargs="?",
        help="a YAML file, or the name of a shipped recipe such as quickstart_ssd; auto, with --db FILE, "
        "chooses a member of the laptop family and its input size by the boxes, the budget and this machine",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="path=value",
        help="e.g. train.budget.epochs=20 model.matcher.positive=0.6",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="continue a run folder, or a checkpoint in one (without RUN: the recipe's newest)",
    )
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="the run folder itself, instead of the next free one; a run that is there goes on, or is left "
        "as it is where it has ended, so that the same command can be given again",
    )
    parser.add_argument(
        "--contents",
        metavar="DIGEST",
        help="refuse to train where plug-ins, weights or other files of the recipe have changed since "
        "densedet compare wrote this command",
    )
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="resume although the data or recipe.yaml have changed since",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a plug-in file that a resumed run needs",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="predict memory, disk and minutes from a run in miniature, and stop",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the run's summary as JSON on standard output"
    )
    short = parser.add_argument_group("without a recipe")
    short.add_argument(
        "--db",
        metavar="FILE",
        help="annotations of the training images: .db, .sqlite, COCO JSON, or a VOC or YOLO folder, of which "
        "the part train counts",
    )
    short.add_argument(
        "--images", metavar="DIR", help="folder of the training images (default: where the format has them)"
    )
    short.add_argument(
        "--val-db",
        metavar="FILE",
        help="annotations to evaluate on, of a folder the part val (default: the part val of --db; where it "
        "has none, a tenth of the training images is held out)",
    )
    short.add_argument("--val-images", metavar="DIR", help="their folder (default: --images)")
    short.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps")
    short.add_argument(
        "--resize",
        nargs=2,
        type=int,
        metavar=("WIDTH", "HEIGHT"),
        help="network input in pixels (default 128 64)",
    )
    short.add_argument(
        "--minutes", type=float, metavar="N", help="minutes of training, instead of epochs (auto: default 10)"
    )
    short.add_argument("--epochs", type=int, help="passes over the training images (default 10)")
    short.add_argument("--batch_size", "--batch-size", type=int, help="images a step (default 16)")
    short.add_argument("--classes", nargs="+", metavar="NAME", help="train on these classes only")
    short.add_argument(
        "--where",
        metavar="SQL",
        help="train on these images and boxes only, e.g. \"width > 500 and class in ('person', 'car')\"",
    )
    short.add_argument("--crowd", choices=("ignore", "drop", "count"), help="crowd boxes (default ignore)")
    short.add_argument(
        "--min-side",
        type=float,
        metavar="PIXELS",
        help="ignore boxes whose shorter side is below this in the source image",
    )
    short.add_argument(
        "--min-input-side", type=float, metavar="PIXELS", help="the same in the network's input"
    )
    short.add_argument("--drop-empty", action="store_true", help="leave out images without a box that counts")
    short.add_argument("--limit", type=int, metavar="N", help="train on N images, drawn by a seed")
    short.add_argument(
        "--fraction", type=float, metavar="SHARE", help="train on this share of the images, drawn by a seed"
    )
    short.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out images that cannot be read, and name them at the end",
    )
    short.add_argument("--head", choices=sorted(SHORT), help="ssd or retinanet (default ssd)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and say where the results are."""
    from densedet.core.errors import UsageError

    recipe, overrides = normalise(arguments)
    if arguments.folder is not None and arguments.resume is not None:
        raise UsageError(
            "give either --folder DIR with the recipe, which goes on with the run in DIR, or --resume DIR"
        )
    if arguments.plan:
        return plan(str(recipe), overrides, arguments.json)
    if arguments.resume is not None:
        finished = resume(arguments, recipe, overrides)
    else:
        from densedet.core.recipe.loading import load_recipe

        loaded = load_recipe(str(recipe), overrides)  # before torch is imported: faults are told at once
        check_contents(loaded, arguments.contents)
        from densedet.core.training import session

        if arguments.folder is None:
            finished = session.train(loaded)
        else:
            folder = Path(arguments.folder)
            run = session.train_in(loaded, folder, allow_changes=arguments.allow_changes)
            if run is None:
                say(f"{folder} holds this run already, and it has ended")
                return 0
            finished = run
    if arguments.json:
        summary = json.loads((finished.folder / "summary.json").read_text())
        say(json_text({**summary, "folder": str(finished.folder)}))
    elif finished.is_main:
        folder = finished.folder
        beside = folder.parent.parent if folder.name.isdecimal() else folder  # all of runs/, for runs/NAME/N
        say(f"results in {folder} (look: tensorboard --logdir {beside})")
    return finished.exit_code


def check_contents(recipe: Recipe, digest: str | None) -> None:
    """Raise UsageError where files of a recipe are not those that a digest is of."""
    from densedet.core.errors import UsageError
    from densedet.core.recipe.contents import contents_of, digest_of_contents

    found = contents_of(recipe)
    if digest is not None and digest_of_contents(found) != digest:
        raise UsageError(
            f"of these files of {recipe.name} one has changed since the run was planned: {', '.join(found)}. "
            f"Give the same densedet compare again, which trains it anew in a folder of its own"
        )


def plan(recipe: str, overrides: list[str], as_json: bool) -> int:
    """What the run would take; refused where the machine has not got it."""
    import psutil

    from densedet.core.errors import TooLargeError
    from densedet.core.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides)  # before torch is imported: faults are told at once
    from densedet.core.training import plan as planning

    numbers = planning.plan(loaded, started=psutil.Process().create_time())
    say(json_text(numbers) if as_json else "\n".join(planning.lines(numbers)))
    if numbers["too_large"]:
        raise TooLargeError("; ".join(numbers["too_large"]))
    return 0


def resume(arguments: argparse.Namespace, recipe: str | None, overrides: list[str]) -> Any:
    """Continue the run that --resume names, or the newest of the recipe."""
    from densedet.core.distributed import from_main
    from densedet.core.errors import UsageError
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.training import session
    from densedet.core.training.folders import latest_folder
    from densedet.core.training.resuming import own_recipe

    if arguments.resume and recipe is not None and arguments.db is None:
        raise UsageError(
            f"give either a recipe ({recipe}), whose newest run is resumed, or a run ({arguments.resume})"
        )
    path = Path(arguments.resume)
    if not arguments.resume:
        if recipe is None:
            raise UsageError(
                "--resume needs a run folder (runs/NAME/N) or the recipe whose newest run to continue"
            )
        loaded = load_recipe(recipe, overrides)
        root = Path(loaded.run.folder)
        path = from_main(lambda: latest_folder(root, loaded.name))
        note = own_recipe(path, loaded, overrides)
        if note:
            say(note, error=True)
    return session.resume(
        path, tuple(overrides), tuple(arguments.plugin), allow_changes=arguments.allow_changes
    )


def normalise(arguments: argparse.Namespace) -> tuple[str | None, list[str]]:
    """(recipe, overrides) from either form of the command line."""
    from densedet.core.errors import UsageError

    overrides = list(arguments.overrides)
    recipe = arguments.recipe
    if recipe is not None and "=" in recipe and not os.path.exists(recipe):
        recipe, overrides = None, [recipe, *overrides]
    short = short_overrides(arguments)
    if recipe == AUTO and not os.path.exists(AUTO):
        return automatic(arguments, short + overrides)
    if arguments.db is None:
        for flag in ("images", "val_db", "val_images", "head"):
            if getattr(arguments, flag) is not None:
                raise UsageError(
                    f"--{flag.replace('_', '-')} goes with --db: write --db FILE, or give a recipe"
                )
        if recipe is None and arguments.resume is None:
            raise UsageError("give a recipe (densedet train quickstart_ssd) or --db FILE")
        return recipe, short + overrides
    if recipe is not None:
        raise UsageError(f"give either a recipe ({recipe}) or --db, not both")
    short = database_overrides(arguments) + short
    if arguments.epochs is None and arguments.minutes is None:
        short.append(f"train.budget={{epochs: {SHORT_EPOCHS}}}")
    return SHORT[arguments.head or "ssd"], short + overrides


def automatic(arguments: argparse.Namespace, given: list[str]) -> tuple[str, list[str]]:
    """Choose a recipe for the data, and say why."""
    from densedet.core.errors import UsageError

    if arguments.epochs is not None or arguments.resume is not None:
        flag = "--epochs" if arguments.epochs is not None else "--resume"
        raise UsageError(
            f"train auto chooses by the minutes of a new run, so {flag} has no meaning there: write "
            + ("--minutes N" if flag == "--epochs" else "densedet train --resume RUN")
        )
    minutes = AUTO_MINUTES if arguments.minutes is None else arguments.minutes
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes {minutes:g} is no time to train in: write e.g. --minutes 10")
    if arguments.db is not None:
        given = database_overrides(arguments) + given
    elif not any(change.startswith("data.train=") for change in given):
        raise UsageError(
            "train auto needs data: write densedet train auto --db FILE --images DIR --minutes 10"
        )
    from densedet.core.study.auto import choose

    choice = choose(given, minutes, arguments.head)
    say(f"auto: {choice.recipe} {' '.join(map(shlex.quote, choice.changes))}", error=True)
    for reason in choice.reasons:
        say(f"auto: {reason}", error=True)
    return choice.recipe, [*given, *choice.changes]


def database_overrides(arguments: argparse.Namespace) -> list[str]:
    """The data section for --db and --images, relative to the working directory."""
    from densedet.core.annotations.parts import training_sources
    from densedet.core.recipe.plugin_loading import load_plugins

    components = load_plugins(arguments.plugin).components
    train, val, told = training_sources(
        arguments.db,
        arguments.val_db,
        components,
        images=arguments.images,
        val_images=arguments.val_images,
    )
    if val is None:
        tenth = "no --val-db: a tenth of the images, drawn by the seed, is held out to evaluate on"
        told = f"{told}; {tenth}" if told else tenth
    if told:
        say(told, error=True)
    return [
        "data.root=.",
        f"data.train={json.dumps(train)}",
        f"data.val={json.dumps(val)}",
        f"data.holdout={'0.1' if val is None else 'null'}",
    ]


def short_overrides(arguments: argparse.Namespace) -> list[str]:
    """The flags that any recipe may be given too."""
    rows = []
    if arguments.device:
        rows.append(f"train.device={json.dumps(arguments.device)}")
    if arguments.resize:
        rows.append(f"data.input_size_wh={json.dumps(arguments.resize)}")
    if arguments.minutes is not None:
        rows.append(f"train.budget={{minutes: {arguments.minutes:g}}}")
    if arguments.epochs is not None:
        rows.append(f"train.budget.epochs={arguments.epochs}")
    if arguments.batch_size is not None:
        rows.append(f"train.batch_size={arguments.batch_size}")
    if arguments.classes:
        rows.append(f"data.classes={json.dumps(arguments.classes)}")
    for key in ("where", "crowd", "min_side", "min_input_side", "limit", "fraction"):
        if getattr(arguments, key) is not None:
            rows.append(f"data.filter.{key}={json.dumps(getattr(arguments, key))}")
    if arguments.drop_empty:
        rows.append("data.filter.empty=drop")
    if arguments.skip_broken:
        rows.append("data.broken_images=skip")
    return rows


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
