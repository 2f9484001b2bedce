"""Cached teacher logits: what is computed once, and what a step makes of it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dermdistill.artifacts.card import ModelCard
from dermdistill.config.settings import KDSettings, LossSettings
from dermdistill.core.errors import Interrupted
from dermdistill.data.dataset import PreparedData, open_dataset
from dermdistill.losses import bernoulli_kl_loss
from dermdistill.models.build import build_model
from dermdistill.models.ensemble import Ensemble, mean_logits
from dermdistill.models.lesion_net import LesionNet
from dermdistill.report import arms, run_files
from dermdistill.training import objective
from dermdistill.training import run as training
from dermdistill.training.acceleration.teacher_cache import cache_logits, mean_over_flips
from dermdistill.training.checkpoints import Resumable
from dermdistill.training.distillation_task import DistillationTask, FrozenTeacher
from dermdistill.training.feed.augmentation import Augment
from dermdistill.training.feed.loader import ImageRows, PackDataset
from dermdistill.workflows import model_card
from tinyruns import SIZE, state_of, tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(root: Path) -> PreparedData:
    return open_dataset("phantom", root, SIZE)


def by_pixel(image: Tensor, row: Tensor) -> Tensor:
    """Logits that turn with the image, whatever the turn: a pixel's logit is of its own colour."""
    return 8 * (image[:, :1] - 0.5)


def a_task(data: PreparedData, teacher: Any, augment: Augment | None = None, **more: Any) -> DistillationTask:
    return DistillationTask(
        build_model("unet-w4", norm="group"), teacher,
        augment=augment,
        supervised=functools.partial(objective.supervised_losses, loss=LossSettings()),
        distilled=functools.partial(objective.distilled_losses, kd=KDSettings()),
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        make_schedule=lambda optimizer: None,
        seed=0, val_count=1, **more,
    ).train()  # fmt: skip


def test_the_logits_are_of_the_mean_over_the_flips() -> None:
    torch.manual_seed(0)
    net = build_model("unet-w4", norm="group").eval()
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = mean_over_flips(lambda image, row: net(image), image, torch.arange(2))
        every = [net(image)]
        every += [net(image.flip(side)).flip(side) for side in (2, 3)]
        every += [net(image.flip(2).flip(3)).flip(2).flip(3)]
        mirrored = mean_over_flips(lambda image, row: net(image), image.flip(3), torch.arange(2))
    torch.testing.assert_close(found.sigmoid(), torch.stack(every).sigmoid().mean(0))
    assert not torch.allclose(every[0], every[1], atol=1e-3), "else the test sees nothing"
    torch.testing.assert_close(mirrored, found.flip(3), rtol=1e-4, atol=1e-4)


def test_each_row_is_computed_and_found_again(data: PreparedData) -> None:
    """Rows in any order, those of unlabelled images among them."""
    rows = data.indices("train")[::-1].copy()
    images = PackDataset(data, rows[:8], ImageRows(data, rows[8:]))
    cache = cache_logits(images, by_pixel, CPU, progress=False)
    batch = images.__getitems__([3, 0, 9, 5])
    assert batch.has_mask.tolist() == [True, True, True, False]
    expected = by_pixel(batch.as_float().image, batch.row)
    torch.testing.assert_close(cache.of(batch.row), expected, atol=4e-3, rtol=0)
    assert cache.logits.dtype == torch.float16


