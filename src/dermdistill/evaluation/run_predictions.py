"""A run's probabilities on the images of a prepared data set: what evaluation and galleries are made from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill import imaging
from dermdistill.artifacts import run_folder
from dermdistill.artifacts.card import ModelCard
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.models.torch_backend import TorchBackend, load_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A run with its network, ready to predict."""

    folder: Path
    card: ModelCard
    backend: TorchBackend


def load(run: Path, arch: str | None = None) -> Loaded:
    """Load a run folder, or a weights file with its card beside it; ``arch`` as for `load_run`.

    Raises:
        WeightsError: There are no weights. MismatchError: They are not those of the card.
    """
    net, card = load_run(run, arch)
    return Loaded(run if run.is_dir() else run.parent, card, TorchBackend(net))


def data_of(loaded: Loaded, name: str | None, root: Path | None, *, progress: bool = False) -> PreparedData:
    """The data set to use a run on, at the run's input size.

    Args:
        loaded: The run.
        name: Prepared data set; None: the one it was trained on.
        root: Folder of the prepared data sets; None: the run's.
        progress: Show bars where it has to be prepared, or packed at this size, first.
    """
    folder, card = loaded.folder, loaded.card
    if root is None:
        root = (
            run_folder.read_config(folder).data.root if (folder / "config.yaml").is_file() else Path("data")
        )
    name = name or card.dataset["name"]
    generated = card.dataset.get("generated") if name == card.dataset["name"] else None
    data = ensure_prepared(name, root, card.input_size, generated=generated, progress=progress)
    if data.fingerprint != card.dataset["fingerprint"]:
        logger.info(
            "%s is not the data that %s was trained on (%s): nothing keeps its images out of training",
            data.name, folder.name, card.dataset["name"],
        )  # fmt: skip
    return data


def probabilities(
    backend: TorchBackend,
    data: PreparedData,
    rows: NDArray[np.int64],
    *,
    batch_size: int = 16,
    progress: bool = False,
) -> Iterator[tuple[int, Float32Array]]:
    """(row, probability float32 [s, s]) for each row, computed in batches."""
    with tqdm(total=len(rows), desc=data.name, unit="image", disable=not progress, leave=False) as bar:
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            batch = data.images[part].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
            for row, prob in zip(part.tolist(), backend(batch)[:, 0], strict=True):
                yield row, prob
                bar.update()


def masks(loaded: Loaded, data: PreparedData, rows: NDArray[np.int64]) -> UInt8Array:
    """Predicted {0, 1} masks at the pack's size, uint8 [n, s, s]."""
    found = [imaging.to_mask(p, loaded.card.threshold) for _, p in probabilities(loaded.backend, data, rows)]
    return np.stack(found)
