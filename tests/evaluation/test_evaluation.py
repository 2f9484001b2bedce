"""What is saved per image, and what summary.json makes of it, without training anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dermdistill.core.errors import DataError
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.evaluation.per_image import (
    AGREEMENT,
    APPEARANCE,
    COLUMNS,
    MEASURES,
    PerImage,
    read_per_image,
)
from dermdistill.evaluation.summary import summarise
from dermdistill.metrics.calibration import reliability
from dermdistill.metrics.overlap import Counts


def images(n: int = 40, *, taught: bool = True) -> PerImage:
    rng = np.random.default_rng(0)
    tp, fp, fn = rng.integers(200, 900, n), rng.integers(0, 300, n), rng.integers(0, 300, n)
    more = {"boundary_f": rng.random(n), "hd95": 10 * rng.random(n)}
    more |= {name: rng.random(n) if taught else np.full(n, np.nan) for name in AGREEMENT}
    more |= {name: rng.random(n) for name in APPEARANCE}
    more["ita"] = rng.uniform(-60, 80, n)
    more["ita"][::5] = np.nan
    more["contrast"] *= 60
    diagnosis = ["melanoma" if i % 4 == 0 else "nevus" for i in range(n)]
    counts = Counts(tp, fp, fn, 4000 - tp - fp - fn)
    names = [f"i{i}" for i in range(n)]
    return PerImage.from_counts(names, counts, measured=more, labels={"diagnosis": diagnosis})


def test_the_table_survives_its_file(tmp_path: Path) -> None:
    written = images()
    written.write(tmp_path / "per_image.csv")
    assert (tmp_path / "per_image.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    found = read_per_image(tmp_path / "per_image.csv")
    assert found.image_id == written.image_id
    for name, values in written.measures().items():
        # Scores come back whole, by way of the counts; what has no counts, with the file's six decimals.
        exact = name not in ("boundary_f", "hd95")
        np.testing.assert_allclose(found.measures()[name], values, rtol=0, atol=1e-15 if exact else 1e-6)
    np.testing.assert_array_equal(found.counts.tp, written.counts.tp)
    assert found.labels == written.labels
    np.testing.assert_allclose(found["ita"], written["ita"], atol=1e-6)  # NaN where it was NaN
    assert np.isnan(found["ita"]).sum() == 8


def test_broken_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "per_image.csv"
    for text in ("image_id,tp\na,1\n", "image_id\n", "image_id,dice\na,good\n", "dice\n0.5\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"per_image\.csv"):
            read_per_image(path)
    path.write_text("image_id,dice\na,0.5\n", encoding="utf-8")
    with pytest.raises(DataError, match="hd95"):
        read_per_image(path, required=("dice", "hd95"))


def test_a_table_of_other_columns_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "per_image.csv"
    path.write_text("image_id,dice,site,cut,diagnosis\n1,0.5,arm,true,0\n2,,leg,false,\n", encoding="utf-8")
    found = read_per_image(path)
    assert found.image_id == ["1", "2"]
    assert found["cut"].tolist() == [1.0, 0.0]
    assert np.isnan(found["dice"][1])
    assert found.labels == {"site": ["arm", "leg"], "diagnosis": ["0", ""]}
    assert list(found.measures()) == ["dice"]
    assert "tp" not in found


def test_what_reads_results_alone_opens_no_heavy_library() -> None:
    code = (
        "import sys, dermdistill.evaluation.per_image, dermdistill.evaluation.subgroups\n"
        "heavy = {'torch', 'matplotlib', 'scipy', 'onnxruntime', 'PIL'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_the_summary_follows_from_the_table(tmp_path: Path) -> None:
    table = images()
    bins = reliability(np.full((4, 4), 0.5, np.float32), np.eye(4, dtype=np.uint8)).to_json()
    about = {"data": {"name": "lab"}, "split": "test", "images": 40}
    human = InterRaterAgreement("human against human", 0.87, 0.85, 0.89, 12, "us")
    teacher = {"teacher": "big", "taught": True}
    summary = summarise(
        table, calibration=bins, teacher=teacher, inter_rater_agreement=human, about=about, folder=tmp_path
    )
    plain = summary.to_json()
    measures = table.measures()
    assert set(plain["scores"]) == {f"{name}_per_image_mean" for name in MEASURES}
    for name in MEASURES:
        found = plain["scores"][f"{name}_per_image_mean"]
        assert found["mean"] == pytest.approx(measures[name].mean())
        assert found["low"] < found["mean"] < found["high"]
    assert plain["agreement"]["dice"]["mean"] == pytest.approx(table["agreement_dice"].mean())
    for stratum in plain["by_stratum"].values():
        assert sum(level["n"] for level in stratum["levels"]) == 40
        assert all(level["small"] == (level["n"] < 30) for level in stratum["levels"])
    nevi = next(one for one in plain["by_stratum"]["diagnosis"]["levels"] if one["level"] == "nevus")
    chosen = [i for i, name in enumerate(table.labels["diagnosis"]) if name == "nevus"]
    assert nevi["dice_per_image_mean"]["mean"] == pytest.approx(measures["dice"][chosen].mean())
    assert not nevi["small"]
    failed = [one["jaccard"] for one in plain["failures"]["images"]]
    assert failed == sorted(failed)
    assert len(failed) == plain["failures"]["count"] == (measures["jaccard"] < 0.65).sum() > 0
    text = summary.to_text()
    for told in ("human, human", "agreement, teacher", "boundary F", "few images", "not measurable", "ECE"):
        assert told in text


def test_without_a_teacher_nothing_is_said_of_agreement(tmp_path: Path) -> None:
    bins = reliability(np.full((4, 4), 0.5, np.float32), np.eye(4, dtype=np.uint8)).to_json()
    about = {"data": {"name": "lab"}, "split": "test", "images": 40}
    summary = summarise(
        images(taught=False),
        calibration=bins,
        teacher=None,
        inter_rater_agreement=None,
        about=about,
        folder=tmp_path,
    )
    assert summary.to_json()["agreement"] is None
    assert "agreement" not in summary.to_text()
