"""Dotted paths into nested mappings whose keys may contain dots, as names of classes do."""

from __future__ import annotations

from densedet.core.mappings import at_path


def test_a_key_may_contain_dots_and_begin_as_another_does() -> None:
    values = {
        "AP": 0.1,
        "classes": {"a": {"AP": 0.2}, "a.b": {"AP": 0.3}, "AP": {"AP": 0.4}, ".": {"AP": 0.5}},
    }
    assert at_path(values, "AP") == 0.1
    assert at_path(values, "classes.a.AP") == 0.2
    assert at_path(values, "classes.a.b.AP") == 0.3
    assert at_path(values, "classes.AP.AP") == 0.4
    assert at_path(values, "classes...AP") == 0.5
    assert at_path(values, "classes.c.AP") is None
    assert at_path(values, "AP.AP") is None
