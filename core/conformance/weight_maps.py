"""Weight maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from densedet.core.conformance.requirements import Factory, check, require, wire

OURS = tuple(
    f"{layer}.{kind}"
    for layer in (
        "backbone.conv1",
        "backbone.bn1",
        "backbone.layer1.0.conv1",
        "backbone.layer2.1.bn2",
        "backbone.features.0.0",
        "neck.top_down.lateral.0.0",
        "neck.top_down.lateral.1.0",
        "neck.top_down.output.2.0",
        "neck.extra_convolutions.convolutions.0",
        "head.class_tower.convs.0.0",
        "head.class_tower.convs.0.3",
        "head.box_tower.convs.0.1",
        "head.logits.convs.0",
        "head.box.convs.0",
        "head.logits.convs.1",
    )
    for kind in ("weight", "bias")
)
"""Names as they stand in the state dicts of dense detectors."""


@check("weight_map")
def check_weight_map(
    factory: Factory, *, names: Sequence[str] = (), ours: Sequence[str] = OURS, **arguments: Any
) -> None:
    """Check that ours and theirs are inverse and that no two weights get one name.

    Args:
        factory: the class or function.
        names: the other library's names, as its state dict has them; each must be known. Without any, only
            the way from our names and back is checked.
        ours: names of our detector's weights.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments)
    for name in ("", "no.such.weight.of.anybody", *names, *ours):
        for way in (part.ours, part.theirs):
            given = way(name)
            require(
                given is None or (isinstance(given, str) and given),
                f"{way.__name__}({name!r}) gives a name or None, not {given!r}",
            )
            require(given == way(name), f"{way.__name__}({name!r}) gives another name when asked again")
    for name in names:
        mine = part.ours(name)
        require(mine is not None, f"ours({name!r}) is None: their state dict has this name")
        back = part.theirs(mine)
        require(
            back is not None and part.ours(back) == mine,
            f"ours({name!r}) is {mine!r}, theirs of that is {back!r}: the two are not inverse",
        )
    known = {name: part.theirs(name) for name in (*ours, *(part.ours(n) for n in names))}
    taken: dict[str, str] = {}
    for name, other in known.items():
        if other is None:
            continue
        require(
            part.ours(other) == name,
            f"theirs({name!r}) is {other!r}, ours of that is {part.ours(other)!r}: the two are not inverse",
        )
        require(
            taken.setdefault(other, name) == name,
            f"{taken[other]!r} and {name!r} are both {other!r} of theirs",
        )
    require(
        any(other is not None for other in known.values()) or ours is OURS,
        "it knows none of our names: theirs(name) is None for each",
    )
