"""The teacher's entry of a card: typed, and cards of older versions stay what they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dermdistill.artifacts.card import ModelCard, make_card
from dermdistill.core.errors import DataError

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


_REFERENCE = {
    "features": ["a", "b"], "mean": [0.0, 1.0], "precision": [[1.0, 0.0], [0.0, 1.0]], "limit": 3.0,
    "second_limit": 0.1, "images": 60,
}  # fmt: skip
_CALIBRATION = {
    "images": 20, "images_sha256": "x", "threshold_before": 0.5, "area_ratio": 1.0, "dice_before": 0.8,
    "dice_after": 0.9, "gain_low": 0.01, "gain_high": 0.1, "created": "",
}  # fmt: skip
_NAN, _INF = float("nan"), float("inf")
_OUT_OF_RANGE: list[tuple[str, Any]] = [
    *(("input_size", value) for value in (0, -256, 4097, 10**30, 8.5, _INF, _NAN, None, "x", [8])),
    *(("threshold", value) for value in (0.0, 1.0, -1, 2.0, 1e-320, _INF, _NAN, "a", None)),
    *(("mean", value) for value in ([], [0.5], [0.5] * 4, [_NAN, 0, 0], [_INF] * 3, [123.7] * 3, 0.5)),
    *(("std", value) for value in ([1.0], [0, 1, 1], [-1, 1, 1], [_NAN] * 3, [1e300] * 3, [1e-320] * 3)),
    *(("reference", value) for value in ({}, [], "x", 5)),
    *(("reference", _REFERENCE | {key: value}) for key, value in (
        ("features", ["a"]), ("features", []), ("mean", [0.0]), ("mean", [_NAN, 0]), ("mean", ["a", "b"]),
        ("precision", [[1.0]]), ("precision", "x"), ("precision", [[_INF, 0], [0, 1]]),
        ("precision", [[1e308, 0], [0, 1]]), ("limit", -1), ("limit", _NAN), ("limit", "a"),
        ("second_limit", _INF), ("second_limit", None),
    )),
    *(("calibration", _CALIBRATION | {key: value}) for key, value in (
        ("threshold_before", 0.0), ("threshold_before", 1.0), ("threshold_before", _NAN), ("images", -1),
        ("area_ratio", _INF), ("dice_before", 1.1), ("gain_low", -2), ("more", 1),
    )),
    *(("weights", value) for value in ("../w.pth", "/etc/passwd", "a\\b", "", "..")),
    *(("recipe", value) for value in ("\x1b[31mred", "two\nlines", "x" * 2000)),
    *(("seed", value) for value in (-1, 2**64)), ("parameters", -1), ("epoch", -1), ("role", "judge"),
    *(("model", value) for value in ([1], {"members": 10**9}, {"arch": ["x"]})),
    ("versions", {"numpy": 2}), ("unknown", 1), ("scores", {"val": 5}),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), _OUT_OF_RANGE)
def test_values_out_of_their_range_are_refused_in_one_line(field: str, value: Any, tmp_path: Path) -> None:
    tree = _card(None).to_json() | {"reference": _REFERENCE, "calibration": _CALIBRATION}
    assert ModelCard.from_values(tree, "x").reference == _REFERENCE
    (tmp_path / "card.json").write_text(json.dumps(tree | {field: value}))
    metadata = {f"dermdistill.{key}": json.dumps(each) for key, each in (tree | {field: value}).items()}
    for read in (lambda: ModelCard.read(tmp_path / "card.json"), lambda: ModelCard.from_metadata(metadata)):
        with pytest.raises(DataError) as caught:
            read()
        assert "\n" not in caught.value.found
        assert "\x1b" not in caught.value.found
        assert len(caught.value.found) < 600


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "9" * 6000, '{"threshold": NaN}', "\0", '{"a": "\x01"}']
)
def test_what_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(text)
    for read in (
        lambda: ModelCard.read(tmp_path / "card.json"),
        lambda: ModelCard.from_metadata({"dermdistill.role": text}),
    ):
        with pytest.raises(DataError):
            read()
    (tmp_path / "card.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError):
        ModelCard.read(tmp_path / "card.json")
    with pytest.raises(DataError, match="cannot be read"):
        ModelCard.read(tmp_path)
