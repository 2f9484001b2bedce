from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dermdistill import config
from dermdistill.config import Recipe, differences, load_recipe, parse_recipe, shipped_recipes, to_tree
from dermdistill.core.errors import ConfigError


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid_and_survives_yaml(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(to_tree(recipe)), encoding="utf-8")
    assert load_recipe(copy) == recipe
    header = path.read_text(encoding="utf-8")
    assert header.startswith("# What:")
    assert "# Command: " in header


def test_the_promised_recipes_are_there() -> None:
    names = {path.stem for path in shipped_recipes()}
    promised = {
        *("isic2016", "student-alone", "seed-notebook", "phantom", "teacher-cpu"),
        *("teacher-deeplabv3plus-resnet101", "teacher-deeplabv3-resnet101"),
    }
    assert promised <= names


def test_all_mistakes_are_told_at_once_with_the_nearest_name() -> None:
    tree = {"name": "x", "kd": {"temprature": 3, "kl": -1}, "trainer": {"epochs": 0}}
    with pytest.raises(ConfigError) as caught:
        parse_recipe(tree, "x.yaml")
    message = str(caught.value)
    assert "perhaps you meant 'temperature'" in message
    assert "kd.kl" in message
    assert "trainer.epochs" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"name": "x", "loss": {"dice": 0}}, "nothing would be learnt"),
        ({"name": "x", "kd": {"kl": 0}}, "nothing would be distilled"),
        ({"name": "x", "role": "teacher"}, "teacher.arch"),
        ({"name": "x", "data": {"size": 16}}, "greater than or equal to 32"),
        ({"name": "x", "optim": {"lr": float("nan")}}, "optim.lr"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tree: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_recipe(tree, "x.yaml")


def test_a_shipped_recipe_is_found_by_name_and_typos_are_helped() -> None:
    assert config.find_recipe("isic2016").samefile(config.find_recipe("recipes/isic2016.yaml"))
    with pytest.raises(ConfigError, match="Perhaps you meant isic2016"):
        config.find_recipe("isic2061")


def test_overrides_replace_the_files_values() -> None:
    recipe = load_recipe("phantom", {"kd.temperature": 7.0, "trainer.epochs": 2})
    assert (recipe.kd.temperature, recipe.trainer.epochs) == (7.0, 2)


@pytest.mark.parametrize("text", ["[1, 2", "- a\n- b\n"])
def test_files_that_are_not_recipes_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"r\.yaml"):
        load_recipe(path)


def test_differences_name_the_fields() -> None:
    old = Recipe(name="a")
    new = load_recipe_like(old, seed=1)
    assert differences(old, new) == {"seed": (0, 1)}


def load_recipe_like(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update=changes)
