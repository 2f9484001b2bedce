"""From a run to files that need no PyTorch: ONNX in float32, int8 and float16, held against PyTorch first.

Files are made in a hidden folder and moved beside each other only when all have passed; a failed export
leaves ``parity-failed.json``, which says what differs and where, and whatever good files were there before.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermdistill.artifacts import run_folder
from dermdistill.artifacts.card import ModelCard
from dermdistill.core import numbers
from dermdistill.core.errors import DataError, MismatchError, ParityError
from dermdistill.core.files import write_json
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.prepare import ensure_prepared
from dermdistill.export import quantization, targets
from dermdistill.export.job import Job
from dermdistill.export.parity import Measured, Precision, images
from dermdistill.models.torch_backend import load_run

logger = logging.getLogger(__name__)

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "fp16")


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    files: dict[str, Path]
    """By precision, and by target."""
    measured: dict[str, Measured]
    int8: quantization.Quantised | None
    images: int
    """On how many validation images it was measured."""

    def to_text(self) -> str:
        """A small table for people."""
        lines = [f"{'':<10}{'KiB':>8}{'logit diff':>12}{'pixels':>10}{'Dice':>8}{'drop':>8}   95 % CI"]
        for name, path in self.files.items():
            measured = self.measured[name]
            drop = measured.dice_drop
            size = sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")))
            lines.append(
                f"{name:<10}{size / 1024:>8,.0f}{measured.logit_difference:>12.2g}"
                f"{numbers.percent(measured.changed_pixels, 3):>9}%{numbers.percent(measured.dice):>8}"
                f"{numbers.percent(drop.mean):>8}   {numbers.span(drop)}"
            )
        lines.append(f"against PyTorch on {self.images} validation images; Dice and its drop in points")
        if self.int8 is not None:
            lines.append(_int8_line(self.int8))
        lines.append(f"written to {self.folder}")
        return "\n".join(lines)


def export_run(
    run: Path,
    *,
    out: Path | None = None,
    arch: str | None = None,
    style: str | None = None,
    data: str | None = None,
    root: Path | None = None,
    precisions: Sequence[Precision] = PRECISIONS,
    also: Sequence[targets.Target] = (),
    dynamic_size: bool = False,
    calibration: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Exported:
    """Write ``student.onnx``, ``.int8.onnx``, ``.fp16.onnx`` and ``parity.json`` for a run.

    Args:
        run: Run folder, or a weights file with its card beside it.
        out: Where to write; None: ``RUN/export``, with a style ``RUN/export-STYLE``.
        arch: ``FILE.py:FACTORY`` of a run of a network of the user's own, which is run; see `load_run`.
        style: Of the styles that the run was told, the one that is folded in; None: not told, and the float32
            file knows all of them.
        data: Prepared data set to calibrate and compare on; None: the one it was trained on.
        root: Folder of the prepared data sets; None: the run's.
        precisions: Which files; float32 is always among them, the others are made from it.
        also: Other formats, each through its own library.
        dynamic_size: Leave height and width open.
        calibration: Training images for int8 calibration.
        seed: Of their choice.
        progress: Show bars.

    Returns:
        The files that were written, and what was measured of each.

    Raises:
        ParityError: A file does not compute what the network computes; no file is left.
        MissingExtraError: A target's library is not installed.
        DataError: There are no validation or training images.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import export_run, load_recipe, prepare_phantom, train
        >>> data = prepare_phantom(Path("data"), count=10, size=32, progress=False)
        >>> recipe = load_recipe("student-phantom", {"data.size": 32, "trainer.epochs": 1})
        >>> run = train(recipe, progress=False)
        >>> exported = export_run(run, precisions=("fp32",), progress=False)
        >>> (run / "export" / "student.onnx").exists()
        True
    """
    for target in also:
        targets.check_installed(target)
    net, card = load_run(run, arch, style)
    folder = run if run.is_dir() else run.parent
    out = out or folder / ("export" if style is None else f"export-{style}")
    prepared = _open(folder, card, data, root)
    validation, training = prepared.indices("val"), prepared.indices("train")
    if not len(validation) or not len(training):
        raise DataError(
            f"{prepared.name} has {len(training)} training and {len(validation)} validation images.",
            "some of both: int8 is calibrated on training images, all is compared on validation",
            "Prepare more images, or name another data set with --data.",
        )
    calibration_rows = np.sort(np.random.default_rng(seed).permutation(training)[:calibration])
    out.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in out.glob(".export-*"):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    try:
        calibration_images = images(prepared, calibration_rows)
        job = Job(net, card, prepared, validation, calibration_images, work, dynamic_size, progress)
        for precision in sorted({"fp32", *precisions}, key=PRECISIONS.index):
            job.make(precision)
        for target in also:
            job.make_target(target)
        exported_card = job.finish(seed)
        files = job.move(out)
        if run.is_dir() and style is None:
            exported_card.write(run / "card.json")
        return Exported(out, files, job.measured, job.int8, len(validation))
    except ParityError as error:
        write_json(out / "parity-failed.json", error.facts)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _open(folder: Path, card: ModelCard, data: str | None, root: Path | None) -> PreparedData:
    """Open the prepared data to calibrate and compare on.

    Raises:
        MismatchError: It is no longer the data that the run was trained on, and no other was named.
    """
    if root is None:
        root = (
            run_folder.read_config(folder).data.root if (folder / "config.yaml").is_file() else Path("data")
        )
    generated = None if data else card.dataset.get("generated")
    prepared = ensure_prepared(data or card.dataset["name"], root, card.input_size, generated=generated)
    if data is None and prepared.fingerprint != card.dataset["fingerprint"]:
        raise MismatchError(
            f"{prepared.folder} is not the {prepared.name} that {folder.name} was trained on.",
            f"the fingerprint {card.dataset['fingerprint'][:16]}…",
            "Name the data to calibrate and compare on with --data (its training images may then include "
            "images that the network has never seen, and its validation images ones that it has).",
        )
    return prepared


def _int8_line(int8: quantization.Quantised) -> str:
    drop, goal = numbers.percent(int8.measured.dice_drop.mean), numbers.percent(quantization.GOAL, 1)
    how = f"{int8.step.title}; {len(int8.tried)} of the ladder's steps tried"
    if int8.reached:
        return f"int8 loses {drop} Dice points, within the goal of {goal} ({how})"
    return f"int8 MISSES the goal of {goal}: it loses {drop} Dice points ({how})"
