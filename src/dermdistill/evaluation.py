"""Score a run by the official ISIC protocol, and draw what it got right and wrong.

Per image, at the native size of its mask, mean over images. Nothing is chosen here: the weights were chosen
on validation, the threshold is the card's.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dermdistill import figures, imaging, runs
from dermdistill.card import ModelCard, versions
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare import ensure_prepared
from dermdistill.errors import DataError, UsageError
from dermdistill.files import write_csv, write_json
from dermdistill.imaging import Float32Array
from dermdistill.metrics import SCORES, Counts, Interval, count, mean_interval, pooled_dice, scores
from dermdistill.models.torch_backend import TorchBackend, load_run

logger = logging.getLogger(__name__)

PROTOCOL = (
    "per image, at the native size of the mask, mean over images; the probability is restored to that size "
    "by bilinear interpolation and thresholded; threshold Jaccard counts as 0 below 0.65; a ratio 0/0 counts "
    "as 1; 95 % BCa bootstrap intervals over images"
)
SMALL = 30
"""Groups with fewer images are marked: their intervals are wide and their means say little."""


@dataclass(frozen=True)
class Summary:
    """Scores of one run on one split, as in summary.json."""

    scores: dict[str, Interval]
    """By full name: ``dice_per_image_mean`` …"""
    by_diagnosis: dict[str, dict[str, Interval]]
    dice_pooled: float
    about: dict[str, Any]
    """Data, split, run, weights, threshold, device, versions, seconds."""
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        groups = {
            name: {"small": group["dice_per_image_mean"].n < SMALL, **_plain(group)}
            for name, group in self.by_diagnosis.items()
        }
        return {
            "protocol": PROTOCOL,
            **self.about,
            "scores": _plain(self.scores),
            "by_diagnosis": groups,
            "dice_pooled": self.dice_pooled,
        }

    def to_text(self) -> str:
        """A small table for people."""
        lines = [f"{self.about['data']['name']}, {self.about['split']}, {self.about['images']} images"]
        for name, s in self.scores.items():
            title = name.removesuffix("_per_image_mean").replace("_", " ")
            lines.append(
                f"  {title:<18}{100 * s.mean:6.2f}   95 % CI {100 * s.low:.2f} to {100 * s.high:.2f}"
            )
        for name, group in self.by_diagnosis.items():
            s = group["dice_per_image_mean"]
            small = "   (few images)" if s.n < SMALL else ""
            lines.append(f"  Dice, {name:<12}{100 * s.mean:6.2f}   n {s.n}{small}")
        lines.append(f"  written to {self.folder}")
        return "\n".join(lines)


def evaluate(
    run: Path,
    *,
    data: str | None = None,
    split: str = "test",
    root: Path | None = None,
    out: Path | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> Summary:
    """Score a run on a split; write per_image.csv, summary.json, cases.png and dice_distribution.png.

    Args:
        run: Run folder, or a weights file with its card beside it.
        data: Prepared data set; None: the one it was trained on.
        split: train, val or test.
        root: Folder of the prepared data sets; None: the run's.
        out: Where to write; None: ``RUN/evaluation/DATA-SPLIT``.
        batch_size: Images at once.
        progress: Show a bar.

    Raises:
        DataError: The split is empty, or files are gone.
        MismatchError: The weights are not those of the card.
    """
    started = time.perf_counter()
    net, card = load_run(run)
    folder = run if run.is_dir() else run.parent
    prepared = _open(folder, card, data, root)
    rows = prepared.indices(split)
    if not len(rows):
        raise DataError(
            f"{prepared.name} has no {split} images.", "a split with images", "Choose another --split."
        )
    backend = TorchBackend(net)
    counted = np.zeros((len(rows), 4), dtype=np.int64)
    found = _probabilities(backend, prepared, rows, batch_size, progress, prepared.name)
    for place, (row, prob) in enumerate(found):
        truth = prepared.native_mask(row)
        counted[place] = count(_native(prob, truth.shape, card.threshold), truth)
    counts = Counts(*counted.T)
    per_image = scores(counts)
    out = out or folder / "evaluation" / f"{prepared.name}-{split}"
    summary = _summarise(counts, per_image, prepared, rows, out)
    about = {
        "data": {
            "name": prepared.name,
            "fingerprint": prepared.fingerprint,
            "title": prepared.info.get("title"),
        },
        "split": split,
        "images": len(rows),
        "run": folder.name,
        "weights_sha256": card.weights_sha256,
        "trained_on": card.dataset,
        "threshold": card.threshold,
        "device": str(backend.device),
        "versions": versions(),
        "seconds": round(time.perf_counter() - started, 2),
    }
    summary = dataclasses.replace(summary, about=about)
    _write(summary, counts, per_image, prepared, rows, net_backend=backend, card=card)
    if run.is_dir():
        means = {name: dataclasses.asdict(value) for name, value in summary.scores.items()}
        entry = {f"{split}:{prepared.name}": means}
        card.model_copy(update={"scores": {**card.scores, **entry}}).write(folder / "card.json")
    return summary


def figure_of_run(
    run: Path,
    *,
    ids: list[str] | None = None,
    count: int = 6,
    split: str = "val",
    data: str | None = None,
    root: Path | None = None,
    teacher: Path | None = None,
    seed: int = 0,
    out: Path | None = None,
) -> Path:
    """Image, truth and prediction side by side, for chosen ids or a seeded choice; the PNG's path.

    Raises:
        UsageError: An id is not in the split.
    """
    net, card = load_run(run)
    folder = run if run.is_dir() else run.parent
    prepared = _open(folder, card, data, root)
    rows = prepared.indices(split)
    if ids:
        known = {prepared.manifest[row].image_id: row for row in rows.tolist()}
        if absent := [name for name in ids if name not in known]:
            raise UsageError(
                f"{', '.join(absent)} is not in the {split} split of {prepared.name}.",
                f"ids such as {', '.join(list(known)[:3])}",
            )
        rows = np.array([known[name] for name in ids])
    else:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    backends = [(TorchBackend(net), card.threshold)]
    if teacher is not None:
        teacher_net, teacher_card = load_run(teacher)
        backends.append((TorchBackend(teacher_net), teacher_card.threshold))
    columns = [
        [imaging.to_mask(prob, cut) for _, prob in _probabilities(backend, prepared, rows, 16, False, "")]
        for backend, cut in backends
    ]
    path = out or folder / "figures" / f"{split}.png"
    figures.side_by_side(
        path,
        [prepared.manifest[row].image_id for row in rows.tolist()],
        prepared.images[rows],
        prepared.masks[rows],
        np.stack(columns[0]),
        np.stack(columns[1]) if teacher is not None else None,
    )
    return path


def _open(folder: Path, card: ModelCard, data: str | None, root: Path | None) -> PreparedData:
    name = data or card.dataset["name"]
    if root is None:
        root = runs.read_config(folder).data.root if (folder / "config.yaml").is_file() else Path("data")
    prepared = ensure_prepared(name, root, card.input_size)
    if prepared.fingerprint != card.dataset["fingerprint"]:
        logger.info(
            "%s is not the data that %s was trained on (%s): nothing keeps its images out of training",
            prepared.name, folder.name, card.dataset["name"],
        )  # fmt: skip
    return prepared


def _probabilities(
    backend: TorchBackend, data: PreparedData, rows: np.ndarray, batch_size: int, progress: bool, title: str
) -> Iterator[tuple[int, Float32Array]]:
    """(row, probability float32 [s, s]) for each row, computed in batches."""
    with tqdm(total=len(rows), desc=title, unit="image", disable=not progress, leave=False) as bar:
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            batch = data.images[part].transpose(0, 3, 1, 2).astype(np.float32) / 255
            for row, prob in zip(part.tolist(), backend(batch)[:, 0], strict=True):
                yield row, prob
                bar.update()


def _native(prob: Float32Array, shape: tuple[int, ...], threshold: float) -> imaging.UInt8Array:
    return imaging.to_mask(imaging.restore_prob(prob, shape[0], shape[1]), threshold)


def _summarise(
    counts: Counts, per_image: dict[str, np.ndarray], data: PreparedData, rows: np.ndarray, out: Path
) -> Summary:
    diagnoses = np.array([data.manifest[row].diagnosis for row in rows.tolist()])
    groups = {
        str(name): {key: values[diagnoses == name] for key, values in per_image.items()}
        for name in np.unique(diagnoses)
        if name
    }
    return Summary(
        scores=_intervals(per_image),
        by_diagnosis={name: _intervals(group) for name, group in groups.items()},
        dice_pooled=pooled_dice(counts),
        about={},
        folder=out,
    )


def _intervals(per_image: dict[str, np.ndarray]) -> dict[str, Interval]:
    return {f"{name}_per_image_mean": mean_interval(per_image[name]) for name in SCORES}


def _plain(found: dict[str, Interval]) -> dict[str, Any]:
    return {name: dataclasses.asdict(value) for name, value in found.items()}


def _write(
    summary: Summary,
    counts: Counts,
    per_image: dict[str, np.ndarray],
    data: PreparedData,
    rows: np.ndarray,
    *,
    net_backend: TorchBackend,
    card: ModelCard,
) -> None:
    out = summary.folder
    table = []
    for place, row in enumerate(rows.tolist()):
        entry = data.manifest[row]
        numbers = {key: int(getattr(counts, key)[place]) for key in ("tp", "fp", "fn", "tn")}
        values = {name: f"{per_image[name][place]:.6f}" for name in SCORES}
        table.append({"image_id": entry.image_id, "diagnosis": entry.diagnosis, **numbers, **values})
    write_csv(out / "per_image.csv", table, ["image_id", "diagnosis", "tp", "fp", "fn", "tn", *SCORES])
    write_json(out / "summary.json", summary.to_json())
    order = np.argsort(per_image["dice"], kind="stable")
    some = min(4, len(order))
    middle = max(0, len(order) // 2 - some // 2)
    chosen = {"best": order[::-1][:some], "median": order[middle : middle + some], "worst": order[:some]}
    figures.case_grid(
        out / "cases.png",
        {title: _cases(places, per_image, data, rows, net_backend, card) for title, places in chosen.items()},
    )
    dice = summary.scores["dice_per_image_mean"]
    figures.dice_distribution(
        out / "dice_distribution.png", per_image["dice"], (dice.mean, dice.low, dice.high)
    )


def _cases(
    places: np.ndarray,
    per_image: dict[str, np.ndarray],
    data: PreparedData,
    rows: np.ndarray,
    backend: TorchBackend,
    card: ModelCard,
) -> list[figures.Case]:
    cases = []
    for place in places.tolist():
        row = int(rows[place])
        ((_, prob),) = _probabilities(backend, data, rows[place : place + 1], 1, False, "")
        cases.append(
            figures.Case(
                data.manifest[row].image_id,
                float(per_image["dice"][place]),
                data.images[row],
                data.masks[row],
                imaging.to_mask(prob, card.threshold),
            )
        )
    return cases
