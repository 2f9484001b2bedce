"""The reference of a released model is fitted on training images at their native size, and on no others."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from dermdistill import imaging
from dermdistill.artifacts.card import make_card
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.export import fit_reference
from dermdistill.inference.predictor import Predictor
from dermdistill.inference.reference_statistics import MIN_IMAGES

CARD = make_card(
    role="student", model={"arch": "unet-nano"}, input_size=32, mean=[0.5] * 3, std=[0.5] * 3,
    weights="w.pth", weights_sha256="ab", dataset={"name": "x", "fingerprint": "y"}, recipe="r",
    seed=0, parameters=1,
)  # fmt: skip


def darkness(batch: np.ndarray) -> np.ndarray:
    return (1 - batch.mean(axis=1, keepdims=True)).astype(np.float32)


def test_training_images_are_read_from_their_files_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = prepare_phantom(tmp_path, count=90, size=32, seed=0, name="phantom", progress=False)
    rows = data.indices("train")
    assert len(rows) >= MIN_IMAGES
    read = []
    real = imaging.read_image

    def remembered(path: Path, **options: int) -> np.ndarray:
        read.append(path)
        return real(path, **options)

    monkeypatch.setattr(imaging, "read_image", remembered)
    reference = fit_reference.fit_on_training(CARD, darkness, data, progress=False)
    paths = [data.image_path(row) for row in rows.tolist()]
    assert read == paths
    assert reference == Predictor.from_backend(CARD, darkness).fit_reference(real(path) for path in paths)
    monkeypatch.setattr(fit_reference, "MOST_IMAGES", MIN_IMAGES)
    few = fit_reference.fit_on_training(CARD, darkness, data, seed=3, progress=False)
    assert few is not None
    assert few["images"] == MIN_IMAGES
    monkeypatch.setattr(fit_reference, "MIN_IMAGES", 1000)
    with caplog.at_level(logging.INFO, logger="dermdistill"):
        assert fit_reference.fit_on_training(CARD, darkness, data, progress=False) is None
    assert "too few" in caplog.text
