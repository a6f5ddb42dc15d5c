"""The `densedet` command: one sub-command a file in this folder, each also `python tools/NAME.py`."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

COMMANDS = ("train", "evaluate", "predict", "compare", "convert", "show", "check", "new", "benchmark")
EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong use or a faulty recipe, 3 bad data. 'densedet COMMAND "
    "--help' tells more."
)


def build_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser with the built-in commands ``names`` (each file's ``add_parser``)."""
    from densedet import __version__

    parser = argparse.ArgumentParser(
        prog="densedet",
        description="Single-stage dense object detectors from interchangeable parts.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"densedet {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        importlib.import_module(f"densedet.tools.{name}").add_parser(subparsers)
    for command in subparsers.choices.values():
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_plugin_commands(parser: argparse.ArgumentParser) -> None:
    """Sub-commands of installed plug-ins (`densedet_commands`)."""
    from densedet.core.recipe.plugin_loading import load_plugins

    for action in parser._subparsers._group_actions if parser._subparsers else ():
        if isinstance(action, argparse._SubParsersAction):
            load_plugins().manager.hook.densedet_commands(subparsers=action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Errors of the user's are one sentence on standard error."""
    from densedet.core.errors import DensedetError
    from densedet.registry import RegistryError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a data set's names need not be printable
    given = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    if not given or given[0] not in COMMANDS:
        add_plugin_commands(parser)
    arguments = parser.parse_args(given)
    debug = getattr(arguments, "debug", False)
    try:
        return arguments.run(arguments) or 0
    except DensedetError as error:
        return fail(arguments.command, error, error.exit_code, debug)
    except RegistryError as error:
        return fail(arguments.command, error, 2, debug)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        return fail(
            arguments.command,
            error,
            1,
            debug,
            "out of memory: use a smaller train.batch_size or data.input_size_wh",
        )
    except OSError as error:
        return fail(arguments.command, error, 1, debug)


def fail(command: str, error: BaseException, code: int, debug: bool, text: str | None = None) -> int:
    """Say what went wrong; the traceback only where it was asked for."""
    if debug:
        traceback.print_exception(error)
    print(f"densedet {command}: {text or error}", file=sys.stderr)
    return code


def run_file(file: str) -> int:
    """What ``python tools/NAME.py`` does: the same as ``densedet NAME``, and says so when the installed copy
    is another one."""
    import densedet

    ours, installed = Path(file).resolve().parent.parent, Path(densedet.__file__).resolve().parent
    if ours != installed:
        print(
            f"note: this uses the installed densedet in {installed}, not {ours} (pip install -e {ours} "
            f"to use that)",
            file=sys.stderr,
        )
    return main([Path(file).stem, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
