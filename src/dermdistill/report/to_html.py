"""The report as one HTML file: styles, figures and pictures inside it, nothing fetched, no script.

Every value goes through jinja2's autoescape; only our own SVG and style sheet are trusted.
"""

from __future__ import annotations

import importlib.resources

from markupsafe import Markup

from dermdistill.core import numbers
from dermdistill.report import records, tables, theme
from dermdistill.report.figures import colour_places, figures
from dermdistill.report.gallery import Gallery, sheet
from dermdistill.report.model import Report
from dermdistill.report.templating import render

_MOST_FAILURES = 30


def to_html(report: Report, gallery: Gallery) -> str:
    """The whole page."""
    light, dark = theme.variables()
    css = importlib.resources.files("dermdistill.report").joinpath("templates/report.css").read_text("utf-8")
    found = [table for table in records.all_tables(report) if table.name not in ("main", "audit")]
    drawn = [{"title": f.title, "caption": f.caption, "svg": Markup(f.svg())} for f in figures(report)]
    shared = records.shared_settings(report)
    missing = [*report.missing, *([f"Pictures: {gallery.missing}."] if gallery.missing else [])]
    contents = [("results", "Results"), *([("figures", "Figures")] if drawn else [])]
    contents += [("pictures", "Pictures")] if gallery.groups else []
    contents += [(table.name, table.title) for table in found]
    contents += [("shared", "Settings")] if shared else []
    contents += [("audit-result", "Leak audit"), ("data", "Data and hashes"), ("repeat", "How to repeat it")]
    contents += [("versions", "Versions"), *([("missing", "Missing")] if missing else [])]
    return render(
        "html",
        report,
        created=numbers.moment(report.created),
        main=tables.main_table(report),
        tables=found,
        audit_pairs=records.audit_table(report),
        audit_sheet=sheet(report.audit.pictures) if report.audit and report.audit.pictures else "",
        shared=shared,
        places=colour_places(report),
        figures=drawn,
        gallery=gallery,
        failures=_failures(report),
        contents=contents,
        missing=missing,
        light=Markup(light),
        dark=Markup(dark),
        css=Markup(css),
    )


def _failures(report: Report) -> list[tuple[str, tuple[str, ...], int]]:
    """(arm, ids, how many more) of the arms with failures."""
    return [
        (arm.name, arm.failures[:_MOST_FAILURES], max(0, len(arm.failures) - _MOST_FAILURES))
        for arm in report.arms
        if arm.failures
    ]
