"""`densedet check nan`: replay the step that ended a run, since a number in it was not finite."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from densedet.core.text import counted, json_text, say


def add_parser(topics: Any) -> None:
    """densedet check nan BUNDLE"""
    parser = topics.add_parser("nan", help="why was a loss or gradient not finite?", description=run.__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", help="a nan_step_N.pt of a run folder")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu (default), auto, cuda, mps")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that the recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print everything but the tensors as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compute the step that a run refused once more, from the batch, weights and random numbers that it left,
    and name the first layer whose output or gradient is not finite. Exit code 1 where another place, or none,
    is found: then the cause is neither in the batch nor in the recipe's parts."""
    from densedet.core.training import black_box

    bundle = black_box.load(Path(arguments.bundle))
    found = black_box.replay(bundle, plugins=arguments.plugin, device=arguments.device)
    recorded = [fault.spot for fault in black_box.faults_of(bundle)]
    same = recorded == [fault.spot for fault in found.faults]
    words = black_box.in_words(bundle)
    if arguments.json:
        plain = {
            k: v for k, v in bundle.items() if k not in ("batches", "targets", "random", "state", "recipe")
        }
        ids = [list(batch["image_ids"]) for batch in bundle["batches"]]
        say(json_text({**plain, "image_ids": ids, "replayed": same, "words": words}, indent=1))
        return int(not same)
    number = bundle["step"] + (bundle["phase"] == "training")
    what = f"step {number}" if bundle["phase"] == "training" else f"evaluation after step {number}"
    images = sum(len(batch["image_ids"]) for batch in bundle["batches"])
    say(f"{what} of {bundle['recipe_name']}, {counted(images, 'image')}, {bundle['precision']}")
    say(f"{words[:1].upper()}{words[1:]}.")
    for losses in bundle["losses"]:
        say("  losses: " + ", ".join(f"{name} {value:g}" for name, value in losses.items()))
    for row in bundle["history"]:
        norm = "skipped" if row["grad_norm"] is None else f"{row['grad_norm']:.4g}"
        say(
            f"  step {row['step']}: loss {row['loss']:.4g}, learning rate {row['learning_rate']:.4g}, "
            f"gradient norm {norm}"
        )
    if same:
        say("replayed: the same numbers are not finite")
    else:
        now = f"not finite first at {found.faults[0].place}" if found.faults else "finite"
        say(
            f"replayed otherwise: what is computed now is {now}. The cause is outside of the batch and "
            f"of the recipe's parts, as a hook that was added to the network, or it depends on the device"
        )
    return int(not same)
