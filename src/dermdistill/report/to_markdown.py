"""The report as Markdown, for a README: answer, tables, commands; figures are SVG files beside it."""

from __future__ import annotations

from dermdistill.core.markup import markdown
from dermdistill.core.tables import markdown_table
from dermdistill.report import audits
from dermdistill.report.model import Report
from dermdistill.report.templating import render


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
        "md",
        report,
        filters={"md": markdown, "grid": markdown_table},
        pictures=pictures,
        fence=fence,
        audit_lines=_audit_lines(report),
    )


def _audit_lines(report: Report) -> list[str]:
    if report.audit is None:
        return []
    counts = [f"{kind}: {count} pairs" for kind, count in report.audit.counts.items()]
    return [audits.headline(report.audit, report.data.name), *counts, *report.audit.warnings]
