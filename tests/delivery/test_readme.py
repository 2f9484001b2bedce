"""Every command and line of Python in the README is tried, in the order in which a reader would type them."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from commands import HOW, REPOSITORY, blocks, commands, how, make_lab, parse_only, try_command

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
SAYS_HOW_TO_INSTALL = (
    *("README.md", "CONTRIBUTING.md", "Dockerfile", "docs/**/*.md", "notebooks/*.ipynb", "recipes/*.yaml"),
    "src/dermdistill/**/*.py",
)


def readme_commands() -> list[str]:
    shells = [block for block in blocks(README) if block.language in ("sh", "bash", "shell", "console")]
    return [command for block in shells for command in commands(block.text)]


def test_it_is_short_and_begins_with_what_matters() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    first = [place for place, line in enumerate(lines) if line.startswith("![")]
    assert len(first) == 1, "one picture"
    assert first[0] < 5
    assert any("Not a medical device" in line for line in lines[:12])


def test_every_command_in_a_line_of_the_readme_is_understood() -> None:
    outside = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    found = [name for name in re.findall(r"`dermdistill ([^`]+)`", outside) if not name.isupper()]
    assert len(found) >= 8
    for words in found:
        parse_only(shlex.split(words))


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_lab(tmp_path)
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in blocks(README) if block.language == "python"]
    exec(compile(block.text, "README.md", "exec"), {})


def test_the_extras_table_has_every_extra() -> None:
    table = README.partition("## Extras")[2].partition("##")[0]
    rows = re.findall(r"^\| (`.+?) \|", table, flags=re.MULTILINE)
    assert {extra for row in rows[1:] for extra in re.findall(r"`(\w+)`", row)} == set(EXTRAS)


def test_the_lines_that_install_agree_everywhere() -> None:
    """By the package's name and with extras that there are; ``.`` only where a clone is spoken of."""
    named, cloned = [], []
    for pattern in SAYS_HOW_TO_INSTALL:
        for path in sorted(REPOSITORY.glob(pattern)):
            for line in path.read_text(encoding="utf-8").splitlines():
                for target in re.findall(
                    r"pip install (?:--\S+ )*[\\\"']*(dermdistill\b(?:\[[^]]*\])?|\.\S*)", line
                ):
                    (cloned if target.startswith(".") else named).append((path.name, target, line))
    assert len(named) > 20
    for name, target, line in named:
        extras = set(re.findall(r"[\w{}]+", target.partition("[")[2]))
        assert extras - {"{target}", "{name}"} <= set(EXTRAS), f"{name}: {line}"
    for name, _, line in cloned:
        assert "clone" in line, f"{name}: {line}"


def test_every_command_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_lab(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = readme_commands()
    assert len(found) >= 6, "the README's shell blocks were not found"
    for command in found:
        assert try_command(command) == 0, f"{command}\n{capsys.readouterr().err}"


def test_a_command_that_nobody_tries_is_found() -> None:
    with pytest.raises(AssertionError, match="say in HOW"):
        how("dermdistill frobnicate --all")
    assert all(prefix.split() for prefix in HOW)


def test_parsing_finds_a_flag_that_does_not_exist() -> None:
    for words in (["prepare", "isic2016", "--sizes", "3"], ["train", "student-phantom", "--kd.heat", "3"]):
        with pytest.raises(SystemExit):
            parse_only(words)
    parse_only(["distill", "phantom", "--kd.temperature", "3"])


def test_blocks_and_commands_are_read() -> None:
    page = "a\n```sh\n# no\nmake \\\n  test  # why\n$ make demo\n```\n\n```text\nout\n```\n"
    shell, text = blocks(page)
    assert (shell.language, shell.line, text.language, text.follows) == ("sh", 2, "text", 0)
    assert commands(shell.text) == ["make    test  # why", "make demo"]
