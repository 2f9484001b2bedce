"""A student is fitted to the hand that drew some masks, or refuses, and says which."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermdistill import Predictor, cli
from dermdistill.core.errors import DataError, UsageError
from dermdistill.inference.backends import SHIPPED
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.workflows.calibrate import OFFSETS, Curves, calibrate, choose, fit

UNMOVED = int(np.flatnonzero(OFFSETS == 0)[0])


@pytest.mark.parametrize(("hand", "words"), [("tight", "tighter"), ("wide", "wider")])
def test_a_hand_that_draws_otherwise_is_followed(pictures, tmp_path, hand, words, capsys):
    masks, out = pictures / hand, tmp_path / "ours.onnx"
    arguments = ["calibrate", "--images", str(pictures / "images"), "--masks", str(masks), "--out", str(out)]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert f"drawn {words}" in printed
    before, after = Predictor(threads=1), Predictor(out, threads=1)
    card = after.card
    assert (card.threshold > before.card.threshold) == (words == "tighter")
    assert card.calibration is not None
    assert (card.calibration.images, card.calibration.threshold_before) == (12, 0.5)
    assert card.calibration.dice_after > card.calibration.dice_before
    assert 0 < card.calibration.gain_low < card.calibration.gain_high
    assert card.weights_sha256 == before.card.weights_sha256

    def dice(predictor: Predictor) -> float:
        found = []
        for path in sorted((pictures / "images").iterdir()):
            drawn, true = predictor(path).mask > 0, np.asarray(Image.open(masks / f"{path.stem}.png")) > 0
            found.append(2 * (drawn & true).sum() / (drawn.sum() + true.sum()))
        return float(np.mean(found))

    assert dice(before) == pytest.approx(card.calibration.dice_before, abs=1e-9)
    assert dice(after) > dice(before) + 0.01


def test_its_own_hand_is_no_gain_and_nothing_is_written(pictures, tmp_path, capsys):
    out = tmp_path / "ours.onnx"
    arguments = ["--images", str(pictures / "images"), "--masks", str(pictures / "masks"), "--out", str(out)]
    assert cli.main(["calibrate", *arguments]) == 1
    assert "no gain can be told from 0" in capsys.readouterr().err
    assert not out.exists()


def test_a_second_fit_starts_where_the_first_did(pictures, tmp_path):
    tight, wide = pictures / "tight", pictures / "wide"
    images = pictures / "images"
    calibrate(images, tight, out=tmp_path / "tight.onnx", progress=False)
    once = calibrate(images, wide, out=tmp_path / "wide.onnx", progress=False)
    again = calibrate(
        images, wide, out=tmp_path / "again.onnx", model=tmp_path / "tight.onnx", progress=False
    )
    assert again.card.threshold == once.card.threshold
    assert OnnxBackend(tmp_path / "again.onnx", 1).card.calibration.threshold_before == 0.5


def test_masks_that_look_wrong_are_named(pictures, tmp_path):
    masks = Path(shutil.copytree(pictures / "masks", tmp_path / "masks"))
    names = sorted(path.name for path in masks.iterdir())
    Image.new("L", (10, 12)).save(masks / names[0])
    with Image.open(masks / names[1]) as mask:
        Image.new("L", mask.size).save(masks / names[1])
    with pytest.raises(DataError, match=r"2 of 12 masks look wrong") as raised:
        calibrate(pictures / "images", masks, out=tmp_path / "x.onnx", progress=False)
    assert f"{names[0]} is 10×12, its picture 256×256" in str(raised.value)
    assert f"{names[1]} is all skin" in str(raised.value)


def test_inverted_masks_are_told(pictures, tmp_path):
    (masks := tmp_path / "masks").mkdir()
    for path in (pictures / "masks").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(masks / path.name)
    with pytest.raises(DataError, match="fit better the other way round"):
        calibrate(pictures / "images", masks, out=tmp_path / "x.onnx", progress=False)


def test_four_pictures_are_too_few(pictures, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((pictures / "images").iterdir())[:4]:
        shutil.copy(path, few)
    with pytest.raises(UsageError, match="There are 4 pictures with a mask"):
        calibrate(few, pictures / "masks", out=tmp_path / "x.onnx", progress=False)


def test_a_run_is_to_be_exported_first(tmp_path):
    with pytest.raises(UsageError, match="Export it first"):
        calibrate(tmp_path, tmp_path, out=tmp_path / "x.onnx", model=tmp_path, progress=False)


def test_the_nearest_of_the_thresholds_that_cannot_be_told_from_the_best():
    steps = np.abs(np.arange(len(OFFSETS)) - (UNMOVED + 10))
    even = 0.9 - 0.01 * np.tile(steps, (8, 1)).astype(float)
    assert choose(even) == UNMOVED + 10  # no spread: the best itself
    wobble = np.array([[1.0], [-1.0]] * 4) * 0.01 * steps  # the further from the best, the less is told
    assert choose(even + 2 * wobble) == UNMOVED + 10  # a standard error of 0.76 of what is lost
    assert choose(even + 3 * wobble) == UNMOVED  # of 1.13 of it


def test_what_is_told_as_gained_is_of_pictures_that_the_fit_has_not_seen():
    """One odd picture would choose the threshold; left out, it gains nothing from the others."""
    dice = np.full((6, len(OFFSETS)), 0.9)
    dice[0] = 0.1
    dice[0, UNMOVED + 20] = 1.0
    found = fit(Curves(dice, np.ones_like(dice)), OnnxBackend(SHIPPED, 1).card, 0.5, "")
    assert found.gain.low <= 0
