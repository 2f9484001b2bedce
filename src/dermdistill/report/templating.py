"""The report's templates: one for each format, filled with the same content.

HTML goes through jinja2's autoescape; Markdown and LaTeX have none, so their templates send every text
through a filter (`md`, `tex`). LaTeX is full of braces and percent signs: its template has ``<% %>`` and
``<< >>``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from dermdistill._version import __version__
from dermdistill.report import audits, records, verdict
from dermdistill.report.model import Report

_OPTIONS: dict[str, dict[str, Any]] = {
    "html": {"autoescape": True},
    "md": {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True},
    "tex": {
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
        "block_start_string": "<%",
        "block_end_string": "%>",
        "variable_start_string": "<<",
        "variable_end_string": ">>",
        "comment_start_string": "<#",
        "comment_end_string": "#>",
    },
}


def render(
    form: Literal["html", "md", "tex"],
    report: Report,
    *,
    filters: dict[str, Callable[..., str]] | None = None,
    **more: Any,
) -> str:
    """Fill the template of a format.

    Args:
        form: Which.
        report: What it says: its headline, sentences, tables and facts are at hand in the template.
        filters: Of the template, by name.
        more: Further values, or others in place of these.
    """
    environment = Environment(
        loader=PackageLoader("dermdistill.report", "templates"), undefined=StrictUndefined, **_OPTIONS[form]
    )
    environment.filters.update(filters or {})
    content: dict[str, Any] = {
        "report": report,
        "headline": verdict.headline(report),
        "details": verdict.details(report),
        "tables": records.all_tables(report),
        "facts": records.facts(report),
        "audit_headline": audits.headline(report.audit, report.data.name) if report.audit else "",
        "version": __version__,
    }
    return environment.get_template(f"report.{form}.jinja").render(content | more)
