"""Predictor, outputs, evaluation and the command line, on a tiny distilled run."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dermdistill
from dermdistill import cli, imaging
from dermdistill.artifacts.card import ModelCard, make_card
from dermdistill.config import load_recipe
from dermdistill.core.errors import DataError, MismatchError, UsageError, WeightsError
from dermdistill.core.files import read_json
from dermdistill.data.prepare.folders import prepare_folder
from dermdistill.evaluation import evaluate as evaluation
from dermdistill.imaging.find import find_images
from dermdistill.inference.folder import predict_files
from dermdistill.inference.predictor import Predictor
from dermdistill.models.torch_backend import TorchBackend, load_run
from dermdistill.training import run as training

CARD = make_card(
    role="student", model={"arch": "unet-w4"}, input_size=32, mean=[0.5] * 3, std=[0.5] * 3,
    weights="w.pth", weights_sha256="ab", dataset={"name": "x", "fingerprint": "y"}, recipe="r", seed=0,
    parameters=1,
)  # fmt: skip


def darkness(batch: np.ndarray) -> np.ndarray:
    """A backend: dark is lesion."""
    return (1 - batch.mean(axis=1, keepdims=True)).astype(np.float32)


def picture(height: int = 60, width: int = 90) -> np.ndarray:
    image = np.full((height, width, 3), 230, np.uint8)
    image[20:40, 30:60] = 20
    return image


def test_a_prediction_is_at_native_size_and_in_the_right_place() -> None:
    found = Predictor.from_backend(CARD, darkness)(picture())
    assert found.mask.shape == found.prob.shape == (60, 90)
    assert found.bounding_box is not None
    np.testing.assert_allclose(found.bounding_box, (30, 20, 60, 40), atol=3)
    assert found.area_fraction == pytest.approx(20 * 30 / (60 * 90), rel=0.2)
    assert found.confidence > 0.7
    nothing = Predictor.from_backend(CARD, darkness)(np.full((10, 12, 3), 255, np.uint8))
    assert nothing.bounding_box is None
    assert nothing.area_fraction == 0
    json.dumps(nothing.to_json(), allow_nan=False)


def test_path_bytes_and_array_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture()).save(path)
    predictor = Predictor.from_backend(CARD, darkness)
    masks = [predictor(source).mask for source in (path, str(path), path.read_bytes(), picture())]
    assert all(np.array_equal(masks[0], mask) for mask in masks)
    with pytest.raises(DataError, match="uint8"):
        predictor(picture().astype(np.float32))  # type: ignore[arg-type]


def test_broken_files_are_reported_and_nothing_is_overwritten(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture()).save(tmp_path / folder / "lesion.png")
    (tmp_path / "a" / "broken.jpg").write_bytes(b"no image")
    paths = find_images([tmp_path / "a", tmp_path / "b", str(tmp_path / "*" / "*.png")])
    assert len(paths) == 3
    predictor = Predictor.from_backend(CARD, darkness)
    lines = list(predict_files(predictor, paths, tmp_path / "out", batch_size=2))
    assert sum(isinstance(line, DataError) for line in lines) == 1
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [
        "lesion-2_mask.png", "lesion-2_overlay.jpg", "lesion_mask.png", "lesion_overlay.jpg",
        "predictions.jsonl",
    ]  # fmt: skip
    assert set(np.unique(np.asarray(Image.open(tmp_path / "out" / "lesion_mask.png")))) == {0, 255}
    assert len((tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_images_are_found_in_natural_order_and_absence_is_told(tmp_path: Path) -> None:
    for name in ("p10.png", "p2.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images([tmp_path])] == ["p2.png", "p10.png"]
    with pytest.raises(UsageError, match="names no image"):
        find_images([tmp_path / "*.bmp"])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab's own folder of odd-sized images, prepared, with a student trained on it."""
    from dermdistill.data.prepare.phantom import make_phantom

    lab = tmp_path_factory.mktemp("lab")
    for index in range(14):
        split = "test" if index >= 10 else "train"
        phantom = make_phantom(1, index, 64)
        size = (71 + index, 53)
        for kind, array in (("images", phantom.image), ("masks", phantom.mask * np.uint8(255))):
            path = lab / f"{split}_{kind}" / f"case{index}{'' if kind == 'images' else '_mask'}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).resize(size, Image.Resampling.NEAREST).save(path)
    prepare_folder(
        "lab", lab / "data", lab / "train_images", lab / "train_masks", size=48, progress=False,
        test_images=lab / "test_images", test_masks=lab / "test_masks",
    )  # fmt: skip
    overrides = {
        "data.name": "lab", "data.root": str(lab / "data"), "data.size": 48, "data.batch_size": 4,
        "runs_root": str(lab / "runs"), "trainer.epochs": 3, "trainer.accelerator": "cpu", "name": "student",
    }  # fmt: skip
    training.train(load_recipe("student-phantom", overrides), progress=False)
    return lab


