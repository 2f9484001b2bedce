"""Commands in Markdown, tried as a reader would type them: shared by the tests of the README and of docs/.

``HOW`` says, by the first words of a command, whether it is run (at a tiny size, on generated lesions under
the name of the data set that it asks for) or only held against the real parser (where it needs the network, a
GPU, a queue or a browser). A command that fits no entry fails: add one.
"""

from __future__ import annotations

import functools
import inspect
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tyro

from dermdistill import cli
from dermdistill.data.prepare.phantom import write_phantoms
from dermdistill.data.prepare.prepare import prepare_phantom

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """Run it with these arguments added, which make it small."""

    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parse:
    """Only check that its arguments are understood: why it is not run."""

    because: str


@dataclass(frozen=True)
class Elsewhere:
    """Another program's command: what of it can be checked."""

    check: Callable[[list[str]], None]


How = Run | Parse | Elsewhere


def _has_target(words: list[str]) -> None:
    subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, check=True, capture_output=True)


def _has_extra(words: list[str]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= project["optional-dependencies"].keys()


def _has_events(words: list[str]) -> None:
    assert list(Path(words[words.index("--logdir") + 1]).rglob("events.out.tfevents*"))


def _launches(words: list[str]) -> None:
    """``srun dermdistill …`` and ``torchrun … -m dermdistill …``: ours, started by another program."""
    parse_only(words[words.index("dermdistill") + 1 :])


SMALL = (
    *("--data.size", "32", "--data.batch-size", "4", "--trainer.epochs", "1", "--trainer.accelerator", "cpu"),
)
STUDENT = ("--student.arch", "unet-w4", "--student.encoder", "None", "--student.encoder-weights", "None")
TEACHER = ("--teacher.arch", "unet-w4", "--teacher.encoder", "None", "--teacher.encoder-weights", "None")

HOW: dict[str, How] = {
    "dermdistill prepare phantom": Run(("--count", "12", "--size", "32")),
    "dermdistill prepare isic": Parse("it downloads"),
    "dermdistill prepare ph2": Parse("PH2 is not at hand"),
    "dermdistill prepare own": Run(("--size", "32")),
    "dermdistill prepare unlabelled": Run(("--size", "32")),
    "dermdistill train teacher": Run((*SMALL, *TEACHER)),
    "dermdistill train student": Run((*SMALL, *STUDENT)),
    "dermdistill distill": Run((*SMALL, *STUDENT, "--teacher.recipe", "teacher-phantom")),
    "dermdistill evaluate": Run(),
    "dermdistill calibrate": Parse("its own tests run it"),
    "dermdistill predict": Run(),
    "dermdistill figure": Run(("--count", "2")),
    "dermdistill demo": Parse("it takes minutes"),
    "dermdistill serve": Parse("it serves until it is stopped; its own tests run it"),
    "dermdistill export": Parse("its own tests run it"),
    "dermdistill study": Parse("its own tests run it"),
    "dermdistill audit": Parse("its own tests run it"),
    "dermdistill report": Parse("its own tests run it"),
    "dermdistill bench": Parse("its own tests run it"),
    "dermdistill recipes": Run(),
    "dermdistill completion": Run(),
    "dermdistill info": Run(),
    "dermdistill --version": Run(),
    "make": Elsewhere(_has_target),
    "pip install": Elsewhere(_has_extra),
    "tensorboard": Elsewhere(_has_events),
    "srun dermdistill": Elsewhere(_launches),
    "torchrun": Elsewhere(_launches),
}


class ParsedError(Exception):
    """The arguments were understood."""


def parse_only(words: list[str]) -> None:
    """Let the real parser read the arguments, and stop before anything is done.

    Raises:
        SystemExit: The parser refuses them.
    """
    original = tyro.cli

    def stop(what: Any, *args: Any, **named: Any) -> Any:
        if not inspect.isfunction(what):
            original(what, *args, **named)
            raise ParsedError

        @functools.wraps(what)
        def understood(*_: Any, **__: Any) -> Any:
            raise ParsedError

        return original(understood, *args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tyro, "cli", stop)
        with pytest.raises(ParsedError):
            cli.main(words)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    title: str
    """Of a block that is a file's content: the file."""
    text: str
    line: int
    """Of its fence, from 1."""
    follows: int
    """Lines of anything but blank between the block before and this one."""


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in their order."""
    end = 0
    for found in re.finditer(r"^```([^\n`]*)\n(.*?)^```\s*$", text, flags=re.DOTALL | re.MULTILINE):
        between = [line for line in text[end : found.start()].splitlines() if line.strip()]
        language, _, title = found[1].strip().partition(" title=")
        yield Block(
            language, title.strip('"'), found[2], text.count("\n", 0, found.start()) + 1, len(between)
        )
        end = found.end()


def commands(block: str) -> list[str]:
    """The commands of a shell block: comments cut off, continued lines joined."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if shlex.split(line, comments=True)]


def how(command: str, table: dict[str, How] = HOW) -> How:
    """How this command is tried: the longest entry of the table that it begins with."""
    words = " ".join(shlex.split(command, comments=True))
    fitting = [prefix for prefix in table if words.startswith(prefix)]
    assert fitting, f"{command!r}: say in HOW how this is tried"
    return table[max(fitting, key=len)]


def try_command(command: str, table: dict[str, How] = HOW) -> int:
    """Run it, or check what of it can be checked; the exit code (0 where it is not run)."""
    program, *words = shlex.split(command, comments=True)
    match how(command, table):
        case Run(more):
            return cli.main([*words, *more])
        case Parse():
            parse_only(words)
        case Elsewhere(check):
            check([program, *words])
    return 0


def make_lab(folder: Path) -> None:
    """Fill a folder with what the pages name: prepared sets, folders of images and masks, a photo."""
    for seed, name in enumerate(("isic2016", "isic2017", "isic2018"), start=1):
        made = prepare_phantom(folder / "data", count=12, size=32, seed=seed, name="made", progress=False)
        made.folder.rename(folder / "data" / name)
    write_phantoms(folder / "written", 8, 64, seed=12)
    for place in ("DIR", "images", "photos"):
        shutil.copytree(folder / "written" / "images", folder / place)
    shutil.copytree(folder / "written" / "masks", folder / "masks")
    shutil.copytree(folder / "written" / "masks", folder / "DIR" / "masks")
    shutil.copy(folder / "written" / "images" / "PHANTOM_00000.jpg", folder / "photo.jpg")
