"""Pictures of what a network drew. Colours are Okabe & Ito's, distinguishable with any colour vision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dermdistill.core.files import atomic_path
from dermdistill.core.numbers import percent
from dermdistill.imaging import UInt8Array, overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUTH, STUDENT, TEACHER = (240, 228, 66), (86, 180, 233), (213, 94, 0)
DRAWN = 384
"""Side in pixels at which outlines are drawn: smaller images are enlarged first, so that lines stay fine."""
PANEL = 256
"""The same for TensorBoard's panel, which is kept once per epoch."""


@dataclass(frozen=True, eq=False)
class Case:
    """One image with its truth and prediction, for a gallery."""

    image_id: str
    dice: float
    image: UInt8Array
    truth: UInt8Array
    prediction: UInt8Array


def panel(
    images: UInt8Array, truth: UInt8Array, teacher: UInt8Array | None, student: UInt8Array
) -> UInt8Array:
    """Draw images in rows of four, outlines of truth (yellow), teacher (red) and student (blue), a legend.

    Args:
        images: uint8 [n, h, w, 3].
        truth: {0, 1} uint8 [n, h, w].
        teacher: The same, or None.
        student: {0, 1} uint8 [n, h, w].

    Returns:
        uint8 [H, W, 3].
    """
    drawn = []
    for i, image in enumerate(images):
        masks = [(truth[i], TRUTH), (student[i], STUDENT)]
        if teacher is not None:
            masks.insert(1, (teacher[i], TEACHER))
        drawn.append(outlined(image, masks, PANEL))
    columns = min(4, len(images))
    while len(drawn) % columns:
        drawn.append(np.full_like(drawn[0], 255))
    rows = [np.concatenate(drawn[i : i + columns], axis=1) for i in range(0, len(drawn), columns)]
    named = {"truth": TRUTH, "teacher": TEACHER, "student": STUDENT}
    if teacher is None:
        named = {"truth": TRUTH, "prediction": STUDENT}
    return np.concatenate([*rows, _legend(named, rows[0].shape[1])], axis=0)


def outlined(
    image: UInt8Array, masks: Sequence[tuple[UInt8Array, tuple[int, int, int]]], at_least: int = DRAWN
) -> UInt8Array:
    """An image with outlines; a smaller one is enlarged first, so that the lines stay fine.

    Args:
        image: uint8 [h, w, 3].
        masks: {0, 1} uint8 [h, w] with an RGB colour each, drawn in order.
        at_least: Shortest side in pixels that needs no enlarging; a smaller image becomes a square of it.

    Returns:
        uint8 [H, W, 3], a new array.

    Examples:
        >>> import numpy as np
        >>> from dermdistill import outlined
        >>> image, mask = np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80), np.uint8)
        >>> mask[20:40, 20:60] = 1
        >>> outlined(image, [(mask, (255, 0, 0))], at_least=60).max()
        np.uint8(255)
    """
    if min(image.shape[:2]) >= at_least:
        return overlay(image, masks)
    side = (at_least, at_least)
    large = np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BICUBIC))
    grown = [
        (np.asarray(Image.fromarray(m * np.uint8(255)).resize(side, Image.Resampling.BICUBIC)) > 127, color)
        for m, color in masks
    ]
    return overlay(large, [(m.astype(np.uint8), color) for m, color in grown])


def _legend(named: Mapping[str, tuple[int, int, int]], width: int) -> UInt8Array:
    """A strip that says which colour is whose, uint8 [28, width, 3]."""
    strip = Image.new("RGB", (width, 28), (40, 40, 40))
    pen, font, x = ImageDraw.Draw(strip), ImageFont.load_default(15), 10
    for name, color in named.items():
        pen.rectangle((x, 12, x + 20, 15), fill=color)
        pen.text((x + 27, 14), name, font=font, fill=(255, 255, 255), anchor="lm")
        x += 27 + round(pen.textlength(name, font=font)) + 22
    return np.asarray(strip)


def case_grid(path: Path, groups: Mapping[str, Sequence[Case]]) -> None:
    """Draw one row per group (best, median, worst), outlines of truth and prediction, id and Dice above each.

    Args:
        path: PNG to write.
        groups: Cases by the title of their row; none is empty.
    """
    from matplotlib.lines import Line2D

    columns = max(len(cases) for cases in groups.values())
    figure = _figure(2.5 * columns + 0.5, 2.75 * len(groups) + 0.5)
    axes = figure.subplots(len(groups), columns, squeeze=False)
    for row, (title, cases) in zip(axes, groups.items(), strict=True):
        for column, axis in enumerate(row):
            axis.set_axis_off()
            if column < len(cases):
                case = cases[column]
                axis.imshow(outlined(case.image, [(case.truth, TRUTH), (case.prediction, STUDENT)]))
                axis.set_title(f"{case.image_id}   Dice {percent(case.dice, 1)}", fontsize=8)
        row[0].text(
            -0.06, 0.5, title, transform=row[0].transAxes, rotation=90, va="center", ha="center", fontsize=11
        )
    handles = [Line2D([], [], color=_unit(c), lw=3) for c in (TRUTH, STUDENT)]
    figure.legend(handles, ["truth", "prediction"], loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)


