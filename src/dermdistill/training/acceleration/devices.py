"""Keep a GPU busy: hand it work without waiting for it.

A plain ``tensor.to("cuda")`` or ``loss.item()`` lets the CPU wait until the GPU has done all that it was
given; then the GPU waits until the CPU has thought of more.
On a CPU nothing here does anything that the plain call would not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

AHEAD = 16
"""Steps after which a loss on a GPU is looked at: by then it has long been computed."""


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on ``device``; to a GPU through pinned memory, so that nobody waits."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # An expanded tensor cannot be pinned: pinning copies into the same strides.
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Lookout:
    """Watches for losses that are not finite, on a GPU some steps late and so without waiting.

    Each call of `look` queues a question and asks the one queued ``ahead`` calls before; `settle` asks all.
    Whoever keeps a result (a checkpoint, the best weights) calls `settle` before: nothing is kept that a step
    with such a loss has touched, and that step can be named however late.

    Args:
        ahead: Calls of `look` between question and answer; None: 0 on a CPU, `AHEAD` on a GPU.
    """

    def __init__(self, ahead: int | None = None) -> None:
        self.ahead = ahead
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None, Callable[[], None]]] = deque()

    def look(self, value: Tensor, complain: Callable[[], None]) -> None:
        """Have ``complain()`` called, at once or later, if ``value`` (one number) is not finite."""
        on_gpu = value.device.type == "cuda"
        finite, event = torch.isfinite(value.detach()), None
        if on_gpu:
            answer = torch.empty((), dtype=torch.bool, pin_memory=True)
            answer.copy_(finite, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            finite = answer
        self._waiting.append((finite, event, complain))
        ahead = self.ahead if self.ahead is not None else AHEAD * on_gpu
        while len(self._waiting) > ahead:
            self._ask()

    def settle(self) -> None:
        """Answer all that waits."""
        while self._waiting:
            self._ask()

    def _ask(self) -> None:
        finite, event, complain = self._waiting.popleft()
        if event is not None:
            event.synchronize()
        if not finite:
            complain()


class EpochMeans:
    """Means over the images of an epoch, summed on the device.

    Lightning's ``log`` does the same for a millisecond per name and step, in which a GPU waits.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._sums: Tensor | None = None

    def add(self, values: dict[str, Tensor], count: int) -> None:
        """Add one batch: its named means and of how many images they are; each time the same names."""
        new = torch.stack([*values.values(), torch.ones_like(next(iter(values.values())))]) * count
        self.names = list(values)
        self._sums = new if self._sums is None else self._sums.to(new.device) + new

    def take(self, over_processes: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """The means, with ``over_processes`` adding up what all have seen; then begin anew."""
        if self._sums is None:
            return {}
        *sums, count = over_processes(self._sums).unbind()
        self._sums = None
        return {name: value / count for name, value in zip(self.names, sums, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Of an epoch that is not over."""
        return {"names": self.names, "sums": self._sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the epoch."""
        self.names, self._sums = state["names"], state["sums"]
