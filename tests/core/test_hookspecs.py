"""Hooks of a run: each has a place of its own in the checkpoint; one that fails at the end costs only
itself."""

from __future__ import annotations

from typing import Any

import pytest

from densedet.core import hookspecs
from densedet.core.errors import PluginError
from densedet.core.hookspecs import collect_state, end_run, hookimpl, manager_of, restore_state

RUN: Any = object()


class Counter:
    """Two of them use the same key."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    @hookimpl
    def densedet_state(self, run: Any) -> dict[str, Any]:
        return {"count": self.count}

    @hookimpl
    def densedet_restore(self, run: Any, state: dict[str, Any]) -> None:
        self.count = state["count"]


class Other(Counter):
    """A hook of another class with the same key."""


class Writer:
    def __init__(self, heard: list[str], name: str, fails: Exception | None = None) -> None:
        self.heard, self.name, self.fails = heard, name, fails

    @hookimpl
    def densedet_run_end(self, summary: dict[str, Any]) -> None:
        self.heard.append(self.name)
        if self.fails:
            raise self.fails


class Essential(Writer):
    essential = True


def test_each_hook_gets_its_own_state_back() -> None:
    kept = collect_state(manager_of([Counter(1), Other(2), Counter(3)]), RUN)
    assert kept == {"Counter#1": {"count": 1}, "Other#1": {"count": 2}, "Counter#2": {"count": 3}}
    # Resumed with another hook in between, and one more that the checkpoint knows nothing of.
    hooks = [Writer([], "x"), Counter(), Counter(), Other(), Counter(9)]
    restore_state(manager_of(hooks), RUN, kept)
    assert [h.count for h in hooks[1:]] == [1, 3, 2, 9]  # type: ignore[union-attr]


def test_state_is_a_dict() -> None:
    class Wrong:
        @hookimpl
        def densedet_state(self) -> int:
            return 3

    with pytest.raises(PluginError, match="Wrong#1: densedet_state gives a int: return a dict"):
        collect_state(manager_of([Wrong()]), RUN)


def test_a_hook_that_fails_at_the_end_costs_only_itself(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []
    hooks = [Writer(heard, "a"), Writer(heard, "b", KeyError("x")), Writer(heard, "c")]
    end_run(manager_of(hooks), RUN, {"status": "done"})
    assert heard == ["a", "b", "c"]
    assert "hook Writer#2 failed at densedet_run_end: KeyError: 'x' (test_hookspecs.py line " in (
        capsys.readouterr().err
    )


def test_an_essential_hook_fails_the_run_when_all_have_been_called() -> None:
    heard: list[str] = []
    hooks = [Essential(heard, "a", OSError("disk full")), Writer(heard, "b")]
    with pytest.raises(OSError, match="disk full"):
        end_run(manager_of(hooks), RUN, {"status": "done"})
    assert heard == ["a", "b"]
    end_run(manager_of(hooks), RUN, {"status": "failed"})  # the error that ended the run is not hidden


def test_a_hook_object_is_checked_too() -> None:
    """One that a function made, so that no class could be looked at while the recipe was loaded."""

    class Misspelt:
        @hookimpl
        def densedet_run_ended(self, run: Any) -> None: ...

    with pytest.raises(PluginError, match="Did you mean 'densedet_run_end'"):
        manager_of([Misspelt()])


def test_the_docstring_names_every_hook_of_a_run() -> None:
    assert all(name in str(hookspecs.__doc__) for name in hookspecs.OF_A_RUN)
