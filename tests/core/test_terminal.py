"""Tables and bars show names as they are."""

from __future__ import annotations

import pytest
from rich.table import Table

from densedet.core.terminal import Terminal, progress


def test_a_name_is_no_markup_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    table = Table("[/b]", box=None)
    table.add_row("dent[/deep] bolt [m8] :smile:")
    table.add_row("\x1b[2J")
    terminal.print(table)
    terminal.print("dent[/deep] [red]\x1b[2J")
    rows = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert rows == ["[/b]", "dent[/deep] bolt [m8] :smile:", r"\x1b[2J", r"dent[/deep] [red]\x1b[2J"]


def test_a_bars_description_is_text() -> None:
    bar = progress()
    bar.add_task("[/b]\x1b[2J", total=2)
    terminal = Terminal()
    with terminal.capture() as shown:
        terminal.print(bar.make_tasks_table(bar.tasks))
    assert shown.get().startswith(r"[/b]\x1b[2J ")
