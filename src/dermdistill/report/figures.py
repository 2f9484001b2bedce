"""Which figures a report gets, with titles and captions; each as SVG for the page, or as PDF for paper."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dermdistill.core.files import atomic_path, write_text
from dermdistill.report import forest, plots, theme
from dermdistill.report.model import Arm, Report
from dermdistill.report.theme import Palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """A figure that can be drawn with any palette."""

    name: str
    """Letters and dashes: part of ids and file names."""
    title: str
    caption: str
    make: Callable[[Palette], Figure]

    def svg(self) -> str:
        """As an element for the page; colours are CSS variables."""
        palette = theme.placeholders()
        with theme.drawing(palette):
            return theme.to_svg(self.make(palette), self.name, f"{self.title}. {self.caption}")

    def pdf(self) -> bytes:
        """For paper, in light colours; text stays text."""
        palette = theme.printed()
        with theme.drawing(palette), io.BytesIO() as stream:
            self.make(palette).savefig(stream, format="pdf", metadata={"CreationDate": None})
            return stream.getvalue()


def write_figures(drawn: Sequence[Drawn], folder: Path, form: Literal["svg", "pdf"]) -> list[Path]:
    """Each figure as a file of its own; an SVG follows the reader's light or dark setting by itself."""
    paths = []
    for figure in drawn:
        path = folder / f"{figure.name}.{form}"
        if form == "svg":
            write_text(path, theme.standalone(figure.svg()))
        else:
            with atomic_path(path) as temporary:
                temporary.write_bytes(figure.pdf())
        paths.append(path)
    return paths


def figures(report: Report) -> Iterator[Drawn]:
    """The figures for which there are numbers."""
    places, people = colour_places(report), report.inter_rater_agreement
    scored = [arm for arm in report.arms if arm.per_image is not None]
    at = [places[arm.name] for arm in scored]
    of_seeds = " (mean of its seeds)" if any(len(arm.cells) > 1 for arm in scored) else ""
    yield from _curves(report, places)
    if scored:
        yield Drawn(
            "distribution",
            "Dice of each image",
            f"A point is an image{of_seeds}; box: quartiles, median bold; diamond: mean."
            + (" Dashed: human against human, with its 95 % interval." if people else ""),
            lambda palette: plots.distribution(scored, at, people, palette),
        )
    yield from _scatter(report, scored, places)
    calibrated = [arm for arm in report.arms if arm.calibration and arm.calibration.points]
    if calibrated:
        yield Drawn(
            "reliability",
            "Reliability",
            "On the diagonal a probability means what it says. Pixels are counted at native size.",
            lambda palette: plots.reliability(calibrated, [places[a.name] for a in calibrated], palette),
        )
    if report.subgroups:
        yield _forest(report, places)


def _curves(report: Report, places: dict[str, int]) -> Iterator[Drawn]:
    several = any(len(arm.cells) > 1 for arm in report.arms)
    caption = "Thin: each seed; bold: their mean; " if several else ""
    caption += (
        "dot: the epoch whose weights were kept." if several else "Dot: the epoch whose weights were kept."
    )
    for column, title, label in (
        ("val_dice", "Validation Dice while learning", "validation Dice, %"),
        ("val_agreement", "Agreement with the teacher while learning", "Dice with the teacher's mask, %"),
    ):
        learnt = [
            a for a in report.arms if any(v is not None for c in a.cells for v in c.curve.get(column, []))
        ]
        if learnt:
            at = [places[arm.name] for arm in learnt]
            yield Drawn(
                column.replace("_", "-"),
                title,
                caption,
                functools.partial(plots.curves, learnt, at, column, label),
            )


def _scatter(report: Report, scored: list[Arm], places: dict[str, int]) -> Iterator[Drawn]:
    teacher = report.teacher
    if teacher is None or teacher.per_image is None:
        return
    wanted = [report.arm(report.baseline), report.shown]
    students = [arm for arm in scored if arm in wanted and arm is not teacher]
    if students:
        at = [places[arm.name] for arm in students]
        yield Drawn(
            "teacher-student",
            "Teacher and student, image by image",
            "A point is an image. Above the diagonal the student beats its teacher.",
            lambda palette: plots.teacher_student(teacher, students, at, palette),
        )


def _forest(report: Report, places: dict[str, int]) -> Drawn:
    paired = any(s.difference for s in report.subgroups)
    students = [a.name for a in report.arms if a.role == "student" or report.kind == "run"]
    shown = {s.arm for s in report.subgroups if s.difference or not paired}
    named = [name for name in students if name in shown]
    levels = [s for s in report.subgroups if s.arm in named]
    what = f"Paired difference to {report.baseline}" if paired else "Mean Dice"
    return Drawn(
        "subgroups",
        "Subgroups",
        f"{what} with 95 % interval; hollow: few images. No correction for the number of subgroups.",
        lambda palette: forest.forest(levels, named, [places[n] for n in named], palette),
    )


def colour_places(report: Report) -> dict[str, int]:
    """Place of each arm in the palette: baseline grey (0), first student blue, teacher orange."""
    places = {report.baseline: 0} if report.baseline else {}
    rest = [arm for arm in report.arms if arm.name not in places]
    students, teachers = ([a.name for a in rest if a.role == role] for role in ("student", "teacher"))
    order = [*students[:1], *teachers[:1], *students[1:], *teachers[1:]] if students else ["", *teachers]
    return places | {name: place for place, name in enumerate(order, start=1) if name}
