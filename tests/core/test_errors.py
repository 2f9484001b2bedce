"""The messages as a set: each raise site says what was found, what was expected, and what to do."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dermdistill.core import errors
from dermdistill.core.errors import DermDistillError, Interrupted

PACKAGE = Path(errors.__file__).parents[1]
CLASSES = {name: value for name, value in vars(errors).items() if inspect.isclass(value)
           and issubclass(value, DermDistillError)}  # fmt: skip
PARTS = ("found", "expected", "fix")
NO_EXPECTED = {"Interrupted"}  # A stop on request is what was expected.
BEGINNINGS = ("dermdistill ", "pip install ")  # A command may stand for the sentence.


@dataclass(frozen=True)
class Site:
    """One place where an error is made."""

    where: str
    name: str
    parts: dict[str, ast.expr]


def sites(source: str, file: str) -> Iterator[Site]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if name in CLASSES:
            parts = dict(zip(PARTS, node.args, strict=False))
            parts |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg in PARTS}
            yield Site(f"{file}:{node.lineno}", name, parts)


def outside(expression: ast.expr) -> tuple[str, str]:
    """Literal text at the beginning and at the end; "…" where a value stands there."""
    match expression:
        case ast.Constant(value=str(text)):
            return text, text
        case ast.JoinedStr(values=values) if values:
            return outside(values[0])[0], outside(values[-1])[1]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return outside(left)[0], outside(right)[1]
        case _:
            return "…", "…"


def faults(site: Site) -> list[str]:
    needed = [part for part in PARTS if part != "expected" or site.name not in NO_EXPECTED]
    found = [f"no {part}" for part in needed if part not in site.parts or not outside(site.parts[part])[0]]
    if "expected" in site.parts and outside(site.parts["expected"])[1].endswith("."):
        found.append("expected is a phrase: no full stop")
    for part in {"found", "fix"} & site.parts.keys():
        first, last = outside(site.parts[part])
        if part == "fix" and first[:1].islower() and not first.startswith(BEGINNINGS):
            found.append("fix begins small")
        # A fix may end with the command to type.
        command = part == "fix" and any(word in ast.unparse(site.parts[part]) for word in BEGINNINGS)
        if not last.endswith((".", "…", ")")) and not command:
            found.append(f"{part} ends with {last[-12:]!r}")
    return [f"{site.where} ({site.name}): {fault}" for fault in found]


def test_every_message_has_its_three_parts_in_one_form() -> None:
    found = [
        site
        for path in sorted(PACKAGE.rglob("*.py"))
        for site in sites(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix())
    ]
    assert len(found) > 200, "the raise sites were not found"
    problems = [fault for site in found for fault in faults(site)]
    assert not problems, "\n".join(problems)


def test_a_message_that_lacks_a_part_is_found() -> None:
    bad = 'raise DataError(f"{path} is broken.")\nraise errors.UsageError("No", "one.", "do this")'
    told = [fault.split("): ")[1] for site in sites(bad, "x.py") for fault in faults(site)]
    assert sorted(told) == sorted(
        ["no expected", "no fix", "expected is a phrase: no full stop", "fix begins small",
         "fix ends with 'do this'", "found ends with 'No'"]
    )  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_cause_and_fix(name: str) -> None:
    text = inspect.cleandoc(vars(CLASSES[name])["__doc__"])
    for title in ("Cause", "Fix"):
        assert f"\n{title}:\n    " in text, f"{name} does not say its {title.lower()}"


def test_the_tree_at_the_top_is_the_tree() -> None:
    drawn = inspect.cleandoc(errors.__doc__ or "")
    assert [name for name in CLASSES if name not in drawn] == []
    assert (DermDistillError.exit_code, errors.UsageError.exit_code, Interrupted.exit_code) == (1, 2, 130)
