"""The `densedet` command: one sub-command a file in this folder, each also `python tools/NAME.py`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densedet.core.text import format_warning, say, visible

COMMANDS = (
    *(
        "train",
        "evaluate",
        "predict",
        "compare",
        "tune",
        "export",
        "convert",
        "show",
        "check",
        "new",
        "benchmark",
    ),
)
ON_MANY = ("train", "evaluate")
"""Commands whose work the processes of a torchrun share."""
EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong use or a faulty recipe, 3 bad data; 130, 143, 129 after Ctrl-C, "
    "SIGTERM, SIGHUP. 'densedet COMMAND --help' tells more."
)


OUT_OF_MEMORY = "out of memory: use a smaller train.batch_size or data.input_size_wh"
CHANGE = re.compile(r"[a-z_]+(\.\w+)+=")
"""Begins a change to a recipe, such as train.batch_size=8."""
CHANGES = "path=value"
"""What arguments that take changes are called in usage lines."""


class Parser(argparse.ArgumentParser):
    """A parser whose options may stand before, between and after the other arguments."""

    _mixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        positionals = self._get_positional_actions()
        if self._mixed or any(action.nargs == argparse.PARSER for action in positionals):
            return super().parse_known_args(args, namespace)
        self._mixed = True  # argparse parses in two rounds, by this method
        try:
            return self.parse_known_intermixed_args(self._changes_first(args), namespace)
        finally:
            self._mixed = False

    def _changes_first(self, args: Sequence[str]) -> list[str]:
        """Move changes out of the values of an option that takes any number: ``--classes cat data.root=D``
        has one class. Those of an option for changes stay."""
        ordered: list[str] = []
        option = None  # where the last option stands that takes any number of values
        for text in args:
            if text.startswith("-"):
                action = self._option_string_actions.get(text)
                mixes = action is not None and action.nargs in ("?", "*", "+") and action.metavar != CHANGES
                option = len(ordered) if mixes else None
            if option is not None and CHANGE.match(text) and not os.path.exists(text):
                ordered.insert(option, text)
                option += 1
            else:
                ordered.append(text)
        return ordered

    def error(self, message: str) -> Any:
        super().error(visible(message))


def build_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser with the built-in commands ``names`` (each file's ``add_parser``)."""
    from densedet import __version__

    parser = Parser(
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
    """Add the sub-commands of installed plug-ins (`densedet_commands`).

    A plug-in that fails, or whose command has the name of another, is named on standard error; its commands
    are left out, and all others stay.
    """
    from densedet.core.hookspecs import manager_of
    from densedet.core.recipe.plugin_loading import PluginSet, load_plugins, warn

    plugins = load_plugins()
    plugins.warn_of_failures()
    commands = _commands_of(parser)
    # Each gets a table of its own, which joins the others when it is whole.
    for plugin in plugins:
        if "densedet_commands" not in plugin.hooks:
            continue
        scratch = Parser(prog=parser.prog)
        own = scratch.add_subparsers(dest="command", metavar="COMMAND")
        alone = PluginSet([plugin], plugins.components, manager_of([plugin.plugin]))
        for _ in alone.call_each("densedet_commands", subparsers=own):
            taken = sorted(own.choices.keys() & commands.choices.keys())
            if taken:
                warn(
                    f"plug-in {plugin.name} is left out: {taken[0]!r} is a command of densedet or of another "
                    f"plug-in, give its command another name"
                )
                continue
            commands.choices.update(own.choices)
            commands._choices_actions += own._choices_actions


def _commands_of(parser: argparse.ArgumentParser) -> Any:
    """argparse's table of sub-commands."""
    return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Errors are one sentence on standard error. Of the processes of a
    torchrun, the first alone shows anything else, and an error is told once."""
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C around the work needs no traceback either
    with contextlib.ExitStack() as stack:
        plain, warnings.formatwarning = warnings.formatwarning, format_warning
        stack.callback(setattr, warnings, "formatwarning", plain)
        if launched_with_others():
            # Each process would repeat torch's warnings.
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
            if os.environ["RANK"] != "0":
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
        return interruptible_command(argv)


def interruptible_command(argv: Sequence[str] | None) -> int:
    """Run one command, which a stopping signal interrupts; the exit code."""
    from densedet.core import signals

    given = list(sys.argv[1:] if argv is None else argv)
    asked: list[int] = []
    try:
        with signals.raised(asked):
            return run_command(given, asked)
    except BaseException as error:
        if not asked and not isinstance(error, KeyboardInterrupt):
            raise
        number = asked[0] if asked else getattr(error, "number", signal.SIGINT)
        if "--debug" in given:
            say("".join(traceback.format_exception(error)), error=True)
        if not getattr(error, "told", False):
            say(signals.words(number), error=True)
        return 128 + number


def launched_with_others() -> bool:
    """Whether a torchrun has started this process as one of several."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def run_command(given: Sequence[str], asked: Sequence[int]) -> int:
    """Parse the command line and run its command; the exit code.

    Args:
        given: the arguments.
        asked: numbers of the signals that have come so far. An error after one is its consequence.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    from densedet.core.errors import Interrupted, UsageError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a data set's names need not be printable
    parser = build_parser()
    if not given or given[0] not in COMMANDS:
        add_plugin_commands(parser)
    arguments = parser.parse_args(given)
    debug = getattr(arguments, "debug", False)
    try:
        if launched_with_others():
            join_others(arguments)
        if not hasattr(arguments, "run"):
            raise UsageError("the plug-in that brings this command gave it no set_defaults(run=function)")
        return arguments.run(arguments) or 0
    except Exception as error:
        if asked:
            raise Interrupted(asked[0]) from error
        return tell(arguments.command, error, debug)


def tell(command: str, error: Exception, debug: bool) -> int:
    """Say what went wrong in one sentence; the exit code."""
    from densedet.core.errors import DensedetError, author_place, is_out_of_memory, sentence
    from densedet.registry import RegistryError

    if isinstance(error, DensedetError):
        return fail(command, error, error.exit_code, debug)
    if isinstance(error, RegistryError):
        return fail(command, error, 2, debug)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, OSError):
        text = f"{error.filename} cannot be used ({error.strerror}): look at it, or give another path"
        return fail(command, error, 1, debug, text if error.filename is not None else None)
    if is_out_of_memory(error):
        return fail(command, error, 1, debug, OUT_OF_MEMORY)
    fault = "" if author_place(error) else "a fault of densedet: "
    return fail(command, error, 1, debug, f"{fault}{sentence(error)}; --debug shows the traceback")


def join_others(arguments: argparse.Namespace) -> None:
    """Join the other processes of a torchrun.

    Raises:
        UsageError: the command has no work to share.
    """
    from densedet.core import distributed
    from densedet.core.errors import UsageError

    distributed.join()
    alone = arguments.command in COMMANDS and arguments.command not in ON_MANY
    if alone or getattr(arguments, "plan", False):
        command = arguments.command + (" --plan" if not alone else "")
        raise UsageError(f"this command works in one process: write densedet {command} ... without torchrun")


def fail(command: str, error: BaseException, code: int, debug: bool, text: str | None = None) -> int:
    """Say what went wrong; the traceback only where it was asked for."""
    told: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if launched_with_others():
        from densedet.core import distributed
        from densedet.core.errors import PeerError

        if not distributed.is_news(text or str(error), of_peer=isinstance(error, PeerError)):
            return code
        told = contextlib.redirect_stderr(sys.__stderr__)
    with told:
        if debug:
            say("".join(traceback.format_exception(error)), error=True)
        say(f"densedet {command}: {text or error}", error=True)
    return code


def run_file(file: str) -> int:
    """What ``python tools/NAME.py`` does: the same as ``densedet NAME``, and says so when the installed copy
    is another one."""
    import densedet

    ours, installed = Path(file).resolve().parent.parent, Path(densedet.__file__).resolve().parent
    if ours != installed:
        say(
            f"note: this uses the installed densedet in {installed}, not {ours} (pip install -e {ours} "
            f"to use that)",
            error=True,
        )
    return main([Path(file).stem, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
