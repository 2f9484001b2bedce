"""The frontier's figure: Dice against latency, and which networks nothing beats (used by frontier.py)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dermdistill.core.files import atomic_path

if TYPE_CHECKING:
    from frontier_table import Row
    from matplotlib.figure import Figure

OURS, OTHERS, QUOTED, INK = "#0072B2", "#444444", "#D55E00", "#222222"  # Okabe and Ito's
SIDES = [(1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1), (-1, 0)]
"""Of a mark, for its label: right and up are 1. A corner is tried beside the mark, and flush with it."""


def milliseconds(row: Row) -> float:
    """Its median latency in the first of the settings."""
    return next(iter(row.latency.values())).median_ms


def pareto(rows: Sequence[Row]) -> list[Row]:
    """Rows with a measured Dice that no other beats in latency and Dice at once, fastest first."""
    kept: list[Row] = []
    for row in sorted((row for row in rows if row.dice), key=milliseconds):
        if not kept or row.dice.mean > kept[-1].dice.mean:
            kept.append(row)
    return kept


def draw(rows: Sequence[Row], path: Path, about: str, line: Sequence[str] = ()) -> None:
    """Write `figure_of` as a PNG of 1200×780 pixels."""
    figure = figure_of(rows, about, line)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def figure_of(rows: Sequence[Row], about: str, line: Sequence[str] = ()) -> Figure:
    """Dice against latency (log): measured networks filled, quoted ones hollow, the frontier shaded.

    Networks whose Dice is not known stand as ticks on the latency axis.

    Args:
        rows: At least one of them with Dice.
        about: Above the figure.
        line: Names that are joined, in this order, and stand out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    _limits(axes, rows)
    steps = [(milliseconds(row), 100 * row.dice.mean) for row in pareto(rows)]
    steps.append((axes.get_xlim()[1], steps[-1][1]))
    axes.fill_between(
        *np.array(steps).T, y2=0, step="post", color=OURS, alpha=0.07, lw=0,
        label="another beats it in both",
    )  # fmt: skip
    ends = {row.name: (milliseconds(row), 100 * row.dice.mean) for row in rows if row.dice}
    if joined := [ends[name] for name in line if name in ends]:
        axes.plot(*np.array(joined).T, color=OURS, lw=1.6, zorder=2)
    marks = [_mark(axes, row, row.name in line) for row in rows if row.dice or row.quoted]
    for row in rows:
        if not (row.dice or row.quoted):
            _tick(axes, row)
    axes.set_xlabel(f"latency of one image in ms, {_threads(rows[0])} (logarithmic)", fontsize=11)
    axes.set_ylabel("Dice per image in %, mean and 95 % interval", fontsize=11)
    axes.set_title(about, fontsize=9, color="#555555", loc="left")
    _legend(figure, axes)
    axes.grid(alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.draw_without_rendering()
    taken = [joined] if joined else []
    taken += [
        [(milliseconds(row), 100 * row.dice.low), (milliseconds(row), 100 * row.dice.high)]
        for row in rows
        if row.dice
    ]
    _label(figure, axes, marks, [p for ends in taken for p in _along(axes.transData.transform(ends))])
    return figure


def _threads(row: Row) -> str:
    threads = next(iter(row.latency)).partition("x")[0]
    return "1 thread" if threads == "1" else f"{threads} threads"


def _limits(axes: Any, rows: Sequence[Row]) -> None:
    """Room for labels at the sides, and below for the ticks of networks without Dice."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    times = [milliseconds(row) for row in rows]
    axes.set_xlim(min(times) / 4.5, max(times) * 2.2)
    seen = [v for row in rows if row.dice for v in (100 * row.dice.low, 100 * row.dice.high)]
    seen += [row.quoted for row in rows if row.quoted]
    span = max(seen) - min(seen) or 1.0
    bare = any(not (row.dice or row.quoted) for row in rows)
    axes.set_ylim(min(seen) - (0.45 if bare else 0.12) * span, max(seen) + 0.1 * span)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _mark(axes: Any, row: Row, ours: bool) -> tuple[float, float, str, str, bool]:
    """Draw one network; answers where, what to write beside it, in which colour, and whether in bold."""
    x, size = milliseconds(row), f"{row.parameters / 1e6:.2f} M"
    if not row.dice:
        axes.plot(
            x, row.quoted, marker="o", ms=9, mfc="white", mec=QUOTED, mew=1.8, ls="", zorder=3, label="quoted"
        )
        return x, row.quoted, f"{row.name} (quoted)\n{row.quoted:.2f} · {size}", QUOTED, False
    mean, low, high = (100 * value for value in (row.dice.mean, row.dice.low, row.dice.high))
    colour = OURS if ours else OTHERS
    axes.plot([x, x], [low, high], color=colour, alpha=0.35, lw=1.4, zorder=1)
    axes.plot(
        x, mean, marker="o" if ours else "s", ms=10 if ours else 8, color=colour, mec="white", ls="",
        zorder=4, label="measured, one family" if ours else "measured",
    )  # fmt: skip
    return x, mean, f"{row.name}\n{mean:.2f} · {size}", colour, ours


def _tick(axes: Any, row: Row) -> None:
    x = milliseconds(row)
    axes.plot(
        x, 0.013, marker="|", ms=12, mew=1.6, color=OTHERS, ls="", label="latency alone",
        transform=axes.get_xaxis_transform(),
    )  # fmt: skip
    axes.annotate(
        row.name, (x, 0.035), xycoords=("data", "axes fraction"), fontsize=9, color=OTHERS, rotation=90,
        ha="center", va="bottom",
    )  # fmt: skip


def _legend(figure: Any, axes: Any) -> None:
    """Each kind of mark once."""
    kinds = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        kinds.values(), kinds.keys(), loc="outside lower center", ncols=len(kinds), frameon=False, fontsize=9,
        handletextpad=0.4, columnspacing=1.4,
    )  # fmt: skip


def _along(ends: np.ndarray) -> list[np.ndarray]:
    """Points on a broken line, in pixels: labels keep off it."""
    share = np.linspace(0, 1, 40)[:, None]
    parts = [a + share * (b - a) for a, b in itertools.pairwise(ends)]
    return list(np.concatenate(parts)) if parts else []


def _label(figure: Any, axes: Any, marks: Sequence[tuple[float, float, str, str, bool]], line: list) -> None:
    """Write each label on that side of its mark where it covers least of marks, lines and other labels."""
    from matplotlib.transforms import Bbox

    spots = [axes.transData.transform((x, y)) for x, y, *_ in marks]
    boxes = [Bbox.from_extents(x - 9, y - 9, x + 9, y + 9) for x, y in spots]
    inside = axes.get_window_extent()
    for x, y, text, colour, bold in sorted(marks):
        best = None
        for reach, aside in itertools.product((10, 18, 28), (1, 0)):
            for h, v in SIDES if aside else [side for side in SIDES if all(side)]:
                note = axes.annotate(
                    text, (x, y), xytext=(reach * h * aside, reach * v), textcoords="offset points",
                    fontsize=10, color=colour, weight="bold" if bold else "normal", linespacing=1.2,
                    ha=("right", "center", "left")[h + 1], va=("top", "center", "bottom")[v + 1],
                )  # fmt: skip
                box = note.get_window_extent(figure.canvas.get_renderer())
                cost = 20.0 * box.count_overlaps(boxes) + sum(bool(box.contains(*point)) for point in line)
                cost += 50 * (not (inside.contains(*box.min) and inside.contains(*box.max))) + reach / 3
                if best is None or cost < best[0]:
                    if best:
                        best[1].remove()
                    best = cost, note, box
                else:
                    note.remove()
        assert best is not None
        boxes.append(best[2])
