"""torch.compile for the forward passes of training steps, student and teacher each on its own.

Off by default: compiling takes a minute, which short runs do not win back (benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dermdistill.core.errors import TrainingError


class Forward(Protocol):
    """How the logits of a network are computed: by PyTorch (`plain_forward`), compiled, by ONNX Runtime."""

    def __call__(self, net: Any, image: Tensor, beside: Tensor | None = None) -> Tensor:
        """As `plain_forward`."""


def plain_forward(net: nn.Module, image: Tensor, beside: Tensor | None = None) -> Tensor:
    """Logits [b, 1, h, w] of a network.

    Args:
        net: The network.
        image: RGB in [0, 1], [b, 3, h, w].
        beside: What the network takes beside the images, or None: an `Ensemble` which of its n networks count
            for which image, bool [b, n]; a student with styles their codes, float32 [b, styles].
    """
    logits: Tensor = net(image) if beside is None else net(image, beside)
    return logits


class CompiledForward:
    """`plain_forward`, compiled for full batches; an epoch's last, smaller one is not worth compiling for.

    The network itself is untouched: its ``state_dict`` and its class stay what they are.

    Args:
        mode: Of ``torch.compile``; ``reduce-overhead`` replays CUDA graphs.
        batch_size: Images of a full batch.
    """

    def __init__(self, mode: str, batch_size: int) -> None:
        self.batch_size = batch_size
        self.compiled: Forward = torch.compile(plain_forward, mode=mode, dynamic=False)

    def __call__(self, net: nn.Module, image: Tensor, beside: Tensor | None = None) -> Tensor:
        """As `plain_forward`."""
        compute: Forward = self.compiled if len(image) == self.batch_size else plain_forward
        return compute(net, image, beside)


@contextmanager
def compiler_errors(mode: str) -> Iterator[None]:
    """Say what to do where the compiler gives up.

    Raises:
        TrainingError: It did.
    """
    if mode == "off":
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        message = " ".join(str(error).split("\n")[:2])
        raise TrainingError(
            f"torch.compile failed: {type(error).__name__}: {message}",
            "a compiler for this device (a C++ compiler for the CPU, Triton for a GPU) and supported layers",
            "Set --trainer.compile off; a begun run can be resumed with it.",
        ) from error
