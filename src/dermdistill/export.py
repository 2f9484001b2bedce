"""From a run to files that need no PyTorch: ONNX in float32, int8 and float16, held against PyTorch first.

Files are made in a hidden folder and moved beside each other only when all have passed; a failed export
leaves ``parity-failed.json``, which says what differs and where, and whatever good files were there before.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

<<<<<<< HEAD
from dermdistill import graph, layers, quantize, runs, targets, trust
=======
from dermdistill import graph, layers, onnx_tensors, quantize, runs, targets
>>>>>>> c4228c0 (Bench: networks in turns, cold starts in fresh processes, Dice against latency; the release's split)
from dermdistill.card import ModelCard, versions
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare import ensure_prepared
from dermdistill.errors import DataError, MismatchError, ParityError
from dermdistill.files import hash_file, write_json
from dermdistill.models.build import LesionNet, count_macs
from dermdistill.models.torch_backend import load_run
from dermdistill.onnx_backend import sigmoid
from dermdistill.parity import TOLERANCES, Logits, Measured, OnnxLogits, Precision, Reference, images

logger = logging.getLogger(__name__)

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "fp16")
_ENDINGS = {"fp32": ".onnx", "int8": ".int8.onnx", "fp16": ".fp16.onnx"}
DYNAMIC_DIFFERENCE = 1e-3
"""Largest logit difference at another size than the traced one."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    files: dict[str, Path]
    """By precision, and by target."""
    measured: dict[str, Measured]
    int8: quantize.Quantised | None
    images: int
    """On how many validation images it was measured."""

    def to_text(self) -> str:
        """A small table for people."""
        lines = [f"{'':<10}{'KiB':>8}{'logit diff':>12}{'pixels':>10}{'Dice':>8}{'drop':>8}   95 % CI"]
        for name, path in self.files.items():
            found = self.measured[name]
            drop = found.dice_drop
            size = sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")))
            lines.append(
                f"{name:<10}{size / 1024:>8,.0f}{found.logit_difference:>12.2g}"
                f"{100 * found.changed_pixels:>9.3f}%{100 * found.dice:>8.2f}{100 * drop.mean:>8.2f}"
                f"   {100 * drop.low:.2f} to {100 * drop.high:.2f}"
            )
        lines.append(f"against PyTorch on {self.images} validation images; Dice and its drop in points")
        if self.int8 is not None:
            lines.append(_int8_line(self.int8))
        lines.append(f"written to {self.folder}")
        return "\n".join(lines)


