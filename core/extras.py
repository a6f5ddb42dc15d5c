"""Values that objects carry beside their boxes: checked where they come in, moved with their boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from densedet.core.errors import DataError
from densedet.core.text import counted
from densedet.core.types import Annotation, Batch, Extra

if TYPE_CHECKING:
    from torch import Tensor


def extras_of(source: Any) -> dict[str, Extra]:
    """Return the declarations of a source; empty where it declares none."""
    return getattr(source, "extras", None) or {}


def carried(annotation: Annotation, extras: dict[str, Extra]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return an annotation's values, (G, *shape) per name, and masks of what is known, bool (G,) per name.

    Args:
        annotation: the truth of one image.
        extras: declarations of its source.

    Raises:
        DataError: a value is missing or does not have the declared shape.
    """
    import torch

    values, known = {}, {}
    for name, extra in extras.items():
        wanted = (len(annotation.boxes), *extra.shape)
        value, mask = annotation.extra.get(name), annotation.extra_known.get(name)
        if value is None or tuple(value.shape) != wanted:
            given = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
            raise DataError(
                f"image {annotation.image_id} ({annotation.file_name}): extra {name!r} {given}; the source "
                f"declares {wanted} for {counted(len(annotation.boxes), 'object')}: correct Annotation.extra"
            )
        values[name] = value
        known[name] = torch.ones(wanted[:1], dtype=torch.bool) if mask is None else mask
    return values, known


def moved(
    values: dict[str, Tensor], extras: dict[str, Extra], matrix: Tensor, size_wh: Tensor
) -> dict[str, Tensor]:
    """Move keypoints as their boxes are moved; other values stay.

    Args:
        values: (..., *shape) per name.
        extras: declarations of the values.
        matrix: float (..., 2, 3), maps (x, y, 1) in pixels to new pixels.
        size_wh: (..., 2), (width, height) of the image after the move. A point outside becomes 0, 0, 0.

    Returns:
        New values by name. Where the matrix mirrors, pairs of keypoints are swapped.
    """
    result = dict(values)
    for name, extra in extras.items():
        if extra.kind == "keypoints":
            points, matrix = values[name], matrix.to(values[name])
            # (..., K, 1, 2) times (..., 1, 2, 2), summed over x and y
            xy = (points[..., None, :2] * matrix[..., None, :, :2]).sum(-1) + matrix[..., None, :, 2]
            result[name] = placed(xy, points[..., 2:], extra, mirrors(matrix), size_wh)
    return result


def mirrors(matrix: Tensor) -> Tensor:
    """Return bool (...,), whether a map (..., 2, 3) or (..., 2, 2) turns right-handed into left-handed."""
    return matrix[..., 0, 0] * matrix[..., 1, 1] < matrix[..., 0, 1] * matrix[..., 1, 0]


def placed(xy: Tensor, visibility: Tensor, extra: Extra, mirrored: Tensor, size_wh: Tensor) -> Tensor:
    """Return keypoints (..., K, 3) of moved points: 0, 0, 0 where one is not known or outside of the image,
    pairs swapped where ``mirrored``.

    Args:
        xy: (..., K, 2) in pixels.
        visibility: (..., K, 1).
        extra: their declaration.
        mirrored: bool (...,).
        size_wh: (..., 2).
    """
    import torch

    inside = ((xy >= 0) & (xy <= size_wh[..., None, :])).all(-1, keepdim=True)
    points = torch.where(inside & (visibility > 0), torch.cat([xy, visibility], dim=-1), 0.0)
    if not extra.pairs:
        return points
    order = list(range(extra.shape[0]))
    for first, second in extra.pairs:
        order[first], order[second] = second, first
    swapped = torch.stack([points[..., place, :] for place in order], dim=-2)
    return torch.where(mirrored[..., None, None], swapped, points)


def moved_extra(batch: Batch, matrix: Tensor, valid_hw: Tensor | None = None) -> dict[str, Tensor]:
    """Return ``batch.extra`` after each image was moved: what a batch transform puts beside its moved boxes.

    Args:
        batch: before the move.
        matrix: float (B,2,3), maps (x, y, 1) in pixels of an image to its new pixels.
        valid_hw: (height, width) of each image after the move, int64 (B,2); None where they stay.
    """
    if not batch.extras:
        return {}
    sizes = (batch.valid_hw if valid_hw is None else valid_hw).flip(1)[:, None]
    return moved(batch.extra, batch.extras, matrix[:, None], sizes)


def scaling(x: float | Tensor, y: float | Tensor) -> Tensor:
    """Return the matrix (2,3) that scales x and y."""
    import torch

    return torch.tensor([[float(x), 0.0, 0.0], [0.0, float(y), 0.0]])
