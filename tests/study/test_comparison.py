"""Runs compared image by image: against scipy's own tests, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import dermdistill as dd
from dermdistill.artifacts.card import ModelCard, make_card
from dermdistill.core.errors import DataError, MismatchError, UsageError
from dermdistill.core.files import write_json
from dermdistill.evaluation.per_image import AGREEMENT, APPEARANCE, OUTLINES, PerImage
from dermdistill.evaluation.summary import summarise
from dermdistill.metrics.overlap import Counts


def run(root: Path, name: str, seed: int, shift: float, *, data: str = "same", images: int = 40) -> Path:
    """A run folder with scores made by hand: Dice near 80 %, moved by ``shift``."""
    folder = root / name
    rng = np.random.default_rng([len(name), seed, round(1000 * abs(shift))])
    tp = np.clip(800 + 1000 * shift + rng.normal(0, 20, images), 1, 999).astype(np.int64)
    counts = Counts(tp, 1000 - tp, 1000 - tp, np.full(images, 8000))
    more = {key: rng.random(images) for key in (*OUTLINES, *AGREEMENT, *APPEARANCE)}
    values = PerImage.from_counts(
        [f"I{i}" for i in range(images)], counts, measured=more, labels={"diagnosis": ["nevus"] * images}
    )
    folder.mkdir(parents=True)
    (folder / "w.pth").write_bytes(name.encode())
    card = make_card(
        role="student", model={"arch": "small"}, input_size=64, mean=[0.5] * 3, std=[0.5] * 3,
        weights="w.pth", recipe=name, seed=seed, dataset={"name": "ours", "fingerprint": data},
        parameters=1000,
    ).with_scores(folder / "w.pth", 1, {})  # fmt: skip
    card.write(folder / "card.json")
    about = {
        "data": {"name": "ours", "fingerprint": data, "title": "Ours"}, "split": "test", "images": images,
        "run": name, "weights_sha256": card.weights_sha256,
        "model": {
            "arch": "small", "role": "student", "parameters": 1000, "macs": 1, "bytes": 4, "input_size": 64,
        },
    }  # fmt: skip
    bins = [{"low": 0, "high": 1, "pixels": 1, "share": 1.0, "confidence": 0.5, "accuracy": 0.5}]
    place = folder / "evaluation" / "ours-test"
    summary = summarise(
        values,
        calibration={"ece": 0.1, "bins": bins},
        teacher=None,
        inter_rater_agreement=None,
        about=about,
        folder=place,
    )
    values.write(place / "per_image.csv")
    write_json(place / "summary.json", summary.to_json())
    return folder


def test_the_paired_test_is_scipys_and_the_mean_is_the_images(tmp_path: Path) -> None:
    alone, better = run(tmp_path, "alone", 0, 0.0), run(tmp_path, "better", 0, 0.02)
    found = dd.compare_runs({"alone": alone, "better": better}, baseline="alone")
    difference = found.dice["better"] - found.dice["alone"]
    d = found.paired["better"].metrics["dice"]
    assert d.mean == pytest.approx(difference.mean())
    expected = stats.wilcoxon(difference.round(9), zero_method="pratt", method="approx").pvalue
    assert d.p_wilcoxon == d.p_holm == pytest.approx(expected)
    assert d.low < d.mean < d.high
    assert found.paired["better"].verdict == "gain"
    assert "better: a gain against alone" in found.verdict
    assert "one seed of each" in found.verdict
    assert found.verdict in found.text
    assert f"{100 * found.dice['better'].mean():.2f} (" in found.text


def test_seeds_are_averaged_and_the_teacher_stands_outside_the_correction(tmp_path: Path) -> None:
    arms = {
        name: [run(tmp_path, f"{name}{seed}", seed, shift) for seed in (0, 1)]
        for name, shift in (("alone", 0.0), ("kl", 0.0), ("boundary", 0.001))
    }
    teacher = run(tmp_path, "teacher", 7, 0.05)
    found = dd.compare_runs({**arms, "teacher": teacher}, baseline="alone", teacher="teacher")
    p = {arm: found.paired[arm].metrics["dice"].p_wilcoxon for arm in ("kl", "boundary")}
    holm = {arm: found.paired[arm].metrics["dice"].p_holm for arm in ("kl", "boundary")}
    smaller = min(p, key=p.__getitem__)
    assert holm[smaller] == pytest.approx(min(1, 2 * p[smaller]))
    assert found.paired["teacher"].metrics["dice"].p_holm is None
    assert found.paired["kl"].seeds == (0, 1)
    assert found.paired["kl"].metrics["dice"].over_seeds is not None


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    alone = run(tmp_path, "alone", 0, 0.0)
    with pytest.raises(UsageError, match="no arm 'kl'"):
        dd.compare_runs({"alone": alone}, baseline="kl")
    with pytest.raises(UsageError, match="other seeds differ by chance"):
        dd.compare_runs({"alone": alone, "kl": run(tmp_path, "kl", 3, 0.0)}, baseline="alone")
    with pytest.raises(MismatchError, match="other images"):
        dd.compare_runs({"alone": alone, "b": run(tmp_path, "b", 0, 0.0, data="other")}, baseline="alone")
    with pytest.raises(DataError, match=r"dermdistill evaluate .*alone"):
        dd.compare_runs({"alone": alone}, baseline="alone", on="ours-val")
    card = ModelCard.read(alone / "card.json")
    card.model_copy(update={"weights_sha256": "0" * 64}).write(alone / "card.json")
    with pytest.raises(MismatchError, match="other weights"):
        dd.compare_runs({"alone": alone}, baseline="alone")
