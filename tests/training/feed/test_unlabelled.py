"""Distilling on unlabelled images: which loss sees which image, at which size, resumed, over processes."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dermdistill import cli, losses
from dermdistill.config import Recipe, parse_recipe
from dermdistill.config.settings import KDSettings, LossSettings
from dermdistill.core.errors import ConfigError, DataError, Interrupted
from dermdistill.core.files import read_csv
from dermdistill.data.prepare.folders import prepare_unlabelled
from dermdistill.data.prepare.phantom import write_phantoms
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.evaluation import evaluate as evaluation
from dermdistill.models.build import build_model
from dermdistill.training import objective
from dermdistill.training import run as training
from dermdistill.training.checkpoints import Resumable
from dermdistill.training.distillation_task import DistillationTask
from dermdistill.training.feed.augmentation import Augment
from dermdistill.training.feed.batch import TrainingBatch
from tinyruns import SIZE, tiny


def task(augment: Augment | None = None, **kd: Any) -> DistillationTask:
    torch.manual_seed(0)
    return DistillationTask(
        build_model("unet-w4", norm="group"), build_model("unet-w4", norm="group"),
        augment=augment,
        supervised=functools.partial(objective.supervised_losses, loss=LossSettings(bce=1.0)),
        distilled=functools.partial(objective.distilled_losses, kd=KDSettings(**kd)),
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        make_schedule=lambda optimizer: None,
        seed=0, val_count=1,
    )  # fmt: skip


def a_batch(labelled: int, unlabelled: int) -> TrainingBatch:
    generator = torch.Generator().manual_seed(1)
    count = labelled + unlabelled
    mask = torch.zeros(count, 1, SIZE, SIZE, dtype=torch.uint8)
    mask[:labelled, :, 10:30, 12:40] = 1
    return TrainingBatch(
        image=torch.rand(count, 3, SIZE, SIZE, generator=generator),
        mask=mask,
        has_mask=torch.arange(count) < labelled,
        row=torch.arange(count),
        position=torch.arange(count),
    )


def test_masks_count_for_the_labelled_images_and_the_teacher_for_all() -> None:
    distilling, batch = task(kl=1.0, channel_wise=0.5).train(), a_batch(2, 3)
    found, logits, teacher_logits = distilling.compute_losses(batch)
    assert teacher_logits is not None
    by_hand = {
        "dice_loss": losses.soft_dice_loss(logits[:2], batch.mask[:2]),
        "bce_loss": losses.bce_loss(logits[:2], batch.mask[:2]),
        "kl_loss": losses.bernoulli_kl_loss(logits, teacher_logits, 2.0),
        "channel_wise_loss": 0.5 * losses.channel_wise_loss(logits, teacher_logits, 4.0),
    }
    assert found.keys() == by_hand.keys()
    for name, expected in by_hand.items():
        torch.testing.assert_close(found[name].mean(), expected, msg=name)
    assert found["dice_loss"][2:].tolist() == [0, 0, 0]
    total, means = distilling.mean_losses(batch)
    torch.testing.assert_close(total, torch.stack(list(by_hand.values())).sum())
    assert means.keys() == by_hand.keys()


def test_the_mask_of_an_unlabelled_image_does_not_matter() -> None:
    distilling, batch = task(kl=1.0, boundary=1.0).train(), a_batch(2, 2)
    other = dataclasses.replace(batch, mask=batch.mask.clone())
    other.mask[2:] = 1
    assert torch.equal(distilling.mean_losses(batch)[0], distilling.mean_losses(other)[0])
    other.mask[:2] = 1
    assert not torch.equal(distilling.mean_losses(batch)[0], distilling.mean_losses(other)[0])


def test_the_size_of_a_loss_does_not_depend_on_the_share() -> None:
    """The same images over and over as unlabelled ones: every mean is what it was."""
    distilling, two = task(kl=1.0).train(), a_batch(2, 0).image
    found = []
    for times in (1, 3):
        batch = dataclasses.replace(a_batch(2, 2 * times), image=torch.cat([two] * (1 + times)))
        found.append(torch.stack(list(distilling.mean_losses(batch)[1].values())))
    torch.testing.assert_close(*found)


def test_a_boundary_without_a_mask_is_the_teachers() -> None:
    distilling, batch = task(kl=0.0, boundary=1.0).train(), a_batch(1, 2)
    found, logits, teacher_logits = distilling.compute_losses(batch)
    assert teacher_logits is not None
    outline = torch.cat([batch.mask[:1], (teacher_logits[1:] > 0).to(torch.uint8)])
    expected = losses.boundary_kl_loss(logits, teacher_logits, outline, 2.0, 5, reduction="none")
    torch.testing.assert_close(found["boundary_loss"], expected)


# The same pictures serve as unlabelled ones: of a phantom made with another seed the names would be equal.
UNLABELLED = {"data.unlabelled": "phantom", "data.unlabelled_share": 0.6, "data.train_limit": 8}


@pytest.mark.parametrize("logits", ["online", "cached"])
def test_a_run_is_resumed_exactly_and_its_card_tells(
    logits: str, root: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(where: str) -> Recipe:
        more = {"teacher.run": str(teacher), "teacher.logits": logits}
        return tiny("phantom", root, tmp_path / where, **UNLABELLED, **more)

    unbroken = training.distill(recipe("a"), progress=False)
    rows = read_csv(unbroken / "metrics.csv")
    assert [row["step"] for row in rows] == ["2", "4"], "an epoch is one pass over the labelled images"
    card = json.loads((unbroken / "card.json").read_text(encoding="utf-8"))
    told = card["dataset"]["unlabelled"]
    assert (told["name"], told["images"], told["fingerprint"]) == (
        "phantom", 15, card["dataset"]["fingerprint"],
    )  # fmt: skip
    original = Resumable.on_train_batch_start

    def stop(self: Resumable, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == 3:
            self.signal = signal.SIGTERM
        original(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_start", stop)
        with pytest.raises(Interrupted):
            training.distill(recipe("b"), progress=False)
    broken = training.distill(recipe("b"), resume=True, progress=False)
    expected, found = (_weights(folder) for folder in (unbroken, broken))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0, msg=name)


def _weights(folder: Path) -> dict[str, Tensor]:
    state = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if value.is_floating_point()}


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(root: Path, teacher: Path, tmp_path: Path) -> None:
    """Group norm and no augmentation: what is left must agree, whoever computed which image."""
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    words = [
        *("distill", "phantom", "--data.root", str(root), "--data.size", str(SIZE), "--data.batch-size", "4"),
        *("--data.unlabelled", "phantom", "--data.train-limit", "8", "--teacher", str(teacher)),
        *("--student.arch", "unet-w4", "--student.norm", "group", "--augment.no-enabled"),
        *("--trainer.epochs", "2", "--trainer.accelerator", "cpu", "--runs-root"),
    ]
    assert cli.main([*words, str(tmp_path / "one"), "--trainer.devices", "1"]) == 0
    command = [sys.executable, "-m", "dermdistill", *words, str(tmp_path / "two"), "--trainer.devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    one_process, two_processes = (
        read_csv(tmp_path / where / "phantom-student-distilled" / "metrics.csv") for where in ("one", "two")
    )
    for one, two in zip(one_process, two_processes, strict=True):
        for column in ("step", "train_loss", "val_loss", "val_dice", "val_jaccard", "val_agreement"):
            assert float(two[column]) == pytest.approx(float(one[column]), abs=2e-4), column


def test_images_without_masks_serve_and_are_refused_where_masks_are_needed(
    root: Path, teacher: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    write_phantoms(raw, 4, SIZE, 11, progress=False)
    for path in sorted((raw / "images").iterdir()):
        path.rename(path.with_name(f"NEW_{path.name}"))
    prepare_unlabelled("maskless", root, raw / "images", size=SIZE, progress=False)
    more = {"data.unlabelled": "maskless", "data.train_limit": 4, "trainer.epochs": 1}
    taught = {**more, "kd.boundary": 0.5, "teacher.run": str(teacher), "teacher.logits": "cached"}
    folder = training.distill(tiny("phantom", root, tmp_path, **taught), progress=False)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert card["dataset"]["unlabelled"]["images"] == 4
    assert float(read_csv(folder / "metrics.csv")[0]["train_loss"]) > 0
    alone = {"data.name": "maskless", "name": "alone"}
    with pytest.raises(DataError, match="without masks"):
        training.train(tiny("student-phantom", root, tmp_path, **alone), progress=False)
    with pytest.raises(DataError, match="without masks"):
        training.distill(tiny("phantom", root, tmp_path, **{**taught, **alone}), progress=False)
    with pytest.raises(DataError, match="without masks"):
        evaluation.evaluate(folder, data="maskless", split="train", progress=False)
    assert not (tmp_path / "alone").exists()


def test_where_unlabelled_images_cannot_be_used_it_is_said(root: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)without a teacher.*dermdistill distill"):
        training.train(tiny("student-phantom", root, tmp_path, **UNLABELLED), progress=False)
    prepare_phantom(root, count=40, size=SIZE, seed=5, name="twins", progress=False)
    more = {"data.unlabelled": "twins", "teacher.run": str(teacher)}  # other pictures, the same names
    with pytest.raises(DataError, match=r"(?s)unlabelled images of twins.*--data\.exclude"):
        training.distill(tiny("phantom", root, tmp_path, **more), progress=False)
    with pytest.raises(DataError, match="nowhere"):
        training.distill(
            tiny("phantom", root, tmp_path, **(more | {"data.unlabelled": "nowhere"})), progress=False
        )
    assert not tmp_path.joinpath("phantom-student-distilled").exists(), "refused before a run folder is made"
    with pytest.raises(ConfigError, match=r"data\.unlabelled_share"):
        parse_recipe({"name": "x", "data": {"unlabelled_share": 1.0}}, "x.yaml")
