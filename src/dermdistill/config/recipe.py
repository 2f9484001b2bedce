"""A recipe: all settings of one experiment, and which of them go together."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from dermdistill.config.settings import (
    AugmentSettings,
    DataSettings,
    FolderName,
    KDSettings,
    LossSettings,
    ModelSettings,
    NonNegative,
    OptimSettings,
    Settings,
    StyleSettings,
    TeacherSettings,
    TrainerSettings,
)


class Recipe(Settings):
    """One experiment."""

    name: FolderName
    """Name of the run: its folder is runs_root/name."""
    role: Literal["student", "teacher"] = "student"
    """Which of the two networks this recipe trains."""
    seed: NonNegative = 0
    """Seed of the weights, the order and the views."""
    runs_root: Path = Path("runs")
    """Folder that holds the runs."""
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    student: ModelSettings = ModelSettings()
    style: StyleSettings = StyleSettings()
    teacher: TeacherSettings = TeacherSettings()
    loss: LossSettings = LossSettings()
    kd: KDSettings = KDSettings()
    optim: OptimSettings = OptimSettings()
    trainer: TrainerSettings = TrainerSettings()

    @property
    def trained_arch(self) -> str:
        """Which network this recipe trains: the student's, or the teacher's."""
        return self.student.arch if self.role == "student" else self.teacher.arch or ""

    def for_one_teacher(self) -> Recipe:
        """Without what else may name its teacher or several, for one finished run that is named instead.

        Examples:
            >>> from dermdistill import load_recipe
            >>> recipe = load_recipe("release")
            >>> recipe.teacher.folds, recipe.for_one_teacher().teacher.folds
            (4, None)
        """
        none = {"runs": (), "onnx": None, "transformers": None, "maps": (), "folds": None}
        teacher = self.teacher.model_copy(update=none)
        return self.model_copy(update={"teacher": teacher})

    @model_validator(mode="after")
    def _teacher_role_names_an_arch(self) -> Recipe:
        if self.role == "teacher" and self.teacher.arch is None:
            raise ValueError("role is teacher, so teacher.arch must name the network to fine-tune")
        if self.role == "teacher" and self.style.enabled:
            raise ValueError("role is teacher: only students are told styles (style.enabled)")
        if self.role == "teacher" and self.teacher.finished:
            raise ValueError(
                f"role is teacher: it is trained here, teacher.{' and teacher.'.join(self.teacher.finished)} "
                "have no meaning"
            )
        return self
