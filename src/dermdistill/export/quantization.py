"""Static int8 quantisation (QDQ), one step of a ladder after another until it loses little enough Dice.

Calibrated on training images; the loss is measured on validation, at native size. The steps: one scale per
channel of the weights, the same with percentile and entropy calibration, and at last the layers that
measurably suffer most are left in float32. One scale per tensor is no step of it: it saves 0.06 MB and cost
up to 6 points of Dice (docs/design/students.md).
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from dermdistill.core.errors import ParityError
from dermdistill.export.parity import Measured, OnnxLogits
from dermdistill.models.onnx_graph import INPUT

logger = logging.getLogger(__name__)

GOAL = 0.003
"""Mean loss of Dice, 0 to 1, at which the ladder stops: 0.3 points."""
HISTOGRAM_IMAGES = 24
"""Most images for percentile and entropy calibration: onnxruntime keeps all their tensors in memory."""
SENSITIVITY_IMAGES = 8
QUANTISED = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Relu", "Clip", "Resize", "DepthToSpace",
)  # fmt: skip
"""Operators in int8, where they work on maps (see `_size_nodes`)."""
_SIZED = ("Resize", "Pad", "Slice", "Reshape", "Expand")
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")

Method = Literal["minmax", "percentile", "entropy"]


@dataclass(frozen=True)
class Step:
    """One way to quantise."""

    title: str
    per_channel: bool = True
    method: Method = "minmax"
    excluded: tuple[str, ...] = ()
    """Nodes left in float32."""


@dataclass(frozen=True)
class Quantised:
    """What the ladder ended with."""

    step: Step
    measured: Measured
    tried: list[dict[str, Any]] = field(default_factory=list)
    """Each step with what it lost, in order."""

    @property
    def reached(self) -> bool:
        """Whether the goal was met."""
        return self.measured.dice_drop.mean <= GOAL


def quantise(
    source: Path,
    target: Path,
    calibration: NDArray[np.float32],
    measure: Callable[[Path, str], Measured],
    *,
    goal: float = GOAL,
) -> Quantised:
    """Quantise ``source`` into ``target`` by the first step that meets the goal, else by the best one.

    Args:
        source: Float ONNX file.
        target: Where the int8 file is written.
        calibration: Training images, float32 [n, 3, s, s], RGB in [0, 1].
        measure: Holds a file against PyTorch on validation images.
        goal: Mean loss of Dice to stop at.

    Returns:
        The step that was taken, what it measures, and all that were tried.

    Raises:
        ParityError: ONNX Runtime runs none of the files.
    """
    tried: list[dict[str, Any]] = []
    best: Quantised | None = None
    for step in _ladder(source, calibration):
        candidate = target.with_name(f"{target.stem}.candidate.onnx")
        quantise_once(source, candidate, calibration, step)
        try:
            measured = measure(candidate, f"int8, {step.title}")
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            logger.warning("int8, %s: the file cannot be run (%s)", step.title, str(error).splitlines()[0])
            tried.append({"step": step.title, "error": str(error).splitlines()[0]})
            candidate.unlink(missing_ok=True)
            continue
        tried.append(
            {
                "step": step.title,
                "dice_drop": measured.dice_drop.mean,
                "changed_pixels": measured.changed_pixels,
                "bytes": candidate.stat().st_size,
            }
        )
        logger.info("int8, %s: Dice %+.2f points", step.title, -100 * measured.dice_drop.mean)
        if best is None or measured.dice_drop.mean < best.measured.dice_drop.mean:
            best = Quantised(step, measured, tried)
            candidate.replace(target)
        candidate.unlink(missing_ok=True)
        if measured.dice_drop.mean <= goal:
            break
    if best is None:
        raise ParityError(
            "No int8 file of this network can be run.",
            "one that ONNX Runtime runs",
            "Leave int8 out with --precisions fp32 fp16.",
            facts={"passed": False, "precision": "int8", "beyond": ["cannot be run"], "int8_steps": tried},
        )
    return best


def quantise_once(source: Path, target: Path, calibration: NDArray[np.float32], step: Step) -> None:
    """Quantise a file once and statically: int8 weights (symmetric) and activations, QDQ.

    Args:
        source: Float ONNX file.
        target: Where the int8 file is written.
        calibration: Training images, float32 [n, 3, s, s], RGB in [0, 1].
        step: How.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    images = calibration if step.method == "minmax" else calibration[:HISTOGRAM_IMAGES]
    model = onnx.load(str(source))
    # Batch norm is folded and shapes are known already: what its pre-processing would do.
    add_pre_process_metadata(model)
    with contextlib.redirect_stdout(io.StringIO()):  # the histograms' calibration prints
        quantize_static(
            model,
            str(target),
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=step.per_channel,
            calibrate_method=methods[step.method],
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=[*step.excluded, *_size_nodes(model.graph)],
        )
    onnx.checker.check_model(onnx.load(str(target)))


def sensitivities(source: Path, calibration: NDArray[np.float32]) -> dict[str, float]:
    """Measure the root-mean-square change of the logits when one layer alone stays float32, worst first.

    Args:
        source: Float ONNX file.
        calibration: Training images, float32 [n, 3, s, s], RGB in [0, 1]; the first few are used.

    Returns:
        Node name → how much smaller the error gets without quantising it (logits).
    """
    images = calibration[:SENSITIVITY_IMAGES]
    truth = OnnxLogits(source)(images)
    trial = source.with_name(f"{source.stem}.trial.onnx")
    names = heavy_nodes(source)

    def error(excluded: tuple[str, ...]) -> float:
        quantise_once(source, trial, images, Step("trial", excluded=excluded))
        return float(np.sqrt(np.mean((OnnxLogits(trial)(images) - truth) ** 2)))

    try:
        whole = error(())
        gains = {name: whole - error((name,)) for name in names}
    finally:
        trial.unlink(missing_ok=True)
    return dict(sorted(gains.items(), key=lambda item: -item[1]))


def _size_nodes(graph: onnx.GraphProto) -> list[str]:
    """List the nodes that compute sizes, scales and paddings: in eight bits these would be others."""
    made_by = {name: node for node in graph.node for name in node.output}
    waiting = [name for node in graph.node if node.op_type in _SIZED for name in node.input[1:]]
    names: list[str] = []
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.op_type != "Shape" and node.name not in names:
            names.append(node.name)
            waiting += node.input
    return names


def heavy_nodes(path: Path) -> list[str]:
    """List the names of an ONNX file's convolutions and matrix products, in order."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return [node.name for node in graph.node if node.op_type in _HEAVY]


def _ladder(source: Path, calibration: NDArray[np.float32]) -> Iterator[Step]:
    yield Step("per-channel weights")
    yield Step("per-channel, percentile calibration", method="percentile")
    yield Step("per-channel, entropy calibration", method="entropy")
    logger.info("int8: measuring which layers suffer")
    ranked = list(sensitivities(source, calibration))
    for most in (1, 2, 4, 8):
        if most < len(ranked):
            layers = f"{most} layer{'s' * (most > 1)}"
            yield Step(f"per-channel, {layers} in float32", excluded=tuple(ranked[:most]))


class _Reader:
    """Feeds calibration one image at a time, as `onnxruntime.quantization` asks for it."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self.rest = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next feed, or None."""
        image = next(self.rest, None)
        return None if image is None else {INPUT: image[None]}

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, NDArray[np.float32]]:
        feed = self.get_next()
        if feed is None:
            raise StopIteration
        return feed
