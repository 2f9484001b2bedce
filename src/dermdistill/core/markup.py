"""Plain text as it may stand in Markdown and in LaTeX: nothing in it is markup of its own."""

from __future__ import annotations

import html
import re

_ACTIVE = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")
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


def latex(value: str) -> str:
    """Plain text for LaTeX; a sign that pdflatex has no letter for is written as its code, [U+4E2D]."""
    flat = " ".join(value.split())
    return "".join(_sign(character) for character in flat)


def _sign(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if character.isascii() or "\u00c0" <= character <= "\u017f":  # Latin letters with accents are in T1
        return character
    return f"[U+{ord(character):04X}]"


def markdown(value: str, *, inside: bool = False) -> str:
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