def dice_distribution(path: Path, dice: NDArray[np.float64], interval: tuple[float, float, float]) -> None:
    """Draw a histogram of Dice per image, with the mean and its 95 % interval.

    Args:
        path: PNG to write.
        dice: float64 [n], in [0, 1].
        interval: Mean, lower and upper end, in [0, 1].
    """
    figure = _figure(6.4, 3.6)
    axis = figure.subplots()
    low = np.floor(20 * float(dice.min())) / 20
    axis.hist(dice, bins=np.linspace(min(low, 0.95), 1, 41).tolist(), color=_unit(STUDENT), lw=0)
    mean, left, right = interval
    axis.axvspan(left, right, color="0.2", alpha=0.2, lw=0)
    axis.axvline(mean, color="0.1", lw=1.5)
    axis.set_title(
        f"Dice of {len(dice)} images: mean {percent(mean)} (95 % CI {percent(left)} to {percent(right)})",
        fontsize=10,
    )
    axis.set_xlabel("Dice")
    axis.set_ylabel("images")
    axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def failure_grid(path: Path, cases: Sequence[Case], title: str, columns: int = 6) -> None:
    """Draw failures in rows, outlines of truth and prediction, id and Jaccard above each.

    Args:
        path: PNG to write.
        cases: The failures, with their Jaccard in `Case.dice`.
        title: Above the figure.
        columns: Most of them in a row.
    """
    from matplotlib.lines import Line2D

    columns = min(columns, len(cases))
    lines = -(-len(cases) // columns)
    figure = _figure(max(2.5 * columns, 5.0), 2.75 * lines + 0.9)
    figure.suptitle(title, fontsize=11)
    for number, axis in enumerate(figure.subplots(lines, columns, squeeze=False).flat):
        axis.set_axis_off()
        if number < len(cases):
            case = cases[number]
            axis.imshow(outlined(case.image, [(case.truth, TRUTH), (case.prediction, STUDENT)]))
            axis.set_title(f"{case.image_id}   Jaccard {percent(case.dice, 1)}", fontsize=8)
    handles = [Line2D([], [], color=_unit(c), lw=3) for c in (TRUTH, STUDENT)]
    figure.legend(handles, ["truth", "prediction"], loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)


def reliability(path: Path, calibration: Mapping[str, Any]) -> None:
    """Plot the observed share of lesion against predicted probability; below, the share of pixels per bin.

    Args:
        path: PNG to write.
        calibration: As `dermdistill.metrics.calibration.Reliability.to_json` returns it.
    """
    bins = [b for b in calibration["bins"] if b["pixels"]]
    figure = _figure(4.6, 5.2)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    top.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--", label="perfect")
    points = [[b[key] for b in bins] for key in ("confidence", "accuracy")]
    top.plot(*points, color=_unit((0, 114, 178)), marker="o", ms=4, lw=1.5, label="measured")
    top.set_ylabel("observed share of lesion")
    top.set_title(f"Reliability: ECE {percent(calibration['ece'])} %", fontsize=10)
    top.legend(frameon=False, loc="upper left")
    top.set(xlim=(0, 1), ylim=(0, 1))
    left, width = [b["low"] for b in bins], [b["high"] - b["low"] for b in bins]
    below.bar(left, [b["share"] for b in bins], width, align="edge", color=_unit(STUDENT), lw=0)
    below.set_yscale("log")
    below.set(xlabel="predicted lesion probability", ylabel="share of pixels")
    for axis in (top, below):
        axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def side_by_side(
    path: Path,
    ids: Sequence[str],
    images: UInt8Array,
    truth: UInt8Array,
    prediction: UInt8Array,
    teacher: UInt8Array | None = None,
) -> None:
    """Draw a row per image: the image, the true mask, the prediction, and the teacher's where it is given.

    Args:
        path: PNG to write.
        ids: Names, n of them.
        images: uint8 [n, h, w, 3].
        truth: {0, 1} uint8 [n, h, w].
        prediction: {0, 1} uint8 [n, h, w].
        teacher: The same, or None.
    """
    columns = [("truth", truth), ("prediction", prediction)]
    if teacher is not None:
        columns.append(("teacher", teacher))
    width = 2.2 * (len(columns) + 1)
    figure = _figure(width, 2.25 * len(ids) + 0.3)
    axes = figure.subplots(len(ids), len(columns) + 1, squeeze=False)
    for i, (name, row) in enumerate(zip(ids, axes, strict=True)):
        row[0].imshow(images[i])
        row[0].set_ylabel(name, fontsize=8)
        for axis, (_, masks) in zip(row[1:], columns, strict=True):
            axis.imshow(masks[i], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, title in zip(axes[0], ["image", *(title for title, _ in columns)], strict=True):
        axis.set_title(title, fontsize=11)
    _save(figure, path)


def _unit(color: tuple[int, int, int]) -> tuple[float, float, float]:
    return color[0] / 255, color[1] / 255, color[2] / 255


def _figure(width: float, height: float) -> Figure:
    """A figure of its own: pyplot's global state is not touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
