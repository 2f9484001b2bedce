"""A clock around the parts of a training step, ours or another loop's."""

from __future__ import annotations

import contextlib
import functools
import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import lightning.pytorch as L
import torch

PARTS = (
    *("data", "augmentation", "teacher", "student", "losses", "backward", "replayed step"),
    *("optimiser", "logging", "rest"),
)
"""``replayed step`` is teacher, student, losses and backward pass in one, where a GPU replays a recording."""


def usage() -> tuple[float, float, int]:
    """Seconds on the wall, seconds of processor time, page faults of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime, used.ru_minflt


def parts_table(ms_per_image: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Milliseconds per image of each of PARTS that took any, as the lines of a Markdown table.

    Args:
        ms_per_image: By the variant's name, then by part.
    """
    lines = [f"| ms per image | {' | '.join(ms_per_image)} |", "|---" * (len(ms_per_image) + 1) + "|"]
    for part in PARTS:
        if any(parts[part] for parts in ms_per_image.values()):
            cells = [f"{parts[part]:.2f}" for parts in ms_per_image.values()]
            lines.append(f"| {part} | {' | '.join(cells)} |")
    return lines


class Clock:
    """Seconds by part. Parts nest: what an inner part took does not count for the outer one."""

    def __init__(self, device: torch.device, watch: bool, wall: bool = False) -> None:
        self.device, self.watch, self.wall = device, watch, wall
        self.paused = False
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def now(self) -> float:
        """Wall time on a GPU, once it has done all; the process's CPU time else, unless ``wall``."""
        if self.device.type != "cuda":
            return time.perf_counter() if self.wall else time.process_time()
        if self.watch:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside as ``name``."""
        if not self.watch or self.paused:
            yield
            return
        started = self.now()
        self._inner.append(0.0)
        try:
            yield
        finally:
            took = self.now() - started
            self.seconds[name] += took - self._inner.pop()
            if self._inner:
                self._inner[-1] += took

    def around(self, owner: Any, method: str, name: str) -> None:
        """Count every call of ``owner.method`` as ``name``."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        # Modules refuse a function where they had a submodule, objects with slots any: none of these is.
        object.__setattr__(owner, method, timed)


class StepClock(L.Callback):
    """Put a clock around the parts of a task's steps; count the steps after ``warm_up`` full batches."""

    def __init__(self, watch: bool, warm_up: int, steps: int, batch: int, wall: bool = False) -> None:
        self.watch, self.warm_up, self.steps, self.batch, self.wall = watch, warm_up, steps, batch, wall
        self.begun, self.images, self.total, self._started = 0, 0, 0.0, 0.0

    def on_train_start(self, trainer: L.Trainer, task: Any) -> None:
        """Start."""
        self.clock = Clock(task.device, self.watch, self.wall)

    def _watch_parts(self, trainer: L.Trainer, task: Any) -> None:
        """Wrap the parts: after the first steps, as nothing may wait for a GPU while a step is recorded."""
        dataset: Any = trainer.train_dataloader.dataset  # type: ignore[union-attr]
        optimizer = trainer.optimizers[0]
        self.clock.around(dataset, "__getitems__", "data")
        self.clock.around(task, "transfer_batch_to_device", "data")
        self.clock.around(task, "augment_batch", "augmentation")
        self.clock.around(task, "forward", "student")
        if hasattr(task, "teacher"):
            self.clock.around(task.teacher, "forward", "teacher")
            self.clock.around(task, "distilled", "losses")
        self.clock.around(task, "supervised", "losses")
        self.clock.around(task.step, "compute", "losses")  # less what its parts above take
        if task.step.recording is not None:
            self.clock.around(task.step.recording, "replay", "replayed step")
        self.clock.around(task, "backward", "backward")
        self.clock.around(task, "configure_gradient_clipping", "optimiser")
        self.clock.around(task, "optimizer_zero_grad", "optimiser")
        self.clock.around(optimizer, "step", "optimiser")  # the closure inside is counted by its parts
        self.clock.around(task, "training_step", "rest")
        self.clock.around(task.guard, "watch", "logging")
        self.clock.around(task.means, "add", "logging")

    def on_train_batch_start(self, trainer: L.Trainer, task: Any, batch: Any, batch_idx: int) -> None:
        """Begin to count."""
        if self.begun == self.warm_up:
            if self.watch:
                self._watch_parts(trainer, task)
            torch.cuda.synchronize() if task.device.type == "cuda" else None
            self.clock.seconds.clear()
            self._started, self._images = self.clock.now(), 0
        self.begun += 1

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count, and end the run when there are enough."""
        if self.begun <= self.warm_up:
            return
        self._images += len(batch)
        if self.begun == self.warm_up + self.steps:
            torch.cuda.synchronize() if task.device.type == "cuda" else None
            self.total, self.images = self.clock.now() - self._started, self._images
            raise Enough

    def on_validation_start(self, trainer: L.Trainer, task: Any) -> None:
        """Stop the clock: validation is no training step."""
        torch.cuda.synchronize() if task.device.type == "cuda" else None
        self.clock.paused, self._stopped = True, self.clock.now()

    def on_train_epoch_start(self, trainer: L.Trainer, task: Any) -> None:
        """Go on."""
        if hasattr(self, "clock") and self.clock.paused:
            self.clock.paused = False
            self._started += self.clock.now() - self._stopped

    def table(self) -> dict[str, float]:
        """Milliseconds per image by part; ``rest`` is what the trainer does around them."""
        parts = {name: self.clock.seconds.get(name, 0.0) for name in PARTS}
        parts["rest"] = self.total - sum(value for name, value in parts.items() if name != "rest")
        return {name: 1e3 * value / self.images for name, value in parts.items()}


class Enough(Exception):  # noqa: N818 (a way out, not an error)
    """The steps are done."""
