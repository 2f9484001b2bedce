"""A comparison as a page, as Markdown and as LaTeX; bold means told from 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dermdistill._version import __version__
from dermdistill.core.errors import DataError
from dermdistill.core.files import write_csv, write_json, write_text
from dermdistill.core.numbers import MeanWithInterval, difference, interval, p_value, percent
from dermdistill.core.tables import Table, latex_tabular, markdown_table
from dermdistill.evaluation.compare import Entry, EvaluationComparison, most_different
from dermdistill.evaluation.differences import BOLD, is_told_from_zero
from dermdistill.evaluation.folder_evaluation import presentation
from dermdistill.evaluation.svg import PRED_COLOUR, TRUE_COLOUR, escape, page, picture, scatter, table
from dermdistill.metrics.intervals import Interval

PICTURES = 10
"""Pictures on which they differ most that are drawn."""


def write(comparison: EvaluationComparison, out: Path) -> None:
    """Write index.html, comparison.json, .md, .tex and the differences image by image as CSV."""
    first = comparison.entries[0]
    columns = ["image_id", *(f"dice {entry.name}" for entry in comparison.entries)]
    rows = (
        {
            "image_id": name,
            **{f"dice {entry.name}": f"{entry.images['dice'][i]:.6f}" for entry in comparison.entries},
        }
        for i, name in enumerate(first.images.image_id)
    )
    write_csv(out / "comparison.csv", rows, columns)
    write_text(out / "comparison.md", to_markdown(comparison))
    write_text(out / "comparison.tex", to_latex(comparison))
    write_text(out / "index.html", to_html(comparison))
    write_json(out / "comparison.json", comparison.to_json())


def to_html(comparison: EvaluationComparison) -> str:
    """Return the page: the answer, the table, two charts for each entry, the pictures that differ most."""
    first = comparison.entries[0]
    n = len(first.images)
    names = " and ".join([", ".join(e.name for e in comparison.entries[:-1]), comparison.entries[-1].name])
    answers = "".join(f'<p class="answer">{escape(text)}</p>' for text in comparison.sentences())
    parts = [
        f"<h1>{escape(names)} on the same {n} pictures</h1>",
        answers,
        "<h2>Measures</h2>",
        f'<div class="card">{_table(comparison)}<p class="aside">{BOLD} Detectable: the true difference that '
        "so many pictures find in 4 of 5 samples.</p></div>",
        *(_charts(comparison, entry) for entry in comparison.entries[1:]),
        _pictures(comparison),
        "<details><summary>How this was measured</summary>",
        f'<p class="aside">{escape(comparison.to_json()["statistics"])}.</p></details>',
        f"<footer>dermdistill {__version__} compare. Not a medical device.</footer>",
    ]
    return page(f"{names} compared", "\n".join(parts))


def to_markdown(comparison: EvaluationComparison) -> str:
    """Return a Markdown table with the answers below."""
    answers = "\n".join(f"- {text}" for text in comparison.sentences())
    return f"{markdown_table(to_table(comparison))}\n\n{BOLD}\n\n{answers}\n"


def to_latex(comparison: EvaluationComparison) -> str:
    """Return a LaTeX table (booktabs)."""
    return f"% needs \\usepackage{{booktabs}}\n{latex_tabular(to_table(comparison))}\n% {BOLD}\n"


def to_table(comparison: EvaluationComparison) -> Table:
    """Every measure of every entry, and what it scores more than the first."""
    first = comparison.entries[0].name
    head = ("", "measure", "mean (95 % CI)", f"difference from {first} (95 % CI)", "p (Holm)",
            "better / worse", "detectable")  # fmt: skip
    rows: list[tuple[str, ...]] = []
    bold: list[tuple[int, int]] = []
    for entry in comparison.entries:
        for measure, score in comparison.scores[entry.name].items():
            unit, title = presentation(measure)
            row = (entry.name, title, interval(_in(unit, score), between=" to "))
            if entry.name == first:
                rows.append((*row, "", "", "", ""))
                continue
            d = comparison.differences[entry.name][measure]
            if is_told_from_zero(d):
                bold.append((len(rows), 3))
            smallest = d.minimum_detectable_difference
            rows.append(
                (
                    *row,
                    difference(_in(unit, d)),
                    p_value(d.p_holm),
                    f"{percent(d.better, 0)} % / {percent(d.worse, 0)} %",
                    percent(None if smallest is None else unit / 100 * smallest),
                )
            )
    return Table("comparison", "Measures", head, tuple(rows), (False, False, *(True,) * 5), BOLD, tuple(bold))


def _in(unit: float, value: MeanWithInterval) -> Interval:
    """The same in hundredths of the unit that it is shown in."""
    scale = unit / 100
    return Interval(scale * value.mean, scale * value.low, scale * value.high, 0)


def _table(comparison: EvaluationComparison) -> str:
    shown = to_table(comparison)
    cells: list[list[str]] = []
    for i, row in enumerate(shown.rows):
        if i == 0 or row[0] != shown.rows[i - 1][0]:
            cells.append([escape(row[0])])
        cells.append(
            [f"<b>{escape(c)}</b>" if shown.is_bold(i, j) else escape(c) for j, c in enumerate(row)][1:]
        )
    return table([escape(cell) for cell in shown.head[1:]], cells, shown.numeric[1:])


def _charts(comparison: EvaluationComparison, entry: Entry) -> str:
    first = comparison.entries[0]
    a, b = 100 * first.images["dice"], 100 * entry.images["dice"]
    names = first.images.image_id
    low = float(min(80.0, 10 * np.floor(min(a.min(), b.min()) / 10)))
    both = scatter(
        a, b, names,
        labels=(f"Dice of {first.name}, %", f"Dice of {entry.name}, %"),
        ranges=((low, 100), (low, 100)), diagonal=True,
    )  # fmt: skip
    charts = [
        f'<div class="card"><h3>Picture by picture</h3>{both}<p class="aside">Above the line: '
        f"{escape(entry.name)} is better.</p></div>"
    ]
    if "lesion_fraction" in first.images:
        size = 100 * first.images["lesion_fraction"]
        most = max(2.0, float(np.abs(b - a).max()))
        against = scatter(
            size, b - a, names,
            labels=("lesion, % of the picture", "difference, Dice points"),
            ranges=((0, max(10.0, float(10 * np.ceil(size.max() / 10)))), (-most, most)), zero=True,
        )  # fmt: skip
        charts.append(
            f'<div class="card"><h3>Difference against the lesion\'s size</h3>{against}'
            f'<p class="aside">Above 0: {escape(entry.name)} is better.</p></div>'
        )
    title = f"<h2>{escape(entry.name)} against {escape(first.name)}</h2>"
    return f'{title}<div class="two">{"".join(charts)}</div>'


def _pictures(comparison: EvaluationComparison) -> str:
    without = [entry.name for entry in comparison.entries if entry.draw is None]
    if without:
        return (
            f'<p class="aside">Pictures are not drawn: what {escape(", ".join(without))} was scored '
            "from is not "
            "at hand (name the models or folders again, with --images and --masks).</p>"
        )
    figures = []
    for i in most_different(comparison, PICTURES):
        name = comparison.entries[0].images.image_id[i]
        sides = []
        for entry in comparison.entries:
            assert entry.draw is not None
            try:
                image, true_mask, mask = entry.draw(name)
            except (DataError, KeyError):  # it was there when it was scored
                break
            if image is not None and image.shape[:2] != true_mask.shape:
                image = None
            source = picture(image, [(true_mask, TRUE_COLOUR), (mask, PRED_COLOUR)], 300)
            sides.append(
                f'<figure><img src="{source}" alt="{escape(name)} by {escape(entry.name)}" loading="lazy">'
                f"<figcaption><b>{100 * entry.images['dice'][i]:.1f} %</b> {escape(entry.name)}</figcaption>"
                "</figure>"
            )
        if len(sides) == len(comparison.entries):
            figures.append(
                f'<div class="card"><h3>{escape(name)}</h3><div class="pictures">{"".join(sides)}</div></div>'
            )
    if not figures:
        return ""
    keys = (
        f'<p class="aside"><span class="key" style="border-color:rgb{TRUE_COLOUR}"></span>true '
        "outline &nbsp; "
        f'<span class="key" style="border-color:rgb{PRED_COLOUR}"></span>predicted outline</p>'
    )
    title = f"<h2>The {len(figures)} pictures on which they differ most</h2>"
    return f'{title}{keys}<div class="pictures wide">{"".join(figures)}</div>'
