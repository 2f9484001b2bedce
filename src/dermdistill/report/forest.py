"""The forest plot of the subgroups: in which images the difference (or the score) is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dermdistill.report.model import Level
from dermdistill.report.plots import add_legend, new_figure, shorten
from dermdistill.report.theme import Palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def forest(levels: Sequence[Level], arms: Sequence[str], places: Sequence[int], palette: Palette) -> Figure:
    """Difference to the baseline (without one: Dice) and interval of each level; small ones hollow."""
    paired = any(s.difference is not None for s in levels)
    rows = list(dict.fromkeys((s.name, s.level) for s in levels))
    names = list(dict.fromkeys(name for name, _ in rows))
    lines = len(rows) + len(names)
    figure, axis = new_figure(0.9 + (0.23 + 0.1 * min(len(arms), 5)) * lines)
    found = {(s.name, s.level, s.arm): s for s in levels}
    place_y, y = {}, 0.0
    for name in names:
        axis.text(
            -0.02,
            y,
            name,
            transform=axis.get_yaxis_transform(),
            ha="right",
            va="center",
            fontweight="bold",
            fontsize=11,
        )
        y += 1
        for row in (r for r in rows if r[0] == name):
            place_y[row] = y
            y += 1
    spread = 0.62 / max(1, len(arms))
    left, right = _range(levels, paired)
    for index, (arm, place) in enumerate(zip(arms, places, strict=True)):
        colour = palette.of(place)
        for row, at in place_y.items():
            level = found.get((*row, arm))
            value = (level.difference if paired else level.dice) if level else None
            if level is None or value is None:
                continue
            height = at + (index - (len(arms) - 1) / 2) * spread
            inside = palette.ground if level.small else colour
            low, mean, high = (100 * v for v in (value.low, value.mean, value.high))
            axis.plot(np.clip([low, high], left, right), [height, height], color=colour, lw=1.3)
            sign = "<" if mean < left else ">" if mean > right else "o"
            axis.plot(np.clip(mean, left, right), height, sign, ms=4.5, color=colour, mew=1.2, mfc=inside)
        axis.plot([], [], "o-", color=colour, label=arm)
    margin = 0.04 * (right - left)
    axis.set_xlim(left - margin, right + margin)
    counts = {row: next(s.n for s in levels if (s.name, s.level) == row) for row in rows}
    axis.set_yticks(list(place_y.values()), [shorten(level, 28) for _, level in place_y])
    for row, at in place_y.items():
        axis.text(
            1.01,
            at,
            f"{counts[row]}",
            transform=axis.get_yaxis_transform(),
            ha="left",
            va="center",
            fontsize=10.5,
            color=palette.muted,
        )
    axis.text(
        1.01,
        0,
        "n",
        transform=axis.get_yaxis_transform(),
        ha="left",
        va="center",
        fontsize=10.5,
        color=palette.muted,
    )
    axis.set_ylim(y - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    if paired:
        axis.axvline(0, color=palette.muted, lw=1)
    axis.set_xlabel("ΔDice, points" if paired else "Dice, %")
    if len(arms) > 1:
        add_legend(figure, axis)
    return figure


def _range(levels: Sequence[Level], paired: bool) -> tuple[float, float]:
    """Ends of the axis in percent: a handful of images must not squeeze the rest; arrows stand beyond."""
    held = [(s, s.difference if paired else s.dice) for s in levels]
    values = [v for s, v in held if v and not s.small] or [v for _, v in held if v]
    low, high = min(v.low for v in values), max(v.high for v in values)
    room = 0.5 * (high - low) or 0.01
    low, high = low - room, high + room
    if paired:
        return 100 * min(low, 0.0), 100 * max(high, 0.0)
    return 100 * max(low, 0.0), 100 * min(high, 1.0)
