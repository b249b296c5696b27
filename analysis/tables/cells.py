"""Formats single numbers for tables."""

from __future__ import annotations

import math

DASH = "–"
SIGNIFICANT = 0.05


def known(value: object) -> bool:
    """Whether a cell of a DataFrame is neither None nor NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def decimal(value: float, digits: int = 1, sign: bool = False) -> str:
    """A number with a fixed number of decimals, never a negative zero."""
    if not known(value):
        return DASH
    return f"{round(value, digits) + 0.0:{'+' if sign else ''},.{digits}f}"


def percent(share: float) -> str:
    """A share as a percentage, without the sign: 0.953 is 95.3."""
    return decimal(100 * share) if known(share) else DASH


def interval(share: float, low: float, high: float) -> str:
    """A share with its interval, in percent: 95.3 [90, 98]."""
    if not known(share) or not known(low):
        return percent(share)
    return f"{percent(share)} [{100 * low:.0f}, {100 * high:.0f}]"


def number(value: float) -> str:
    """A count, or a mean of counts, with few decimals."""
    if not known(value):
        return DASH
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:,.1f}"


def of(part: float, whole: float) -> str:
    """A part of a whole: 2/8."""
    return f"{number(part)}/{number(whole)}" if known(part) else DASH


def arrow(before: float, after: float) -> str:
    """A share before and after, in percent: 2.0 → 4.0."""
    return f"{percent(before)} → {percent(after)}" if known(before) and known(after) else DASH


def change(value: float, low: float | None, high: float | None, digits: int = 1) -> str:
    """A difference with its interval: +3.1 [-0.4, 6.6]."""
    shown = decimal(value, digits, sign=True)
    if not known(value) or not known(low) or not known(high):
        return shown
    return f"{shown} [{decimal(float(low or 0), digits)}, {decimal(float(high or 0), digits)}]"


def estimate(value: float, low: float | None, high: float | None, digits: int = 1) -> str:
    """A number with its interval: 3.1 [2.0, 4.2]."""
    return change(value, low, high, digits).removeprefix("+")


def star(p: float | None) -> str:
    """The mark of a p-value that is significant."""
    return "*" if p is not None and p < SIGNIFICANT else ""


def p_value(value: float) -> str:
    """A p-value to two digits; below .001 it says only that."""
    if not known(value):
        return DASH
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0") if value < 0.0995 else f"{value:.2f}"
