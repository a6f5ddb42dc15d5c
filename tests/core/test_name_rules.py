"""Renaming by rules, both ways."""

from __future__ import annotations

import pytest

from densedet.core.name_rules import NameRules

RULES = NameRules(
    [
        ("body.*", "backbone.*"),
        ("tower.#.0.*", "head.convs.#.*"),
        ("tower.4.*", "head.convs.2.*"),
        ("scale", "norm.weight"),
    ]
)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("body.layer1.0.conv1.weight", "backbone.layer1.0.conv1.weight"),
        ("tower.3.0.bias", "head.convs.3.bias"),
        ("scale", "norm.weight"),
    ],
)
def test_both_ways(theirs: str, ours: str) -> None:
    assert RULES.ours(theirs) == ours
    assert RULES.theirs(ours) == theirs


def test_an_older_name_is_read_and_the_newer_one_written() -> None:
    assert RULES.ours("tower.4.weight") == "head.convs.2.weight"
    assert RULES.theirs("head.convs.2.weight") == "tower.2.0.weight"


@pytest.mark.parametrize(
    "name", ["bodylayer", "xbody.a", "tower.x.0.bias", "scale.weight", "scale\n", "body."]
)
def test_whole_names_only(name: str) -> None:
    assert RULES.ours(name) is None


def test_a_rule_needs_the_same_marks_on_both_sides() -> None:
    with pytest.raises(ValueError, match=r"'a\.#' <-> 'b\.\*'.*same"):
        NameRules([("a.#", "b.*")])
