"""A frozen teacher's logits by ONNX Runtime, on a CPU.

The teacher's forward pass is two thirds of a distillation step on a CPU. ONNX Runtime joins a convolution
with its activation, which PyTorch computes one after the other. Without it a step of the CPU recipe takes
35 % longer with ``nn.Module.compile`` and 49 % longer without (benchmarks/online_teacher.py, README.md).
"""

from __future__ import annotations

import functools
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from dermdistill.inference.onnx_backend import open_session
from dermdistill.models.ensemble import Ensemble, logits_of_mean
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.onnx_graph import INPUT, OUTPUT, trace
from dermdistill.training.acceleration.compile import Forward, plain_forward

logger = logging.getLogger(__name__)

MIN_STEPS = 200
"""Fewest steps of a training for which a graph is traced (2 to 10 seconds). Of the recipe and not of what is
left of it: a run that is resumed goes on with the same arithmetic."""
TOLERANCE = 1e-3
"""Largest difference to PyTorch's logits, relative to the largest of them; rounding makes 1e-6 of it."""


class OnnxForward:
    """`plain_forward` of a frozen teacher on the CPU by ONNX Runtime.

    Args:
        net: The teacher, or several as one; in ``eval()``, on the CPU. It stays as it is.
        size: Side of the images in pixels; images of another size are PyTorch's.
        threads: Of ONNX Runtime within one operation.
    """

    def __init__(self, net: LesionNet | Ensemble, size: int, threads: int) -> None:
        self.size = size
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "teacher.onnx"
            self.sessions = []
            for one in net if isinstance(net, Ensemble) else [net]:
                trace(one, path, size)
                self.sessions.append(open_session(path, threads))

    def __call__(self, net: nn.Module, image: Tensor, beside: Tensor | None = None) -> Tensor:
        """As `plain_forward`."""
        if image.device.type != "cpu" or image.shape[-2:] != (self.size, self.size):
            return plain_forward(net, image, beside)
        calls = [functools.partial(_run, session) for session in self.sessions]
        full = image.detach().float()
        return calls[0](full) if len(calls) == 1 else logits_of_mean(calls, full, beside)


def _run(session: onnxruntime.InferenceSession, image: Tensor) -> Tensor:
    return torch.from_numpy(session.run([OUTPUT], {INPUT: np.ascontiguousarray(image.numpy())})[0])


def forward_on_cpu(net: LesionNet | Ensemble, size: int) -> Forward:
    """The quickest way to a frozen teacher's logits on the CPU: an `OnnxForward` that agrees with PyTorch.

    Args:
        net: As for `OnnxForward`.
        size: Side of the images in pixels.

    Returns:
        `OnnxForward`, or PyTorch's own `plain_forward` where the network cannot be traced or the two differ;
        the log says so.
    """
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        found = OnnxForward(net, size, torch.get_num_threads())
        with torch.no_grad():
            expected, given = plain_forward(net, image), found(net, image)
    except Exception as error:  # torch's exporter and ONNX Runtime raise what they like
        logger.info("the teacher is run by PyTorch: ONNX has no graph of it (%s)", str(error).split("\n")[0])
        return plain_forward
    difference = float((given - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not difference <= TOLERANCE:
        logger.warning("the teacher is run by PyTorch: its ONNX graph differs by %.1e", difference)
        return plain_forward
    logger.info("the teacher is run by ONNX Runtime")
    return found
