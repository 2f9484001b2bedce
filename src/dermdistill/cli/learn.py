"""``dermdistill train`` and ``dermdistill distill``: a recipe, any field of which can be set as a flag."""

from __future__ import annotations

import argparse
import logging

from dermdistill import config
from dermdistill.cli.common import describe, need_train_extra, parse, show_progress, take
from dermdistill.core.errors import UsageError

OWN_FLAGS = {
    "--resume": "goes on with an unfinished run",
    "--overwrite": "starts it anew",
}
"""Beside the recipe's fields."""
TEACHER = ("--teacher", "names a finished teacher run, instead of the recipe's")


def parser(verb: str) -> argparse.ArgumentParser:
    """The verb's options, for those who list them: RECIPE, the recipe's fields, and our own flags."""
    made = describe(config.Recipe, default=config.Recipe(name="NAME"))
    made.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    for flag, text in OWN_FLAGS.items():
        made.add_argument(flag, action="store_true", help=text)
    if verb == "distill":
        made.add_argument(TEACHER[0], metavar="PATH", help=TEACHER[1])
    return made


def run(verb: str, arguments: list[str]) -> int:
    """Run one training by its recipe; ``verb`` is train or distill."""
    resume, overwrite = (take(arguments, flag) for flag in OWN_FLAGS)
    # --teacher RUN is short for --teacher.run RUN, and takes the recipe's several teachers back.
    one_teacher = any(a.partition("=")[0] == "--teacher" for a in arguments)
    arguments = [
        "--teacher.run" if a == "--teacher" else a.replace("--teacher=", "--teacher.run=", 1)
        for a in arguments
    ]
    asks_help = any(a in ("-h", "--help") for a in arguments)
    if arguments and not arguments[0].startswith("-"):
        recipe = config.load_recipe(arguments.pop(0))
    elif asks_help:
        recipe = config.Recipe(name="NAME")
    else:
        raise UsageError(
            f"dermdistill {verb} needs a recipe.",
            f"dermdistill {verb} RECIPE [--field value …] [--resume | --overwrite]",
            "Name a YAML file, or one of the shipped recipes: "
            f"{', '.join(path.stem for path in config.shipped_recipes())}.",
        )
    recipe = parse(
        config.Recipe,
        f"{verb} RECIPE [--resume] [--overwrite]",
        arguments,
        default=recipe.for_one_teacher() if one_teacher else recipe,
        description="Every field of the recipe can be set here. "
        + ", ".join(f"{flag} {text}" for flag, text in OWN_FLAGS.items())
        + (f", {TEACHER[0]} RUN {TEACHER[1]}." if verb == "distill" else "."),
    )
    recipe = config.parse_recipe(config.to_tree(recipe), "the command line")
    need_train_extra(verb)
    from dermdistill.artifacts import run_folder
    from dermdistill.training import run as training

    if not run_folder.is_first_process():
        logging.getLogger("dermdistill").setLevel(logging.WARNING)  # one process tells how it goes
    do = training.train if verb == "train" else training.distill
    folder = do(recipe, resume=resume, overwrite=overwrite, progress=show_progress())
    if run_folder.is_first_process():
        print(folder)
    return 0
