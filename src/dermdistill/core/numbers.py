"""Numbers as people read them. Every table, report and line of text takes them from here, so that all agree.

Scores are fractions in 0 to 1 and are shown in percent; differences of scores are shown in points.
"""

from __future__ import annotations

import datetime
from typing import Protocol

NONE = "–"
"""Stands where there is no number."""
MINUS = "−"


class MeanWithInterval(Protocol):
    """Anything that has a mean and a confidence interval."""

    @property
    def mean(self) -> float:
        """The mean."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent, without the sign.

    Examples:
        >>> percent(0.8749), percent(None)
        ('87.49', '–')
    """
    return NONE if value is None else f"{100 * value:.{digits}f}"


def span(value: MeanWithInterval, digits: int = 2) -> str:
    """The ends of an interval in percent: ``85.65 to 88.88``."""
    return f"{percent(value.low, digits)} to {percent(value.high, digits)}"


def interval(value: MeanWithInterval | None, digits: int = 2, *, between: str = "–") -> str:
    """A mean and its interval in percent: ``87.49 (85.65–88.88)``; ``between`` stands between the ends."""
    if value is None:
        return NONE
    low, high = percent(value.low, digits), percent(value.high, digits)
    return f"{percent(value.mean, digits)} ({low}{between}{high})"


def signed(value: float, digits: int = 2) -> str:
    """A difference in points, with a true minus sign; what rounds to zero has no sign.

    Examples:
        >>> signed(0.0042), signed(-0.0042), signed(-0.00001)
        ('+0.42', '−0.42', '0.00')
    """
    text = f"{100 * value:+.{digits}f}"
    if float(text) == 0:
        return text.lstrip("+-")
    return text.replace("-", MINUS)


def difference(value: MeanWithInterval | None) -> str:
    """A difference and its interval, in points: ``+0.42 (−0.10 to +0.94)``."""
    if value is None:
        return NONE
    return f"{signed(value.mean)} ({signed(value.low)} to {signed(value.high)})"


def p_value(value: float | None) -> str:
    """A probability: ``0.012``, or ``< 0.001``."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def whole(value: int | None) -> str:
    """A whole number with commas: ``12,345``."""
    return NONE if value is None else f"{value:,}"


def operations(value: int | None) -> str:
    """Multiply-accumulates: ``1.24 G``, ``87.3 M``."""
    if value is None:
        return NONE
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def file_size(value: int | None) -> str:
    """Bytes on disk, decimal: ``1.93 MB``, ``412 kB``."""
    if value is None:
        return NONE
    if value >= 1e6:
        return f"{value / 1e6:.2f} MB" if value < 1e8 else f"{value / 1e6:.0f} MB"
    return f"{value / 1e3:.0f} kB" if value >= 1e3 else f"{value} B"


def duration(seconds: float | None) -> str:
    """A time: ``48 s``, ``12 min``, ``3.4 h``."""
    if seconds is None:
        return NONE
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def moment(iso: str) -> str:
    """``2026-11-24 21:00 UTC`` of an ISO 8601 moment; anything else is left as it is."""
    try:
        then = datetime.datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return then.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC") if then.tzinfo else iso
