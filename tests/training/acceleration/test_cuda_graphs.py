"""Which steps are recorded, that they can be, and what happens where one cannot; test_gpu.py records some."""

from __future__ import annotations

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dermdistill.config.settings import KDSettings, LossSettings
from dermdistill.models.build import build_model
from dermdistill.training import fit, objective, segmentation_task
from dermdistill.training import run as training
from dermdistill.training.acceleration import cuda_graphs
from dermdistill.training.distillation_task import DistillationTask
from dermdistill.training.feed.batch import TrainingBatch
from tinyruns import state_of, tiny


class Operations(TorchDispatchMode):
    """Names of the operations that are run, with the shapes of what they make."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[int, ...] | None]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.seen.append((str(func), tuple(out.shape) if isinstance(out, torch.Tensor) else None))
        return out


@pytest.mark.parametrize("cached", [False, True])
def test_a_step_runs_the_same_operations_whatever_the_batch_holds(cached: bool) -> None:
    """As a recording needs it: no shape and no choice depends on a value, and no value is waited for."""
    torch.manual_seed(0)
    kd = KDSettings(boundary=1.0, channel_wise=1.0)
    task = DistillationTask(
        build_model("unet-w4"), build_model("unet-w4"),
        augment=None,
        supervised=functools.partial(objective.supervised_losses, loss=LossSettings(bce=1.0, focal=1.0)),
        distilled=functools.partial(objective.distilled_losses, kd=kd),
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        make_schedule=lambda optimizer: None,
        seed=0, val_count=1,
    ).train()  # fmt: skip
    found = []
    for labelled in (4, 1):
        mask = (torch.rand(4, 1, 32, 32) > 0.5).to(torch.uint8) * (labelled > 1)
        batch = TrainingBatch(
            image=torch.rand(4, 3, 32, 32),
            mask=mask,
            has_mask=torch.arange(4) < labelled,
            row=torch.randperm(4),
            position=torch.randperm(4),
            teacher_logits=torch.randn(4, 1, 32, 32) if cached else None,
        )
        task.zero_grad(set_to_none=True)  # as before every step
        with Operations() as operations:
            loss, _ = task.mean_losses(batch)
            loss.backward()
        found.append(operations.seen)
    assert found[0] == found[1]
    waits = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")
    assert not [name for name, _ in found[0] if name.split(".")[1] in waits]
    # Else this test would not see what it looks for.
    with Operations() as operations:
        batch.image[batch.has_mask].sum().item()
    assert {"_local_scalar_dense", "nonzero"} & {name.split(".")[1] for name, _ in operations.seen}


def test_a_batch_fits_by_its_shapes() -> None:
    batch = TrainingBatch(*(torch.zeros(2, 3) for _ in range(5)))
    shapes = cuda_graphs._shapes
    assert shapes(batch) == shapes(batch.map(lambda tensor: tensor + 1))
    assert shapes(batch) != shapes(batch.map(lambda tensor: tensor[:1]))
    assert shapes(batch) != shapes(batch.map(torch.Tensor.double))
    assert shapes(batch) != shapes(dataclasses.replace(batch, teacher_logits=torch.zeros(2, 3)))


def test_what_cannot_be_recorded_is_computed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    def as_on_a_gpu(task: Any, recipe: Any, size: int, sampler: Any, device: Any) -> None:
        task.step.batch_size = sampler.full_batch

    expected = state_of(training.train(tiny("student-phantom", root, tmp_path / "a"), progress=False))
    monkeypatch.setattr(cuda_graphs, "Recording", refuse)
    monkeypatch.setattr(fit, "speed_up", as_on_a_gpu)
    with caplog.at_level(logging.WARNING):
        found = state_of(training.train(tiny("student-phantom", root, tmp_path / "b"), progress=False))
    assert caplog.text.count("could not be recorded (operation not permitted") == 1
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 4),
        ({"trainer.cuda_graphs": "off"}, 0),
        ({"trainer.precision": "16-mixed"}, 0),
        ({"trainer.compile": "default"}, 4),
        ({"trainer.compile": "reduce-overhead"}, 0),
        ({"trainer.epochs": 2}, 0),
    ],
)
def test_steps_are_recorded_where_they_can_be(
    more: dict[str, Any], expected: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):  # noqa: N818
        pass

    sizes: list[int] = []
    speed_up = fit.speed_up

    def on_a_gpu(
        task: segmentation_task.SegmentationTask, recipe: Any, size: int, sampler: Any, device: Any
    ) -> None:
        speed_up(task, recipe, size, sampler, torch.device("cuda"))
        sizes.append(task.step.batch_size)
        raise Asked

    monkeypatch.setattr(fit, "speed_up", on_a_gpu)
    recipe = tiny("student-phantom", root, tmp_path, **{"trainer.epochs": 50, **more})
    with pytest.raises(Asked):
        training.train(recipe, progress=False)
    assert sizes == [expected]
