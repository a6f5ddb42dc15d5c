"""Write a trained detector as an ONNX file or a torch.export program, and check the file against PyTorch on
real images."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from densedet.core.text import json_text, say


def add_parser(subparsers: Any) -> None:
    """densedet export RUN [path=value ...]"""
    parser = subparsers.add_parser("export", help="write a detector as ONNX", description=__doc__)
    parser.add_argument(
        "checkpoint", help="a run folder (its best.pt), a checkpoint, or a recipe with model.weights=FILE"
    )
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="changes to the recipe")
    parser.add_argument(
        "--format", choices=("onnx", "torch"), default="onnx", help="onnx (default), or torch.export's .pt2"
    )
    parser.add_argument("--output", metavar="FILE", help="a new file (default: beside the checkpoint)")
    parser.add_argument(
        "--nms",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the graph ends with detections, or with the boxes and scores of all anchors (default: "
        "detections, where ONNX can do what the recipe's postprocess does)",
    )
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX (default: torch's choice)")
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="images to check the file on, 50 at most (default: the recipe's validation images)",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="convolutions in int8, calibrated on the recipe's training images; the loss is measured on its "
        "validation images",
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        metavar="LOSS",
        help="largest loss of the recipe's metric for which an int8 file is kept (default 0.01)",
    )
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that the recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Export, check, and print what was written."""
    from densedet.core.errors import UsageError
    from densedet.core.export.exporting import export, summary
    from densedet.core.terminal import progress

    if arguments.max_loss is not None and not arguments.int8:
        raise UsageError("--max-loss goes with --int8: leave it out")
    with progress() as bar:
        task = bar.add_task("checking")
        result = export(
            arguments.checkpoint,
            arguments.overrides,
            format=arguments.format,
            output=None if arguments.output is None else Path(arguments.output),
            nms=arguments.nms,
            opset=arguments.opset,
            images=None if arguments.images is None else Path(arguments.images),
            int8=arguments.int8,
            worst_loss=0.01 if arguments.max_loss is None else arguments.max_loss,
            plugins=arguments.plugin,
            on_image=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if arguments.json:
        told = result.description.model_dump(mode="json")
        difference = {**asdict(result.difference), "largest": result.difference.largest}
        own = {"file": str(result.file), "checked": result.images, "int8": result.int8, "notes": result.notes}
        say(json_text({**told, **own, "difference": difference}))
    else:
        say("\n".join(summary(result)))
    return 0


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
