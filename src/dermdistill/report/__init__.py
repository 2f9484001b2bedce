"""One report of a run or a study, as HTML, Markdown, LaTeX and JSON. It reads files and runs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from dermdistill.core.errors import UsageError

Format = Literal["html", "md", "tex", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)


def write_report(
    folder: Path,
    *,
    out: Path | None = None,
    formats: Sequence[Format] = FORMATS,
    audit: Path | None = None,
    on: str | None = None,
) -> list[Path]:
    """Write the report of a run or a study.

    Args:
        folder: Run or study folder.
        out: Folder of the report; None: ``FOLDER/report``.
        formats: Of html, md, tex, json. Markdown's figures are SVG files, LaTeX's PDF, in ``figures/``.
        audit: audit.json of ``dermdistill audit``; None: one that lies in the folder or beside the data.
        on: Which evaluation of a run, as DATA-SPLIT.

    Returns:
        The files written, the asked formats first.

    Raises:
        UsageError: The folder is neither run nor study, or no format is asked for.
        DataError: A file in it is broken.
    """
    from dermdistill.core.files import write_json, write_text
    from dermdistill.report.figures import figures, write_figures
    from dermdistill.report.gallery import make_gallery
    from dermdistill.report.load import collect
    from dermdistill.report.to_html import to_html
    from dermdistill.report.to_json import to_json
    from dermdistill.report.to_latex import to_latex
    from dermdistill.report.to_markdown import to_markdown

    if not formats:
        raise UsageError(
            "No format is asked for.",
            f"some of {', '.join(FORMATS)}",
            "Name one with --format, or leave it out for all.",
        )
    collected = collect(folder, audit=audit, on=on)
    report, out = collected.report, out or folder / "report"
    drawn = list(figures(report)) if {"md", "tex"} & set(formats) else []
    written, beside = [], []
    for form in dict.fromkeys(formats):
        path = out / f"report.{form}"
        match form:
            case "html":
                write_text(path, to_html(report, make_gallery(report, collected.evaluations)))
            case "md":
                pictures = write_figures(drawn, out / "figures", "svg")
                beside += pictures
                named = [
                    (figure.title, f"figures/{p.name}") for figure, p in zip(drawn, pictures, strict=True)
                ]
                write_text(path, to_markdown(report, named))
            case "tex":
                beside += write_figures(drawn, out / "figures", "pdf")
                write_text(path, to_latex(report, drawn))
            case "json":
                write_json(path, to_json(report))
        written.append(path)
    return [*written, *beside]
