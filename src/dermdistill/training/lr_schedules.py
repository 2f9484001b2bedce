"""Learning-rate schedules that the task steps itself.

Lightning steps ReduceLROnPlateau after the epoch's checkpoint, so a run resumed from that checkpoint would
miss one decision. Here the schedule is part of the task: what a checkpoint holds is what was decided.
"""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from dermdistill.config.settings import OptimSettings


class PlateauSchedule:
    """ReduceLROnPlateau on the validation loss, once per epoch."""

    def __init__(self, optimizer: Optimizer, factor: float, patience: int) -> None:
        self.scheduler = ReduceLROnPlateau(optimizer, factor=factor, patience=patience)

    def after_step(self) -> None:
        """Nothing happens within an epoch."""

    def after_epoch(self, val_loss: float) -> None:
        """Lower the learning rate when the loss has not improved for long enough."""
        self.scheduler.step(val_loss)

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.scheduler.load_state_dict(state)


class CosineSchedule:
    """Linear warm-up, then half a cosine to zero, step by step (Loshchilov & Hutter 2017, no restarts)."""

    def __init__(self, optimizer: Optimizer, warmup_steps: int, total_steps: int) -> None:
        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / warmup_steps
            share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

        self.scheduler = LambdaLR(optimizer, factor)

    def after_step(self) -> None:
        """Take the next learning rate."""
        self.scheduler.step()

    def after_epoch(self, val_loss: float) -> None:
        """The validation loss does not matter to this schedule."""

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.scheduler.load_state_dict(state)


def make_schedule(
    optimizer: Optimizer, *, optim: OptimSettings, steps_per_epoch: int, epochs: int
) -> PlateauSchedule | CosineSchedule:
    """ReduceLROnPlateau, or cosine with warm-up."""
    if optim.schedule == "plateau":
        return PlateauSchedule(optimizer, optim.plateau_factor, optim.plateau_patience)
    return CosineSchedule(optimizer, round(optim.warmup_epochs * steps_per_epoch), epochs * steps_per_epoch)
