"""The figure of the bench: Dice against latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dermdistill.core.files import atomic_path
from dermdistill.core.numbers import file_size
from dermdistill.metrics.intervals import Interval

_INK, _GRID = "#222222", "#DDDDDD"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

Point = tuple[str, float, Interval, int | None]
"""Name, latency as a multiple of the first network's, Dice, bytes of the file."""


def dice_latency(path: Path, points: Sequence[Point], title: str, first: str) -> None:
    """One point per network, its 95 % interval as a bar; a key at the side explains colours and marks.

    The time is that of a network over the first one's in the same turns: what a busy machine leaves true.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(8.6, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    for number, (name, ratio, dice, size) in enumerate(sorted(points, key=lambda point: point[1])):
        mean, bar = 100 * dice.mean, [[100 * (dice.mean - dice.low)], [100 * (dice.high - dice.mean)]]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.errorbar(
            [ratio], [mean], yerr=bar, fmt=_MARKERS[number % len(_MARKERS)], color=colour, ecolor=colour,
            elinewidth=1.2, capsize=3, markersize=8, zorder=3,
            label=f"{name}\n{ratio:.2f} ×, Dice {mean:.2f}" + (f", {file_size(size)}" if size else ""),
        )  # fmt: skip
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.6), max(high, 1.7))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"latency, multiples of {first} (one image, one thread; logarithmic)")
    axes.set_ylabel("Dice, % (mean per image, 95 % CI)")
    axes.set_title(title, fontsize=11, loc="left", color=_INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9.5, labelspacing=0.9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
