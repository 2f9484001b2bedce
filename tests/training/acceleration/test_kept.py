"""A teacher that is asked once: what is kept of its answers, and what a step makes of them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dermdistill.artifacts.card import ModelCard
from dermdistill.config import parse_recipe
from dermdistill.config.settings import KDSettings, LossSettings
from dermdistill.core.errors import ConfigError, Interrupted
from dermdistill.data.dataset import PreparedData, open_dataset
from dermdistill.models.build import LesionNet, build_model
from dermdistill.models.ensemble import Ensemble, mean_logits
from dermdistill.report import arms, run_files
from dermdistill.training import objective
from dermdistill.training import run as training
from dermdistill.training.acceleration.teacher_cache import KeptAnswers, over_flips
from dermdistill.training.checkpoints import Resumable
from dermdistill.training.distillation_task import DistillationTask, FrozenTeacher
from dermdistill.training.feed.augmentation import Augment
from dermdistill.training.feed.loader import Batch
from dermdistill.workflows import model_card
from tinyruns import SIZE, state_of, tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(root: Path) -> PreparedData:
    return open_dataset("phantom", root, SIZE)


def by_pixel(image: Tensor, row: Tensor) -> Tensor:
    """An answer that turns with the image, whatever the turn: a pixel's logit is of its own colour."""
    return 8 * (image[:, :1] - 0.5)


def a_task(data: PreparedData, teacher: Any, augment: Augment | None = None, **more: Any) -> DistillationTask:
    return DistillationTask(
        build_model("unet-w4", norm="group"), teacher,
        augment=augment,
        supervised=functools.partial(objective.supervised_terms, loss=LossSettings()),
        distilled=functools.partial(objective.distilled_terms, kd=KDSettings()),
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        make_schedule=lambda optimizer: None,
        seed=0, val_count=1, **more,
    ).train()  # fmt: skip


def a_batch(data: PreparedData, rows: list[int]) -> Batch:
    return {
        "image": torch.from_numpy(data.images[rows]).permute(0, 3, 1, 2),
        "mask": torch.from_numpy(data.masks[rows]).unsqueeze(1),
        "row": torch.tensor(rows),
        "position": torch.arange(len(rows)),
    }


def test_an_answer_is_the_mean_over_the_flips() -> None:
    torch.manual_seed(0)
    net = build_model("unet-w4", norm="group").eval()
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = over_flips(lambda image, row: net(image), image, torch.arange(2))
        every = [net(image)]
        every += [net(image.flip(side)).flip(side) for side in (2, 3)]
        every += [net(image.flip(2).flip(3)).flip(2).flip(3)]
        mirrored = over_flips(lambda image, row: net(image), image.flip(3), torch.arange(2))
    torch.testing.assert_close(found.sigmoid(), torch.stack(every).sigmoid().mean(0))
    assert not torch.allclose(every[0], every[1], atol=1e-3), "else the test sees nothing"
    torch.testing.assert_close(mirrored, found.flip(3), rtol=1e-4, atol=1e-4)


def test_each_row_is_asked_for_and_found_again(data: PreparedData) -> None:
    rows = data.indices("train")[::-1].copy()
    kept = KeptAnswers(data, rows, by_pixel, CPU, progress=False)
    wanted = rows[[3, 0, 5]]
    image = torch.from_numpy(data.images[wanted]).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(
        kept.of(torch.from_numpy(wanted)), by_pixel(image, torch.empty(0)), atol=4e-3, rtol=0
    )
    assert kept.logits.dtype == torch.float16


