"""The report as LaTeX (booktabs), for a paper: a document that compiles, with a part to paste."""

from __future__ import annotations

from collections.abc import Sequence

from dermdistill.report import records
from dermdistill.report.figures import Drawn
from dermdistill.report.model import Report
from dermdistill.report.templating import render

_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "−": r"\ensuremath{-}",
    "–": "--",
    "—": "---",
    "×": r"\ensuremath{\times}",
    "Δ": r"\ensuremath{\Delta}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "±": r"\ensuremath{\pm}",
    "·": r"\ensuremath{\cdot}",
    "°": r"\ensuremath{^\circ}",
    "→": r"\ensuremath{\to}",
    "…": r"\dots{}",
    "’": "'",
    "“": "``",
    "”": "''",
    "²": r"\ensuremath{^2}",
    "≈": r"\ensuremath{\approx}",
    "α": r"\ensuremath{\alpha}",
    "σ": r"\ensuremath{\sigma}",
}
_TABLES = ("main", "comparisons", "scores", "subgroups", "elsewhere")


def to_latex(report: Report, figures: Sequence[Drawn]) -> str:
    """A document with verdict, tables and figures; what stands between the two marks can be pasted.

    A wide table is scaled to the line's width, never beyond its own size; a figure's PDF lies in figures/.
    """
    tables = [table for table in records.all_tables(report) if table.name in _TABLES]
    return render("tex", report, filters={"tex": text}, tables=tables, figures=figures)


def text(value: str) -> str:
    """Plain text for LaTeX; a sign that pdflatex has no letter for is written as its code, [U+4E2D]."""
    flat = " ".join(value.split())
    return "".join(_sign(character) for character in flat)


def _sign(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if character.isascii() or "\u00c0" <= character <= "\u017f":  # Latin letters with accents are in T1
        return character
    return f"[U+{ord(character):04X}]"
