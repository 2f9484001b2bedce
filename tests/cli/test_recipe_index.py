"""`dermdistill recipes`: the list, the files, and their settings explained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dermdistill import cli, config
from dermdistill.cli.recipe_index import NOTES, explain, index, read_notes, read_settings, short, short_score
from dermdistill.config import flatten, load_recipe, to_tree
from dermdistill.core.errors import ConfigError

FILES = [*config.shipped_recipes(), *config.shipped_studies()]

HEADER = """\
# A comment before the first note.
# What:    two lines: the second
#          is indented.
# Command: dermdistill distill x      (Score: this is no note)
# Cost:
#          15 minutes
name: x
# Score: too late
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_recipe_says_what_it_is_its_command_cost_and_score(path: Path) -> None:
    notes = read_notes(path.read_text(encoding="utf-8"))
    assert [note for note in NOTES if not notes.get(note)] == []
    assert path.stem in notes["command"], "the command names the recipe"
    assert "dermdistill " in notes["command"]


def test_the_headers_form_is_read() -> None:
    notes = read_notes(HEADER)
    assert notes == {
        "what": "two lines: the second is indented.",
        "command": "dermdistill distill x (Score: this is no note)",
        "cost": "15 minutes",
    }


@pytest.mark.parametrize(
    ("score", "told"),
    [
        ("on 'x' (637 train), CPU: test Dice 91.68 (90.48 to 92.49), Jaccard 85.58 (84.03 to 86.74).",
         "test Dice 91.68 (90.48 to 92.49), Jaccard …"),
        ("3 seeds; test Dice (per image, 95 % CI): teacher 91.68 (90.48 to 92.49) · alone 90.24",
         "test Dice: teacher 91.68 (90.48 to 92.49) · …"),
        # A note that begins with none quotes the figures of others: they are not this recipe's.
        ("none with this schedule. A study's: test Dice 90.04 (88.67 to 91.03).", "none with this schedule"),
        ("in a/MODEL_CARD.md, which the command makes anew", "in a/MODEL_CARD.md, which the command makes …"),
        ("Dice 91 against −0.20 (−0.42 to +0.19)", "Dice 91 against −0.20 (−0.42 to +0.19)"),
    ],
)  # fmt: skip
def test_scores_are_shortened_to_their_first_figures(score: str, told: str) -> None:
    assert short_score(score, 46) == told


def test_texts_are_cut_at_words_and_sentences() -> None:
    assert short("One. Two.", 40) == "One"
    assert short("3.9 M parameters; the run took 47 minutes", 22) == "3.9 M parameters; …"
    assert short("", 10) == ""


def test_the_list_has_one_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head, *rows = lines[: len(FILES) + 1]
    assert head.split() == ["name", "what", "it", "is", "cost", "score"]
    assert [row.split()[0] for row in rows] == [path.stem for path in FILES]
    assert max(map(len, rows)) <= 160
    where = head.index("score")
    entry = {one.name: one for one in index()}["teacher-cpu"]
    (row,) = (row for row in rows if row.startswith("teacher-cpu "))
    figure = row[where:].removesuffix(" …")
    assert figure.startswith("test Dice ")
    assert figure.rstrip(",") in entry.notes["score"]


def test_a_narrow_terminal_gets_lines_that_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dermdistill.cli import recipes

    monkeypatch.setattr(recipes, "_columns", lambda: 80)
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()[:-3]
    assert len(lines) == 4 * len(FILES)
    assert max(map(len, lines)) <= 80


