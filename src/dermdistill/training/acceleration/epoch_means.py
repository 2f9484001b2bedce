"""Means over the images of an epoch, without a GPU having to be waited for at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


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
