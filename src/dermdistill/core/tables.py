"""A table of text, and how it is written in Markdown and LaTeX: one code for reports and comparisons."""

from __future__ import annotations

from dataclasses import dataclass

from dermdistill.core.markup import latex, markdown


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Examples:
        >>> rows = (("alone", "91.2"),)
        >>> scores = Table("scores", "Scores", ("arm", "Dice %"), rows, (False, True), bold=((0, 1),))
        >>> print(markdown_table(scores))
        | arm | Dice % |
        |:--|--:|
        | alone | **91.2** |
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    """Which columns hold numbers (set to the right, figures of equal width)."""
    note: str = ""
    bold: tuple[tuple[int, int], ...] = ()
    """(row, column) of the cells in bold: the differences that are told from 0."""

    def is_bold(self, row: int, column: int) -> bool:
        """Whether a cell is set in bold; rows and columns count from 0, the head is no row."""
        return (row, column) in self.bold


def markdown_table(table: Table) -> str:
    """Head, ruler and rows as a Markdown table, without the title and the note."""
    ruler = "|" + "".join("--:|" if numeric else ":--|" for numeric in table.numeric)
    lines = [_markdown_row([markdown(cell, inside=True) for cell in table.head]), ruler]
    for i, row in enumerate(table.rows):
        cells = [markdown(cell, inside=True) for cell in row]
        lines.append(_markdown_row([f"**{c}**" if table.is_bold(i, j) else c for j, c in enumerate(cells)]))
    return "\n".join(lines)


def latex_tabular(table: Table) -> str:
    """The table as a ``tabular`` (booktabs), without the title and the note."""
    lines = [
        rf"\begin{{tabular}}{{{''.join('r' if numeric else 'l' for numeric in table.numeric)}}}",
        r"\toprule",
        "  " + " & ".join(latex(cell) for cell in table.head) + r" \\",
        r"\midrule",
    ]
    for i, row in enumerate(table.rows):
        cells = [latex(cell) for cell in row]
        marked = [rf"\textbf{{{c}}}" if table.is_bold(i, j) else c for j, c in enumerate(cells)]
        lines.append("  " + " & ".join(marked) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _markdown_row(cells: list[str]) -> str:
    return "|" + "".join(f" {cell} |" for cell in cells)
