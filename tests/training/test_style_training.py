"""Training with styles: two ways of drawing, told apart by what the manifest says."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from dermdistill.cli import main
from dermdistill.config import load_recipe
from dermdistill.core.errors import ConfigError, DataError, UsageError
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.folders import prepare_folder
from dermdistill.data.prepare.phantom import write_phantoms
from dermdistill.export.export import export_run
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.inference.predictor import Predictor
from dermdistill.models.build import build_model
from dermdistill.models.torch_backend import TorchBackend, load_run
from dermdistill.training.feed.loader import PackDataset
from dermdistill.training.fit import task_arguments
from dermdistill.training.run import train
from dermdistill.training.segmentation_task import SegmentationTask


@pytest.fixture(scope="module")
def two_hands(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Generated lesions; every other mask is drawn wider, and every sixth by nobody knows whom."""
    folder = tmp_path_factory.mktemp("hands")
    write_phantoms(folder, 24, 64, seed=3)
    rows = ["image_id,style"]
    for i, path in enumerate(sorted((folder / "masks").iterdir())):
        if i % 2:
            wide = ndimage.binary_dilation(np.asarray(Image.open(path)) > 127, iterations=5)
            Image.fromarray(wide.astype(np.uint8) * 255).save(path)
        style = "" if i % 6 == 5 else ("wide" if i % 2 else "tight")
        rows.append(f"{path.stem.removesuffix('_Segmentation')},{style}")
    (folder / "who.csv").write_text("\n".join(rows), encoding="utf-8")
    return prepare_folder(
        "hands", folder / "data", folder / "images", folder / "masks", manifest=folder / "who.csv",
        size=64, val_fraction=0.25, progress=False,
    )  # fmt: skip


def overrides(data: PreparedData, **more: object) -> dict[str, object]:
    return {
        "data.name": data.name, "data.root": str(data.folder.parent), "data.size": 64, "data.batch_size": 6,
        "runs_root": str(data.folder.parent.parent / "runs"), "trainer.accelerator": "cpu",
        "student.arch": "nano", "student.encoder_weights": "none", "style.enabled": True,
        "augment.enabled": False, "optim.schedule": "plateau", "optim.lr": 3e-3, **more,
    }  # fmt: skip


def test_codes_are_those_of_the_manifest(two_hands: PreparedData) -> None:
    rows = two_hands.indices("train")
    batch = PackDataset(two_hands, rows, styles=("tight", "wide")).__getitems__([3, 0, 5])
    assert batch.style is not None
    for row, code in zip(batch.row.tolist(), batch.style.tolist(), strict=True):
        style = two_hands.manifest[row].style
        assert code == [style == "tight", style == "wide"]
    assert PackDataset(two_hands, rows).__getitems__([0]).style is None


def test_told_apart_and_the_run_draws_in_either_style(two_hands: PreparedData) -> None:
    recipe = load_recipe("student-alone", overrides(two_hands, name="told", **{"trainer.epochs": 12}))
    run = train(recipe, progress=False)
    with (run / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    told, untold = (float(rows[-1][f"val_dice_{name}"]) for name in ("told", "untold"))
    assert float(rows[-1]["val_dice"]) == pytest.approx((told + untold) / 2, abs=1e-6)
    val = two_hands.indices("val")
    image = torch.from_numpy(two_hands.images[val]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        area = {style: (load_run(run, style=style)[0](image) > 0).sum().item() for style in ("tight", "wide")}
    assert area["wide"] > 1.05 * area["tight"]
    net, card = load_run(run)
    assert set(card.styles) == {"tight", "wide"}
    assert net.styles == ()
    assert load_run(run, style="wide")[1].style == "wide"


def test_the_exported_file_knows_the_styles(two_hands: PreparedData) -> None:
    run = two_hands.folder.parent.parent / "runs" / "told"
    if not run.exists():  # this test alone
        train(load_recipe("student-alone", overrides(two_hands, name="told")), progress=False)
    exported = export_run(run, precisions=("fp32", "fp16"), calibration=4, progress=False)
    batch = two_hands.images[:3].transpose(0, 3, 1, 2).astype(np.float32) / 255
    for style in (None, "tight", "wide"):
        expected = TorchBackend(load_run(run, style=style)[0], "cpu")(batch)
        backend = OnnxBackend(exported.files["fp32"], threads=1, style=style)
        assert np.abs(backend(batch) - expected).max() < 1e-4
        assert backend.card.style == style
        assert np.array_equal(pickle.loads(pickle.dumps(backend))(batch), backend(batch))
    assert not np.allclose(expected, OnnxBackend(exported.files["fp32"])(batch), atol=1e-3)
    with pytest.raises(UsageError, match=r"(?s)no style 'loose'.*tight, wide"):
        Predictor(exported.files["fp32"], style="loose")
    with pytest.raises(UsageError, match="not told of styles"):  # float16: one style is folded in beforehand
        Predictor(exported.files["fp16"], style="wide")
    with pytest.raises(UsageError, match="not told of styles"):
        Predictor(style="wide")
    folded = export_run(run, style="wide", precisions=("fp32",), calibration=4, progress=False)
    assert folded.files["fp32"].parent == run / "export-wide"
    assert np.abs(OnnxBackend(folded.files["fp32"])(batch) - expected).max() < 1e-4
    assert set(load_run(run)[1].styles) == {"tight", "wide"}  # the run still knows both
    picture = two_hands.image_path(0)
    assert main(["predict", str(picture), "--model", str(exported.files["fp32"]), "--style", "wide", "--out",
                 str(run / "predicted"), "--outputs", "mask"]) == 0  # fmt: skip
    line = json.loads((run / "predicted" / "predictions.jsonl").read_text(encoding="utf-8"))
    assert line["model"]["style"] == "wide"


def test_a_view_in_two_is_told_nothing(two_hands: PreparedData) -> None:
    recipe = load_recipe("student-alone", overrides(two_hands, name="views"))
    net = build_model("nano", styles=("tight", "wide"))
    task = SegmentationTask(net, **task_arguments(recipe, two_hands, 4))
    batch = PackDataset(two_hands, two_hands.indices("train"), styles=net.styles).__getitems__(
        list(range(18))
    )
    assert batch.style is not None
    views = [task.augment_batch(batch).style for _ in range(2)]
    assert torch.equal(views[0], views[1])  # of the same step
    task.style = task.style.model_copy(update={"dropout": 0.0})
    assert torch.equal(task.augment_batch(batch).style, batch.style)
    assert 2 <= int(views[0].sum()) < int(batch.style.sum())


def test_without_styles_nothing_can_be_told(two_hands: PreparedData, tmp_path: Path) -> None:
    write_phantoms(tmp_path, 6, 32, seed=0)
    data = prepare_folder(
        "plain", tmp_path / "data", tmp_path / "images", tmp_path / "masks", size=32, progress=False
    )
    recipe = load_recipe("student-alone", {**overrides(data), "data.size": 32})
    with pytest.raises(DataError, match="No training image of plain has a style"):
        train(recipe, progress=False)
    with pytest.raises(ConfigError, match="cannot be told styles"):
        train(
            load_recipe("student-alone", overrides(two_hands, **{"student.arch": "unet-w4"})), progress=False
        )
