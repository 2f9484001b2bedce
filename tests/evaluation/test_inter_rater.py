"""Inter-rater agreement: CSV files, several masks per image, the published figure, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from dermdistill.core.errors import DataError, UsageError
from dermdistill.evaluation.inter_rater import agreement_of_masks, find_agreement, read_agreement
from dermdistill.imaging import write_png
from dermdistill.metrics.intervals import mean_interval

ISIC2016 = {"name": "isic2016", "title": "ISIC 2016", "source": {"catalogue": "isic2016"}}
OWN = {"name": "lab", "title": "The lab's", "source": {"images": "x"}}


def test_per_image_rows_are_averaged_by_image_first(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("image_id,dice\na,0.8\na,0.9\nb,0.7\nc,0.95\n", encoding="utf-8")
    found = read_agreement(path)
    expected = mean_interval(np.array([0.85, 0.7, 0.95]))
    assert (found.mean, found.low, found.high, found.n) == pytest.approx(
        (expected.mean, expected.low, expected.high, 3)
    )
    path.write_text("image_id,dice\na,80\nb,90\n", encoding="utf-8")
    assert read_agreement(path).mean == pytest.approx(0.85)


def test_a_summary_row_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("label,mean,low,high,n,source\nus,88.1,87,89.5,40,our ward\n", encoding="utf-8")
    found = read_agreement(path)
    assert found.to_json() == {
        "label": "us", "mean": pytest.approx(0.881), "low": pytest.approx(0.87),
        "high": pytest.approx(0.895), "n": 40, "source": "our ward", "comparable": True, "note": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n1,2\n", "image_id,dice\n", "image_id,dice\na,x\n", "image_id,dice\na,-0.5\n",
     "mean,low\n1,2\n", "image_id,dice\na,0.9\nb,101\n", "mean,low,high,n\n0.9,0.8,0.95,many\n"],
)  # fmt: skip
def test_other_tables_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"h\.csv"):
        read_agreement(path)


def test_several_masks_per_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [(rng.random((12, 14)) < 0.5).astype(np.uint8) for _ in range(5)]
    for i in range(3):
        write_png(tmp_path / f"ISIC_7_Segmentation_{i + 1}.png", masks[i])
    for i, who in enumerate(("ann", "bob")):
        write_png(tmp_path / f"ISIC_8_mask_{who}.png", masks[3 + i])
    write_png(tmp_path / "ISIC_9_Segmentation_1.png", masks[0])  # alone: left out
    found = agreement_of_masks(tmp_path)
    dice = [f1_score(masks[a].ravel(), masks[b].ravel()) for a, b in ((0, 1), (0, 2), (1, 2), (3, 4))]
    assert found.mean == pytest.approx((np.mean(dice[:3]) + dice[3]) / 2)
    assert found.n == 2
    assert "5 masks of 2 images" in found.source
    write_png(tmp_path / "ISIC_8_mask_eve.png", masks[0][:5])
    with pytest.raises(DataError, match="differ in size"):
        agreement_of_masks(tmp_path)


def test_what_systems_leave_beside_masks_is_no_mask(tmp_path: Path) -> None:
    for name in ("a_mask_1.png", "a_mask_2.png", ".a_mask_3.png", "__MACOSX/a_mask_4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_png(tmp_path / name, np.ones((4, 4), np.uint8))
    assert "2 masks of 1 images" in agreement_of_masks(tmp_path).source


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "ISIC_9_Segmentation.png", np.ones((4, 4), np.uint8))
    with pytest.raises(DataError, match="two masks"):
        find_agreement(str(tmp_path), OWN)


def test_the_published_figure_and_where_it_may_stand() -> None:
    line = find_agreement(None, ISIC2016)
    assert line is not None
    assert (line.mean, line.low, line.high, line.n, line.comparable) == (0.8685, 0.856, 0.88, 167, True)
    other = find_agreement("isic2016", OWN)
    assert other is not None
    assert not other.comparable
    assert "not comparable" in other.note
    assert find_agreement(None, OWN) is None
    assert find_agreement("none", ISIC2016) is None
    with pytest.raises(UsageError, match="isic2016"):
        find_agreement("isic2017", ISIC2016)
