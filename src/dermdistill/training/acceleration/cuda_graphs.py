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
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

logger = logging.getLogger(__name__)

Terms = dict[str, Tensor]

WORTH_IT = 100
"""Fewest steps of a training of which one is recorded: that takes three steps and a tenth of a second."""
_WARM_UP = 3
"""Steps before the recording, in which libraries choose their algorithms and reserve what they need."""


class Recording:
    """The forward and backward pass of one batch, on the GPU that the batch is on.

    Args:
        compute: The batch → (loss, named terms), each one number. The same operations at every call, on the
            batch's values, the parameters and buffers alone; nothing in it may wait for the GPU.
        net: What is trained: its parameters and buffers stay where they are in memory.
        batch: Tensors, in lists and tuples, None among them. Its values do not matter.

    Raises:
        RuntimeError: Something in it cannot be recorded, or the GPU's memory does not hold it.
    """

    def __init__(self, compute: Callable[..., tuple[Tensor, Terms]], net: nn.Module, batch: Any) -> None:
        self.compute = compute
        self.parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self.batch = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, batch)
        self.places = tree_leaves(self.batch)
        self.names: list[str] = []
        with _as_it_was(net, tree_leaves(batch)[0].device), _autocast_without_cache():
            self._warm_up()
            self._forget_gradients()  # so that the recorded pass writes them, and adds to none
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
                self._forget_gradients()
                self._run()
        torch.cuda.current_stream().wait_stream(side)

    def _run(self) -> Tensor:
        """Loss and terms, in a row; the gradients are the parameters'."""
        loss, terms = self.compute(*self.batch)
        with torch.autocast("cuda", enabled=False):
            loss.backward()
        self.names = list(terms)
        return torch.stack([loss.detach(), *(value.detach() for value in terms.values())])

    def _forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def fits(self, batch: Any) -> bool:
        """Whether a batch has the recorded one's shapes."""
        return _shapes(tree_leaves(batch)) == _shapes(self.places)

    def replay(self, batch: Any) -> tuple[Tensor, Terms]:
        """Loss and terms of a batch that `fits`; `give_gradients` then has the gradients."""
        for place, new in zip(self.places, tree_leaves(batch), strict=True):
            if isinstance(place, Tensor):
                place.copy_(new, non_blocking=True)
        self.graph.replay()
        loss, *terms = self.values.clone().unbind()  # the next replay writes over them
        return loss, dict(zip(self.names, terms, strict=True))

    def give_gradients(self) -> None:
        """Make the gradients of the last replay those of the parameters, without a copy."""
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient


class Recorder:
    """Computes training steps: those of full batches from a recording where one is wanted and can be made.

    Args:
        compute, net: As for `Recording`. ``compute`` takes the images, then all else.

    Attributes:
        full: Images of the batches to record; 0: of none.
    """

    def __init__(self, compute: Callable[..., tuple[Tensor, Terms]], net: nn.Module) -> None:
        self.compute, self.net, self.full = compute, net, 0
        self.recording: Recording | None = None
        self._replayed = False

    def __call__(self, *batch: Any) -> tuple[Tensor, Terms]:
        """Loss and terms of a batch; after a replay `give_gradients` has the gradients too."""
        if len(batch[0]) == self.full and self.recording is None:
            self.full = 0  # it is tried once
            self._record(batch)
        self._replayed = self.recording is not None and self.recording.fits(batch)
        return self.recording.replay(batch) if self.recording and self._replayed else self.compute(*batch)

    def give_gradients(self) -> bool:
        """Whether the last step was replayed; then its gradients are the parameters' now."""
        if self.recording is not None and self._replayed:
            self.recording.give_gradients()
        return self._replayed

    def forget(self) -> None:
        """Drop the recording, and the GPU's memory that it holds."""
        self.recording, self._replayed = None, False

    def _record(self, batch: Any) -> None:
        try:
            self.recording = Recording(self.compute, self.net, batch)
        except RuntimeError as error:  # of CUDA and of torch alike
            self.net.zero_grad(set_to_none=True)
            reason = str(error).split("\n")[0]
            logger.warning("steps are launched kernel by kernel: they could not be recorded (%s)", reason)


@contextmanager
def _as_it_was(net: nn.Module, device: torch.device) -> Iterator[None]:
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


def _shapes(leaves: list[Any]) -> list[Any]:
    return [(x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves]
