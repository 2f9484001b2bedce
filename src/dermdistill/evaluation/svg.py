"""Small charts as SVG text, for pages that need no plotting library, and the frame of those pages."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermdistill import imaging
from dermdistill.imaging import UInt8Array

TRUE_COLOUR, PRED_COLOUR = (230, 159, 0), (0, 114, 178)
"""Okabe and Ito's orange and blue: told apart by everybody."""
MOST_DOTS = 2000
"""A chart with more shows a fixed choice of so many."""

Values = NDArray[np.float64]

_WIDTH, _HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 44

STYLE = """
:root { color-scheme: light; --ink: #1d2327; --soft: #5b666e; --line: #d9dee2; --blue: #0072b2;
  --orange: #b36b00; --paper: #fff; --tint: #f4f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--tint); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.05rem; font-weight: 600; color: var(--soft); margin: 0 0 10px; }
h2 { font-size: 1.15rem; margin: 36px 0 12px; }
.answer { font-size: 1.5rem; line-height: 1.35; margin: 0 0 10px; font-weight: 600; text-wrap: balance; }
.aside { color: var(--soft); margin: 4px 0; max-width: 72ch; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 18px; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 18px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; }
.pictures.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
.pictures .pictures { grid-template-columns: repeat(auto-fit, minmax(84px, 1fr)); gap: 8px; }
figure { margin: 0; } figure img { width: 100%; display: block; border-radius: 6px; background: #ddd; }
figcaption { font-size: .82rem; color: var(--soft); overflow-wrap: anywhere; padding-top: 4px; }
figcaption b { color: var(--ink); }
h3 { font-size: .95rem; margin: 0 0 6px; }
svg { width: 100%; height: auto; display: block; font: 14px system-ui, sans-serif; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.head td { font-weight: 600; padding-top: 14px; }
.few { color: var(--soft); } .note { border-left: 4px solid var(--orange); padding: 8px 14px; margin: 10px 0;
  background: #fff8ec; border-radius: 0 6px 6px 0; }
.key { display: inline-block; width: 22px; height: 0; border-top: 4px solid; vertical-align: middle;
  margin: 0 6px 0 0; border-radius: 2px; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--soft); }
footer { color: var(--soft); font-size: .85rem; margin-top: 44px; }
@media (max-width: 520px) { main { padding: 18px 12px 40px; } .answer { font-size: 1.2rem; }
  th, td { padding: 5px 6px; } .card { padding: 12px; }
  .pictures { grid-template-columns: repeat(2, 1fr); } .pictures.wide { grid-template-columns: 1fr; } }
"""


def page(title: str, body: str) -> str:
    """Return a self-contained HTML page: nothing in it is fetched."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def escape(text: object) -> str:
    """Return text as it may stand in HTML; a percent sign keeps to its number."""
    return html.escape(str(text)).replace(" %", "&nbsp;%")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """Return a table of cells that are HTML already; a row of one cell is a heading across all columns."""
    kinds = [' class="n"' if number else "" for number in numeric]
    lines = ["<tr>" + "".join(f"<th{k}>{t}</th>" for k, t in zip(kinds, head, strict=True)) + "</tr>"]
    for row in rows:
        if len(row) == 1:
            lines.append(f'<tr class="head"><td colspan="{len(head)}">{row[0]}</td></tr>')
        else:
            lines.append(
                "<tr>" + "".join(f"<td{k}>{cell}</td>" for k, cell in zip(kinds, row, strict=True)) + "</tr>"
            )
    return '<div class="scroll"><table>' + "".join(lines) + "</table></div>"


def histogram(values: Values, mean: float, low: float, high: float, *, label: str) -> str:
    """Return a histogram of percentages with the mean and its interval.

    Args:
        values: In 0 to 100.
        mean: Likewise.
        low: Lower end of the interval.
        high: Upper end.
        label: Of the axis.
    """
    counts, edges = np.histogram(np.clip(values, 0, 100), bins=20, range=(0, 100))
    most = int(counts.max(initial=1))
    x, y = _scale(0, 100, _LEFT, _WIDTH - _RIGHT), _scale(0, most * 1.12, _HEIGHT - _BOTTOM, _TOP)
    parts = _axes(x, np.arange(0.0, 101.0, 20.0), y, _ticks(most), label, "pictures")
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            height = y(0) - y(count)
            parts.append(
                f'<rect x="{x(left) + 1:.1f}" y="{y(count):.1f}" width="{x(right) - x(left) - 2:.1f}" '
                f'height="{height:.1f}" fill="#7fb2d4"><title>{left:.0f} to {right:.0f}: '
                f"{count}</title></rect>"
            )
    parts.append(
        f'<rect x="{x(low):.1f}" y="{_TOP}" width="{max(1.5, x(high) - x(low)):.1f}" '
        f'height="{y(0) - _TOP}" fill="#b36b00" opacity=".18"/>'
        f'<line x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="{_TOP}" y2="{y(0)}" stroke="#b36b00" '
        'stroke-width="2"/>'
    )
    return _svg(parts, f"{label}: mean {mean:.1f}, interval {low:.1f} to {high:.1f}")


def scatter(
    horizontal: Values,
    vertical: Values,
    names: Sequence[str],
    *,
    labels: tuple[str, str],
    ranges: tuple[tuple[float, float], tuple[float, float]],
    diagonal: bool = False,
    zero: bool = False,
) -> str:
    """Return a scatter plot.

    Args:
        horizontal: Of each dot.
        vertical: Of each dot.
        names: Of each dot, shown under the pointer.
        labels: Of the two axes.
        ranges: Of the two axes.
        diagonal: Draw the line where both are equal.
        zero: Draw the line where the vertical value is 0.
    """
    (x0, x1), (y0, y1) = ranges
    x, y = _scale(x0, x1, _LEFT, _WIDTH - _RIGHT), _scale(y0, y1, _HEIGHT - _BOTTOM, _TOP)
    parts = _axes(x, _nice(x0, x1), y, _nice(y0, y1), *labels)
    if diagonal:
        low, high = max(x0, y0), min(x1, y1)
        parts.append(
            f'<line x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}" '
            'stroke="#98a3ab" stroke-dasharray="4 4"/>'
        )
    if zero:
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="#5b666e"/>'
        )
    shown = np.arange(len(names))
    if len(shown) > MOST_DOTS:
        shown = np.sort(np.random.default_rng(0).choice(len(names), MOST_DOTS, replace=False))
    for i in shown.tolist():
        a = min(max(float(horizontal[i]), x0), x1)
        b = min(max(float(vertical[i]), y0), y1)
        parts.append(
            f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.2" fill="#0072b2" fill-opacity=".45">'
            f"<title>{escape(names[i])}: {horizontal[i]:.1f}, {vertical[i]:.1f}</title></circle>"
        )
    return _svg(parts, f"{labels[1]} against {labels[0]}")


def bar(mean: float, low: float, high: float, start: float, end: float) -> str:
    """Return a small horizontal interval, for a table's cell."""
    x = _scale(start, end, 4, 156)
    low = max(low, start)
    return (
        '<svg viewBox="0 0 160 14" style="width:160px" aria-hidden="true">'
        '<line x1="4" x2="156" y1="7" y2="7" stroke="#e4e8eb"/>'
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="7" y2="7" stroke="#0072b2" stroke-width="3"/>'
        f'<circle cx="{x(mean):.1f}" cy="7" r="4" fill="#0072b2"/></svg>'
    )


