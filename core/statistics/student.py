"""Student's t distribution: its tail and its quantiles, with the standard library alone."""

from __future__ import annotations

import math
from functools import lru_cache

MOST_DF = 1e7
"""Beyond it t and the normal distribution differ by less than 1e-8."""

TINY = 1e-300
"""Keeps the continued fraction away from a division by zero."""


def t_cdf(value: float, df: float) -> float:
    """Compute the probability that a t-distributed number is at most ``value``.

    Args:
        value: any number, infinities included.
        df: degrees of freedom, above 0; infinity means the normal distribution.

    Returns:
        A probability in 0..1.
    """
    tail = _upper_tail(abs(value), df)
    return 1 - tail if value > 0 else tail


def two_sided_p(value: float, df: float) -> float:
    """Compute the probability of a t-distributed number at least as far from 0 as ``value``.

    Args:
        value: any number, infinities included.
        df: degrees of freedom, above 0; infinity means the normal distribution.

    Returns:
        A probability in 0..1.
    """
    return min(1.0, 2 * _upper_tail(abs(value), df))


@lru_cache(maxsize=4096)
def t_quantile(probability: float, df: float) -> float:
    """Compute the value below which a t-distributed number lies with this probability.

    Args:
        probability: above 0 and below 1.
        df: degrees of freedom, above 0; infinity means the normal distribution.

    Returns:
        The quantile, exact to about 1e-12 of its size.

    Raises:
        ValueError: the probability is not strictly between 0 and 1, or df is not above 0.
    """
    if not 0 < probability < 1:
        raise ValueError(f"a quantile needs a probability above 0 and below 1, not {probability}")
    if not df > 0:
        raise ValueError(f"Student's t needs degrees of freedom above 0, not {df}")
    if probability == 0.5:
        return 0.0
    tail = min(probability, 1 - probability)
    low, high = 0.0, 1.0
    while _upper_tail(high, df) > tail:
        low, high = high, 2 * high
    value = high
    for _ in range(200):
        # Newton's step where it stays within the bounds, else bisection.
        excess = _upper_tail(value, df) - tail
        low, high = (value, high) if excess > 0 else (low, value)
        step = value + excess / _density(value, df)
        step = step if low < step < high else (low + high) / 2
        if abs(step - value) <= 1e-14 * step:
            break
        value = step
    return value if probability > 0.5 else -value


def _density(value: float, df: float) -> float:
    """The density of the t distribution; of the normal distribution for df beyond its use."""
    if df > MOST_DF:
        return math.exp(-value * value / 2) / math.sqrt(2 * math.pi)
    scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    return math.exp(scale - (df + 1) / 2 * math.log1p(value * value / df)) or TINY


def _upper_tail(value: float, df: float) -> float:
    """P(T > value) for value >= 0: half the incomplete beta function of df / (df + value^2)."""
    if math.isinf(value):
        return 0.0
    if df > MOST_DF:
        return math.erfc(value / math.sqrt(2)) / 2
    square = value * value
    return _incomplete_beta(df / 2, 0.5, df / (df + square), square / (df + square)) / 2


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularised incomplete beta function I_x(a, b); ``rest`` is 1 - x without its rounding error.

    Press et al., Numerical Recipes, 6.4: a continued fraction that converges fast for x < (a + 1) / (a + b +
    2), and I_x(a, b) = 1 - I_{1-x}(b, a) for the others.
    """
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, rest) / b


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 / _off_zero(1 + term * d), _off_zero(1 + term / c)
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value


def _off_zero(number: float) -> float:
    return number if abs(number) > TINY else TINY