def test_evaluation_is_the_official_scorers_on_the_written_masks(lab: Path, tmp_path: Path) -> None:
    from isic_challenge_scoring.segmentation import SegmentationScore

    summary = evaluation.evaluate(lab / "runs" / "student", out=tmp_path, progress=False)
    net, card = load_run(lab / "runs" / "student")
    predictor = Predictor.from_backend(card, TorchBackend(net))
    truth, predicted = tmp_path / "truth", tmp_path / "predicted"
    truth.mkdir()
    predicted.mkdir()
    for index, path in enumerate(sorted((lab / "test_images").iterdir())):
        name = f"ISIC_{index:07d}"
        imaging.write_png(predicted / f"{name}_segmentation.png", predictor(path).mask)
        mask, _ = imaging.read_mask(lab / "test_masks" / f"{path.stem}_mask.png")
        imaging.write_png(truth / f"{name}_segmentation.png", mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the scorer uses what newer pandas deprecates
        official = SegmentationScore.from_dir(truth, predicted).macro_average
    for name in ("dice", "jaccard", "threshold_jaccard", "accuracy", "sensitivity", "specificity"):
        assert summary.scores[f"{name}_per_image_mean"].mean == pytest.approx(official[name], abs=1e-6), name
    assert {p.name for p in tmp_path.glob("*.*")} == {
        "per_image.csv", "summary.json", "masks.npz", "cases.png", "failures.png", "dice_distribution.png",
        "reliability.png",
    }  # fmt: skip
    with (tmp_path / "per_image.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    assert all(int(r["tp"]) + int(r["fp"]) + int(r["fn"]) + int(r["tn"]) > 53 * 71 for r in rows)
    written = read_json(tmp_path / "summary.json")
    assert written["scores"]["dice_per_image_mean"]["n"] == 4
    assert "test:lab" in ModelCard.read(lab / "runs" / "student" / "card.json").scores


def test_weights_that_are_not_the_cards_are_refused(lab: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(lab / "runs" / "student", tmp_path / "copy")
    weights = tmp_path / "copy" / "best_student_model.pth"
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(MismatchError, match="SHA-256"):
        load_run(tmp_path / "copy")
    weights.unlink()
    with pytest.raises(WeightsError, match="does not exist"):
        load_run(tmp_path / "copy")
    with pytest.raises(WeightsError, match=r"card\.json"):
        load_run(tmp_path)


def test_verbs_by_hand(lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(lab / "runs" / "student")
    (tmp_path / "broken.png").write_bytes(b"")
    test_images = str(lab / "test_images")
    out = str(tmp_path / "out")
    assert cli.main(["predict", test_images, str(tmp_path / "broken.png"), "--model", run, "--out", out]) == 1
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 4
    assert all(json.loads(line)["area_fraction"] >= 0 for line in told.out.splitlines())
    assert "broken.png" in told.err
    assert cli.main(["figure", run, "--count", "2"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert cli.main(["evaluate", run, "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "val"
    assert cli.main(["figure", run, "--ids", "nobody"]) == 2
    assert "is not in the val split" in capsys.readouterr().err


def test_usage_errors_exit_with_2_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["distil"], ["train"], ["train", "isic2061"], ["prepare", "--size", "7", "phantom"],
        ["prepare", "--images", "here"], ["train", "isic2016", "--kd.kl", "0"],
        ["evaluate", "run", "--batch-size", "0"], ["figure", "run", "--count", "0"],
        ["predict", "photo.jpg", "--model", "run", "--batch-size", "-1"],
    ):  # fmt: skip
        try:
            code = cli.main(arguments)
        except SystemExit as error:  # tyro's own refusals
            code = int(str(error.code))
        assert code == 2, arguments
    told = capsys.readouterr().err
    assert "Perhaps you meant 'distill'" in told
    assert "--batch-size is 0." in told
    assert "Traceback" not in told


def test_every_verb_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in cli.VERBS:
        with pytest.raises(SystemExit) as caught:
            cli.main([verb, "--help"])
        assert caught.value.code == 0
        assert len(capsys.readouterr().out) > 100
    assert cli.main(["--version"]) == 0
    assert dermdistill.__version__ in capsys.readouterr().out
    assert cli.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"]["torch"]


def test_a_card_survives_json_and_onnx_metadata(tmp_path: Path) -> None:
    CARD.write(tmp_path / "card.json")
    assert ModelCard.read(tmp_path / "card.json") == CARD
    assert ModelCard.from_metadata(CARD.to_metadata() | {"other": "tool"}) == CARD
    (tmp_path / "card.json").write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(DataError, match="not a model card"):
        ModelCard.read(tmp_path / "card.json")
