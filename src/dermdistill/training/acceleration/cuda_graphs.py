"""A training step that is recorded once on a GPU and then replayed: CUDA graphs.

A step of these networks is some 2,000 small kernels. A fast GPU is done with each before the CPU has launched
the next. A recording launches all of them at once. It runs what PyTorch would have run, kernel for kernel: on
an H200 1.7 times as many images per second in steps of 64, 1.15 times in steps of 128 (benchmarks/README.md).

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dermdistill.training.feed.batch import TrainingBatch

logger = logging.getLogger(__name__)

Compute = Callable[[TrainingBatch], tuple[Tensor, dict[str, Tensor]]]
"""A batch → the loss, and the named losses that it is the sum of, each one number."""

MIN_STEPS = 100
"""Fewest steps of a training of which one is recorded: that takes three steps and a tenth of a second."""
_WARM_UP = 3
"""Steps before the recording, in which libraries choose their algorithms and reserve what they need."""


class Recording:
    """The forward and backward pass of one batch, on the GPU that the batch is on.

    Args:
        compute: The same operations at every call, on the batch's values, the parameters and buffers alone;
            nothing in it may wait for the GPU.
        net: What is trained: its parameters and buffers stay where they are in memory.
        batch: Of the shapes to record; its values do not matter.

    Raises:
        RuntimeError: Something in it cannot be recorded, or the GPU's memory does not hold it.
    """

    def __init__(self, compute: Compute, net: nn.Module, batch: TrainingBatch) -> None:
        self.compute = compute
        self.parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self.batch = batch.map(torch.clone)
        self.names: list[str] = []
        with _state_restored(net, batch.image.device), _autocast_without_cache():
            self._warm_up()
            self._drop_gradients()  # so that the recorded pass writes them, and adds to none
            self._record()
            self.gradients = [parameter.grad for parameter in self.parameters]

    def _record(self) -> None:
        self.graph = torch.cuda.CUDAGraph()
        # Other threads (TensorBoard's, the loader's) may go on using the GPU meanwhile.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.values = self._run()

    def _warm_up(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._drop_gradients()
                self._run()
        torch.cuda.current_stream().wait_stream(side)

    def _run(self) -> Tensor:
        """The loss and the named losses, in a row; the gradients are the parameters'."""
        loss, losses = self.compute(self.batch)
        with torch.autocast("cuda", enabled=False):
            loss.backward()
        self.names = list(losses)
        return torch.stack([loss.detach(), *(value.detach() for value in losses.values())])

    def _drop_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def fits(self, batch: TrainingBatch) -> bool:
        """Whether a batch has the recorded one's shapes."""
        return _shapes(batch) == _shapes(self.batch)

    def replay(self, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses of a batch that `fits`; `assign_gradients` then has the gradients."""
        for recorded, new in zip(self.batch.tensors(), batch.tensors(), strict=True):
            recorded.copy_(new, non_blocking=True)
        self.graph.replay()
        loss, *losses = self.values.clone().unbind()  # the next replay writes over them
        return loss, dict(zip(self.names, losses, strict=True))

    def assign_gradients(self) -> None:
        """Make the gradients of the last replay those of the parameters, without a copy."""
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient


class CudaGraphStep:
    """Computes training steps: those of full batches from a recording where one is asked for and can be made.

    Args:
        compute, net: As for `Recording`.

    Attributes:
        batch_size: Images of the batches to record; 0: of none.
    """

    def __init__(self, compute: Compute, net: nn.Module) -> None:
        self.compute, self.net, self.batch_size = compute, net, 0
        self.recording: Recording | None = None
        self._replayed = False

    def __call__(self, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses of a batch; after a replay `assign_gradients` has the gradients too."""
        if len(batch) == self.batch_size and self.recording is None:
            self.batch_size = 0  # it is tried once
            self._record(batch)
        self._replayed = self.recording is not None and self.recording.fits(batch)
        return self.recording.replay(batch) if self.recording and self._replayed else self.compute(batch)

    def assign_gradients(self) -> bool:
        """Whether the last step was replayed; then its gradients are the parameters' now."""
        if self.recording is not None and self._replayed:
            self.recording.assign_gradients()
        return self._replayed

    def drop(self) -> None:
        """Drop the recording, and the GPU's memory that it holds."""
        self.recording, self._replayed = None, False

    def _record(self, batch: TrainingBatch) -> None:
        try:
            self.recording = Recording(self.compute, self.net, batch)
        except RuntimeError as error:  # of CUDA and of torch alike
            self.net.zero_grad(set_to_none=True)
            reason = str(error).split("\n")[0]
            logger.warning("steps are launched kernel by kernel: they could not be recorded (%s)", reason)


@contextmanager
def _state_restored(net: nn.Module, device: torch.device) -> Iterator[None]:
    """Undo what the warm-up's steps do to buffers (running statistics) and to the GPU's generator."""
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    generator = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        torch.cuda.set_rng_state(generator, device)


def _autocast_without_cache() -> torch.autocast:
    """Autocast as it is around, but for its cache: a weight cast once would be cast in no replay."""
    enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    return torch.autocast("cuda", dtype, enabled=enabled, cache_enabled=False)


def _shapes(batch: TrainingBatch) -> list[tuple[torch.Size, torch.dtype]]:
    return [(tensor.shape, tensor.dtype) for tensor in batch.tensors()]
