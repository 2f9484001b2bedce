"""``dermdistill study``: arms × seeds as one job, and the table."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from dermdistill import config
from dermdistill.cli.common import (
    describe,
    need_train_extra,
    parse,
    print_json,
    set_up_logging,
    show_progress,
)
from dermdistill.core.errors import UsageError


@dataclass
class Arguments:
    """Train and score arms × seeds as one job, compare them, say what was found.

    The same command begins, goes on with what was broken off, and skips what is done. Every field of the
    recipe can be set too, for all student arms (--data.name, --optim.lr, --student.arch …).
    """

    study: Positional[str]
    """A study (a YAML file with arms, or a shipped one), or a student's recipe, which gets the usual arms:
    alone, kl, kl-channel, kl-boundary, and voc-teacher (the teacher not fine-tuned)."""
    name: str | None = None
    """Name of the study: its folder is RUNS_ROOT/NAME."""
    runs_root: Path | None = None
    """Folder that holds it (default: runs)."""
    seeds: str | None = None
    """Such as 0,1,2."""
    folds: int | None = None
    """Cross-validation with N parts of the training images, whole lesions and patients each (2 to 20)."""
    epochs: int | None = None
    """Of each student arm (short for --trainer.epochs)."""
    teacher: Path | None = None
    """A finished teacher run (default: it is fine-tuned first, once)."""
    teacher_recipe: str | None = None
    """Recipe that fine-tunes the teacher (default: the one that the student's recipe names)."""
    teacher_epochs: int | None = None
    """Epochs of the teacher that is fine-tuned here."""
    teacher_per_seed: bool = False
    """Fine-tune one teacher per seed."""
    arms: str | None = None
    """Keep only these of the study's arms, such as alone,kl."""
    baseline: str | None = None
    """Arm that the others are compared with."""
    budget: Literal["steps", "wall-clock"] | None = None
    """The same optimiser steps, or the same wall-clock time, for each student arm."""
    allow_unequal_steps: bool = False
    """Accept student arms that differ in steps or schedule."""
    test_data: str | None = None
    """Prepared data set to score on (default: the one trained on)."""
    split: Literal["test", "val"] | None = None
    """Split to score on."""
    human: str | None = None
    """Agreement between people to show: isic2016, a CSV, a folder with several masks per image, or none."""
    audit: Path | None = None
    """Result of dermdistill audit, named in study.json for the report."""
    jobs: int = 1
    """Cells at a time, each in a process with its share of the cores."""
    slice: str | None = None
    """Only this share of the student cells, such as 2/5, for several machines."""
    only: str | None = None
    """Run only these arms now (teacher is one), such as teacher,alone."""
    collect: bool = False
    """Train nothing: make the table from the cells that are there."""
    json: bool = False
    """Print study.json instead of the table."""


def parser() -> argparse.ArgumentParser:
    """The verb's options, for those who list them: its own, and the recipe's other fields."""
    fields = describe(config.Recipe, default=config.Recipe(name="NAME"))
    # Of two flags of one name the later parser's counts.
    return argparse.ArgumentParser(
        parents=[fields, describe(Arguments)], add_help=False, conflict_handler="resolve"
    )


def run(arguments: list[str]) -> int:
    """Parse the verb's arguments and do it; the exit code is returned."""
    given, rest = parse(Arguments, "study", arguments, return_unknown_args=True)
    from dermdistill.study import run as study
    from dermdistill.study.settings import parse_study
    from dermdistill.study.verdict import to_text

    settings = parse_study(_tree(given, rest), "the command line")
    if given.jobs < 1:
        raise UsageError(f"--jobs is {given.jobs}.", "at least 1", "Set --jobs to 1 or more.")
    if given.collect:
        result = study.collect(settings)
    else:
        need_train_extra("study")
        result = study.run_study(
            settings,
            share=None if given.slice is None else study.Share.parse(given.slice),
            only=None if given.only is None else given.only.split(","),
            workers=given.jobs,
            called_as=shlex.join(["dermdistill", "study", *arguments]),
            set_up=set_up_logging,
            progress=show_progress(),
        )
    if given.json:
        print_json(result.to_json())
    else:
        print(to_text(result))
    print(settings.folder / "study.json", file=sys.stderr)
    # An arm that was wanted and could not be run is a failure, although the table stands.
    return 1 if [one for one in result.not_run if not one.optional] else 0


def _tree(given: Arguments, rest: list[str]) -> dict[str, Any]:
    """The study's settings as plain values, with the flags in their places."""
    from dermdistill.study.settings import load_study

    tree = config.to_tree(load_study(given.study))
    flags = {
        "name": given.name, "runs_root": given.runs_root, "baseline": given.baseline, "budget": given.budget,
        "test_data": given.test_data, "split": given.split, "human": given.human, "audit": given.audit,
    }  # fmt: skip
    tree |= {key: str(value) for key, value in flags.items() if value is not None}
    if given.seeds is not None:
        tree["seeds"] = _seeds(given.seeds)
    if given.folds is not None:
        tree["folds"] = given.folds
    if given.allow_unequal_steps:
        tree["allow_unequal_steps"] = True
    if given.arms is not None:
        arm_names = given.arms.split(",")
        if absent := [name for name in arm_names if name not in tree["arms"]]:
            raise UsageError(
                f"There is no arm {absent[0]!r}.",
                f"some of {', '.join(tree['arms'])}",
                "Correct --arms, or leave it out for all of them.",
            )
        tree["arms"] = {name: tree["arms"][name] for name in arm_names}
    teacher = tree["teacher"]
    if given.teacher is not None:
        teacher["run"] = str(given.teacher)
    if given.teacher_recipe is not None:
        teacher["recipe"] = given.teacher_recipe
    if given.teacher_epochs is not None:
        teacher["overrides"]["trainer.epochs"] = given.teacher_epochs
    teacher["per_seed"] = teacher["per_seed"] or given.teacher_per_seed
    if given.epochs is not None:
        rest = [*rest, "--trainer.epochs", str(given.epochs)]
    tree["overrides"] |= _overrides(tree, rest)
    return tree


def _overrides(tree: dict[str, Any], rest: list[str]) -> dict[str, Any]:
    """The recipe's flags, checked by the recipe's own types, as values by dotted name."""
    from dermdistill.study.settings import base_recipe, overrides_of, parse_study

    if not rest:
        return {}
    base = base_recipe(parse_study(tree, "the command line"))
    changed = parse(config.Recipe, "study STUDY", rest, default=base)
    return overrides_of(base, changed)


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--seeds {text} are no seeds.",
            "whole numbers with commas, such as 0,1,2",
            "Write them as in --seeds 0,1,2.",
        ) from None