def test_they_move_with_the_image_and_its_mask(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DistillationTask, "global_step", 3)
    monkeypatch.setattr(DistillationTask, "global_rank", 0)
    images = PackDataset(data, data.indices("train"))
    task = a_task(data, build_model("unet-w4"), Augment(color=0.0, blur=0.0))
    batch = images.__getitems__(list(range(len(images))))
    before = task.augment_batch(batch)
    assert before.teacher_logits is None, "a teacher that sees every view"
    task.cache = cache_logits(images, by_pixel, CPU, progress=False)
    found = task.augment_batch(batch)
    assert found.teacher_logits is not None
    assert torch.equal(found.image, before.image), "it draws nothing of its own"
    assert torch.equal(found.mask, before.mask)
    torch.testing.assert_close(found.teacher_logits, by_pixel(found.image, batch.row), atol=8e-3, rtol=0)
    task.augment = None
    as_it_is = task.augment_batch(batch).teacher_logits
    assert as_it_is is not None
    assert not torch.allclose(as_it_is, found.teacher_logits, atol=0.5)
    # And it is what the student is taught.
    losses, logits, teacher_logits = task.compute_losses(found)
    assert teacher_logits is found.teacher_logits
    expected = bernoulli_kl_loss(logits, teacher_logits, 2.0, reduction="none")
    torch.testing.assert_close(losses["kl_loss"], expected)


def test_in_cross_fitting_those_that_have_not_seen_the_image_teach(data: PreparedData) -> None:
    torch.manual_seed(0)
    nets = [build_model("unet-w4", norm="group").eval() for _ in range(2)]
    rows = data.indices("train")[:4]
    mask = torch.zeros(len(data), 2, dtype=torch.bool)
    mask[torch.from_numpy(rows)] = torch.tensor([[True, False], [False, True], [True, True], [False, True]])
    task = a_task(data, Ensemble(nets), teacher_mask=mask)
    images = PackDataset(data, rows)
    task.cache_logits(images, CPU, progress=False)
    batch = images.__getitems__([0, 1, 2, 3]).as_float()
    found = task.cached_logits(batch.row)
    assert found is not None

    def alone(net: LesionNet) -> Tensor:
        return mean_over_flips(lambda image, row: net(image), batch.image, batch.row)

    with torch.no_grad():
        one, other = (alone(net) for net in nets)
    both = mean_logits(torch.stack([one, other]))
    expected = torch.stack([one[0], other[1], both[2], other[3]])
    # Eight maps of the two, in whichever order their mean is taken.
    torch.testing.assert_close(found.sigmoid(), expected.sigmoid(), atol=2e-3, rtol=0)


def test_they_are_computed_once_and_a_resumed_run_is_the_unbroken_one(
    root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"teacher.run": str(teacher), "teacher.logits": "cached", "trainer.epochs": 3}
    sizes: list[int] = []
    original = FrozenTeacher.forward

    def counted(self: FrozenTeacher, image: Tensor, *args: Any) -> Any:
        sizes.append(len(image))
        return original(self, image, *args)

    monkeypatch.setattr(FrozenTeacher, "forward", counted)
    whole = training.distill(tiny("phantom", root, tmp_path / "whole", **more), progress=False)
    card = ModelCard.read(whole / "card.json")
    assert card.teacher is not None
    assert card.teacher.cached_logits
    words = model_card.to_markdown(card, file="x.onnx", size=1, data={}, summary={})
    assert "it was asked for once" in words
    assert arms.describe(run_files.read_run(whole)).endswith("distilled, asked once: kl 1")
    count = len(open_dataset("phantom", root, SIZE).indices("train"))
    assert sizes[:4] == [count] * 4
    assert 4 not in sizes, "a batch of training has 4 images; validation and pictures have 3"

    ended = Resumable.on_train_batch_end
    steps = 0

    def interrupted(self: Resumable, *args: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            self.signal = 15
        ended(self, *args)

    recipe = tiny("phantom", root, tmp_path / "broken", **more)
    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_end", interrupted)
        with pytest.raises(Interrupted):
            training.distill(recipe, progress=False)
    broken = training.distill(recipe, resume=True, progress=False)
    for name, value in state_of(whole).items():
        assert torch.equal(value, state_of(broken)[name]), name


def test_float16_holds_every_logit(data: PreparedData) -> None:
    """Logits of a teacher that is certain are finite, and large where it is."""
    images = PackDataset(data, np.array([0]))
    cache = cache_logits(images, lambda image, row: 90 * (image[:, :1] * 2 - 1), CPU, progress=False)
    assert bool(torch.isfinite(cache.logits).all())
    assert float(cache.logits.abs().max()) > 20
