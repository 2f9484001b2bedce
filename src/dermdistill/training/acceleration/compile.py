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


class Answer(Protocol):
    """How the logits of a network are computed."""

    def __call__(self, net: Any, image: Tensor, chosen: Tensor | None = None) -> Tensor:
        """As `answer`."""


def answer(net: nn.Module, image: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Logits [b, 1, h, w] of a network.

    Of an `Ensemble`, those of the networks that are ``chosen`` for each image, bool [b, n]; None: of all.
    """
    logits: Tensor = net(image) if chosen is None else net(image, chosen)
    return logits


class CompiledAnswer:
    """`answer`, compiled for full batches; the last, smaller one of an epoch is not worth compiling for.

    The network itself is untouched: its ``state_dict`` and its class stay what they are.

    Args:
        mode: Of ``torch.compile``; ``reduce-overhead`` replays CUDA graphs.
        batch: Images of a full batch.
    """

    def __init__(self, mode: str, batch: int) -> None:
        self.batch = batch
        self.compiled: Answer = torch.compile(answer, mode=mode, dynamic=False)

    def __call__(self, net: nn.Module, image: Tensor, chosen: Tensor | None = None) -> Tensor:
        """As `answer`."""
        call: Answer = self.compiled if len(image) == self.batch else answer
        return call(net, image, chosen)


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
        said = " ".join(str(error).split("\n")[:2])
        raise TrainingError(
            f"torch.compile failed: {type(error).__name__}: {said}",
            "a compiler for this device (a C++ compiler for the CPU, Triton for a GPU) and supported layers",
            "Set --trainer.compile off; a begun run can be resumed with it.",
        ) from error
