"""What every built-in coder must do, whatever the box and the anchor: finite numbers, and the box again where
it can be reached."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.coders.delta import DeltaCoder
from densedet.plugins.coders.distribution import DistributionCoder
from densedet.plugins.coders.ltrb import LTRBCoder

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "delta": [{"weights": (10.0, 10.0, 5.0, 5.0)}, {"weights": (0.3, 7.0, 1.7, 0.1)}],
    "ltrb": [{"activation": a, "normalise": n} for a in ("exp", "relu", "softplus") for n in (True, False)],
    "distribution": [{"bins": 1}, {"bins": 32, "bin_size": 0.25}],
}
CODERS = [
    load_plugins().components.get("coder", component.name).load()(**arguments)
    for component in load_plugins().components.find("coder")
    if component.origin.split()[0] == "densedet"
    for arguments in ({}, *VARIANTS.get(component.name, []))
]
SSD = (10.0, 10.0, 5.0, 5.0)

far = st.floats(-(2.0**40), 2.0**40, width=32)
side = st.one_of(st.just(0.0), st.floats(0, 2.0**40, width=32))
anything = st.tuples(far, far, side, side)


def tensor(box: tuple[float, float, float, float], dtype: torch.dtype = torch.float64) -> Tensor:
    """(x, y, width, height) -> (1,4) xyxy."""
    x, y, w, h = box
    return torch.tensor([[x, y, x + w, y + h]], dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=100, deadline=None)
@given(anything, anything, st.floats(-10000, 10000, width=32))
def test_finite_whatever_the_box_and_the_anchor(dtype, box, anchor, said):
    """Zero-size, a million images away, the centre outside: encode and decode and their gradients stay
    finite."""
    box, anchor = tensor(box, dtype), tensor(anchor, dtype)
    for coder in CODERS:
        box = box.detach().requires_grad_()
        encoded = coder.encode(box, anchor)
        (of_box,) = torch.autograd.grad(encoded.sum(), box)
        sign = torch.tensor([1.0, -1.0], dtype=dtype).repeat(coder.box_channels // 2)
        raw = (sign * said).expand(1, -1).clone().requires_grad_()
        decoded = coder.decode(raw, anchor)
        (of_raw,) = torch.autograd.grad(decoded.sum(), raw)
        for numbers in (encoded, of_box, coder.deltas(raw), decoded, of_raw):
            assert numbers.isfinite().all(), coder
        assert (decoded[:, 2:] >= decoded[:, :2]).all(), coder


def close(decoded: Tensor, box: Tensor, anchor: Tensor) -> None:
    """To a millionth of the largest number that went in."""
    scale = float(torch.cat([box, anchor]).abs().max())
    torch.testing.assert_close(decoded, box, rtol=0, atol=1e-9 * scale + 1e-9)


position, length = st.floats(-5000, 5000), st.floats(0.001, 5000)
weight = st.floats(0.05, 20)


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(position, position, length, length),
    st.tuples(position, position, length, length),
    st.one_of(st.just((1.0, 1.0, 1.0, 1.0)), st.just(SSD), st.tuples(weight, weight, weight, weight)),
)
def test_delta_gives_the_box_back(box, anchor, weights):
    """With any weights, wherever the two lie. Limit: a side at most exp(clamp) as long as the anchor's;
    beyond, exactly that long."""
    coder, box, anchor = DeltaCoder(weights=weights), tensor(box), tensor(anchor)
    # corners lose the last bits of a side that is small beside its position: take off what the corners say
    sides, anchor_sides = box[:, 2:] - box[:, :2], (anchor[:, 2:] - anchor[:, :2]).clamp(min=1e-3)
    reached = torch.minimum(sides.clamp(min=1e-3), anchor_sides * 62.5)  # clamp = log(1000 / 16) = log(62.5)
    center = (box[:, :2] + box[:, 2:]) / 2
    close(
        coder.decode(coder.encode(box, anchor), anchor),
        torch.cat([center - reached / 2, center + reached / 2], dim=1),
        anchor,
    )


INVERSE = {"relu": lambda d: d, "exp": torch.log, "softplus": lambda d: d + torch.log(-torch.expm1(-d))}


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(position, position, st.floats(0.01, 500), st.floats(0.01, 500)),
    st.tuples(*[st.floats(0.001, 1000)] * 4),
    st.sampled_from(sorted(INVERSE)),
    st.booleans(),
)
def test_ltrb_gives_the_box_back(anchor, distances, activation, normalise):
    """Each activation undone by its inverse. Limit: the centre inside the box (exp: at most exp(10) anchor
    sides away)."""
    coder, anchor = LTRBCoder(activation=activation, normalise=normalise), tensor(anchor)
    center = (anchor[:, :2] + anchor[:, 2:]) / 2
    # Distances in anchor sides, at most exp(9), where the limit is exp(10); in pixels as they are.
    away = torch.tensor([distances], dtype=torch.float64)
    if normalise:
        away = away * (anchor[:, 2:] - anchor[:, :2]).repeat(1, 2)
    box = torch.cat([center - away[:, :2], center + away[:, 2:]], dim=1)
    raw = INVERSE[activation](coder.encode(box, anchor))
    close(coder.decode(raw, anchor), box, anchor)


def sharp(distances: Tensor, bins: int) -> Tensor:
    """Logits whose softmax lies on the two bins around each distance: (1,4) -> (1, 4*(bins+1))."""
    grid = torch.arange(bins + 1, dtype=distances.dtype)
    return (1 - (distances.unsqueeze(-1) - grid).abs()).clamp(min=1e-30).log().flatten(-2)


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(position, position, st.floats(0.01, 500), st.floats(0.01, 500)),
    st.tuples(*[st.floats(-2, 40)] * 4),
    st.sampled_from([1, 4, 16, 32]),
    st.sampled_from([1.0, 0.25, 3.0]),
)
def test_distribution_gives_the_box_back(anchor, distances, bins, bin_size):
    """Limits: 0 where the centre lies beyond a side, bins - 0.01 where a side is out of reach; between them
    the box itself."""
    coder, anchor = DistributionCoder(bins=bins, bin_size=bin_size), tensor(anchor)
    center, unit = (
        (anchor[:, :2] + anchor[:, 2:]) / 2,
        (anchor[:, 2:] - anchor[:, :2]).repeat(1, 2) * bin_size,
    )
    away = torch.tensor([distances], dtype=torch.float64)
    box, reached = (
        torch.cat([center - d[:, :2], center + d[:, 2:]], dim=1)
        for d in (away * unit, away.clamp(0, bins - 0.01) * unit)
    )
    close(coder.decode(sharp(coder.encode(box, anchor), bins), anchor), reached, anchor)
