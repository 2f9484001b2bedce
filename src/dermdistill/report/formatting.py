"""Numbers as people read them. Every format of the report takes them from here, so that all agree."""

from __future__ import annotations

import datetime

from dermdistill.metrics.intervals import Interval
from dermdistill.report.model import Difference

NONE = "–"
"""Stands where there is no number."""
_MINUS = "−"


def percent(value: float | None, digits: int = 2) -> str:
    """0.8749 → ``87.49``."""
    return NONE if value is None else f"{100 * value:.{digits}f}"


def interval(value: Interval | None, digits: int = 2) -> str:
    """``87.49 (85.65–88.88)``."""
    if value is None:
        return NONE
    return f"{percent(value.mean, digits)} ({percent(value.low, digits)}–{percent(value.high, digits)})"


def signed(value: float, digits: int = 2) -> str:
    """0.0042 → ``+0.42``, with a true minus sign; what rounds to zero has no sign."""
    text = f"{100 * value:+.{digits}f}"
    if float(text) == 0:
        return text.lstrip("+-")
    return text.replace("-", _MINUS)


def difference(value: Difference | None) -> str:
    """``+0.42 (−0.10 to +0.94)``, in points."""
    if value is None:
        return NONE
    return f"{signed(value.mean)} ({signed(value.low)} to {signed(value.high)})"


def p_value(value: float | None) -> str:
    """``0.012``, or ``< 0.001``."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def whole(value: int | None) -> str:
    """12345 → ``12,345``."""
    return NONE if value is None else f"{value:,}"


def operations(value: int | None) -> str:
    """Multiply-accumulates: ``1.24 G``, ``87.3 M``."""
    if value is None:
        return NONE
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def size(value: int | None) -> str:
    """Bytes on disk, decimal: ``1.93 MB``, ``412 kB``."""
    if value is None:
        return NONE
    if value >= 1e6:
        return f"{value / 1e6:.2f} MB" if value < 1e8 else f"{value / 1e6:.0f} MB"
    return f"{value / 1e3:.0f} kB" if value >= 1e3 else f"{value} B"


def duration(seconds: float | None) -> str:
    """``48 s``, ``12 min``, ``3.4 h``."""
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
