"""Types, values and docstrings as words and tables of Markdown."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import annotated_types
from pydantic.fields import FieldInfo

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


def type_in_words(hint: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words, with its range."""
    arguments = typing.get_args(hint)
    if hasattr(hint, "__metadata__"):
        return type_in_words(hint.__origin__, [*metadata, *hint.__metadata__])
    if typing.get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(type_in_words(a, metadata) for a in arguments if a is not type(None))
    if typing.get_origin(hint) in (tuple, list):
        some = type_in_words(arguments[0])
        return f"some of {some}" if typing.get_origin(arguments[0]) is Literal else f"{some}, one or more"
    if typing.get_origin(hint) is dict:
        return "settings by dotted name"
    return _WORDS[hint] + _range(metadata)


def _range(metadata: Iterable[Any]) -> str:
    low = high = None
    for limit in metadata:
        match limit:
            case annotated_types.Ge(ge=value):
                low = f"{value:g} ≤"
            case annotated_types.Gt(gt=value):
                low = f"{value:g} <"
            case annotated_types.Le(le=value):
                high = f"≤ {value:g}"
            case annotated_types.Lt(lt=value):
                high = f"< {value:g}"
            case FieldInfo():  # of an optional value, as `Count | None`
                return _range(limit.metadata)
    if low and high:
        return f", {low} x {high}"
    if low:
        number, sign = low.split()
        return f", {'≥' if sign == '≤' else '>'} {number}"
    return f", {high}" if high else ""


def plain(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return value.as_posix() if isinstance(value, Path) else str(value)


def prose(text: str | None, *, keep_paragraphs: bool = False) -> str:
    """A docstring's text as Markdown: double backticks single, lines joined."""
    text = re.sub(r"``(.+?)``", r"`\1`", text or "", flags=re.DOTALL)
    text = "`".join(part if place % 2 else _literal(part) for place, part in enumerate(text.split("`")))
    paragraphs = re.split(r"\n\s*\n", text.strip())
    if keep_paragraphs:
        return "\n\n".join(" ".join(p.split()) for p in paragraphs)
    return " ".join(text.split())


def _literal(text: str) -> str:
    """Text outside backticks: flags as code, and nothing that Markdown would read as its own."""
    text = re.sub(r"([*_\[\]])", r"\\\1", text).replace("<", "&lt;")
    return re.sub(r"(?<![\w`-])(--[a-z][\w.-]*[a-z0-9])", r"`\1`", text)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([_cell(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
