"""Pretrained weights for backbones built of torchvision's networks: by torchvision's name, or from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor, nn

from densedet.core.errors import PartError
from densedet.core.state_dict import follow, for_channels, read_state
from densedet.plugins.backbones.images import IMAGENET_MEAN, IMAGENET_STD
from densedet.registry import suggest


def find_published(weights: str | None, model: str) -> Any | None:
    """The member of torchvision's weights enum of ``model`` called ``weights``, or None where ``weights`` is None or a file.

    Raises PartError where it is neither, unless other weights follow: then the file may be gone.
    """
    if weights is None:
        return None
    members = torchvision.models.get_model_weights(model).__members__
    if weights in members:
        return members[weights]
    if not Path(weights).is_file() and not follow():
        raise PartError(
            f"weights {weights!r} are neither a file (relative paths start in the working directory) nor weights that torchvision has for "
            f"{model}.{suggest(weights, list(members))} torchvision has: {', '.join(members) or 'none'}"
        )
    return None


def published_statistics(weights: Any | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) that published weights were trained with; ImageNet's usual ones for a file or none."""
    if weights is None:
        return IMAGENET_MEAN, IMAGENET_STD
    preset = weights.transforms()
    return tuple(preset.mean), tuple(preset.std)


def load_weights(body: nn.Module, weights: str, *, model: str, first: str, ignored: Sequence[str] = ()) -> None:
    """Fill ``body`` with pretrained weights, every entry of it or none.

    weights: a name of torchvision's (downloaded once, into torch's hub folder) or a file with a state dict. first: the name of the
    first convolution's weight: where ``body`` takes one channel and the weights three, they are summed over the colours, which gives
    grey images the answer of their RGB copies. ignored: names, or prefixes ending in a dot, that ``body`` rightly lacks: the
    classifier, and stages past the last tap. On the meta device names and shapes are checked, nothing is copied or downloaded; nothing
    at all happens where other weights follow. Raises PartError where the weights cannot be had or do not fit.
    """
    if follow():
        return
    target = body.state_dict()
    on_meta = any(value.is_meta for value in target.values())
    published = find_published(weights, model)
    if published is not None and on_meta:
        return
    state = download(published, weights, model) if published is not None else read_state(weights)
    if first in state:
        state[first] = for_channels(state[first], target[first])
    check_fit(target, state, weights, model, ignored)
    if not on_meta:
        body.load_state_dict({name: state.get(name, value) for name, value in target.items()})


def download(published: Any, weights: str, model: str) -> dict[str, Tensor]:
    """The state dict behind a member of torchvision's weights enum. Raises PartError where the network does not give it."""
    try:
        return dict(published.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu"))
    except Exception as error:
        raise PartError(
            f"the weights {weights!r} of {model} could not be downloaded from {published.url} ({type(error).__name__}: {error}): fetch "
            f"that file elsewhere and write weights: PATH, or weights: null to start from random weights"
        ) from error


def check_fit(target: Mapping[str, Tensor], state: Mapping[str, Tensor], weights: str, model: str, ignored: Sequence[str]) -> None:
    """Refuse a state dict that lacks entries, has strange ones or other shapes. Raises PartError that names the first of them."""
    prefixes, names = tuple(i for i in ignored if i.endswith(".")), frozenset(ignored)
    # Old checkpoints and frozen norms carry no count of batches, and nothing computed depends on it.
    missing = [k for k in target if k not in state and not k.endswith("num_batches_tracked")]
    strange = [
        k for k in state if k not in target and k not in names and not k.startswith(prefixes) and not k.endswith("num_batches_tracked")
    ]
    shapes = [k for k in target if k in state and state[k].shape != target[k].shape]
    for found, problem in ((missing, "lack"), (strange, "have entries unknown to this backbone:"), (shapes, "differ in shape at")):
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            detail = f" ({tuple(state[found[0]].shape)} there, {tuple(target[found[0]].shape)} here)" if found is shapes else ""
            raise PartError(
                f"the weights {weights!r} do not fit this {model}: they {problem} {found[0]}{detail}{more}; "
                "give weights of the same network with the same norm and widths, or weights: null"
            )
