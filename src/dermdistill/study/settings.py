"""Settings of a study: which arms, over which seeds, against which baseline; and the cells they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from dermdistill.config import Recipe, differences, find_recipe, load_recipe, parse_recipe, read_yaml, to_tree
from dermdistill.config.settings import FolderName, NonNegative, Settings
from dermdistill.core.errors import ConfigError
from dermdistill.core.user_file import is_user_file

TEACHER = "teacher"
"""Name of the teacher's arm."""


class Arm(Settings):
    """One way to train the student."""

    verb: Literal["train", "distill"] = "distill"
    """train: the student alone; distill: with a teacher."""
    title: str = ""
    """For tables; empty: the arm's name."""
    teacher: Literal["study", "own"] = "study"
    """study: the study's teacher; own: what this arm's overrides say (an ablation)."""
    optional: bool = False
    """Whether the study is whole without it: its weights may be out of reach. It is reported as not run."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Settings by dotted name (``kd.channel_wise: 1.0``) on top of the study's recipe."""


class StudyTeacher(Settings):
    """The network that teaches, and is scored as an arm of its own."""

    run: Path | None = None
    """A finished run."""
    recipe: str | None = None
    """Recipe that fine-tunes it; empty: the one that the study's recipe names."""
    per_seed: bool = False
    """One teacher per seed, not one for all."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Settings by dotted name on top of the teacher's recipe."""


