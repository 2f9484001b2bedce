"""The page of the verbs, from the functions and classes that tyro parses their arguments with."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import griffe
from pydantic import BaseModel

from dermdistill import cli
from dermdistill.cli.study import Arguments
from dermdistill.data.prepare.settings import KINDS
from tools.reference.source import read
from tools.reference.words import plain, prose, table, type_in_words

LEARN = {
    "train": "Fine-tune a teacher, or train a student alone, by a recipe.",
    "distill": "Distil a teacher into a student, by a recipe.",
}


def parsed_by(verb: str) -> Any:
    """What tyro reads the verb's arguments by: a function, or (study) a dataclass."""
    return Arguments if verb == "study" else cli.function_of(verb)


def page() -> str:
    """The whole page."""
    parts = [
        "# The command line\n",
        "`dermdistill VERB …` runs one stage. `dermdistill VERB --help` prints what stands here.\n",
        table(("verb", "what it does"), ((f"[`{v}`](#{v})", text) for v, text in cli.VERBS.items())),
        "## Exit codes\n",
        table(
            ("code", "meaning"),
            (
                ("0", "done"),
                ("1", "something failed; `audit` found a leak; `predict --strict` gave a warning"),
                ("2", "the command or a setting is wrong"),
                ("130", "stopped on request; everything is saved"),
            ),
        ),
        "`DERMDISTILL_DEBUG=1` in the environment shows the traceback of any error.\n",
    ]
    for verb in cli.VERBS:
        match verb:
            case "train" | "distill":
                text = _learning(verb)
            case "prepare":
                text = _subcommands(verb, KINDS)
            case _:
                text = _verb(verb)
        parts += [f"## {verb}\n", *text]
    return "\n".join(parts)


def _subcommands(verb: str, kinds: Mapping[str, type[BaseModel]]) -> Iterator[str]:
    """A verb with a subcommand for each of several settings types: a section for each."""
    yield cli.VERBS[verb].capitalize() + ".\n"
    yield f"```text\ndermdistill {verb} {{{','.join(kinds)}}} [--FLAG …]\n```\n"
    for name, kind in kinds.items():
        yield f"### {verb} {name}\n"
        yield prose(inspect.getdoc(kind), keep_paragraphs=True) + "\n"
        rows = []
        for key, field in kind.model_fields.items():
            flag, default = (
                key.replace("_", "-"),
                "required" if field.is_required() else _default(field.default),
            )
            value = _value(field.annotation, flag)
            rows.append((f"`--{flag}`", value, default, prose(field.description)))
        yield table(("argument", "value", "default", "meaning"), rows)


def _learning(verb: str) -> Iterator[str]:
    yield LEARN[verb] + "\n"
    yield f"```text\ndermdistill {verb} RECIPE [--FIELD VALUE …] [--resume | --overwrite]\n```\n"
    rows = [
        ("`RECIPE`", "A YAML file, or the name of a shipped recipe."),
        ("`--resume`", "Go on with an unfinished run."),
        ("`--overwrite`", "Start it anew."),
        ("`--FIELD`", "Any [setting](settings.md) of the recipe, such as `--data.name` or `--optim.lr`."),
    ]
    if verb == "distill":
        rows.insert(1, ("`--teacher RUN`", "A finished teacher run; short for `--teacher.run`."))
    yield table(("argument", "meaning"), rows)


def _verb(verb: str) -> Iterator[str]:
    what = parsed_by(verb)
    about, arguments = _arguments(what)
    yield about + "\n"
    named = [a for a in arguments if not a.positional]
    places = [a.name if a.default == "required" else f"[{a.name}]" for a in arguments if a.positional]
    words = ["dermdistill", verb, *places, *(["[--FLAG …]"] if named else [])]
    yield f"```text\n{' '.join(words)}\n```\n"
    if arguments:
        yield table(
            ("argument", "value", "default", "meaning"),
            ((f"`{a.name}`", a.value, a.default, a.meaning) for a in arguments),
        )
    if verb == "study":
        yield "Every [setting](settings.md) of the recipe is a flag too, for all student arms.\n"


class Argument(typing.NamedTuple):
    """One argument of a verb as the table shows it."""

    name: str
    value: str
    default: str
    meaning: str
    positional: bool


def _arguments(what: Any) -> tuple[str, list[Argument]]:
    """The description and the arguments of a function, or of a dataclass with attribute docstrings."""
    is_class = inspect.isclass(what)
    about, documented = _attributes(what) if is_class else _docstring(what)
    hints = typing.get_type_hints(what, include_extras=True)
    found = []
    for name, parameter in inspect.signature(what).parameters.items():
        hint, positional = hints[name], parameter.kind is parameter.POSITIONAL_ONLY
        flag = name
        for extra in getattr(hint, "__metadata__", ()):
            flag = getattr(extra, "name", None) or flag
            positional = positional or "positional" in str(extra).lower()
        inner = hint.__origin__ if hasattr(hint, "__metadata__") else hint
        flag = flag.replace("_", "-")
        shown = flag.upper() if positional else f"--{flag}"
        found.append(
            Argument(shown, _value(inner, flag), _default(parameter.default), documented[name], positional)
        )
    return about, found


def _value(hint: Any, flag: str) -> str:
    if hint is bool:
        return f"or `--no-{flag}`"
    return type_in_words(hint)


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if value is None or value is False or value in ((), ""):
        return ""
    return "on" if value is True else f"`{plain(value)}`"


def _docstring(what: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    sections = griffe.parse_google(griffe.Docstring(inspect.getdoc(what) or ""), warnings=False)
    about = next(str(s.value) for s in sections if s.kind is griffe.DocstringSectionKind.text)
    arguments = [s.value for s in sections if s.kind is griffe.DocstringSectionKind.parameters]
    return prose(about, keep_paragraphs=True), {
        a.name: prose(a.description) for part in arguments for a in part
    }


def _attributes(what: type) -> tuple[str, dict[str, str]]:
    found = read(what)
    texts = {name: m.docstring.value for name, m in found.members.items() if m.docstring}
    return prose(inspect.getdoc(what), keep_paragraphs=True), {
        name: prose(text) for name, text in texts.items()
    }
