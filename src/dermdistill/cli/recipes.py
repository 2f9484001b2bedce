"""``dermdistill recipes``."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from dermdistill.cli.common import print_json
from dermdistill.core.errors import UsageError

if TYPE_CHECKING:
    from dermdistill.cli.recipe_index import Entry, Setting

TABLE_COLUMNS = 150
"""Narrower terminals get three lines per recipe, not one; a file or pipe gets the table."""
PIPE_COLUMNS = 160


def recipes(
    recipe_or_study: Annotated[str | None, arg(metavar="[NAME]")] = None,
    /,
    explain: bool = False,
    all: bool = False,
    json: bool = False,
) -> int:
    """The shipped recipes and studies: what each is, its cost, its score. With a name: its file.

    Args:
        recipe_or_study: Name of a shipped recipe or study, or a YAML file.
        explain: Its settings with value, default, range and meaning.
        all: With --explain: those too that it leaves as they are.
        json: Print JSON.
    """
    from dermdistill import config
    from dermdistill.cli.recipe_index import explain as read_explained
    from dermdistill.cli.recipe_index import index, read_entry, read_settings

    if recipe_or_study is None and explain:
        raise UsageError(
            "--explain needs a recipe.", "dermdistill recipes NAME --explain",
            "Name one; dermdistill recipes lists them.",
        )  # fmt: skip
    if all and not explain:
        raise UsageError(
            "--all goes with --explain.", "dermdistill recipes NAME --explain --all",
            "Add --explain, or leave --all out.",
        )  # fmt: skip
    if recipe_or_study is None:
        entries = index()
        if json:
            print_json([entry.to_json() for entry in entries])
        else:
            print(_listing(entries))
        return 0
    path = config.find_recipe(recipe_or_study)
    if not explain and not json:
        print(path.read_text(encoding="utf-8"), end="")
        return 0
    settings = [one for one in read_explained(path) if all or one.is_set] if explain else []
    if json:
        entry: dict[str, Any] = {**read_entry(path).to_json(), "settings": read_settings(path)}
        print_json(entry | ({"fields": [one.to_json() for one in settings]} if explain else {}))
    else:
        print("\n".join(_explained(one, mark=all) for one in settings))
    return 0


def _columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS


def _listing(entries: list[Entry]) -> str:
    from dermdistill.cli.recipe_index import short, short_score

    columns = _columns()
    lines = []
    if columns >= TABLE_COLUMNS:
        name = max(len(entry.name) for entry in entries)
        room = columns - name - 6
        what, cost = int(room * 0.42), int(room * 0.22)
        rows = [("name", "what it is", "cost", "score")]
        for entry in entries:
            notes = [entry.notes.get(note, "") for note in ("what", "cost", "score")]
            rows.append(
                (entry.name, short(notes[0], what), short(notes[1], cost),
                 short_score(notes[2], room - what - cost))
            )  # fmt: skip
        lines = [f"{a:<{name}}  {b:<{what}}  {c:<{cost}}  {d}".rstrip() for a, b, c, d in rows]
    else:
        for entry in entries:
            lines.append(entry.name)
            for note, cut in (("what", short), ("cost", short), ("score", short_score)):
                lines.append(f"  {note:<5}  {cut(entry.notes.get(note, ''), columns - 10)}")
    return "\n".join(
        [
            *lines,
            "",
            "Shortened. dermdistill recipes NAME has the command, and data, protocol, interval of a score;",
            "--explain has its settings.",
        ]
    )


def _explained(one: Setting, *, mark: bool) -> str:
    """A setting as a line of YAML, what it may be, and its meaning."""
    default = "required" if one.required else f"default {_value(one.default)}"
    head = f"{'* ' if mark and one.is_set else ''}{one.name}: {_value(one.value)}"
    lines = [head, f"    {default}; {one.range}"]
    if one.doc:
        lines.append(textwrap.fill(one.doc, 100, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(lines)


def _value(value: Any) -> str:
    match value:
        case None:
            return "none"
        case "":
            return '""'
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return str(value)
