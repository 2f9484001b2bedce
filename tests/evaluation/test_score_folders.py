"""Scoring folders end to end, by the command line: names, counts, sizes, raters, the page, the install."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermdistill.cli import main
from dermdistill.evaluation.per_image import read_per_image
from dermdistill.imaging import encode_jpeg, write_png


def lesion(i: int, side: int = 48) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return ((y - side / 2) ** 2 + (x - side / 2) ** 2 < (side * (0.15 + 0.02 * i)) ** 2).astype(np.uint8)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight pictures of a disk, their masks, and predictions that are wider by some pixels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = ["isic_id,site,mm_per_pixel"]
    for i in range(8):
        mask = lesion(i)
        picture = np.where(mask[..., None], (120, 70, 60), (220, 180, 160)) + rng.normal(0, 4, (48, 48, 3))
        (tmp_path / "images" / f"L{i}.jpg").write_bytes(encode_jpeg(picture.clip(0, 255).astype(np.uint8)))
        write_png(tmp_path / "masks" / f"L{i}_Segmentation.png", mask)
        write_png(tmp_path / "made" / f"l{i}_mask.png", lesion(i + 1 + i % 2))
        rows.append(f"L{i}.jpg,{'arm' if i % 2 else 'leg'},0.05")
    (tmp_path / "m.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def run(*words: str) -> int:
    return main(["evaluate", *words])


def test_the_shipped_student_is_scored_on_pictures_of_ones_own(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--images", "images", "--masks", "masks", "--manifest", "m.csv", "--out", "e", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == summary(lab / "e")
    assert told["images"] == 8
    assert told["weights_sha256"]
    assert told["scores"]["auc_per_image_mean"]["mean"] > 0.9
    assert told["calibration"]["ece"] < 0.5
    assert {"lesion_size", "contrast", "skin_tone", "border", "site"} <= told["by_stratum"].keys()
    images = read_per_image(lab / "e" / "per_image.csv")
    assert images["dice"].mean() == pytest.approx(told["scores"]["dice_per_image_mean"]["mean"])
    assert images["hd95_mm"] == pytest.approx(0.05 * images["hd95_px"], abs=1e-5)
    page = (lab / "e" / "index.html").read_text(encoding="utf-8")
    assert f"mean Dice of {100 * images['dice'].mean():.1f}&nbsp;%" in page
    assert page.count("<figure>") == 8
    assert 'src="http' not in page and "href=" not in page  # noqa: PT018 - it fetches nothing


def test_a_folder_of_masks_scores_as_the_official_scorer_says(lab: Path) -> None:
    from isic_challenge_scoring.segmentation import SegmentationScore

    for kind in ("masks", "made"):  # it knows pictures by seven digits
        (lab / f"official-{kind}").mkdir()
        for path in (lab / kind).iterdir():
            shutil.copy(path, lab / f"official-{kind}" / f"ISIC_000000{path.name[1]}_segmentation.png")
    (lab / "official-made" / "ISIC_0000003_segmentation.png").unlink()
    write_png(lab / "official-made" / "ISIC_0000003_segmentation.png", np.zeros((48, 48), np.uint8))
    assert run("--predictions", "official-made", "--masks", "official-masks", "--out", "e") == 0
    found = summary(lab / "e")["scores"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the scorer uses what newer pandas deprecates
        official = SegmentationScore.from_dir(lab / "official-masks", lab / "official-made").macro_average
    for name in ("dice", "jaccard", "threshold_jaccard", "accuracy", "sensitivity", "specificity"):
        assert found[f"{name}_per_image_mean"]["mean"] == pytest.approx(official[name], abs=1e-6), name


def test_predictions_are_matched_counted_and_named(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab / "made" / "l0_mask.png").unlink()
    write_png(lab / "made" / "l1_mask.png", lesion(2, 24))
    write_png(lab / "made" / "other.png", lesion(2))
    np.save(lab / "made" / "l2.npy", np.full((48, 48), 3.0))
    (lab / "made" / "l2_mask.png").unlink()
    assert run("--predictions", "made", "--masks", "masks", "--out", "e", "--workers", "1") == 0
    told = summary(lab / "e")
    assert told["missing"].keys() == {"L0", "L2"}
    assert "from 3 to 3" in told["missing"]["L2"]
    assert told["resampled"]["images"] == ["L1"]
    assert told["partnerless"] == {"predictions without a mask": ["other"]}
    images = read_per_image(lab / "e" / "per_image.csv")
    dice = dict(zip(images.image_id, images["dice"].tolist(), strict=True))
    a, b = lesion(3), lesion(5)
    assert dice["L3"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert dice["L0"] == dice["L2"] == 0
    text = capsys.readouterr().out
    assert "2 without a prediction count as a Dice of 0: L0, L2" in text
    assert run("--predictions", "made", "--masks", "masks", "--out", "s", "--strict") == 1
    assert "2 predictions are missing and 1 have another size" in capsys.readouterr().err
    assert not (lab / "s").exists()


def test_a_broken_truth_is_named_the_rest_scored_and_the_exit_code_says_so(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "masks" / "L4_Segmentation.png").write_bytes(b"nothing")
    assert run("--predictions", "made", "--masks", "masks", "--out", "e") == 1
    assert summary(lab / "e")["images"] == 7
    assert summary(lab / "e")["unscored"].keys() == {"L4"}
    assert "1 could not be scored: L4" in capsys.readouterr().out


def test_several_people(lab: Path) -> None:
    for i in range(8):
        write_png(lab / "people" / "anna" / f"L{i}.png", lesion(i))
        write_png(lab / "people" / "ben" / f"L{i}.png", lesion(i + 1))
        write_png(lab / "people" / "cleo" / f"L{i}.png", lesion(i + 2))
    assert run("--predictions", "made", "--masks", "people", "--out", "e") == 0
    told = summary(lab / "e")
    assert told["raters"].keys() == {"anna", "ben", "cleo"}
    assert told["human"]["n"] == 8
    assert told["raters"]["ben"]["mean"] > told["raters"]["anna"]["mean"]
    assert told["scores"]["dice_per_image_mean"]["mean"] == pytest.approx(told["raters"]["ben"]["mean"])


def test_names_at_the_end_and_inverted_truths(lab: Path) -> None:
    for i in range(8):
        for person in ("1", "2"):
            write_png(lab / "two" / f"L{i}_Segmentation_{person}.png", 1 - lesion(i))
    assert run("--predictions", "made", "--masks", "two", "--out", "e") == 0
    told = summary(lab / "e")
    assert told["raters"].keys() == {"1", "2"}
    assert "inverted" in told["warnings"][0]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "--images DIR --masks DIR, or --data NAME"),
        (("--masks", "masks"), 2, "--images DIR"),
        (("a.onnx", "--masks", "masks", "--predictions", "made"), 2, "Both a model"),
        (("--masks", "gone", "--images", "images"), 1, "gone is not a folder"),
        (("--masks", "images", "--predictions", "empty"), 1, "None of the predictions"),
        (("--masks", "empty", "--predictions", "made"), 1, "no masks in empty"),
        (("--masks", "masks", "--predictions", "made", "--manifest", "bad.csv"), 1, "picture_name"),
        (("gone.onnx", "--masks", "masks", "--images", "images"), 1, "gone.onnx"),
        (("--predictions", "made", "--data", "nobody"), 1, "nobody"),
    ],
)
def test_bad_input_is_one_line(
    lab: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    (lab / "empty").mkdir()
    (lab / "bad.csv").write_text("picture_name,site\nL0,arm\n", encoding="utf-8")
    assert run(*words) == code
    assert said in capsys.readouterr().err


def test_the_core_install_is_enough_and_starts_quickly(lab: Path) -> None:
    code = (
        "import sys, dermdistill.evaluation.score_folders, dermdistill.evaluation.page\n"
        "heavy = {'torch', 'matplotlib', 'scipy', 'jinja2', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_prepared_data_is_scored_without_a_run(lab: Path) -> None:
    assert main(["prepare", "phantom", "--count", "12", "--size", "32"]) == 0
    assert run("--data", "phantom", "--out", "e") == 0
    told = summary(lab / "e")
    assert (told["data"]["name"], told["split"]) == ("phantom", "test")
    manifest = (lab / "data" / "phantom" / "manifest.csv").read_text(encoding="utf-8")
    tests = [line for line in manifest.splitlines() if ",test," in line]
    assert told["images"] == len(tests) > 0
    masks = lab / "their"
    for line in tests[1:]:
        write_png(masks / f"{line.split(',')[0]}_pred.png", np.zeros((32, 32), np.uint8))
    assert run("--predictions", "their", "--data", "phantom", "--out", "p") == 0
    assert list(summary(lab / "p")["missing"]) == [tests[0].split(",")[0]]


def test_scores_by_style_and_annotator_of_prepared_data(lab: Path) -> None:
    rows = [
        f"L{i},{'test' if i > 1 else 'train'},{'AB'[i % 2]},{'points' if i % 2 else ''}" for i in range(8)
    ]
    (lab / "who.csv").write_text("\n".join(["image_id,split,rater,style", *rows]), encoding="utf-8")
    own = ["own", "--name", "ours", "--images", "images", "--masks", "masks", "--size", "32"]
    assert main(["prepare", *own, "--manifest", "who.csv", "--annotator-column", "rater"]) == 0
    assert run("--data", "ours", "--out", "e") == 0
    by = summary(lab / "e")["by_stratum"]
    assert {one["level"]: one["n"] for one in by["style"]["levels"]} == {"points": 3, "not known": 3}
    assert {one["level"]: one["n"] for one in by["annotator"]["levels"]} == {"A": 3, "B": 3}
    images = read_per_image(lab / "e" / "per_image.csv")
    assert images.labels["annotator"] == ["A", "B"] * 3
    assert main(["evaluate", "--predictions", "made", "--data", "ours", "--out", "p"]) == 0
    assert "style" in summary(lab / "p")["by_stratum"]


def test_several_processes_find_what_one_finds(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--predictions", "made", "--masks", "masks", "--out", "one", "--workers", "1") == 0
    monkeypatch.setattr("dermdistill.evaluation.score_folders.ALONE", 2)
    assert run("--predictions", "made", "--masks", "masks", "--out", "two", "--workers", "2") == 0
    one, two = ((lab / name / "per_image.csv").read_bytes() for name in ("one", "two"))
    assert one == two
