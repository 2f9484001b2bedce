"""Recipes and runs of earlier versions go on loading; what they would now do otherwise is said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from dermdistill.artifacts import run_folder
from dermdistill.config import load_recipe, parse_recipe, to_tree
from dermdistill.core.errors import ConfigError, MismatchError

OLD = {"augment": {"mixup": 0.2, "cutout": 0.5}, "trainer": {"ema": 0.995}, "kd": {"attention": 1.0}}
OFF = {"augment": {"mixup": 0.0, "cutout": 0.0}, "trainer": {"ema": 0}, "kd": {"attention": 0.0}}


def test_settings_that_are_gone_are_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = parse_recipe({"name": "x", **OLD}, "old.yaml")
    assert found == parse_recipe({"name": "x"}, "new.yaml")
    for told in ("augment.mixup: 0.2", "augment.cutout: 0.5", "trainer.ema: 0.995", "kd.attention: 1.0"):
        assert f"old.yaml: {told} is ignored" in caplog.text
    assert OLD["trainer"] == {"ema": 0.995}, "the tree that was given stays as it is"


def test_those_that_were_off_are_dropped_silently(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert parse_recipe({"name": "x", **OFF}, "old.yaml") == parse_recipe({"name": "x"}, "new.yaml")
    assert not caplog.text


def test_an_override_of_a_study_is_read_too(caplog: pytest.LogCaptureFixture) -> None:
    assert load_recipe("phantom", {"trainer.ema": 0.9}) == load_recipe("phantom")
    assert "trainer.ema: 0.9 is ignored" in caplog.text


@pytest.mark.parametrize("tree", [[], None, "text", {"name": "x", "trainer": 3}, {"name": "x", "kd": []}])
def test_what_is_no_recipe_is_refused_as_ever(tree: Any) -> None:
    with pytest.raises(ConfigError):
        parse_recipe(tree, "broken.yaml")


def test_a_run_that_was_begun_with_one_is_not_resumed_without_it(tmp_path: Path) -> None:
    recipe = load_recipe("phantom", {"runs_root": str(tmp_path)})
    with run_folder.open_run(recipe, resume=False, overwrite=False) as run:
        run.metrics.write_text("epoch\n0\n")
    path = tmp_path / recipe.name / "config.yaml"
    tree = to_tree(recipe)
    tree["trainer"]["ema"] = 0.0
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with run_folder.open_run(recipe, resume=True, overwrite=False):
        pass
    tree["trainer"]["ema"] = 0.9
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert run_folder.read_config(path.parent) == recipe, "evaluate, export and report go on reading it"
    with pytest.raises(MismatchError, match=r"trainer\.ema: 0\.9 → gone"):
        run_folder.open_run(recipe, resume=True, overwrite=False).__enter__()


@pytest.mark.parametrize(("old", "new", "told"), [("kept", "cached", True), ("online", "online", False)])
def test_a_setting_with_a_new_name_is_read_by_its_old_one(
    old: str, new: str, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_recipe("release", {"teacher.answers": old}).teacher.logits == new
    assert ("teacher.answers: kept is now teacher.logits: cached" in caplog.text) == told
    with pytest.raises(ConfigError, match=r"teacher\.logits.*found 'sometimes'"):
        load_recipe("release", {"teacher.answers": "sometimes"})
