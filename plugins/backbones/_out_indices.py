"""Which feature maps of a backbone are returned."""

from __future__ import annotations

from collections.abc import Sequence

from densedet.core.errors import PartError


def check_out_indices(out_indices: Sequence[int], choices: Sequence[int]) -> None:
    """Check that the indices name existing maps, each once, from fine to coarse.

    Args:
        out_indices: indices from the recipe.
        choices: indices that the backbone has.

    Raises:
        PartError: where there is no index, or one is unknown, repeated or out of order.
    """
    listed = ", ".join(map(str, choices))
    if not out_indices:
        raise PartError(f"out_indices is empty: name at least one of {listed}")
    unknown = [index for index in out_indices if index not in choices]
    if unknown:
        raise PartError(f"out_indices has {unknown[0]}, which does not exist: choose from {listed}")
    if list(out_indices) != (ordered := sorted(set(out_indices))):
        raise PartError(f"out_indices is {list(out_indices)}: write each once, fine to coarse: {ordered}")