def test_the_list_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes", "--json"]) == 0
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert told.keys() == {path.stem for path in FILES}
    assert (told["isic2016"]["kind"], told["teacher-cpu"]["kind"]) == ("student", "teacher")
    assert told["study-cpu"]["kind"] == "study"
    for path in FILES:  # nothing is shortened here
        text = " ".join(path.read_text(encoding="utf-8").replace("\n#", " ").split())
        assert all(told[path.stem][note] in text for note in NOTES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_name_prints_the_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes", path.stem]) == 0
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", config.shipped_recipes(), ids=lambda path: path.stem)
def test_the_settings_explained_are_all_and_have_the_recipes_values(path: Path) -> None:
    loaded = load_recipe(path)
    options = {"student.options": loaded.student.options, "teacher.options": loaded.teacher.options}
    recipe = dict(flatten(to_tree(loaded))) | options  # a mapping is one setting
    found = {one.name: one for one in explain(path)}
    assert found.keys() == recipe.keys()
    assert {name: one.value for name, one in found.items()} == recipe
    assert {name for name, one in found.items() if one.is_set} == dict(flatten(read_settings(path))).keys()
    assert not [name for name, one in found.items() if not one.doc], "every field has its meaning"


@pytest.mark.parametrize("path", config.shipped_studies(), ids=lambda path: path.stem)
def test_a_studys_settings_are_explained_with_those_of_its_arms(path: Path) -> None:
    found = {one.name: one for one in explain(path)}
    tree = read_settings(path)
    assert {name for name, one in found.items() if one.is_set} == dict(flatten(tree)).keys()
    assert found["seeds"].value == tree["seeds"]
    assert not [one.name for one in found.values() if not one.doc]
    told = [one for name, one in found.items() if name.startswith("arms.") and "overrides" in name]
    assert "Weight" not in [one.doc for one in told]
    boundary = [one.doc for one in told if one.name.endswith(".overrides.kd.boundary")]
    assert bool(boundary) == ("kd.boundary" in path.read_text(encoding="utf-8"))
    assert all(doc.startswith("The same KL") for doc in boundary)


def test_ranges_are_those_that_the_types_enforce() -> None:
    found = {one.name: one for one in explain(config.find_recipe("isic2016"))}
    assert found["data.size"].range == "whole number, 32 to 2048"
    assert found["kd.temperature"].range == "number > 0 and ≤ 100"
    assert found["data.unlabelled_share"].range == "number > 0 and < 1"
    assert found["trainer.early_stop"].range == "whole number ≥ 1 or none"
    assert found["role"].range == "student, teacher"
    assert found["data.root"].range == "path"
    assert found["augment.enabled"].range == "true or false"
    assert found["name"].required
    for name, outside in (
        ("data.size", 31),
        ("kd.temperature", 100.5),
        ("data.unlabelled_share", 1.0),
        ("role", "pupil"),
    ):
        with pytest.raises(ConfigError):
            load_recipe("isic2016", {name: outside})


def test_explain_prints_what_is_set_and_with_all_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes", "phantom", "--explain"]) == 0
    told = capsys.readouterr().out
    assert "kd.temperature: 2.0\n    default 2.0; number > 0 and ≤ 100\n    Temperature T of" in told
    assert "loss.focal_gamma" not in told
    assert cli.main(["recipes", "phantom", "--explain", "--all"]) == 0
    told = capsys.readouterr().out
    assert "\nloss.focal_gamma: 2.0\n    default 2.0; number, 0 to 10\n" in told
    assert "\n* kd.temperature: 2.0\n" in told
    assert cli.main(["recipes", "phantom", "--explain", "--json"]) == 0
    told_json = json.loads(capsys.readouterr().out)
    assert told_json["settings"]["trainer"] == {"epochs": 12}
    (epochs,) = (one for one in told_json["fields"] if one["name"] == "trainer.epochs")
    assert (epochs["value"], epochs["default"], epochs["is_set"]) == (12, 50, True)


def test_a_file_of_ones_own_is_explained_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nkd: {kl: 2}\n", encoding="utf-8")
    assert cli.main(["recipes", str(path), "--explain"]) == 0
    assert "kd.kl: 2\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["isic2061"], "Perhaps you meant isic2016"),
        (["study-phantm", "--explain"], "Perhaps you meant study-phantom"),
        (["--explain"], "--explain needs a recipe"),
        (["phantom", "--all"], "--all goes with --explain"),
    ],
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["recipes", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_broken_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    for text, told in (
        ("name: mine\nkd: {kll: 2}\n", "perhaps you meant 'kl'"),
        ("a: [", "not valid YAML"),
        ("1", "mapping"),
    ):
        path.write_text(text, encoding="utf-8")
        for more in (["--explain"], ["--json"]):
            assert cli.main(["recipes", str(path), *more]) == 2
            assert told in capsys.readouterr().err


def test_listing_loads_no_torch() -> None:
    code = (
        "import sys; from dermdistill import cli;"
        "cli.main(['recipes']); cli.main(['recipes', 'phantom', '--explain']);"
        "heavy = {'torch', 'onnxruntime', 'matplotlib', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_an_encoding_that_lacks_a_sign_gets_it_escaped() -> None:
    def told(encoding: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dermdistill", "recipes", "isic2016", "--explain", *arguments],
            check=True, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding},
        )  # fmt: skip
        return done.stdout.decode(encoding)

    assert "number \\u2265 0" in told("cp1252")
    assert json.loads(told("ascii", "--json")) == json.loads(told("utf-8", "--json"))
