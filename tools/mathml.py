"""Formulas of the documentation: ``math`` blocks become MathML while the site is built.

MathML is drawn by the browser itself: no script, no font and no address outside is needed to read a formula.
"""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert


def fence(source: str, language: str, css_class: str, options: Any, md: Any, **named: Any) -> str:
    """One ``math`` block (a custom fence of pymdownx.superfences); the source stays readable as a label."""
    label = " ".join(source.split()).replace('"', "&quot;").replace("<", "&lt;")
    return (
        f'<div class="{css_class}" role="math" aria-label="{label}">{convert(source, display="block")}</div>'
    )
