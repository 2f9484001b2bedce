"""Tables as Markdown and LaTeX: what stands in a cell is text, and bold is where it was asked for."""

from __future__ import annotations

from dermdistill.core.tables import Table, latex_tabular, markdown_table

HOSTILE = Table("t", "T", ("a|b", "Δ %"), (("x_1 & y", "+1"), ("**z**", "−2")), (False, True), bold=((1, 1),))


def test_markdown() -> None:
    assert markdown_table(HOSTILE).splitlines() == [
        "| a\\|b | Δ % |",
        "|:--|--:|",
        "| x_1 &amp; y | +1 |",
        "| \\*\\*z\\*\\* | **−2** |",
    ]


def test_latex() -> None:
    lines = latex_tabular(HOSTILE).splitlines()
    assert lines[0] == r"\begin{tabular}{lr}"
    assert r"  x\_1 \& y & +1 \\" in lines
    assert r"  **z** & \textbf{\ensuremath{-}2} \\" in lines
    assert lines[-1] == r"\end{tabular}"
