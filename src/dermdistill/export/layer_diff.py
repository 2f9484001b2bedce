"""Which layer first differs: every tensor of one computation beside the same tensor of another, in order."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dermdistill.export.onnx_tensors import Activations, activations, module_path
from dermdistill.models.onnx_graph import OUTPUT, ExportNet

BOUNDS = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.2}
"""Relative error ‖a − b‖₂ / ‖a‖₂ of a tensor beyond which its layer counts as different."""
FOLDED = 3
"""How many calls a convolution may be folded with: itself, its batch norm, and a dropout or activation."""


@dataclass(frozen=True)
class Layer:
    """A layer with the relative error of its output."""

    name: str
    """Path of the module; the tensor's own name where it belongs to none."""
    tensor: str
    relative_error: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name} (relative error {self.relative_error:.2g})"


def relative_error(truth: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """‖truth − other‖₂ / ‖truth‖₂; infinite where either is not finite."""
    difference = np.linalg.norm((truth.astype(np.float64) - other).ravel())
    size = np.linalg.norm(truth.astype(np.float64).ravel())
    error = float(difference / size) if size else float(difference)
    return error if np.isfinite(error) else float("inf")


def first_difference(truth: Activations, others: Activations, bound: float) -> Layer | None:
    """Find the first tensor that both computations have and that differs by more than a bound.

    Args:
        truth: Tensors of the computation to compare with, in order.
        others: Tensors of the other one.
        bound: Largest relative error.

    Returns:
        The layer that computed it; None where there is none.
    """
    for tensor, value in truth.items():
        other = others.get(tensor)
        if other is not None and other.shape == value.shape:
            error = relative_error(value, other)
            if error > bound:
                return Layer(module_path(tensor) or tensor, tensor, error)
    return None


def first_difference_from_torch(
    net: ExportNet, path: Path, image: NDArray[np.float32], bound: float
) -> Layer | None:
    """Find the first layer of an ONNX file whose output is not that of the PyTorch module it was traced from.

    A convolution's batch norm is folded into it, so its output may be that of one of the next calls: it
    counts as equal where it equals any of them.

    Args:
        net: What the file was traced from.
        path: The file.
        image: float32 [n, 3, s, s].
        bound: Largest relative error.

    Returns:
        The layer; None where there is none.
    """
    calls = _torch_calls(net, image)
    call_numbers = {name: number for number, (name, _) in enumerate(calls)}
    for tensor, value in activations(path, image).items():
        name = "" if tensor == OUTPUT else module_path(tensor)
        if tensor != OUTPUT and name not in call_numbers:
            continue
        first = len(calls) - 1 if tensor == OUTPUT else call_numbers[name]
        errors = [
            relative_error(truth, value)
            for _, truth in calls[first : first + FOLDED]
            if truth.shape == value.shape
        ]
        if errors and min(errors) > bound:
            return Layer(name or OUTPUT, tensor, min(errors))
    return None


@torch.inference_mode()
def _torch_calls(net: ExportNet, image: NDArray[np.float32]) -> list[tuple[str, NDArray[np.float32]]]:
    """Collect outputs of all modules without children in the order of their calls, at the end the logits."""
    calls: list[tuple[str, NDArray[np.float32]]] = []

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                # A copy: the ReLU after it works in place.
                calls.append((name, output.detach().float().cpu().numpy().copy()))

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in net.net.named_modules()
        if not list(module.children())
    ]
    try:
        logits = net(torch.from_numpy(image))
    finally:
        for handle in handles:
            handle.remove()
    return [*calls, (OUTPUT, logits.float().cpu().numpy())]
