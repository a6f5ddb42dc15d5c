"""Pretrained weights for backbones built of torchvision's networks: by torchvision's name, or from a file."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from densedet.core.errors import PartError
from densedet.core.state_dict import download, follow, for_channels, misfit, read_state
from densedet.plugins.backbones._images import IMAGENET, Statistics
from densedet.registry import suggest


def find_published(weights: str | None, model: str) -> WeightsEnum | None:
    """Find torchvision's published weights by their name.

    Args:
        weights: a name of torchvision's, the path of a file, or None.
        model: torchvision's name of the network.

    Returns:
        The member of the network's weights enum; None where ``weights`` is None or a file.

    Raises:
        PartError: where ``weights`` is neither, unless other weights replace them: then the file may be gone.
    """
    if weights is None:
        return None
    members = torchvision.models.get_model_weights(model).__members__
    if weights in members:
        return members[weights]
    if not os.path.isfile(weights) and not follow():
        raise PartError(
            f"weights {weights!r} are neither a file (relative paths start in the working directory) "
            f"nor weights that torchvision has for "
            f"{model}.{suggest(weights, list(members))} torchvision has: {', '.join(members) or 'none'}"
        )
    return None


def published_statistics(weights: WeightsEnum | None) -> Statistics:
    """Look up the image statistics that weights were trained with.

    Args:
        weights: published weights, or None for a file or no weights.

    Returns:
        (mean, std), three values each; ImageNet's usual ones for None.
    """
    if weights is None:
        return IMAGENET
    preset = weights.transforms()
    return tuple(preset.mean), tuple(preset.std)


def load_weights(
    body: nn.Module, weights: str, *, model: str, first: str, ignored: Sequence[str] = ()
) -> None:
    """Fill ``body`` with pretrained weights, every entry of it or none.

    On the meta device names and shapes are checked and nothing is copied or downloaded. Nothing at all
    happens where other weights replace these.

    Args:
        body: network to fill.
        weights: a name of torchvision's (downloaded once, into torch's hub folder) or a file with a state
            dict.
        model: torchvision's name of the network.
        first: name of the first convolution's weight. Where ``body`` takes one channel and the weights three,
            they are summed over the colours, so that a grey image gives the same maps as its RGB copy.
        ignored: names, or prefixes ending in a dot, that ``body`` rightly lacks: the classifier and the
            stages past the last index.

    Raises:
        PartError: where the weights cannot be read or downloaded, or do not fit.
    """
    if follow():
        return
    published = find_published(weights, model)
    if published is not None and any(value.is_meta for value in body.parameters()):
        return
    if published is None:
        state = read_state(weights)
    else:
        state = download(
            published,
            f"the weights {weights!r} of {model}",
            "weights: PATH, or weights: null to start from random weights",
        )
    fill(body, state, what=f"the weights {weights!r}", model=model, first=first, ignored=ignored)


def fill(
    body: nn.Module,
    state: dict[str, Tensor],
    *,
    what: str,
    model: str,
    first: str,
    ignored: Sequence[str] = (),
) -> None:
    """Fill ``body`` with a state dict, every entry of it or none; on the meta device, only check it.

    Args:
        body: network to fill.
        state: values by the names of ``body``.
        what: the weights in words, for errors.
        model: name of the network, for errors.
        first: name of the first convolution's weight, which is summed over the colours where ``body`` takes
            one channel.
        ignored: names, or prefixes ending in a dot, that ``body`` rightly lacks.

    Raises:
        PartError: where the weights do not fit.
    """
    target = body.state_dict()
    if first in state:
        state[first] = for_channels(state[first], target[first])
    prefixes = tuple(name for name in ignored if name.endswith("."))
    state = {
        name: value
        for name, value in state.items()
        if name in target or not (name in ignored or name.startswith(prefixes))
    }
    problem = misfit(target, state, reader="backbone")
    if problem:
        raise PartError(
            f"{what} do not fit this {model}: {problem}; "
            "give weights of the same network with the same norm and widths, or weights: null"
        )
    if not any(value.is_meta for value in target.values()):
        body.load_state_dict({name: state.get(name, value) for name, value in target.items()})