def picture(
    image: UInt8Array | None, masks: Sequence[tuple[UInt8Array, tuple[int, int, int]]], side: int = 320
) -> str:
    """Return a picture with outlines as a JPEG in a data URI, at most ``side`` pixels high and wide.

    Args:
        image: RGB uint8 [h, w, 3]; None: a grey ground.
        masks: {0, 1} uint8 [h, w] with a colour each.
        side: Of the result, at most.
    """
    height, width = masks[0][0].shape
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if image is None:
        small = np.full((size[1], size[0], 3), 205, np.uint8)
    else:
        small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    drawn = [(_shrink(mask, size), colour) for mask, colour in masks]
    stream = io.BytesIO()
    Image.fromarray(imaging.overlay(small, drawn)).save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _shrink(mask: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    area = np.asarray(Image.fromarray(255 * mask).resize(size, Image.Resampling.BOX))
    return np.asarray(area > 127, dtype=np.uint8)


class _scale:  # noqa: N801 - a function with two numbers
    """A linear map from values to pixels."""

    def __init__(self, start: float, end: float, first: float, last: float) -> None:
        self.start, self.first = start, first
        self.factor = (last - first) / ((end - start) or 1)

    def __call__(self, value: float) -> float:
        return self.first + (value - self.start) * self.factor


def _axes(x: _scale, x_ticks: Values, y: _scale, y_ticks: Values, x_label: str, y_label: str) -> list[str]:
    bottom, middle = _HEIGHT - _BOTTOM, (_TOP + _HEIGHT - _BOTTOM) / 2
    parts = []
    for tick in y_ticks.tolist():
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
            'stroke="#eceff1"/>'
            f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="#5b666e">{tick:g}</text>'
        )
    for tick in x_ticks.tolist():
        parts.append(
            f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="#98a3ab"/>'
            f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle" fill="#5b666e">{tick:g}</text>'
        )
    parts.append(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}" stroke="#98a3ab"/>'
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle" '
        f'fill="#1d2327">{escape(x_label)}</text>'
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})" '
        f'fill="#1d2327">{escape(y_label)}</text>'
    )
    return parts


def _svg(parts: Sequence[str], title: str) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{inside}</svg>'


def _ticks(most: int) -> Values:
    return _nice(0, most)


def _nice(low: float, high: float) -> Values:
    """About five round numbers."""
    span = (high - low) or 1.0
    step = 10.0 ** np.floor(np.log10(span / 4))
    step = next(step * m for m in (1, 2, 2.5, 5, 10) if span / (step * m) <= 6)
    first = np.ceil(low / step - 1e-9) * step + 0.0  # and not −0
    return np.asarray(np.round(np.arange(first, high + step * 1e-6, step), 10), dtype=np.float64)
