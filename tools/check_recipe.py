"""`densedet check recipe` and `densedet check lr`: would it train, does it learn, and how fast should it?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from densedet.core.text import say


def add_parser(topics: Any) -> None:
    """densedet check recipe RECIPE, densedet check lr RECIPE"""
    one = topics.add_parser(
        "recipe", help="build all that training builds, and train nothing", description=recipe.__doc__
    )
    one.add_argument("recipe", help="a YAML file or a shipped recipe's name")
    one.add_argument("overrides", nargs="*", metavar="path=value")
    one.add_argument("--no-data", action="store_true", help="leave out what needs the images and boxes")
    one.add_argument("--overfit", action="store_true", help="learn one batch by heart, until its AP is .99")
    one.add_argument("--steps", type=int, metavar="N", help="of --overfit, at most (default 400)")
    one.set_defaults(run=recipe)
    one = topics.add_parser(
        "lr", help="which learning rate? a range test with a proposal", description=rate.__doc__
    )
    one.add_argument("recipe", help="a YAML file or a shipped recipe's name")
    one.add_argument("overrides", nargs="*", metavar="path=value")
    one.add_argument("--steps", type=int, default=100, metavar="N", help="at most (default 100)")
    one.add_argument("--low", type=float, metavar="LR", help="first rate (default: the recipe's / 10,000)")
    one.add_argument("--high", type=float, metavar="LR", help="last rate (default: the recipe's * 1,000)")
    one.add_argument("--output", metavar="FILE", help="write the picture, as .svg or .png")
    one.add_argument("--json", action="store_true", help="print everything as JSON")
    one.set_defaults(run=rate)


def recipe(arguments: argparse.Namespace) -> int:
    """Refuse a recipe that training would refuse: load it, build its parts together and run the network once
    without computing, then open its data, build the hooks, evaluate a few images and compute the losses of
    one batch. Compare the first class loss with theory, and the objects with their targets and what comes
    back of both. No run folder is made, and nothing is trained but one batch with --overfit. Exit code 1
    where a comparison fails."""
    from densedet.core.errors import UsageError
    from densedet.core.recipe.loading import load_recipe

    if arguments.no_data and arguments.overfit:
        raise UsageError("--overfit learns images by heart: leave --no-data out")
    loaded = load_recipe(arguments.recipe, arguments.overrides)
    from densedet.core.training.fit import check_fit  # imports torch: faults of the text come first

    check_fit(loaded)
    lines, sound = ([], True) if arguments.no_data else _with_data(loaded)
    say("\n".join([*lines, f"{loaded.name} can be trained"]))
    if arguments.overfit:
        sound = _overfit(loaded, arguments.steps) and sound
    return int(not sound)


def _with_data(loaded: Any) -> tuple[list[str], bool]:
    """Return what is told of a recipe with its data, and whether all comparisons hold."""
    from densedet.core.checking.first_loss import first_loss
    from densedet.core.checking.round_trip import source_faults, target_faults
    from densedet.core.training.fit import try_run

    lines, detector, batch = try_run(loaded)
    trained = loaded.values["model"].get("weights") is not None
    fault = False
    if trained:
        lines.append("the first class loss is not checked: model.weights are trained ones")
    else:
        loss = first_loss(detector, batch)
        fault = loss.fault
        lines.append(loss.sentence())
    faults = [*source_faults(loaded), *target_faults(detector, batch)]
    lines += faults or ["boxes and labels survive the way to the network, to targets and back"]
    return lines, not (faults or fault)


def _overfit(loaded: Any, steps: int | None) -> bool:
    from densedet.core.checking.overfit import STEPS, overfit
    from densedet.core.errors import UsageError
    from densedet.core.terminal import progress

    most = STEPS if steps is None else steps
    if most < 1:
        raise UsageError(f"--steps {most}: give a number above 0")
    with progress() as bar:
        task = bar.add_task("one batch", total=most)
        found = overfit(loaded, steps=most, on_step=lambda done: bar.update(task, completed=done))
    say("\n".join(found.lines()))
    return found.learned


def rate(arguments: argparse.Namespace) -> int:
    """Train with a learning rate that rises by the same factor at each step until the loss diverges, and
    propose the rate at which it falls fastest, at most a tenth of that at which it diverges. Nothing is left
    but the picture. Exit code 1 where the loss falls at no rate."""
    from densedet.core.checking.rate_test import rate_test
    from densedet.core.errors import UsageError
    from densedet.core.files import atomic_file, check_free
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.terminal import progress
    from densedet.core.text import json_text

    path = Path(arguments.output) if arguments.output else None
    if path is not None:
        if path.suffix not in (".svg", ".png"):
            raise UsageError(f"--output {path}: the picture is an .svg or a .png file")
        check_free(path)
    if arguments.steps < 10:
        raise UsageError(f"--steps {arguments.steps}: a range test needs 10 steps or more")
    low, high = arguments.low, arguments.high
    if any(value is not None and not 0 < value < float("inf") for value in (low, high)):
        raise UsageError("--low and --high are rates above 0")
    loaded = load_recipe(arguments.recipe, arguments.overrides)
    with progress() as bar:
        task = bar.add_task("rates", total=arguments.steps)
        found = rate_test(
            loaded,
            steps=arguments.steps,
            low=low,
            high=high,
            on_step=lambda done: bar.update(task, completed=done),
        )
    if arguments.json:
        say(json_text({**vars(found), "proposed": found.proposed}, indent=1))
    else:
        say("\n".join(found.lines()))
    if path is not None and found.rates:
        chart = found.chart()
        with atomic_file(path, overwrite=False) as file:
            file.write(chart.png() if path.suffix == ".png" else chart.svg.encode())
        say(f"{path} is the picture", error=True)
    return int(found.proposed is None)
