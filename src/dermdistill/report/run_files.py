"""Read one run folder: settings, card, curve, evaluations. Nothing is computed and no network is opened."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from dermdistill.artifacts.card import ModelCard
from dermdistill.config import flatten, read_yaml
from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import read_csv, read_json
from dermdistill.evaluation.per_image import PerImage, as_numbers, read_per_image
from dermdistill.metrics.intervals import Interval
from dermdistill.study.scores import Calibration

T = TypeVar("T")

_SEEDED = re.compile(r"(?P<arm>.+)-seed(?P<seed>\d+)")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One folder ``evaluation/DATA-SPLIT`` of a run."""

    folder: Path
    data: str
    split: str
    summary: dict[str, Any]
    per_image: PerImage

    @property
    def key(self) -> tuple[str, str]:
        """Which images were scored."""
        return self.data, self.split


@dataclass(frozen=True, eq=False)
class RunFiles:
    """What one run folder holds."""

    folder: Path
    settings: dict[str, Any]
    card: ModelCard | None
    curve: dict[str, list[float | None]]
    finished: bool
    evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def arm(self) -> str:
        """The arm's name: the folder's without its seed."""
        match = _SEEDED.fullmatch(self.folder.name)
        return match["arm"] if match else self.folder.name

    @property
    def seed(self) -> int | None:
        """By the card, else the settings, else the folder's name."""
        match = _SEEDED.fullmatch(self.folder.name)
        found = str(self.settings.get("seed", match["seed"] if match else ""))
        return self.card.seed if self.card else int(found) if found.isdigit() else None

    def evaluation(self, key: tuple[str, str]) -> Evaluation | None:
        """The evaluation on these images."""
        return next((e for e in self.evaluations if e.key == key), None)

    @property
    def weights(self) -> Path | None:
        """The weights' file, where it lies beside its card."""
        path = self.folder / self.card.weights if self.card else None
        return path if path is not None and path.is_file() else None


def is_run(folder: Path) -> bool:
    """Whether the folder was made by train or distill, or holds evaluations of a run that lies elsewhere."""
    files = any((folder / name).is_file() for name in ("config.yaml", "card.json"))
    return files or any(folder.glob("evaluation/*/summary.json"))


def read_run(folder: Path) -> RunFiles:
    """Read a run folder; files that are not there yet stay empty.

    Raises:
        UsageError: It is no run folder.
        DataError: A file in it is broken.
    """
    if not is_run(folder):
        raise UsageError(
            f"{folder} is not a run folder.",
            "a folder with config.yaml or card.json in it",
            "Name the folder that train, distill or study made.",
        )
    config, card, metrics = folder / "config.yaml", folder / "card.json", folder / "metrics.csv"
    return RunFiles(
        folder=folder,
        settings=_read_settings(config) if config.is_file() else {},
        card=ModelCard.read(card) if card.is_file() else None,
        curve=_read_curve(metrics) if metrics.is_file() else {},
        finished=(folder / "finished").is_file(),
        evaluations=[
            read_evaluation(path.parent) for path in sorted(folder.glob("evaluation/*/summary.json"))
        ],
    )


def read_evaluation(folder: Path) -> Evaluation:
    """Read what ``evaluate`` wrote.

    Raises:
        DataError: summary.json or per_image.csv is missing or broken.
    """
    path = folder / "summary.json"
    summary = read_json(path)
    try:
        data, split = str(summary["data"]["name"]), str(summary["split"])
        for value in summary["scores"].values():
            read_interval(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a summary of dermdistill evaluate ({type(error).__name__}: {error}).",
            "data, split and scores, as evaluate writes them",
            "Run dermdistill evaluate on this run again.",
        ) from None
    return Evaluation(folder, data, split, summary, read_per_image(folder / "per_image.csv"))


def read_interval(value: Any) -> Interval:
    """{"mean", "low", "high", "n"} as an Interval.

    Raises:
        KeyError, TypeError: It is something else.
    """
    return Interval(float(value["mean"]), float(value["low"]), float(value["high"]), int(value["n"]))


def read_part(kind: type[T], value: Any, what: str) -> T:
    """A part of summary.json as its type.

    Args:
        kind: Of the part.
        value: What the file holds.
        what: Name of the part, for the message.

    Raises:
        DataError: It is of another layout; the first wrong field is named.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise DataError(
            f"summary.json has {what} that cannot be read: {where}: {first['msg']}.",
            f"{what} as dermdistill evaluate writes it",
            "Run dermdistill evaluate on this run again.",
        ) from None


def read_calibration(summary: Mapping[str, Any]) -> Calibration | None:
    """The calibration of a summary.json, if it is there.

    Raises:
        DataError: It is of another layout.
    """
    found = summary.get("calibration")
    return read_part(Calibration, found, "a calibration") if found else None


def _read_settings(path: Path) -> dict[str, Any]:
    """The settings of a run by dotted name."""
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise DataError(
            f"{path} holds {type(tree).__name__}.",
            "a mapping of settings",
            "Put back the config.yaml that the run was made with.",
        )
    return dict(flatten(tree))


def _read_curve(path: Path) -> dict[str, list[float | None]]:
    rows = read_csv(path)
    columns = {name: as_numbers([row[name] for row in rows]) for name in (rows[0] if rows else {})}
    return {
        name: [None if math.isnan(v) else float(v) for v in values]
        for name, values in columns.items()
        if values is not None
    }
