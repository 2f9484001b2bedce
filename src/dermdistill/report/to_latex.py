"""The report as LaTeX (booktabs), for a paper: a document that compiles, with a part to paste."""

from __future__ import annotations

from collections.abc import Sequence

from dermdistill.core.markup import latex
from dermdistill.core.tables import latex_tabular
from dermdistill.report import records
from dermdistill.report.figures import Drawn
from dermdistill.report.model import Report
from dermdistill.report.templating import render

_TABLES = ("main", "comparisons", "scores", "subgroups", "elsewhere")


def to_latex(report: Report, figures: Sequence[Drawn]) -> str:
    """A document with verdict, tables and figures; what stands between the two marks can be pasted.

    A wide table is scaled to the line's width, never beyond its own size; a figure's PDF lies in figures/.
    """
    tables = [table for table in records.all_tables(report) if table.name in _TABLES]
    return render(
        "tex", report, filters={"tex": latex, "tabular": latex_tabular}, tables=tables, figures=figures
    )
