"""The search for an order of steps, on rules made here."""

from __future__ import annotations

from collections.abc import Callable

from densedet.core.study.climbing import TRIES, Climber


def rule(allowed: Callable[[frozenset[str]], bool]) -> Callable[[frozenset[str]], str]:
    return lambda taken: "" if allowed(taken) else f"not {'+'.join(sorted(taken))}"


def test_the_wished_order_where_all_can_be_built() -> None:
    assert Climber("bca", rule(lambda taken: True)).climb() == [("b",), ("c",), ("a",)]
    assert Climber("abc", rule(lambda taken: True)).climb([("c",)]) == [("c",), ("a",), ("b",)]


def test_a_part_waits_for_those_that_it_needs() -> None:
    climber = Climber("hnc", rule(lambda taken: "h" not in taken or "n" in taken))
    assert climber.climb() == [("n",), ("h",), ("c",)], "the head h needs the neck n"
    assert climber.fault(frozenset("h")) == "not h"


def test_parts_that_only_work_together_change_together() -> None:
    together = rule(lambda taken: ("a" in taken) == ("b" in taken))
    assert Climber("acb", together).climb() == [("c",), ("a", "b")]
    all_or_none = rule(lambda taken: len(taken) in (0, 4))
    assert Climber("abcd", all_or_none).climb() == [("a", "b", "c", "d")]


def test_a_dead_end_is_left() -> None:
    # From x alone nothing leads on; y, z, x one after the other can be built.
    ways = {frozenset("x"), frozenset("y"), frozenset("yz")}
    assert Climber("xyz", rule(lambda taken: taken in ways)).climb() == [("y",), ("z",), ("x",)]


def test_the_search_ends_soon() -> None:
    looked = []

    def fault(taken: frozenset[str]) -> str:
        looked.append(taken)
        return "" if ("a" in taken) == ("b" in taken) else "a and b"

    # 14 parts that go in any order, and two that only go together: 2^14 dead ends.
    steps = Climber("abcdefghijklmnop", fault).climb()
    assert steps == [*((part,) for part in "cdefghijklmnop"), ("a", "b")]
    assert len(looked) == len(set(looked)) < 2 * TRIES
