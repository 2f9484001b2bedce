"""The report as LaTeX (booktabs), for a paper: a document that compiles, with a part to paste."""

from __future__ import annotations

from collections.abc import Sequence

from dermdistill._version import __version__
from dermdistill.report import records, verdict
from dermdistill.report.figures import Drawn
from dermdistill.report.model import Report
from dermdistill.report.tables import Table

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
_WANTED = ("main", "comparisons", "scores", "strata", "elsewhere")


def to_latex(report: Report, figures: Sequence[Drawn]) -> str:
    """A document with verdict, tables and figures; what stands between the two marks can be pasted."""
    body = [f"\\noindent {text(report.question)} {text(verdict.headline(report))}"]
    body += [text(sentence) for sentence in verdict.details(report)]
    body += [table_of(t) for t in records.all_tables(report) if t.name in _WANTED]
    body += [figure_of(figure) for figure in figures]
    return "\n\n".join(
        [
            f"% Made by dermdistill {__version__}.",
            "\\documentclass[a4paper,10pt]{article}\n\\usepackage[T1]{fontenc}\n\\usepackage[utf8]{inputenc}\n"
            "\\usepackage{textcomp}\n\\usepackage{booktabs}\n\\usepackage{graphicx}\n"
            "\\usepackage[margin=20mm]{geometry}\n\\begin{document}",
            "% ---- from here",
            *body,
            "% ---- to here",
            "\\end{document}\n",
        ]
    )


def table_of(table: Table) -> str:
    """One floating table; a wide one is scaled to the line's width, never beyond its own size."""
    columns = "".join("r" if numeric else "l" for numeric in table.numeric)
    head = " & ".join(text(cell) for cell in table.head)
    rows = "\n".join("  " + " & ".join(text(cell) for cell in row) + r" \\" for row in table.rows)
    caption = text(f"{table.title}. {table.note}" if table.note else f"{table.title}.")
    return (
        f"\\begin{{table}}[htbp]\n\\centering\n\\caption{{{caption}}}\n\\label{{tab:{table.name}}}\n"
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n  {head} \\\\\n\\midrule\n{rows}\n\\bottomrule\n"
        "\\end{tabular}}\n\\end{table}"
    )


def figure_of(figure: Drawn) -> str:
    """One floating figure; its PDF lies in figures/."""
    picture = f"\\includegraphics[width=.72\\linewidth]{{figures/{figure.name}.pdf}}"
    caption = text(f"{figure.title}. {figure.caption}")
    return (
        f"\\begin{{figure}}[htbp]\n\\centering\n{picture}\n"
        f"\\caption{{{caption}}}\n\\label{{fig:{figure.name}}}\n\\end{{figure}}"
    )


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
