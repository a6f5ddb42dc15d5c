"""Quality against cost: a point per arm, and a line through those that no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from densedet.core.report.charts.chart import MARKERS, Chart, color_of, finish, new_figure, styled
from densedet.core.text import short


@dataclass(frozen=True)
class Offer:
    """What an arm gives and costs.

    Attributes:
        name: of the arm.
        quality: such as AP.
        cost: such as images per second.
        low: lower end of the quality's interval, or None.
        high: upper end, or None.
        style: place in the palette.
    """

    name: str
    quality: float
    cost: float
    low: float | None = None
    high: float | None = None
    style: int = 0


def unbeaten(offers: Sequence[Offer], *, less_cost: bool, less_quality: bool = False) -> list[bool]:
    """Return which offers no other one beats: none is as good in both numbers and better in one.

    Args:
        offers: to look at.
        less_cost: True where a smaller cost is better (minutes), False where a larger one is (images/s).
        less_quality: True where a smaller quality is better.
    """
    points = [(-o.quality if less_quality else o.quality, -o.cost if less_cost else o.cost) for o in offers]
    return [
        not any(q >= quality and c >= cost and (q, c) != (quality, cost) for q, c in points)
        for quality, cost in points
    ]


@styled()
def pareto_chart(
    offers: Sequence[Offer],
    *,
    title: str,
    x_label: str,
    y_label: str,
    less_cost: bool,
    less_quality: bool = False,
    ordered: bool = True,
) -> Chart | None:
    """Draw quality against cost.

    Args:
        offers: of the arms.
        title: names the chart for people who do not see it.
        x_label: the cost, with its unit.
        y_label: the quality.
        less_cost: whether a smaller cost is better.
        less_quality: whether a smaller quality is better.
        ordered: whether the offers that no other beats are marked; False for arms that do not compare.

    Returns:
        The chart, or None with less than two offers.
    """
    if len(offers) < 2:
        return None
    best = (
        unbeaten(offers, less_cost=less_cost, less_quality=less_quality) if ordered else [False] * len(offers)
    )
    figure, axes = new_figure(3.0)
    handles = []
    for offer, whole in zip(offers, best):
        if offer.low is not None and offer.high is not None:
            axes.vlines(offer.cost, offer.low, offer.high, color=color_of(offer.style), linewidth=1.2)
        handles += axes.plot(
            [offer.cost],
            [offer.quality],
            linestyle="none",
            marker=MARKERS[offer.style % len(MARKERS)],
            markersize=8,
            color=color_of(offer.style),
            markerfacecolor=color_of(offer.style) if whole else "none",
            markeredgewidth=1.6,
        )
    front = sorted((o.cost, o.quality) for o, whole in zip(offers, best) if whole)
    if len(front) > 1:
        axes.plot(*zip(*front), color="#7f7f7f", linewidth=1.0, linestyle=":", zorder=0)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.margins(0.15)
    axes.set_xlim(0, 1.1 * max(offer.cost for offer in offers) or 1.0)
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low) if low < 0 <= min(o.quality for o in offers) else low, high)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(alpha=0.2)
    marked = [o.name for o, whole in zip(offers, best) if whole]
    names = [short(o.name) for o in offers]
    said = ", ".join(f"{n} {o.quality:.3f} at {o.cost:.4g}" for n, o in zip(names, offers))
    beaten = f"; no other arm beats {', '.join(map(short, marked))}" if ordered else ""
    head = ("", y_label, x_label, *(("unbeaten",) if ordered else ()))
    rows = [
        [
            name,
            float(f"{o.quality:.5g}"),
            float(f"{o.cost:.5g}"),
            *(("yes" if whole else "no",) if ordered else ()),
        ]
        for name, o, whole in zip(names, offers, best)
    ]
    return finish(figure, handles, names, title=title, description=said + beaten, head=head, rows=rows)
