"""Student's t against printed tables and closed forms."""

from __future__ import annotations

import math

import pytest

from densedet.core.statistics.student import t_cdf, t_quantile, two_sided_p

TABLE = [
    # df, probability, quantile; NIST/SEMATECH's table and, to more digits, R's qt
    (1, 0.975, 12.7062047362),
    (1, 0.995, 63.6567411629),
    (2, 0.975, 4.3026527297),
    (3, 0.95, 2.3533634348),
    (4, 0.995, 4.6040948713),
    (5, 0.975, 2.5705818356),
    (10, 0.9, 1.3721836411),
    (30, 0.975, 2.0422724563),
    (120, 0.975, 1.9799304051),
    (math.inf, 0.975, 1.9599639845),
]


@pytest.mark.parametrize(("df", "probability", "quantile"), TABLE)
def test_quantiles_of_the_tables(df: float, probability: float, quantile: float) -> None:
    assert t_quantile(probability, df) == pytest.approx(quantile, abs=1e-8)
    assert t_quantile(1 - probability, df) == pytest.approx(-quantile, abs=1e-8)
    assert two_sided_p(quantile, df) == pytest.approx(2 * (1 - probability), abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.01, 0.5, 1.0, 3.0, 40.0, 1e6])
def test_the_closed_forms_of_one_and_two_degrees(value: float) -> None:
    # df 1: 1/2 + atan(t) / pi. df 2: 1/2 + t / (2 sqrt(2 + t^2)).
    assert t_cdf(value, 1) == pytest.approx(0.5 + math.atan(value) / math.pi, abs=1e-13)
    assert t_cdf(-value, 1) == pytest.approx(0.5 - math.atan(value) / math.pi, abs=1e-13)
    assert t_cdf(value, 2) == pytest.approx(0.5 + value / 2 / math.sqrt(2 + value**2), abs=1e-13)


def test_the_quantile_is_the_inverse_for_broken_degrees_too() -> None:
    for df in (0.7, 1.5, 2.3, 17.9, 1234.5, 9e6):
        for probability in (1e-9, 0.2, 0.5, 0.500001, 0.999):
            assert t_cdf(t_quantile(probability, df), df) == pytest.approx(probability, rel=1e-9)


def test_a_probability_or_degrees_out_of_range() -> None:
    for probability in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            t_quantile(probability, 3)
    with pytest.raises(ValueError, match="degrees of freedom above 0"):
        t_quantile(0.9, 0)
