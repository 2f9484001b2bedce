"""A loss that is not finite ends a training, without a GPU having to be waited for at every step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

AHEAD = 16
"""Steps after which a loss on a GPU is read: by then it has long been computed."""


class NonFiniteLossGuard:
    """Watches for losses that are not finite, on a GPU some steps late: ``loss.item()`` would wait for it.

    Each call of `watch` queues a loss and reads the one queued ``ahead`` calls before; `flush` reads all.
    Whoever keeps a result (a checkpoint, the best weights) calls `flush` before: nothing is kept that a step
    with such a loss has touched, and that step can be named however late.

    Args:
        ahead: Calls of `watch` before a loss is read; None: 0 on a CPU, `AHEAD` on a GPU.
    """

    def __init__(self, ahead: int | None = None) -> None:
        self.ahead = ahead
        self._queue: deque[tuple[Tensor, torch.cuda.Event | None, Callable[[], None]]] = deque()

    def watch(self, loss: Tensor, on_non_finite: Callable[[], None]) -> None:
        """Have ``on_non_finite()`` called, at once or later, if ``loss`` (one number) is not finite."""
        on_gpu = loss.device.type == "cuda"
        finite, event = torch.isfinite(loss.detach()), None
        if on_gpu:
            copy = torch.empty((), dtype=torch.bool, pin_memory=True)
            copy.copy_(finite, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            finite = copy
        self._queue.append((finite, event, on_non_finite))
        ahead = self.ahead if self.ahead is not None else AHEAD * on_gpu
        while len(self._queue) > ahead:
            self._read_next()

    def flush(self) -> None:
        """Read all losses that are queued."""
        while self._queue:
            self._read_next()

    def _read_next(self) -> None:
        finite, event, on_non_finite = self._queue.popleft()
        if event is not None:
            event.synchronize()
        if not finite:
            on_non_finite()
