"""A loss of the user's own: tried first, checked in each step, weighted and named in what is logged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dermdistill.config import load_recipe, parse_recipe
from dermdistill.config.settings import KDSettings
from dermdistill.core.errors import ConfigError, MismatchError, TrainingError, UsageError
from dermdistill.training import run as training
from dermdistill.training.objective import distilled_losses
from dermdistill.training.user_loss import UserLoss
from tinyruns import tiny
from usercode import LOSS, write_loss


def test_it_is_weighted_and_gets_what_it_is_promised(tmp_path: Path) -> None:
    extra = UserLoss(f"{write_loss(tmp_path)}:logit_distance")
    student = torch.randn(2, 1, 8, 8, requires_grad=True)
    teacher = torch.randn(2, 1, 8, 8, requires_grad=True)
    mask, has_mask = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([True, False])
    kd = KDSettings(kl=0.0, extra="given", extra_weight=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distilled_losses(student.bfloat16(), teacher, mask, has_mask, kd=kd, extra=extra)
    assert list(found) == ["own_logit_distance"]
    expected = 0.5 * (student.bfloat16().float() - teacher).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(found["own_logit_distance"], expected)
    found["own_logit_distance"].sum().backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_an_image_without_a_mask_has_the_teacher_s(tmp_path: Path) -> None:
    file = tmp_path / "masks.py"
    file.write_text(
        "def area(student_logits, teacher_logits, mask):\n"
        "    return mask.mean(dim=(1, 2, 3)) + 0 * student_logits.mean(dim=(1, 2, 3))\n",
        encoding="utf-8",
    )
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    kd = KDSettings(extra="given")
    found = distilled_losses(
        torch.randn(2, 1, 4, 4), torch.ones(2, 1, 4, 4), mask, torch.tensor([True, False]), kd=kd,
        extra=UserLoss(f"{file}:area"),
    )  # fmt: skip
    assert found["own_area"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("one_number", TrainingError, r"one_number returns a tensor \[\] for 2 images(?s:.*)dim=\(1, 2, 3\)"),
        ("detached", UsageError, "does not depend on the student's logits"),
        ("infinite", UsageError, r"returns \[-?inf, -?inf\]"),
        ("broken", UsageError, r"my_loss\.py, line 24: AttributeError"),
        ("absent", UsageError, "has no function 'absent'"),
    ],
)
def test_what_is_no_loss_is_told_before_training(
    name: str, error: type[Exception], told: str, root: Path, tmp_path: Path
) -> None:
    recipe = tiny("phantom", root, tmp_path, **{"kd.extra": f"{write_loss(tmp_path)}:{name}"})
    with pytest.raises(error, match=told):
        training.distill(recipe, progress=False)
    assert not (recipe.runs_root / recipe.name).exists()


def test_it_trains_and_is_logged_by_name(
    root: Path, teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    caplog.set_level("INFO", "dermdistill")
    file = write_loss(tmp_path)
    more = {"teacher.run": str(teacher), "kd.extra": f"{file}:logit_distance", "kd.extra_weight": 0.25}
    recipe = tiny("phantom", root, tmp_path, **more, **{"trainer.epochs": 1})
    folder = training.distill(recipe, progress=False)
    assert "own_logit_distance × 0.25" in caplog.text
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    curves = {"train/own_logit_distance", "val/own_logit_distance"}
    assert curves <= set(events.Tags()["scalars"])
    assert (folder / "code" / "kd.extra.py").read_text(encoding="utf-8") == LOSS
    Path(file).write_text(LOSS + "\n", encoding="utf-8")
    with pytest.raises(MismatchError, match=r"my_loss\.py has changed since"):
        training.distill(recipe, resume=True, progress=False)


def test_it_alone_is_enough_to_distil() -> None:
    overrides = {"kd.kl": 0.0, "kd.extra": "my_loss.py:f"}
    assert load_recipe("phantom", overrides).kd.extra_weight == 1.0
    with pytest.raises(ConfigError, match="nothing would be distilled"):
        parse_recipe({"name": "x", "kd": {"kl": 0, "extra": "a.py:f", "extra_weight": 0}}, "x.yaml")
