"""What a backbone expects of its images: mean and standard deviation per channel, for values scaled to
0..1."""

from __future__ import annotations

from densedet.core.errors import PartError
from densedet.core.text import counted

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""(mean, std), one value per channel each."""

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def image_statistics(
    in_channels: int,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    *,
    published: Statistics = IMAGENET,
) -> Statistics:
    """Resolve the mean and standard deviation of the images.

    Args:
        in_channels: channels of the images.
        mean: the recipe's mean, one value per channel or a single one for all; None: the published.
        std: the recipe's standard deviation, in the same form.
        published: three values each, RGB. Images that are not RGB get the average of the three, which is what
            a first convolution summed over the colours expects.

    Returns:
        (mean, std), ``in_channels`` values each.

    Raises:
        PartError: where the recipe gives another number of values.
    """
    values = []
    for name, given, default in (("mean", mean, published[0]), ("std", std, published[1])):
        if given is None:
            given = default if in_channels == len(default) else (round(sum(default) / len(default), 6),)
        if len(given) not in (1, in_channels):
            raise PartError(
                f"{name} has {counted(len(given), 'value')}, but the images have {in_channels} "
                f"channel{'s' if in_channels > 1 else ''}: give one value, or one per channel, or null "
                f"for the usual ones"
            )
        values.append(tuple(given) if len(given) == in_channels else tuple(given) * in_channels)
    return values[0], values[1]
