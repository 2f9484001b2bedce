"""The report's figures. Each function draws one on a figure of its own and returns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dermdistill.core import numbers
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.report.model import Arm
from dermdistill.report.theme import Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 400 / 72
"""Inches; 400 units in the SVG, so that 10 units of text are still read on a phone 390 pixels wide."""
_JITTER = 0.13


def curves(arms: Sequence[Arm], places: Sequence[int], column: str, label: str, palette: Palette) -> Figure:
    """A column of metrics.csv over the epochs: seeds thin, their mean bold, the kept epoch dotted."""
    from matplotlib.ticker import MaxNLocator

    figure, axis = new_figure(3.5)
    drawn = False
    for arm, place in zip(arms, places, strict=True):
        colour, runs = (
            palette.of(place),
            [c for c in arm.cells if any(v is not None for v in c.curve.get(column, []))],
        )
        for cell in runs:
            values = np.array([np.nan if v is None else v for v in cell.curve[column]]) * 100
            epochs = np.array(cell.curve.get("epoch") or range(1, len(values) + 1), dtype=float)
            axis.plot(epochs, values, color=colour, lw=0.8, alpha=0.55 if len(runs) > 1 else 1)
            if cell.best_epoch and cell.best_epoch in epochs:
                best = int(np.flatnonzero(epochs == cell.best_epoch)[0])
                axis.plot(epochs[best], values[best], "o", ms=3.5, color=colour)
        if runs:
            drawn = True
            shortest = min(len(cell.curve[column]) for cell in runs)
            mean = np.mean(
                [[np.nan if v is None else v for v in c.curve[column][:shortest]] for c in runs], axis=0
            )
            first = runs[0].curve.get("epoch") or range(1, shortest + 1)
            axis.plot(np.array(first[:shortest], dtype=float), 100 * mean, color=colour, lw=2, label=arm.name)
    axis.set_xlabel("epoch")
    axis.set_ylabel(label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if drawn:
        add_legend(figure, axis)
    return figure


def distribution(
    arms: Sequence[Arm], places: Sequence[int], people: InterRaterAgreement | None, palette: Palette
) -> Figure:
    """Dice of each image (mean of its seeds) as points, with box and mean, one row per arm."""
    figure, axis = new_figure(0.95 + 0.62 * len(arms) + (0.3 if people else 0))
    rng = np.random.default_rng(0)  # of the jitter only
    for row, (arm, place) in enumerate(zip(arms, places, strict=True)):
        if arm.per_image is None:
            continue
        dice, colour = 100 * arm.per_image.columns["dice"], palette.of(place)
        lift = row + 0.2 + rng.uniform(-_JITTER, _JITTER, len(dice))
        axis.plot(dice, lift, "o", ms=2.2, mew=0, color=colour, alpha=0.5)
        box = axis.boxplot(
            dice,
            positions=[row - 0.16],
            orientation="horizontal",
            widths=0.2,
            showfliers=False,
            showmeans=True,
            meanprops={"marker": "D", "markersize": 4, "markerfacecolor": colour, "markeredgecolor": "none"},
        )
        for part in ("boxes", "whiskers", "caps", "medians"):
            for line in box[part]:
                line.set(color=colour, linewidth=2 if part == "medians" else 1)
    if people:
        mean, low, high = (100 * v for v in (people.mean, people.low, people.high))
        axis.axvspan(low, high, color=palette.muted, alpha=0.15, lw=0)
        axis.axvline(mean, color=palette.muted, lw=1.2, ls=(0, (4, 3)))
        axis.text(
            mean,
            -0.62,
            f"human–human {numbers.percent(people.mean)} ",
            color=palette.muted,
            ha="right",
            va="center",
            fontsize=10.5,
        )
    axis.set_yticks(range(len(arms)), [shorten(arm.name) for arm in arms])
    axis.set_ylim(len(arms) - 0.5, -0.9 if people else -0.5)
    axis.set_xlabel("Dice of an image, %")
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    return figure


def teacher_student(teacher: Arm, students: Sequence[Arm], places: Sequence[int], palette: Palette) -> Figure:
    """Dice of each image: the teacher's across, the students' up; on the diagonal they are equal."""
    figure, axis = new_figure(4.7)
    assert teacher.per_image is not None
    across = dict(zip(teacher.per_image.image_id, 100 * teacher.per_image.columns["dice"], strict=True))
    lowest = 100.0
    for arm, place in zip(students, places, strict=True):
        if arm.per_image is None:
            continue
        pairs = [
            (across[name], 100 * value)
            for name, value in zip(arm.per_image.image_id, arm.per_image.columns["dice"], strict=True)
            if name in across
        ]
        x, y = np.array(pairs).T
        lowest = min(lowest, float(x.min()), float(y.min()))
        axis.plot(x, y, "o", ms=3, mew=0, color=palette.of(place), alpha=0.5, label=arm.name)
    low = max(0.0, 10 * np.floor(lowest / 10 - 0.1))
    axis.plot([low, 100], [low, 100], color=palette.muted, lw=0.8, zorder=0)
    axis.set(xlim=(low, 101), ylim=(low, 101), xlabel=f"Dice of the teacher ({shorten(teacher.name)}), %")
    axis.set_ylabel("Dice of the student, %")
    axis.set_aspect("equal")
    add_legend(figure, axis)
    return figure


def reliability(arms: Sequence[Arm], places: Sequence[int], palette: Palette) -> Figure:
    """Predicted probability against the share that is lesion; below it the share of pixels in each bin."""
    figure, (axis, below) = _figures(4.7, [4, 1])
    axis.plot([0, 100], [0, 100], color=palette.muted, lw=0.8, zorder=0)
    for arm, place in zip(arms, places, strict=True):
        if arm.calibration is None or not arm.calibration.points:
            continue
        colour = palette.of(place)
        x, y, share = 100 * np.array(arm.calibration.points).T
        label = f"{shorten(arm.name)} (ECE {numbers.percent(arm.calibration.ece)} %)"
        axis.plot(x, y, "o-", ms=3.5, lw=1.3, color=colour, label=label)
        below.plot(x, 100 * share / share.sum(), "o-", ms=2, lw=1, color=colour)
    axis.set(xlim=(0, 100), ylim=(0, 100), ylabel="lesion, % of pixels")
    below.set(xlim=(0, 100), xlabel="predicted probability, %")
    below.set_yscale("log")
    below.yaxis.set_major_formatter("{x:g}")
    below.yaxis.set_minor_formatter("")
    below.set_ylim(top=100)
    below.set_ylabel("pixels, %")
    axis.tick_params(labelbottom=False)
    add_legend(figure, axis)
    return figure


def new_figure(height: float) -> tuple[Figure, Axes]:
    """A figure as wide as the others and ``height`` inches high, with its axes."""
    figure, axes = _figures(height, [1])
    return figure, axes[0]


def _figures(height: float, ratios: list[float]) -> tuple[Figure, list[Axes]]:
    """A figure that does not touch pyplot's global state, with axes one above another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=72, layout="constrained")
    FigureCanvasAgg(figure)
    found: Any = figure.subplots(len(ratios), 1, squeeze=False, height_ratios=ratios)
    return figure, list(found[:, 0])


def add_legend(figure: Figure, axis: Axes) -> None:
    """Below the axes, in as many columns as the names leave room for."""
    handles, labels = axis.get_legend_handles_labels()
    columns = next((n for n in range(len(labels), 1, -1) if _letters(labels, n) <= 58), 1)
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, handlelength=1.4, columnspacing=1.4
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)  # points are drawn faint because they are many


def _letters(labels: Sequence[str], columns: int) -> int:
    """Width of a legend in letters; like matplotlib, the first columns get what is left over."""
    return sum(6 + max(map(len, part.tolist())) for part in np.array_split(np.array(labels), columns))


def shorten(text: str, most: int = 22) -> str:
    """At most so many letters, cut with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"
