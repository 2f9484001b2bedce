"""The figure of the bench: Dice against latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dermdistill.files import atomic_path
from dermdistill.metrics import Interval

_BLUE, _INK, _GRID = "#0072B2", "#222222", "#DDDDDD"

Point = tuple[str, float, Interval, int | None]
"""Name, median ms for one image on one thread, Dice, bytes of the file."""


def dice_latency(path: Path, points: Sequence[Point], title: str) -> None:
    """One point per network, its 95 % interval as a bar, its name and size beside it; logarithmic time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ordered = sorted(points, key=lambda point: point[1])
    low, high = ordered[0][1], ordered[-1][1]
    spread = max(high / low, 2.0)
    axes.set_xscale("log")
    axes.set_xlim(low / spread**0.15, high * spread**0.15)
    for place, (name, milliseconds, dice, size) in enumerate(ordered):
        mean, bar = 100 * dice.mean, [[100 * (dice.mean - dice.low)], [100 * (dice.high - dice.mean)]]
        axes.errorbar(
            [milliseconds], [mean], yerr=bar, fmt="o", color=_BLUE, ecolor=_BLUE, elinewidth=1.2, capsize=3,
            markersize=7, zorder=3,
        )  # fmt: skip
        told = name if size is None else f"{name} ({size / 1e6:.2f} MB)"
        # Names inwards from either half, neighbours above and below in turn.
        right = milliseconds**2 < low * high or len(ordered) == 1
        axes.annotate(
            told, (milliseconds, mean), xytext=(9 if right else -9, 9 if place % 2 == 0 else -13),
            textcoords="offset points", ha="left" if right else "right", fontsize=9.5, color=_INK,
        )  # fmt: skip
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("latency of one image on one thread, ms (median; logarithmic)")
    axes.set_ylabel("Dice, % (mean per image, 95 % CI)")
    axes.set_title(title, fontsize=11, loc="left", color=_INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
