"""Steps that are recorded and replayed learn what plain steps learn; on a CPU with a stand-in.

The stand-in computes anew at each replay, from the places of the recording and into them. So what is around a
recording is tried: copies in, gradients out, buffers put back, smaller batches. tests/test_gpu.py records.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from dermdistill.training import run as training
from dermdistill.training import segmentation_task
from dermdistill.training.acceleration import cuda_graphs
from dermdistill.training.acceleration.cuda_graphs import Recording
from tinyruns import state_of, tiny


class StandIn:
    """In place of ``torch.cuda.CUDAGraph``."""

    def __init__(self, owner: Recording) -> None:
        self.owner, self.replays = owner, 0

    def replay(self) -> None:
        self.replays += 1
        self.owner._forget_gradients()
        self.owner.values.copy_(self.owner._run())
        for place, parameter in zip(self.owner.gradients, self.owner.parameters, strict=True):
            assert (place is None) == (parameter.grad is None)
            if place is not None:
                place.copy_(parameter.grad)
        self.owner._forget_gradients()  # a graph leaves no trace but in its own memory


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    """The recordings of a training, whose steps are recorded from the first one."""
    found: list[Recording] = []

    def record(self: Recording) -> None:
        self.graph = StandIn(self)  # type: ignore[assignment]
        self.values = self._run()
        found.append(self)

    nothing: Any = contextlib.nullcontext
    monkeypatch.setattr(Recording, "_record", record)
    monkeypatch.setattr(torch.cuda, "Stream", Waits)
    monkeypatch.setattr(torch.cuda, "current_stream", Waits)
    monkeypatch.setattr(torch.cuda, "stream", nothing)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))
    monkeypatch.setattr(cuda_graphs, "_autocast_without_cache", nothing)

    def always(
        task: segmentation_task.SegmentationTask, recipe: Any, size: int, feed: Any, device: Any
    ) -> None:
        task.recorder.full = feed.sampler.full

    monkeypatch.setattr(training, "_speed_up", always)
    return found


class Waits:
    def wait_stream(self, other: Any) -> None:
        """A CPU has one stream."""


VIEWS = [
    {},
    {"augment.blur": 0.5, "optim.name": "adamw"},
    pytest.param({"kd.boundary": 1.0}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("more", VIEWS)
def test_a_recorded_distillation_is_the_plain_one(
    more: dict[str, Any], root: Path, teacher: Path, tmp_path: Path, made: list[Recording]
) -> None:
    more = {"teacher.run": str(teacher), **more}
    recorded_run = training.distill(tiny("phantom", root, tmp_path / "a", **more), progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_speed_up", lambda *args: None)
        plain_run = training.distill(tiny("phantom", root, tmp_path / "b", **more), progress=False)
    (recording,) = made
    # 14 images in batches of 4, two epochs: the last batch of each, of 2 images, is not replayed.
    assert recording.graph.replays == 6  # type: ignore[attr-defined]
    found, expected = state_of(recorded_run), state_of(plain_run)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    columns = [
        [row.split(",")[:5] for row in (run / "metrics.csv").read_text().splitlines()]
        for run in (recorded_run, plain_run)
    ]
    assert columns[0] == columns[1]


@pytest.mark.usefixtures("made")
def test_making_a_recording_changes_neither_statistics_nor_random_numbers() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Dropout(0.5))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.get_rng_state()

    def compute(image: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = net(image).square().mean()
        return loss, {"loss": loss}

    Recording(compute, net, (torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)),))
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), generator)


def test_what_cannot_be_recorded_is_computed(
    root: Path,
    tmp_path: Path,
    made: list[Recording],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(self: Recording) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Recording, "_record", refuse)
    with caplog.at_level(logging.WARNING):
        found = state_of(training.train(tiny("student-phantom", root, tmp_path / "a"), progress=False))
    assert caplog.text.count("could not be recorded (operation not permitted") == 1
    monkeypatch.setattr(training, "_speed_up", lambda *args: None)
    expected = state_of(training.train(tiny("student-phantom", root, tmp_path / "b"), progress=False))
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
    speed_up = training._speed_up

    def on_a_gpu(
        task: segmentation_task.SegmentationTask, recipe: Any, size: int, feed: Any, device: Any
    ) -> None:
        speed_up(task, recipe, size, feed, torch.device("cuda"))
        sizes.append(task.recorder.full)
        raise Asked

    monkeypatch.setattr(training, "_speed_up", on_a_gpu)
    recipe = tiny("student-phantom", root, tmp_path, **{"trainer.epochs": 50, **more})
    with pytest.raises(Asked):
        training.train(recipe, progress=False)
    assert sizes == [expected]
