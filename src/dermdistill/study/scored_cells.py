"""The scored cells of a study, read from their files. It needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import DataError, MismatchError
from dermdistill.core.files import read_csv, read_json
from dermdistill.evaluation.per_image import MEASURES, PerImage, read_per_image
from dermdistill.metrics.intervals import Values
from dermdistill.study.schema import CellScore

PRIMARY = "dice"


@dataclass(frozen=True, eq=False)
class CellResult:
    """One scored cell."""

    seed: int
    run: str
    evaluation: str
    card: ModelCard
    summary: dict[str, Any]
    images: PerImage
    measures: dict[str, Values]
    steps: int | None
    epochs: int | None
    seconds: float | None
    folds: tuple[CellScore, ...] = ()
    """Of a cross-validation: its parts."""

    def score(self) -> CellScore:
        """What the study's result keeps of it."""
        return CellScore(
            seed=self.seed,
            run=self.run,
            evaluation=self.evaluation,
            epoch=self.card.epoch,
            steps=self.steps,
            seconds=self.seconds,
            weights_sha256=self.card.weights_sha256,
            dice=float(self.measures[PRIMARY].mean()),
            folds=self.folds,
        )


def read_cell(study: Path, seed: int, run: Path, evaluation: Path) -> CellResult | None:
    """A cell's results, or None where it is not scored yet.

    Raises:
        MismatchError: The scores are those of other weights.
    """
    if not (evaluation / "summary.json").is_file() or not (run / "card.json").is_file():
        return None
    summary, card = read_json(evaluation / "summary.json"), ModelCard.read(run / "card.json")
    if summary["weights_sha256"] != card.weights_sha256:
        raise MismatchError(
            f"{evaluation} holds the scores of other weights than {run} has.",
            "scores of the weights that are there",
            "Run the study again without --collect: it scores them.",
        )
    images = read_per_image(evaluation / "per_image.csv", required=MEASURES)
    metrics = read_csv(run / "metrics.csv") if (run / "metrics.csv").is_file() else []
    last = metrics[-1] if metrics else None
    return CellResult(
        seed, _relative(run, study), _relative(evaluation, study), card, summary, images, images.measures(),
        steps=int(last["step"]) if last else None,
        epochs=int(last["epoch"]) if last else None,
        seconds=sum(float(row["seconds"]) for row in metrics) if metrics else None,
    )  # fmt: skip


def check_together(cells: Sequence[CellResult]) -> None:
    """Refuse cells that were not scored on the same images of the same data.

    Raises:
        MismatchError: With the two cells that differ.
    """
    for cell in cells[1:]:
        first = cells[0]
        same_data = cell.summary["data"]["fingerprint"] == first.summary["data"]["fingerprint"]
        if not same_data or cell.images.image_id != first.images.image_id:
            raise MismatchError(
                f"{cell.run} was scored on other images than {first.run}.",
                f"the {len(first.images)} images of {first.summary['data']['name']} "
                f"({first.summary['data']['fingerprint'][:12]})",
                "Slices of one study must use the same prepared data: delete that cell and run it again.",
            )


def need_cells(arms: dict[str, list[CellResult]]) -> None:
    """Raise DataError where there is nothing to put into a table."""
    if not arms:
        raise DataError(
            "No cell of the study is trained and scored yet.",
            "at least one",
            "Run the study without --collect.",
        )


def stack(cells: Sequence[CellResult], name: str) -> Values:
    """One measure, float64 [seeds, images]."""
    return np.stack([cell.measures[name] for cell in cells])


def _relative(path: Path, study: Path) -> str:
    try:
        return path.resolve().relative_to(study.resolve()).as_posix()
    except ValueError:
        return str(path.resolve())
