"""The teacher's entry of a card: typed, and cards of older versions stay what they were."""

from __future__ import annotations

from typing import Any

import pytest

from dermdistill.artifacts.card import ModelCard, make_card

_SINGLE = {
    "run": "teacher-seed0",
    "model": {"arch": "deeplabv3plus", "encoder": "resnet101"},
    "fine_tuned": True,
    "weights_sha256": "a" * 64,
    "val": {"dice": 0.9},
}
_LAST = {**_SINGLE, "weights": "last", "best_sha256": "b" * 64}
_PRETRAINED = {"run": None, "model": {"arch": "deeplabv3-torchvision"}, "fine_tuned": False}
_SEVERAL = {
    "run": None,
    "fine_tuned": True,
    "mean_of": [{**_SINGLE, "fold": "0/2"}, {**_SINGLE, "fold": "1/2", "weights_sha256": "c" * 64}],
    "folds": 2,
    "answers": "kept",
}
_OF_ANOTHER_VERSION = {**_SINGLE, "warmed_up": [1, 2]}


def _card(teacher: dict[str, Any] | None) -> ModelCard:
    return make_card(
        role="student", model={"arch": "unet-nano"}, input_size=8, mean=[0.5] * 3, std=[0.5] * 3,
        weights="best_student_model.pth", dataset={}, recipe="r", seed=0, parameters=1, teacher=teacher,
    )  # fmt: skip


@pytest.mark.parametrize("teacher", [None, _SINGLE, _LAST, _PRETRAINED, _SEVERAL, _OF_ANOTHER_VERSION])
def test_the_teacher_of_an_old_card_is_written_as_it_was_read(teacher: dict[str, Any] | None) -> None:
    card = _card(teacher)
    assert card.to_json()["teacher"] == teacher
    assert ModelCard.from_metadata(card.to_metadata()) == card


def test_several_teachers_with_cached_logits_are_told_by_attributes() -> None:
    record = _card(_SEVERAL).teacher
    assert record is not None
    assert record.cached_logits
    assert [one.fold for one in record.teachers] == ["0/2", "1/2"]
    alone = _card(_SINGLE).teacher
    assert alone is not None
    assert alone.teachers == (alone,)
    assert not alone.cached_logits
