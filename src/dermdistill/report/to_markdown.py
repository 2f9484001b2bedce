"""The report as Markdown, for a README: answer, tables, commands; figures are SVG files beside it."""

from __future__ import annotations

import html
import re

from dermdistill.report import audits
from dermdistill.report.model import Report
from dermdistill.report.templating import render

_ACTIVE = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def to_markdown(report: Report, pictures: list[tuple[str, str]]) -> str:
    """The whole text.

    Args:
        report: What to say.
        pictures: (title, path relative to the Markdown file) of each figure.
    """
    fence = "```"
    while any(fence in line for line in report.commands):
        fence += "`"
    return render(
        "md", report, filters={"md": text}, pictures=pictures, fence=fence, audit_lines=_audit_lines(report)
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


def _audit_lines(report: Report) -> list[str]:
    if report.audit is None:
        return []
    counts = [f"{kind}: {count} pairs" for kind, count in report.audit.counts.items()]
    return [audits.headline(report.audit, report.data.name), *counts, *report.audit.warnings]
