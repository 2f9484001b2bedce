"""Make what a release ships out of a run, in one step: score, export, copy the file, write its model card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dermdistill.artifacts import run_folder
from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import DataError
from dermdistill.core.files import atomic_path, read_json, write_text
from dermdistill.data.dataset import read_info
from dermdistill.evaluation.evaluate import evaluate
from dermdistill.export.export import Exported, export_run
from dermdistill.export.parity import OnnxLogits
from dermdistill.workflows import model_card

MOST_BYTES = 2_000_000
"""Largest file that is shipped inside the package."""


def release(
    run: Path,
    target: Path,
    *,
    root: Path | None = None,
    bench: Path | None = None,
    licence: str | None = None,
    remarks: Sequence[str] = (),
    seed: int = 0,
    calibration: int = 128,
    progress: bool = True,
) -> Exported:
    """Score a run on its test split, export it, and write ``student.onnx`` and ``MODEL_CARD.md``.

    The float32 file is shipped where it is small enough, else the int8 one.

    Args:
        run: Run folder.
        target: Folder of the release, ``src/dermdistill/weights`` for the shipped student.
        root: Folder of the prepared data sets; None: the run's.
        bench: ``bench.json`` with its latency beside its teacher's.
        licence: Of the training images, where the data set does not know it.
        remarks: Sentences for the top of the model card.
        seed: Of the calibration images.
        calibration: How many of them.
        progress: Show bars.

    Raises:
        DataError: No file is small enough, or there is no test split.
        ParityError: The export failed.
    """
    summary = _scored(run, root, progress)
    found = export_run(run, root=root, seed=seed, calibration=calibration, progress=progress)
    shipped = next(
        (
            found.files[precision]
            for precision in ("fp32", "int8")
            if found.files[precision].stat().st_size < MOST_BYTES
        ),
        None,
    )
    if shipped is None:
        sizes = ", ".join(f"{p.name} {p.stat().st_size:,} bytes" for p in found.files.values())
        raise DataError(
            f"No file is small enough to be shipped: {sizes}.",
            f"under {MOST_BYTES:,} bytes",
            "Train a smaller student.",
        )
    card = ModelCard.from_metadata(OnnxLogits(shipped).session.get_modelmeta().custom_metadata_map)
    place = target / "student.onnx"
    with atomic_path(place) as temporary:
        shutil.copyfile(shipped, temporary)
    text = model_card.to_markdown(
        card,
        file=place.name,
        size=place.stat().st_size,
        data=read_info(_root(run, root) / card.dataset["name"]),
        summary=summary,
        bench=read_json(bench) if bench else None,
        encoder_weights=run_folder.read_config(run).student.encoder_weights if _has_config(run) else None,
        licence=licence,
        remarks=remarks,
    )
    write_text(target / "MODEL_CARD.md", text)
    return found


def _scored(run: Path, root: Path | None, progress: bool) -> dict[str, Any]:
    """The test summary of these very weights; scored now where it is not there."""
    card = ModelCard.read(run / "card.json")
    path = run / "evaluation" / f"{card.dataset['name']}-test" / "summary.json"
    if not path.is_file() or read_json(path).get("weights_sha256") != card.weights_sha256:
        evaluate(run, split="test", root=root, progress=progress)
    summary: dict[str, Any] = read_json(path)
    return summary


def _has_config(run: Path) -> bool:
    return (run / "config.yaml").is_file()


def _root(run: Path, root: Path | None) -> Path:
    return root or run_folder.read_config(run).data.root
