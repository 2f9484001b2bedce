"""The report as Markdown, for a README: answer, tables, commands; figures are SVG files beside it."""

from __future__ import annotations

import html
import re

from dermdistill.report import audits, records, verdict
from dermdistill.report.model import Report
from dermdistill.report.tables import Table

_ACTIVE = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def to_markdown(report: Report, figures: list[tuple[str, str]]) -> str:
    """The whole text.

    Args:
        report: What to say.
        figures: (title, path relative to the Markdown file) of each figure.
    """
    parts = [f"# {text(report.name)}", f"*{text(report.question)}*", f"**{text(verdict.headline(report))}**"]
    if sentences := verdict.details(report):
        parts.append("\n".join(f"- {text(sentence)}" for sentence in sentences))
    for table in records.all_tables(report):
        parts += [f"## {text(table.title)}", grid(table)]
        if table.note:
            parts.append(f"<sub>{text(table.note)}</sub>")
        if table.name == "main":
            parts += [f"<sub>{text(caveat)}</sub>" for caveat in report.caveats]
            parts += [f"![{text(title)}]({path})" for title, path in figures]
    parts += ["## Leak audit", _audit(report), "## Data, protocol, hashes"]
    parts.append("\n".join(f"- {text(name)}: {text(value)}" for name, value in records.facts(report)))
    if report.commands:
        fence = "```"
        while any(fence in line for line in report.commands):
            fence += "`"
        parts += ["## How to repeat it", "\n".join([f"{fence}sh", *report.commands, fence])]
    parts += ["## Versions", ", ".join(f"{text(k)} {text(v)}" for k, v in report.versions.items())]
    if report.missing:
        parts += [
            "## What this report does not have",
            "\n".join(f"- {text(line)}" for line in report.missing),
        ]
    return "\n\n".join(parts) + "\n"


def grid(table: Table) -> str:
    """A table in GitHub's dialect; numbers are set to the right."""
    head = "| " + " | ".join(text(cell, inside=True) for cell in table.head) + " |"
    rule = "|" + "|".join("--:" if numeric else ":--" for numeric in table.numeric) + "|"
    return "\n".join(
        [
            head,
            rule,
            *("| " + " | ".join(text(cell, inside=True) for cell in row) + " |" for row in table.rows),
        ]
    )


def text(value: str, *, inside: bool = False) -> str:
    """Plain text for Markdown: one line, no markup of its own, no HTML; ``inside``: not at a line's start."""
    flat = " ".join(value.split())
    marked = _ACTIVE.sub(lambda found: found[0] if _harmless(flat, found, inside) else f"\\{found[0]}", flat)
    return html.escape(marked, quote=False)


def _harmless(flat: str, match: re.Match[str], inside: bool) -> bool:
    """Signs that mean nothing where they stand: a dash inside a line, an underscore inside a word …"""
    sign, at = match[0], match.start()
    if sign in "()":
        return at == 0 or flat[at - 1] != "]"
    if sign in "-+#{}!":
        return inside or at > 0
    if sign == "_":
        return 0 < at < len(flat) - 1 and flat[at - 1].isalnum() and flat[at + 1].isalnum()
    return False


def _audit(report: Report) -> str:
    if report.audit is None:
        return "Not made: nobody has looked for images that are in training and in test."
    lines = [audits.headline(report.audit, report.data.name)]
    lines += [f"{kind}: {count} pairs" for kind, count in report.audit.counts.items()]
    return "\n".join(f"- {text(line)}" for line in [*lines, *report.audit.warnings])
