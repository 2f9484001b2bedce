"""Read one run folder: settings, card, curve, evaluations. Nothing is computed and no network is opened."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import read_csv, read_json
from dermdistill.metrics.intervals import Interval
from dermdistill.report.model import Bin, Calibration, PerImage

_SEEDED = re.compile(r"(?P<arm>.+)-seed(?P<seed>\d+)")
_TEXT_COLUMNS = ("image_id", "diagnosis")


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
        settings=dict(_flatten(_read_yaml(config))) if config.is_file() else {},
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


def read_per_image(path: Path) -> PerImage:
    """Read per_image.csv; every column that holds numbers becomes float64 [n], NaN where a cell is empty.

    Raises:
        DataError: No rows, no image_id, or no dice.
    """
    rows = read_csv(path)
    if not rows or not {"image_id", "dice"} <= rows[0].keys():
        raise DataError(
            f"{path} has {'no rows' if not rows else 'no column image_id or dice'}.",
            "one row per image with image_id and dice",
            "Run dermdistill evaluate on this run again.",
        )
    columns = {}
    for name in rows[0]:
        if name not in _TEXT_COLUMNS and (values := _numbers([row[name] for row in rows])) is not None:
            columns[name] = values
    if "dice" not in columns:
        raise DataError(
            f"{path}: the column dice holds something that is no number.",
            "numbers in 0 to 1",
            "Run dermdistill evaluate on this run again.",
        )
    return PerImage([row["image_id"] for row in rows], [row.get("diagnosis") or "" for row in rows], columns)


def read_interval(value: Any) -> Interval:
    """{"mean", "low", "high", "n"} as an Interval.

    Raises:
        KeyError, TypeError: It is something else.
    """
    return Interval(float(value["mean"]), float(value["low"]), float(value["high"]), int(value["n"]))


def read_calibration(found: Any) -> Calibration | None:
    """``calibration`` of a summary.json or study.json, if it is there; empty bins are left out."""
    if not isinstance(found, dict) or "ece" not in found:
        return None
    bins = tuple(
        Bin(float(entry["confidence"]), float(entry["accuracy"]), float(entry["share"]))
        for entry in found.get("bins", [])
        if entry["confidence"] is not None and entry["accuracy"] is not None and entry["share"] > 0
    )
    return Calibration(float(found["ece"]), bins, str(found.get("definition", "")))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not valid YAML: {error}",
            "config.yaml as train and distill write it",
            "Put back the config.yaml that the run was made with.",
        ) from None
    if not isinstance(tree, dict):
        raise DataError(
            f"{path} holds {type(tree).__name__}.",
            "a mapping of settings",
            "Put back the config.yaml that the run was made with.",
        )
    return tree


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_curve(path: Path) -> dict[str, list[float | None]]:
    rows = read_csv(path)
    columns = {name: _numbers([row[name] for row in rows]) for name in (rows[0] if rows else {})}
    return {
        name: [None if math.isnan(v) else float(v) for v in values]
        for name, values in columns.items()
        if values is not None
    }


def _numbers(texts: list[str | None]) -> NDArray[np.float64] | None:
    """Float64 [n] with NaN for empty cells, or None when some cell is no number."""
    words = {"true": 1.0, "false": 0.0, "": math.nan}
    try:
        return np.array(
            [words[t] if (t := (text or "").strip().lower()) in words else float(t) for text in texts]
        )
    except ValueError:
        return None
