"""The page of the Python API, from the docstrings of what ``dermdistill.__all__`` names."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import griffe

import dermdistill
from dermdistill.config.settings import Settings
from tools.reference.source import read
from tools.reference.words import prose, table


def page() -> str:
    """The whole page."""
    parts = [
        "# The Python API\n",
        "What `dermdistill` exports. The names are loaded on first use: `import dermdistill` imports neither "
        "torch nor ONNX Runtime.\n",
    ]
    for name in dermdistill.__all__:
        what = getattr(dermdistill, name)
        if name.startswith("__"):
            parts += [f"## `{name}`\n", "The installed version, as text.\n"]
            continue
        parts += [f"## `{name}`\n", *_described(read(what), name)]
        if inspect.isclass(what):
            parts += _members(read(what), what)
    return "\n".join(parts)


def _described(member: Any, name: str) -> Iterator[str]:
    if member.is_function:
        yield f"```text\n{name}{_signature(member)}\n```\n"
    elif member.is_class and "__init__" in member.members:
        yield f"```text\n{name}{_signature(member.members['__init__'])}\n```\n"
    if member.docstring:
        yield from _sections(member.docstring)


def _signature(function: Any) -> str:
    shown, star = [], False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not star:
            shown.append("*")
            star = True
        text = parameter.name + (f": {parameter.annotation}" if parameter.annotation else "")
        shown.append(text + (f" = {parameter.default}" if parameter.default is not None else ""))
    returned = f" -> {function.returns}" if function.returns and function.name != "__init__" else ""
    line = f"({', '.join(shown)}){returned}"
    return line if len(line) < 72 else "(\n    " + ",\n    ".join(shown) + f",\n){returned}"


def _sections(docstring: Any) -> Iterator[str]:
    for section in griffe.parse_google(docstring, warnings=False):
        kind = griffe.DocstringSectionKind
        match section.kind:
            case kind.text:
                yield prose(section.value, keep_paragraphs=True) + "\n"
            case kind.parameters | kind.attributes:
                rows = ((f"`{item.name}`", prose(item.description)) for item in section.value)
                yield table(("argument" if section.kind is kind.parameters else "attribute", "meaning"), rows)
            case kind.raises:
                yield table(
                    ("raises", "when"), ((f"`{i.annotation}`", prose(i.description)) for i in section.value)
                )
            case kind.returns | kind.yields:
                word = "Answers" if section.kind is kind.returns else "Yields"
                yield f"{word}: {' '.join(prose(item.description) for item in section.value)}\n"
            case kind.examples:
                yield "For example:\n"
                for part, text in section.value:
                    yield f"{prose(text)}\n" if part is kind.text else f"```text\n{text}\n```\n"
            case kind.admonition if section.value.annotation == "example":
                yield f"For example:\n\n```text\n{section.value.description}\n```\n"
            case kind.admonition:
                title, text = section.value.annotation.capitalize(), section.value.description
                yield f"**{title}.** {prose(text)}\n"


def _members(found: Any, what: type) -> Iterator[str]:
    if issubclass(what, Settings):
        yield "Its fields are the [settings](settings.md).\n"
        return
    public = {n: m for n, m in found.members.items() if not n.startswith("_") or n == "__call__"}
    attributes = [
        (f"`{n}`", prose(m.docstring.value)) for n, m in public.items() if m.is_attribute and m.docstring
    ]
    if attributes:
        yield table(("attribute", "meaning"), attributes)
    for name, member in public.items():
        if member.is_function and member.docstring:
            yield f"### `{found.name}.{name}`\n"
            yield from _described(member, "predictor" if name == "__call__" else name)
