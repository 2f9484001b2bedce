"""One export on its way: each file made, held against PyTorch, and given its card."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dermdistill.artifacts.card import ModelCard, versions
from dermdistill.core.errors import DataError, ParityError
from dermdistill.core.files import hash_file, write_json
from dermdistill.data.dataset import PreparedData
from dermdistill.export import fit_reference, layer_diff, onnx_tensors, quantization, targets
from dermdistill.export.parity import TOLERANCES, Logits, Measured, OnnxLogits, Precision, Reference, images
from dermdistill.inference.onnx_backend import sigmoid
from dermdistill.models import onnx_graph
from dermdistill.models.complexity import count_macs
from dermdistill.models.lesion_net import LesionNet

ENDINGS = {"fp32": ".onnx", "int8": ".int8.onnx", "fp16": ".fp16.onnx"}
DYNAMIC_DIFFERENCE = 1e-3
"""Largest logit difference at another size than the traced one."""


class Job:
    """One export on its way: what was made and measured so far.

    Args:
        net: The network of the run.
        card: Its card.
        data: Prepared data set.
        validation: Its rows to compare on, int64.
        calibration: Training images for int8, float32 [n, 3, s, s], RGB in [0, 1].
        work: Folder that the files are made in.
        dynamic_size: Leave height and width open.
        progress: Show bars.

    Attributes:
        files: By precision, and by target: what was made.
        measured: By the same names: how it compares with PyTorch.
        int8: How the quantisation ended; None before it, or without it.
    """

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
        self.calibration, self.dynamic_size = calibration, dynamic_size
        self.reference = Reference(self._torch, data, validation, card.threshold, progress=progress)
        self.files: dict[str, Path] = {}
        self.measured: dict[str, Measured] = {}
        self.int8: quantization.Quantised | None = None
        self.progress = progress

    def make(self, precision: Precision) -> None:
        """Write one file and hold it against PyTorch.

        Raises:
            ParityError: The file is beyond its tolerance.
        """
        path = self.work / f"{self.card.role}{ENDINGS[precision]}"
        match precision:
            case "fp32":
                onnx_graph.trace(self.net, path, self.card.input_size, dynamic_size=self.dynamic_size)
                if self.dynamic_size:
                    self._check_other_size(path)
                measured = self._measure(path, precision)
            case "fp16":
                onnx_graph.to_half(self.files["fp32"], path)
                measured = self._measure(path, precision)
            case "int8":
                self.int8 = quantization.quantise(self.files["fp32"], path, self.calibration, self._measure)
                measured = self.int8.measured
        if beyond := measured.beyond(TOLERANCES[precision]):
            self._fail(precision, path, measured, beyond)
        self.files[precision], self.measured[precision] = path, measured

    def make_target(self, target: targets.Target) -> None:
        """Convert to another format and hold it against PyTorch.

        Raises:
            ParityError: The file is beyond its tolerance.
        """
        path, run = targets.convert(target, self.net, self.card, self.files["fp32"], self.work)
        measured = self.reference.measure(run, target)
        if beyond := measured.beyond(TOLERANCES[targets.PRECISION[target]]):
            self._fail(target, None, measured, beyond)
        self.files[target], self.measured[target] = path, measured

    def _graph_styles(self) -> dict[str, dict[str, list[float]]]:
        """The card's styles by the names that the biases have in the ONNX graph."""
        return {
            style: {f"net.{bias}": values for bias, values in shifts.items()}
            for style, shifts in self.card.styles.items()
        }

    def finish(self, seed: int) -> ModelCard:
        """Put the card into each ONNX file, read it back, and write parity.json.

        Args:
            seed: Of the training images that the reference is fitted on; it is written down.

        Returns:
            The run's new card: that of the float32 file.

        Raises:
            DataError: A file does not give back the card.
        """
        network = OnnxLogits(self.files["fp32"])
        reference = fit_reference.fit_on_training(
            self.card, lambda batch: sigmoid(network(batch)), self.data, seed=seed, progress=self.progress
        )
        cards = {}
        for precision in [name for name in self.files if name in ENDINGS]:
            path = self.files[precision]
            about = {"export": self._about(precision), "reference": reference}
            # In other precisions the biases are stored otherwise: a style has to be folded in beforehand.
            about["styles"] = self._graph_styles() if precision == "fp32" else {}
            own = cards[precision] = self.card.model_copy(update=about)
            onnx_graph.write_card(path, own)
            session = OnnxLogits(path).session
            if ModelCard.from_metadata(session.get_modelmeta().custom_metadata_map, str(path)) != own:
                raise DataError(
                    f"{path.name} does not give back the card that was written into it.",
                    "the same card, read from the file's metadata",
                    "Export again; if it stays, report it with the output of dermdistill info.",
                )
        write_json(self.work / "parity.json", self._parity(seed))
        return cards["fp32"]

    def move(self, out: Path) -> dict[str, Path]:
        """Move the new files into a folder, over those of the same names.

        Args:
            out: The folder; it is there.

        Returns:
            By precision, and by target: the file there.
        """
        for path in sorted(self.work.iterdir()):
            destination = out / path.name
            if destination.is_dir():
                shutil.rmtree(destination)
            path.replace(destination)
        (out / "parity-failed.json").unlink(missing_ok=True)
        return {name: out / path.name for name, path in self.files.items()}

    def _about(self, precision: str) -> dict[str, Any]:
        """Return the section ``export`` of a file's card."""
        section: dict[str, Any] = {
            "precision": precision,
            "opset": onnx_graph.OPSET,
            "dynamic_size": self.dynamic_size,
            "macs": count_macs(self.net, self.card.input_size),
            "parity": {"data": self.data.name, "split": "val", **self.measured[precision].to_json()},
        }
        if self.int8 is not None:
            drop = self.int8.measured.dice_drop
            section["int8"] = {
                "step": self.int8.step.title,
                "excluded": list(self.int8.step.excluded),
                "dice_drop": dataclasses.asdict(drop),
                "goal": quantization.GOAL,
                "reached": self.int8.reached,
                "calibration_images": len(self.calibration),
            }
        return section

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
            measured = f"{batch.shape[3]}×{batch.shape[2]} pixels: largest logit difference {difference:.2g}"
            raise ParityError(
                f"The graph does not take other sizes than {side}×{side}. At {measured}.",
                f"at most {DYNAMIC_DIFFERENCE:.2g}",
                "Export without --dynamic-size.",
                facts={"passed": False, "precision": "fp32", "beyond": [measured]},
            )

    def _fail(self, name: str, path: Path | None, measured: Measured, beyond: list[str]) -> None:
        """Find the first layer that differs, and raise."""
        layer = None
        if path is not None and name in layer_diff.BOUNDS:
            image = images(self.data, self.reference.rows[:1])
            bound = layer_diff.BOUNDS[name]
            if name == "fp32":
                size = None if self.dynamic_size else self.card.input_size
                layer = layer_diff.first_difference_from_torch(
                    onnx_graph.ExportNet(self.net, size).eval(), path, image, bound
                )
            else:
                whole = onnx_tensors.activations(self.files["fp32"], image)
                layer = layer_diff.first_difference(whole, onnx_tensors.activations(path, image), bound)
        where = f"The first layer that differs is {layer}." if layer else "No single layer stands out."
        raise ParityError(
            f"The {name} file does not compute what the network computes: {'; '.join(beyond)}.\n  {where}",
            f"the network's own logits on {len(self.reference.rows)} validation images, within tolerance",
            "No file was written. Leave this precision out with --precisions, or fix that layer.",
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
