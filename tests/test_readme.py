"""Every command in the README's shell blocks is tried, in the order in which a reader would type them.

``HOW`` says, by the first words of a command, whether it is run (at a tiny size, on generated lesions under
the name of the data set that it asks for) or only parsed (where it needs the network, a GPU or a browser).
A command that fits no entry fails the test: add one.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tyro

from dermdistill import cli
from dermdistill.data.phantom import write_phantoms
from dermdistill.data.prepare import prepare_phantom

REPOSITORY = Path(__file__).parents[1]


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


def _has_target(words: list[str]) -> None:
    subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, check=True, capture_output=True)


def _has_extra(words: list[str]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= project["optional-dependencies"].keys()


def _has_events(words: list[str]) -> None:
    assert list(Path(words[words.index("--logdir") + 1]).rglob("events.out.tfevents*"))


SMALL = (
    *("--data.size", "32", "--data.batch-size", "4", "--trainer.epochs", "1", "--trainer.accelerator", "cpu"),
)
STUDENT = ("--student.arch", "unet-w4", "--student.encoder", "None", "--student.encoder-weights", "None")
TEACHER = ("--teacher.arch", "unet-w4", "--teacher.encoder", "None", "--teacher.encoder-weights", "None")

HOW: dict[str, Run | Parse | Elsewhere] = {
    "dermdistill prepare phantom": Run(("--count", "12", "--size", "32")),
    "dermdistill prepare isic": Parse("it downloads"),
    "dermdistill prepare ph2": Parse("PH2 is not at hand"),
    "dermdistill prepare --images": Run(("--size", "32")),
    "dermdistill train teacher": Run((*SMALL, *TEACHER)),
    "dermdistill train student": Run((*SMALL, *STUDENT)),
    "dermdistill distill": Run((*SMALL, *STUDENT)),
    "dermdistill evaluate": Run(),
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
}


class ParsedError(Exception):
    """The arguments were understood."""


def _parse_only(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    original = tyro.cli

    def stop(what: Any, *args: Any, **named: Any) -> Any:
        if isinstance(what, type):
            original(what, *args, **named)
            raise ParsedError

        @functools.wraps(what)
        def understood(*_: Any, **__: Any) -> Any:
            raise ParsedError

        return original(understood, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(tyro, "cli", stop)
        with pytest.raises(ParsedError):
            cli.main(words)


def readme_commands() -> list[str]:
    """Commands of the README's ``sh`` blocks, comments cut off, continued lines joined."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|bash|shell|console)\n(.*?)```", text, flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if shlex.split(line, comments=True)]


def how(command: str) -> Run | Parse | Elsewhere:
    words = " ".join(shlex.split(command, comments=True))
    fitting = [prefix for prefix in HOW if words.startswith(prefix)]
    assert fitting, f"README: {command!r}: say in HOW how this is tried"
    return HOW[max(fitting, key=len)]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the README's names exist: prepared sets, folders of images, a photo."""
    for name in ("isic2016", "isic2017", "isic2018"):
        made = prepare_phantom(tmp_path / "data", count=12, size=32, seed=1, name="made", progress=False)
        made.folder.rename(tmp_path / "data" / name)
    write_phantoms(tmp_path / "written", 8, 64, seed=2)
    for place in ("DIR", "images", "photos"):
        shutil.copytree(tmp_path / "written" / "images", tmp_path / place)
    shutil.copytree(tmp_path / "written" / "masks", tmp_path / "masks")
    shutil.copytree(tmp_path / "written" / "masks", tmp_path / "DIR" / "masks")
    shutil.copy(tmp_path / "written" / "images" / "PHANTOM_00000.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_readme(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = readme_commands()
    assert len(commands) >= 8, "the README's shell blocks were not found"
    for command in commands:
        program, *words = shlex.split(command, comments=True)
        match how(command):
            case Run(more):
                assert cli.main([*words, *more]) == 0, f"{command}\n{capsys.readouterr().err}"
            case Parse():
                _parse_only(monkeypatch, words)
            case Elsewhere(check):
                check([program, *words])


def test_a_command_that_nobody_tries_is_found() -> None:
    with pytest.raises(AssertionError, match="say in HOW"):
        how("dermdistill frobnicate --all")


def test_parsing_finds_a_flag_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["prepare", "isic2016", "--sizes", "3"], ["train", "student-phantom", "--kd.heat", "3"]):
        with pytest.raises(SystemExit):
            _parse_only(monkeypatch, words)
    _parse_only(monkeypatch, ["distill", "phantom", "--kd.temperature", "3"])