def export(
    run: Path,
    *,
    out: Path | None = None,
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
        out: Where to write; None: ``RUN/export``.
        data: Prepared data set to calibrate and compare on; None: the one it was trained on.
        root: Folder of the prepared data sets; None: the run's.
        precisions: Which files; float32 is always among them, the others are made from it.
        also: Other formats, each through its own library.
        dynamic_size: Leave height and width open.
        calibration: Training images for int8 calibration.
        seed: Of their choice.
        progress: Show bars.

    Raises:
        ParityError: A file does not answer as the network does; no file is left.
        MissingExtraError: A target's library is not installed.
        DataError: There are no validation or training images.
    """
    for target in also:
        targets.check_installed(target)
    net, card = load_run(run)
    folder = run if run.is_dir() else run.parent
    out = out or folder / "export"
    prepared = _open(folder, card, data, root)
    validation, training = prepared.indices("val"), prepared.indices("train")
    if not len(validation) or not len(training):
        raise DataError(
            f"{prepared.name} has {len(training)} training and {len(validation)} validation images.",
            "some of both: int8 is calibrated on training images, all is compared on validation",
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(training)[:calibration])
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    try:
        job = _Job(net, card, prepared, validation, images(prepared, chosen), work, dynamic_size, progress)
        for precision in sorted({"fp32", *precisions}, key=PRECISIONS.index):
            job.make(precision)
        for target in also:
            job.make_target(target)
        job.finish(seed)
        return job.move(out, folder if run.is_dir() else None)
    except ParityError as error:
        write_json(out / "parity-failed.json", error.facts)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Job:
    """One export on its way: what was made and measured so far."""

    def __init__(
        self,
        net: LesionNet,
        card: ModelCard,
        data: PreparedData,
        validation: NDArray[np.int64],
        calibration: NDArray[np.float32],
        work: Path,
        dynamic_size: bool,
        progress: bool,
    ) -> None:
        self.net, self.card, self.data, self.work = net.cpu().eval(), card, data, work
        self.calibration, self.dynamic_size, self.progress = calibration, dynamic_size, progress
        self.reference = Reference(self._torch, data, validation, card.threshold, progress=progress)
        self.files: dict[str, Path] = {}
        self.measured: dict[str, Measured] = {}
        self.int8: quantize.Quantised | None = None

    def make(self, precision: Precision) -> None:
        """Write one file and hold it against PyTorch."""
        path = self.work / f"{self.card.role}{_ENDINGS[precision]}"
        match precision:
            case "fp32":
                graph.trace(self.net, path, self.card.input_size, dynamic_size=self.dynamic_size)
                if self.dynamic_size:
                    self._check_other_size(path)
                measured = self._measure(path, precision)
            case "fp16":
                graph.to_half(self.files["fp32"], path)
                measured = self._measure(path, precision)
            case "int8":
                self.int8 = quantize.quantise(self.files["fp32"], path, self.calibration, self._measure)
                measured = self.int8.measured
        if beyond := measured.beyond(TOLERANCES[precision]):
            self._fail(precision, path, measured, beyond)
        self.files[precision], self.measured[precision] = path, measured

    def make_target(self, target: targets.Target) -> None:
        """Convert to another format and hold it against PyTorch."""
        path, run = targets.convert(target, self.net, self.files["fp32"], self.work, self.card.input_size)
        measured = self.reference.measure(run, target)
        if beyond := measured.beyond(TOLERANCES[targets.PRECISION[target]]):
            self._fail(target, None, measured, beyond)
        self.files[target], self.measured[target] = path, measured

    def finish(self, seed: int) -> None:
        """Put the card into each ONNX file, read it back, and write parity.json."""
        network = OnnxLogits(self.files["fp32"])
        reference = trust.fit_on_training(
            self.card, lambda batch: sigmoid(network(batch)), self.data, seed=seed, progress=self.progress
        )
        self.card = self.card.model_copy(update={"reference": reference})
        for precision in [name for name in self.files if name in _ENDINGS]:
            path = self.files[precision]
            card = self.card.model_copy(update={"export": self._about(precision)})
            graph.write_card(path, card)
            session = OnnxLogits(path).session
            if ModelCard.from_metadata(session.get_modelmeta().custom_metadata_map, str(path)) != card:
                raise DataError(f"{path.name} does not give back the card that was written into it.")
        write_json(self.work / "parity.json", self._parity(seed))

    def move(self, out: Path, run: Path | None) -> Exported:
        """Let the new files take their places; tell the run's card what was measured."""
        for path in sorted(self.work.iterdir()):
            place = out / path.name
            if place.is_dir():
                shutil.rmtree(place)
            path.replace(place)
        (out / "parity-failed.json").unlink(missing_ok=True)
        if run is not None:
            self.card.model_copy(update={"export": self._about("fp32")}).write(run / "card.json")
        files = {name: out / path.name for name, path in self.files.items()}
        return Exported(out, files, self.measured, self.int8, len(self.reference.rows))

    def _about(self, precision: str) -> dict[str, Any]:
        """What the card says about a file."""
        found: dict[str, Any] = {
            "precision": precision,
            "opset": graph.OPSET,
            "dynamic_size": self.dynamic_size,
            "macs": count_macs(self.net, self.card.input_size),
            "parity": {"data": self.data.name, "split": "val", **self.measured[precision].to_json()},
        }
        if self.int8 is not None:
            drop = self.int8.measured.dice_drop
            found["int8"] = {
                "step": self.int8.step.title,
                "excluded": list(self.int8.step.excluded),
                "dice_drop": dataclasses.asdict(drop),
                "goal": quantize.GOAL,
                "reached": self.int8.reached,
                "calibration_images": len(self.calibration),
            }
        return found

    def _parity(self, seed: int) -> dict[str, Any]:
        return {
            "passed": True,
            "weights_sha256": self.card.weights_sha256,
            "data": {"name": self.data.name, "fingerprint": self.data.fingerprint, "split": "val"},
            "images": len(self.reference.rows),
            "calibration": {"split": "train", "images": len(self.calibration), "seed": seed},
            "files": {
                name: {
                    "file": path.name,
                    "sha256": hash_file(path) if path.is_file() else None,
                    **self.measured[name].to_json(),
                    "tolerance": dataclasses.asdict(TOLERANCES[targets.PRECISION.get(name, name)]),
                }
                for name, path in self.files.items()
            },
            "int8_steps": self.int8.tried if self.int8 else [],
            "versions": versions(),
        }

    def _measure(self, path: Path, title: str) -> Measured:
        return self.reference.measure(OnnxLogits(path), title)

    @torch.inference_mode()
    def _torch(self, batch: NDArray[np.float32]) -> Logits:
        logits: Logits = self.net(torch.from_numpy(batch)).float().numpy()
        return logits

    def _check_other_size(self, path: Path) -> None:
        side = self.card.input_size
        batch = np.random.default_rng(0).random((1, 3, side + self.net.stride, 2 * side), dtype=np.float32)
        difference = float(np.abs(OnnxLogits(path)(batch) - self._torch(batch)).max())
        if not difference <= DYNAMIC_DIFFERENCE:
            told = f"{batch.shape[3]}×{batch.shape[2]} pixels: largest logit difference {difference:.2g}"
            raise ParityError(
                f"The graph does not take other sizes than {side}×{side}. At {told}.",
                f"at most {DYNAMIC_DIFFERENCE:.2g}",
                "Export without --dynamic-size.",
                facts={"passed": False, "precision": "fp32", "beyond": [told]},
            )

    def _fail(self, name: str, path: Path | None, measured: Measured, beyond: list[str]) -> None:
        """Find the first layer that differs, and raise."""
        layer = None
        if path is not None and name in layers.BOUNDS:
            image = images(self.data, self.reference.rows[:1])
            bound = layers.BOUNDS[name]
            if name == "fp32":
                size = None if self.dynamic_size else self.card.input_size
                layer = layers.first_difference_from_torch(
                    graph.ExportNet(self.net, size).eval(), path, image, bound
                )
            else:
                whole = onnx_tensors.activations(self.files["fp32"], image)
                layer = layers.first_difference(whole, onnx_tensors.activations(path, image), bound)
        where = f"The first layer that differs is {layer}." if layer else "No single layer stands out."
        raise ParityError(
            f"The {name} file does not answer as the network does: {'; '.join(beyond)}.\n  {where}",
            f"the network's own answers on {len(self.reference.rows)} validation images, within tolerance",
            "No file was written. Leave this precision out with --precisions, or mend that layer.",
            facts={
                "passed": False,
                "precision": name,
                "beyond": beyond,
                "first_layer": layer.to_json() if layer else None,
                "measured": measured.to_json(),
                "weights_sha256": self.card.weights_sha256,
                "versions": versions(),
            },
        )


def _open(folder: Path, card: ModelCard, data: str | None, root: Path | None) -> PreparedData:
    if root is None:
        root = runs.read_config(folder).data.root if (folder / "config.yaml").is_file() else Path("data")
    prepared = ensure_prepared(data or card.dataset["name"], root, card.input_size)
    if data is None and prepared.fingerprint != card.dataset["fingerprint"]:
        raise MismatchError(
            f"{prepared.folder} is not the {prepared.name} that {folder.name} was trained on.",
            f"the fingerprint {card.dataset['fingerprint'][:16]}…",
            "Name the data to calibrate and compare on with --data (its training images may then include "
            "images that the network has never seen, and its validation images ones that it has).",
        )
    return prepared


def _int8_line(found: quantize.Quantised) -> str:
    drop = f"{100 * found.measured.dice_drop.mean:.2f}"
    how = f"{found.step.title}; {len(found.tried)} of the ladder's steps tried"
    if found.reached:
        return f"int8 loses {drop} Dice points, within the goal of {100 * quantize.GOAL:.1f} ({how})"
    return f"int8 MISSES the goal of {100 * quantize.GOAL:.1f}: it loses {drop} Dice points ({how})"