def test_it_is_moved_with_the_image_and_its_mask(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DistillationTask, "global_step", 3)
    monkeypatch.setattr(DistillationTask, "global_rank", 0)
    rows = data.indices("train")
    task = a_task(data, build_model("unet-w4"), Augment(color=0.0, blur=0.0))
    batch = a_batch(data, rows.tolist())
    before, masks, said = task.view(batch)
    assert said is None, "a teacher that is asked for every view"
    task.kept = KeptAnswers(data, rows, by_pixel, CPU, progress=False)
    image, masks_too, said = task.view(batch)
    assert said is not None
    assert torch.equal(image, before), "it draws nothing of its own"
    assert torch.equal(masks[0][1], masks_too[0][1])
    torch.testing.assert_close(said, by_pixel(image, batch["row"]), atol=8e-3, rtol=0)
    task.augment = None
    _, _, as_it_is = task.view(batch)
    assert as_it_is is not None
    assert not torch.allclose(as_it_is, said, atol=0.5)
    # And it is what the student is taught.
    terms, logits, teacher_logits = task.terms(image, masks, said, batch["row"])
    assert teacher_logits is said
    expected = objective.distilled_terms(logits, said, masks[0][1], [], [], kd=KDSettings())["kl_loss"]
    torch.testing.assert_close(terms["kl_loss"], expected)


def test_in_cross_fitting_those_that_have_not_seen_the_image_answer(data: PreparedData) -> None:
    torch.manual_seed(0)
    nets = [build_model("unet-w4", norm="group").eval() for _ in range(2)]
    rows = data.indices("train")[:4]
    chosen = torch.zeros(len(data), 2, dtype=torch.bool)
    chosen[torch.from_numpy(rows)] = torch.tensor([[True, False], [False, True], [True, True], [False, True]])
    task = a_task(data, Ensemble(nets), taught_by=chosen)
    task.keep_answers(data, rows, CPU, progress=False)
    batch = a_batch(data, rows.tolist())
    said = task.kept_answer(batch["row"])
    assert said is not None

    def alone(net: LesionNet) -> Tensor:
        return over_flips(lambda image, row: net(image), batch["image"].float() / 255, batch["row"])

    with torch.no_grad():
        one, other = (alone(net) for net in nets)
    both = mean_logits(torch.stack([one, other]))
    expected = torch.stack([one[0], other[1], both[2], other[3]])
    # Eight answers of the two, in whichever order their mean is taken.
    torch.testing.assert_close(said.sigmoid(), expected.sigmoid(), atol=2e-3, rtol=0)


def test_the_teacher_is_asked_once_and_a_resumed_run_is_the_unbroken_one(
    root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"teacher.run": str(teacher), "teacher.answers": "kept", "trainer.epochs": 3}
    asked: list[int] = []
    answers = FrozenTeacher.forward

    def counted(self: FrozenTeacher, image: Tensor, *args: Any) -> Any:
        asked.append(len(image))
        return answers(self, image, *args)

    monkeypatch.setattr(FrozenTeacher, "forward", counted)
    whole = training.distill(tiny("phantom", root, tmp_path / "whole", **more), progress=False)
    card = ModelCard.read(whole / "card.json")
    assert card.teacher is not None
    assert card.teacher.cached_logits
    words = model_card.to_markdown(card, file="x.onnx", size=1, data={}, summary={})
    assert "it was asked for once" in words
    assert arms.describe(run_files.read_run(whole)).endswith("distilled, asked once: kl 1")
    count = len(open_dataset("phantom", root, SIZE).indices("train"))
    assert asked[:4] == [count] * 4
    assert 4 not in asked, "a batch of training has 4 images; validation and pictures have 3"

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


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"data": {"unlabelled": "isic2017"}}, "data.unlabelled"),
    ],
)
def test_what_needs_the_teacher_at_every_view_is_refused(tree: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)answers is kept.*{told}"):
        parse_recipe({"name": "x", "teacher": {"answers": "kept"}, **tree}, "x.yaml")


def test_float16_holds_every_answer(data: PreparedData) -> None:
    """Logits of a teacher that is certain are finite, and large where it is."""
    kept = KeptAnswers(
        data, np.array([0]), lambda image, row: 90 * (image[:, :1] * 2 - 1), CPU, progress=False
    )
    assert bool(torch.isfinite(kept.logits).all())
    assert float(kept.logits.abs().max()) > 20
