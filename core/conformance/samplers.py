"""Samplers: the order of the training images."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from densedet.core.conformance.evaluators import SOURCE
from densedet.core.conformance.requirements import Factory, check, random_states, require, wire

EPOCHS = (0, 1, 2, 17)


@check("sampler")
def check_sampler(factory: Factory, **arguments: Any) -> None:
    """Check that each epoch has as many positions as `len` tells, all of them in the source, and that they
    depend on the arguments and the epoch alone.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part, again = (wire(factory, arguments, source=SOURCE, seed=3) for _ in range(2))
    count = len(part)
    require(count >= 1, f"an epoch has at least one image, not {count}")
    state = random_states()
    orders = {epoch: [int(i) for i in part(epoch)] for epoch in EPOCHS}
    require(random_states() == state, "it draws from a global random generator: make one of seed and epoch")
    for epoch, order in orders.items():
        require(
            len(order) == count == len(part), f"epoch {epoch} has {len(order)} positions, len() tells {count}"
        )
        require(
            all(0 <= index < len(SOURCE) for index in order),
            f"epoch {epoch} has positions beyond the {len(SOURCE)} images of the source: "
            f"{sorted(set(order))}",
        )
    torch.default_generator.manual_seed(99)
    for epoch in reversed(EPOCHS):
        for sampler in (part, again):
            require(
                [int(i) for i in sampler(epoch)] == orders[epoch],
                f"epoch {epoch} has another order when asked again, or by a second sampler of the same seed: "
                f"resumed runs and other processes would see other images",
            )
    other = wire(factory, arguments, source=SOURCE, seed=4)
    require(
        "seed" not in inspect.signature(factory).parameters
        or all(order == orders[0] for order in orders.values())
        or any([int(i) for i in other(epoch)] != orders[epoch] for epoch in EPOCHS),
        "the order changes with the epoch, but not with the seed: draw it from both",
    )
