"""Every command in the README's shell blocks is tried, in the order in which a reader would type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import HOW, REPOSITORY, blocks, commands, how, make_lab, parse_only, try_command


def readme_commands() -> list[str]:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    shells = [block for block in blocks(text) if block.language in ("sh", "bash", "shell", "console")]
    return [command for block in shells for command in commands(block.text)]


def test_every_command_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_lab(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = readme_commands()
    assert len(found) >= 8, "the README's shell blocks were not found"
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
