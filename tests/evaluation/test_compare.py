"""Two or more on the same pictures: against scipy and statsmodels, what is refused, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import multitest

from dermdistill.cli import main
from dermdistill.core.errors import MismatchError, UsageError
from dermdistill.evaluation.compare import Entry, compare, most_different
from dermdistill.evaluation.compare_page import to_latex, to_markdown
from dermdistill.evaluation.differences import is_told_from_zero
from dermdistill.evaluation.per_image import PerImage
from dermdistill.imaging import encode_jpeg, write_png
from dermdistill.metrics.overlap import Counts


def entry(name: str, shift: int, *, seed: int = 0, n: int = 40, first: int = 0) -> Entry:
    rng = np.random.default_rng([seed, n])
    tp = np.clip(800 + shift + rng.normal(0, 40, n), 1, 999).astype(np.int64)
    counts = Counts(tp, 1000 - tp, 1000 - tp, 8000 + tp)
    more = {"boundary_f": rng.random(n), "hd95": 10 * rng.random(n), "lesion_fraction": np.full(n, 0.1)}
    names = [f"i{i}" for i in range(first, first + n)]
    return Entry(name, PerImage.from_counts(names, counts, measured=more, labels={"truth": ["x"] * n}))


def test_the_tests_are_scipys_and_the_correction_statsmodels() -> None:
    a, b, c = entry("a", 0), entry("b", 30, seed=1), entry("c", 5, seed=2)
    found = compare([a, b, c])
    p = []
    for other in (b, c):
        difference = other.images["dice"] - a.images["dice"]
        d = found.differences[other.name]["dice"]
        assert d.mean == pytest.approx(difference.mean())
        expected = stats.t.interval(0.95, 39, difference.mean(), stats.sem(difference))
        assert (d.low, d.high) == pytest.approx(expected)
        p.append(stats.wilcoxon(difference.round(9), zero_method="pratt", method="approx").pvalue)
    corrected = multitest.multipletests(p, method="holm")[1]
    assert [found.differences[name]["dice"].p_holm for name in ("b", "c")] == pytest.approx(corrected)
    assert is_told_from_zero(found.differences["b"]["dice"])
    assert not is_told_from_zero(found.differences["c"]["dice"])
    assert "b is better than a: +" in found.sentences()[0]
    assert "No difference between c and a could be told" in found.sentences()[1]
    assert "in 4 of 5 samples" in found.sentences()[1]


def test_bold_means_told_from_0() -> None:
    found = compare([entry("a", 0), entry("b", 30, seed=1), entry("c_1", 5, seed=2)])
    rows = [line for line in to_markdown(found).splitlines() if "| Dice |" in line]
    assert "**+" in rows[1]
    assert "**" not in rows[2]
    tex = to_latex(found)
    assert r"\textbf{+" in tex
    assert r"c\_1 & Dice" in tex


def test_images_are_brought_into_one_order_and_the_farthest_apart_come_first() -> None:
    a = entry("a", 0)
    order = np.arange(40)[::-1]
    columns = {name: values[order].copy() for name, values in a.images.columns.items()}
    columns["dice"][3] -= 0.5
    labels = {"truth": ["x"] * 40}
    b = Entry("b", PerImage([a.images.image_id[i] for i in order], columns, labels))
    found = compare([a, b])
    assert found.per_image("b")[36] == pytest.approx(-0.5)
    assert np.count_nonzero(found.per_image("b")) == 1
    assert most_different(found, 10) == [36]


def test_other_pictures_sizes_or_truths_are_refused_with_ids() -> None:
    a = entry("a", 0)
    with pytest.raises(MismatchError, match=r"1 only by the first \(i0\), 1 only by the second \(i40\)"):
        compare([a, entry("b", 0, first=1)])
    for column, what in (("tn", "sizes"), ("fn", "sizes")):
        columns = {name: values.copy() for name, values in a.images.columns.items()}
        columns[column][7] += 1
        with pytest.raises(MismatchError, match=rf"other ({what}): 1 of 40 \(i7\)"):
            compare([a, Entry("b", PerImage(a.images.image_id, columns, a.images.labels))])
    other = PerImage(a.images.image_id, a.images.columns, {"truth": ["x"] * 39 + ["y"]})
    with pytest.raises(MismatchError, match=r"true masks: 1 of 40 \(i39\)"):
        compare([a, Entry("b", other)])
    for entries in ([a], [a, entry("a", 3)]):
        with pytest.raises(UsageError):
            compare(entries)


def test_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    y, x = np.mgrid[:40, :40]
    for i in range(8):
        radius = np.hypot(y - 20, x - 20)
        picture = np.where((radius < 7 + i)[..., None], 90, 210) * np.ones(3)
        (tmp_path / "images" / f"{i}.jpg").write_bytes(encode_jpeg(picture.astype(np.uint8)))
        for folder, wider in (("masks", 0), ("near", 1), ("far", 3)):
            write_png(tmp_path / folder / f"{i}.png", (radius < 7 + i + wider).astype(np.uint8))
    folders = ["--images", "images", "--masks", "masks"]
    assert main(["compare", "near", "far", "shipped", *folders, "--out", "c", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "c" / "comparison.json").read_text(encoding="utf-8"))
    far = next(d for d in told["differences"] if (d["name"], d["measure"]) == ("far", "dice"))
    assert far["mean"] < 0
    assert far["worse"] == 1
    page = (tmp_path / "c" / "index.html").read_text(encoding="utf-8")
    assert "far is worse than near" in page
    assert page.count("<img") == 8 * 3
    # Evaluations' folders, and what they were made from drawn again.
    assert main(["compare", "c/near", "c/far", "--out", "d"]) == 0
    assert "far is worse than near" in capsys.readouterr().out
    assert (tmp_path / "d" / "index.html").read_text(encoding="utf-8").count("<img") == 8 * 2
    assert main(["compare", "near", "far", "--out", "d"]) == 2
    assert "near is not an evaluation" in capsys.readouterr().err
    assert main(["compare", "c/near"]) == 2
