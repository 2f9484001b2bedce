"""The reference pages: as the code is now, and with everything in them that a user can type or catch."""

from __future__ import annotations

import re

import pytest
from tools.reference import FOLDER, pages
from tools.reference.verbs import LEARN

import dermdistill
from dermdistill import cli, config
from dermdistill.core import errors
from dermdistill.core.errors import DermDistillError
from dermdistill.data.prepare.settings import KINDS

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_not_stale(name: str) -> None:
    there = (FOLDER / name).read_text(encoding="utf-8") if (FOLDER / name).exists() else ""
    assert there == PAGES[name], f"docs/reference/{name} is not what the code says: run `make docs`"


def section(page: str, title: str) -> str:
    found = re.search(
        rf"^##(#?) {re.escape(title)}\n(.*?)(?=^##\1 |^## |\Z)", PAGES[page], re.DOTALL | re.MULTILINE
    )
    assert found, f"{page} has no section {title!r}"
    return found[2]


@pytest.mark.parametrize(
    "verb",
    [verb for verb in cli.VERBS if verb not in (*LEARN, "prepare")] + [f"prepare {kind}" for kind in KINDS],
)
def test_the_verbs_flags_are_those_of_the_parser(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*verb.split(), "--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    # An option begins its line, in a box or not: `--flag TYPE` or `--flag, --no-flag`, two spaces, words.
    options = re.findall(r"^(?:[│|] | {0,2})((?:-h, )?--[a-z].*?)(?:  |$)", told, flags=re.MULTILINE)
    parser = {flag for option in options for flag in re.findall(r"--[a-z][\w.-]*", option)} - {"--help"}
    assert parser or verb == "completion", f"no flags were read in the help of {verb}:\n{told}"
    page = set(re.findall(r"^\| `(--[\w.-]+)`", section("cli.md", verb), flags=re.MULTILINE))
    page |= set(re.findall(r"\| or `(--no-[\w.-]+)` \|", section("cli.md", verb)))
    assert page == parser


def test_every_setting_is_there_with_its_meaning() -> None:
    tree = config.to_tree(config.Recipe(name="x"))
    for dotted, _ in config.flatten(tree):
        row = re.search(rf"^\| `{re.escape(dotted)}` \| (.*) \|$", PAGES["settings.md"], re.MULTILINE)
        assert row, f"{dotted} is not in the settings' page"
        kind, _, meaning = row[1].split(" | ")
        assert kind, row[0]
        assert len(meaning) > 3, row[0]
    assert "| `kd.temperature` | number, 0 < x ≤ 100 | `2.0` |" in PAGES["settings.md"]
    assert "| `trainer.early_stop` | whole number, ≥ 1 |  |" in PAGES["settings.md"]


def test_every_public_name_is_there_with_its_words() -> None:
    for name in dermdistill.__all__:
        assert len(section("api.md", f"`{name}`").split()) > 3, name
    assert "### `Predictor.predict_many`" in PAGES["api.md"]


def test_every_error_has_cause_fix_and_exit_code() -> None:
    classes = [
        value for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, DermDistillError)
    ]  # fmt: skip
    assert len(classes) >= 11
    for one in classes:
        row = re.search(rf"^\| `{one.__name__}` \| (.+) \|$", PAGES["errors.md"], re.MULTILINE)
        assert row, f"{one.__name__} is not in the table"
        what, cause, fix, code = row[1].split(" | ")
        assert min(len(what), len(cause), len(fix)) > 20, row[0]
        assert int(code) == one.exit_code
