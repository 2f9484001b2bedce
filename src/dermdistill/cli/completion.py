"""``dermdistill completion``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import Any, Literal


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print a script that completes verbs, options, choices, recipes and files in a shell.

    bash: dermdistill completion bash > ~/.local/share/bash-completion/completions/dermdistill

    zsh: dermdistill completion zsh > a folder of $fpath, as _dermdistill

    fish: dermdistill completion fish > ~/.config/fish/completions/dermdistill.fish

    It is made from the parser and the recipes of this version: write it anew after an upgrade.

    Args:
        shell: For which shell.
    """
    print(script(shell))
    return 0


def script(shell: Literal["bash", "zsh", "fish"]) -> str:
    """The completion script of the whole command line for one shell."""
    import shtab

    from dermdistill.cli.parsers import whole_parser

    parser = whole_parser()
    mark(parser)
    return shtab.complete(parser, shell=shell)


def mark(parser: argparse.ArgumentParser) -> None:
    """Say of every argument what completes it, where it is not one of a few choices.

    By name and type: what is called … recipe takes a recipe or a file, … study a study too; what is a path
    takes a file, and so does every other positional argument.
    """
    import shtab

    from dermdistill import config

    recipes = [path.stem for path in config.shipped_recipes()]
    studies = [path.stem for path in config.shipped_studies()]
    for action in _arguments(parser):
        name = action.dest.rpartition(".")[2]
        if action.choices or action.nargs == 0:
            continue
        if name.endswith("study"):
            action.complete = _names_or_files("study", [*studies, *recipes])  # type: ignore[attr-defined]
        elif name.endswith("recipe"):
            action.complete = _names_or_files("recipe", recipes)  # type: ignore[attr-defined]
        elif "PATH" in str(action.metavar) or not action.option_strings:
            action.complete = shtab.FILE  # type: ignore[attr-defined]


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All options and positional arguments of a parser, its verbs and their subcommands."""
    for action in parser._actions:
        if isinstance(action.choices, dict):  # of parsers: argparse's own, or those of tyro's copy of it
            for inner in action.choices.values():
                yield from _arguments(inner)
        else:
            yield action


def _names_or_files(kind: str, names: list[str]) -> dict[str, Any]:
    """A completer of these names and of files, in the form that shtab takes: a function for each shell."""
    function, words = f"_dermdistill_{kind}_or_file", shlex.join(names)
    return {
        "bash": function,
        "zsh": function,
        "fish": f"({function})",
        "preamble": {
            "bash": f'{function}() {{\n  compgen -W {shlex.quote(words)} -- "$1"\n  compgen -f -- "$1"\n}}',
            "zsh": f"{function}() {{\n  _alternative '{kind}:{kind}:({words})' 'files:file:_files'\n}}",
            "fish": f"function {function}\n  printf '%s\\n' {words}\n"
            "  __fish_complete_path (commandline -ct)\nend",
        },
    }