class StudySettings(Settings):
    """A study, as study.yaml holds it."""

    name: FolderName
    """Its folder is runs_root/name."""
    question: str = "Does distillation make the student better than the same student alone?"
    """What is asked, in one sentence."""
    recipe: str
    """Recipe of the student that every arm starts from (a file, or a shipped one's name)."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Settings by dotted name on top of the recipe, for all arms."""
    arms: dict[str, Arm] = Field(min_length=1)
    """By name."""
    teacher: StudyTeacher = StudyTeacher()
    baseline: str = "alone"
    """Arm that the others are compared with."""
    seeds: tuple[NonNegative, ...] = (0, 1, 2)
    """Of weights, order and views; every arm has every seed."""
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    """Cross-validation: the training images are divided into N parts, images of one lesion or patient in one;
    each arm is trained N times, without one part each, and scored on that part. The validation images choose
    the weights as ever, the test images are left alone. Empty: one training for each arm and seed."""
    budget: Literal["steps", "wall-clock"] = "steps"
    """steps: the same optimiser steps for all student arms; wall-clock: the same training time, that of the
    slowest arm: epochs are scaled by a measured epoch of each arm, and the schedule spans them."""
    allow_unequal_steps: bool = False
    """Accept student arms that differ in steps, schedule or optimiser."""
    test_data: str | None = None
    """Prepared data set to score on; empty: the one trained on."""
    split: Literal["test", "val"] = "test"
    """Split to score on."""
    human: str | None = None
    """Agreement between people to show: a known name, a CSV, a folder of masks, or none."""
    audit: Path | None = None
    """Result of `dermdistill audit`, for the report."""
    runs_root: Path = Path("runs")
    """Folder that holds the study's folder."""

    @model_validator(mode="after")
    def _fits_together(self) -> StudySettings:
        if self.baseline not in self.arms:
            raise ValueError(f"baseline {self.baseline!r} is none of the arms: {', '.join(self.arms)}")
        if wrong := [n for n in self.arms if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", n) or n == TEACHER]:
            raise ValueError(
                f"{wrong[0]!r} is no name for an arm (letters, digits, . + - _; not {TEACHER!r})"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be some, and different: {self.seeds}")
        if self.folds is not None and self.teacher.run is not None:
            raise ValueError(
                f"folds is {self.folds} and teacher.run {self.teacher.run}: that teacher was trained on "
                "images of every fold; leave it out, and one is fine-tuned for each fold"
            )
        if self.folds is not None and (self.test_data is not None or self.split != "test"):
            raise ValueError(
                f"folds is {self.folds}: each fold is scored on its own part of the training images, so "
                "test_data and split have no meaning"
            )
        return self

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.runs_root / self.name


@dataclass(frozen=True)
class Cell:
    """One training of one arm."""

    arm: str
    seed: int
    fold: str | None = None
    """K/N of a cross-validation: the part that it is trained without and scored on."""

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.arm}-seed{self.seed}" + (f"-fold{self.fold.replace('/', 'of')}" if self.fold else "")


DEFAULT_ARMS: dict[str, Any] = {
    "alone": {"verb": "train", "title": "student alone"},
    "kl": {"title": "distilled, KL", "overrides": {"kd.kl": 1.0}},
    "kl-channel": {
        "title": "distilled, KL + channel-wise", "overrides": {"kd.kl": 1.0, "kd.channel_wise": 1.0},
    },
    "kl-boundary": {"title": "distilled, KL + boundary", "overrides": {"kd.kl": 1.0, "kd.boundary": 1.0}},
    "voc-teacher": {
        "title": "distilled, teacher not fine-tuned", "teacher": "own", "optional": True,
        "overrides": {
            "teacher.run": None, "teacher.recipe": None, "teacher.arch": "deeplabv3-torchvision",
            "teacher.encoder": "resnet101", "teacher.encoder_weights": "coco", "teacher.folds": None,
        },
    },
}  # fmt: skip
"""Of a plain recipe: the student alone, three loss sets, and the original notebook's teacher (ablation)."""


def load_study(name: str | Path) -> StudySettings:
    """Read a study from a YAML file or a shipped one; a student's recipe gets DEFAULT_ARMS.

    Raises:
        ConfigError: No such file, not YAML, unknown keys or values out of range.
    """
    path = find_recipe(name)
    tree = read_yaml(path)
    if isinstance(tree, dict) and "arms" not in tree:
        recipe = load_recipe(name)
        if recipe.role != "student":
            raise ConfigError(
                f"The recipe {recipe.name} trains a teacher.",
                "a student's recipe, or a study (a YAML file with arms)",
                "Name the student's recipe; the teacher's goes to --teacher-recipe.",
            )
        where = str(path) if Path(name).is_file() else path.stem
        tree = {"name": f"study-{recipe.name}", "recipe": where, "arms": DEFAULT_ARMS}
    return parse_study(tree, str(path))


def parse_study(tree: Any, source: str) -> StudySettings:
    """Validate plain values as a study; ``source`` is named in errors."""
    try:
        return StudySettings.model_validate(tree)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            field = ".".join(map(str, problem["loc"])) or "study"
            lines.append(f"  - {field}: {problem['msg'].removeprefix('Value error, ')}")
        raise ConfigError(
            f"{source}:\n" + "\n".join(lines),
            "settings of a study that exist, with values in range",
            "Fix the lines named above, in the file or on the command line.",
        ) from None


def with_values(recipe: Recipe, values: Mapping[str, Any], source: str) -> Recipe:
    """A recipe with some settings, by dotted name, replaced.

    Raises:
        ConfigError: An unknown name or a value out of range.
    """
    tree = to_tree(recipe)
    for dotted, value in values.items():
        *parents, last = dotted.split(".")
        branch: Any = tree
        for parent in parents:
            branch = branch.setdefault(parent, {}) if isinstance(branch, dict) else {}
        if not isinstance(branch, dict):
            raise ConfigError(
                f"{source}: {dotted} is not a setting.",
                "a setting of the recipe, such as kd.temperature",
                "Correct the name; the page of the settings lists all of them.",
            )
        branch[last] = value
    return parse_recipe(tree, source)


def base_recipe(settings: StudySettings) -> Recipe:
    """The recipe that every arm starts from."""
    return with_values(load_recipe(settings.recipe), settings.overrides, f"study {settings.name}")


def folds_of(settings: StudySettings) -> list[str | None]:
    """The parts, as K/N, that a cell is trained without; one None without cross-validation."""
    return [f"{part}/{settings.folds}" for part in range(settings.folds)] if settings.folds else [None]


def student_cells(settings: StudySettings) -> list[Cell]:
    """All student cells, seed by seed, so that a study broken off holds whole seeds."""
    folds = folds_of(settings)
    return [Cell(arm, seed, fold) for seed in settings.seeds for fold in folds for arm in settings.arms]


def has_teacher(settings: StudySettings) -> bool:
    """Whether some arm learns from the study's teacher."""
    return any(arm.verb == "distill" and arm.teacher == "study" for arm in settings.arms.values())


def teacher_cells(settings: StudySettings) -> list[Cell]:
    """The teacher's cells: none, one for all seeds, or one per seed; each for every fold."""
    if not has_teacher(settings):
        return []
    per_seed = settings.teacher.run is None and settings.teacher.per_seed
    seeds = settings.seeds if per_seed else settings.seeds[:1]
    return [Cell(TEACHER, seed, fold) for seed in seeds for fold in folds_of(settings)]


def teacher_of(settings: StudySettings, student: Cell) -> Path | None:
    """Run folder of the teacher that a student learns from: of its seed, trained without the same fold."""
    cells = teacher_cells(settings)
    if not cells:
        return None
    if settings.teacher.run is not None:
        return settings.teacher.run
    mine = [cell for cell in cells if cell.fold == student.fold] or cells
    return cell_folder(settings, next((cell for cell in mine if cell.seed == student.seed), mine[0]))


def teacher_arch(settings: StudySettings) -> str | None:
    """The network of the study's teacher, as its recipe names it: that a user's own file may be run.

    None where no recipe makes a teacher, which is refused when one is to be trained.
    """
    base = base_recipe(settings)
    if settings.teacher.run is not None:
        return base.teacher.arch
    if settings.teacher.recipe is None and base.teacher.recipe is None:
        return None
    return cell_recipe(settings, Cell(TEACHER, settings.seeds[0])).trained_arch


def cell_folder(settings: StudySettings, cell: Cell) -> Path:
    """Where a cell's run lies."""
    return settings.folder / "cells" / cell.name


def cell_recipe(settings: StudySettings, cell: Cell, *, epochs: int | None = None) -> Recipe:
    """What a cell trains; the teacher's recipe for a teacher's cell.

    Args:
        settings: The study.
        cell: Which.
        epochs: Replaces trainer.epochs (a wall-clock budget).
    """
    place = {
        "seed": cell.seed, "name": cell.name, "runs_root": str(settings.folder / "cells"),
        **({"data.fold": cell.fold} if cell.fold else {}),
    }  # fmt: skip
    base = base_recipe(settings)
    source = f"study {settings.name}, arm {cell.arm}"
    if cell.arm == TEACHER:
        from dermdistill.training.teachers import teacher_recipe

        chosen = settings.teacher.recipe or base.teacher.recipe
        if chosen is None:
            raise ConfigError(
                f"The study {settings.name} names no teacher.",
                "a finished run, or a recipe that fine-tunes one",
                "Add --teacher RUN, or teacher: {recipe: teacher-cpu} to the study.",
            )
        named = with_values(base, {"teacher.recipe": chosen}, source)
        return with_values(teacher_recipe(named), {**settings.teacher.overrides, **place}, source)
    arm = settings.arms[cell.arm]
    values = {**arm.overrides, **place}
    if arm.verb == "distill" and arm.teacher == "study":
        base = base.for_one_teacher()
        values["teacher.run"] = str(teacher_of(settings, cell))
        if (arch := teacher_arch(settings)) and is_user_file(arch):
            values["teacher.arch"] = arch
    if epochs is not None:
        values["trainer.epochs"] = epochs
    return with_values(base, values, source)


def overrides_of(old: Recipe, new: Recipe) -> dict[str, Any]:
    """Settings by dotted name in which ``new`` differs from ``old``."""
    return {key: value for key, (_, value) in differences(old, new).items()}
