"""Teachers that others made: an ONNX file, a transformers model, maps on disk; what is refused of them."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dermdistill.artifacts.card import ModelCard, TeacherRecord
from dermdistill.config import Recipe, parse_recipe
from dermdistill.core.errors import (
    ConfigError,
    DataError,
    MismatchError,
    MissingExtraError,
    UsageError,
    WeightsError,
)
from dermdistill.data.dataset import PreparedData, open_dataset
from dermdistill.export.export import export_run
from dermdistill.models import onnx_graph
from dermdistill.models.build import build_model
from dermdistill.training import run as training
from dermdistill.training import teachers
from dermdistill.training.acceleration.teacher_cache import TeacherLogitsCache
from dermdistill.training.feed.loader import ImageRows
from dermdistill.training.feed.training_data import train_rows
from dermdistill.training.teacher_maps import CLIP, read_teacher_maps
from dermdistill.workflows import model_card
from tinyruns import SIZE, tiny


@pytest.fixture(scope="module")
def data(root: Path) -> PreparedData:
    return open_dataset("phantom", root, SIZE)


def find(recipe: Recipe, data: PreparedData) -> tuple[Any, TeacherRecord]:
    def fine_tune(recipe: Recipe) -> Path:
        raise AssertionError("another teacher was named")

    return teachers.find_teacher(recipe, data, fine_tune=fine_tune, progress=False)


# -- ONNX ----------------------------------------------------------------------------------------------


def test_a_file_of_ours_teaches_as_its_run_does(teacher: Path, root: Path, tmp_path: Path) -> None:
    export_run(teacher, out=tmp_path / "x", precisions=("fp32",), progress=False)
    file = tmp_path / "x" / "teacher.onnx"
    more = {"teacher.onnx": str(file), "trainer.epochs": 1}
    recipe = tiny("phantom", root, tmp_path, **more)
    data = open_dataset("phantom", root, SIZE)
    (by_file, record), (by_run, _) = (
        find(recipe, data), find(tiny("phantom", root, tmp_path, **{"teacher.run": str(teacher)}), data)
    )  # fmt: skip
    assert (record.source, record.run) == ("teacher.onnx", None)
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(by_file(image), by_run(image), rtol=1e-3, atol=1e-4)
        assert by_file(torch.rand(1, 3, 32, 32)).shape == (1, 1, 32, 32), "resized to its own side and back"
    folder = training.distill(recipe, progress=False)
    card = ModelCard.read(folder / "card.json")
    assert card.teacher == record
    other = data.__class__(**{**vars(data), "fingerprint": "another"})
    with pytest.raises(MismatchError, match="any-data"):
        find(recipe, other)
    moved = file.rename(tmp_path / "moved.onnx")
    again = tiny("phantom", root, tmp_path, **more | {"teacher.onnx": str(moved)})
    training.distill(again, resume=True, progress=False)
    onnx_graph.trace(build_model("unet-w4"), moved, SIZE)
    (folder / "finished").unlink()
    with pytest.raises(MismatchError, match="begun with the teacher"):
        training.distill(again, resume=True, progress=False)


def test_another_maker_s_file(data: PreparedData, root: Path, tmp_path: Path, caplog: Any) -> None:
    net = torch.nn.Conv2d(3, 2, 1).eval()
    free = {0: "n", 2: "h", 3: "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates its quick exporter
        torch.onnx.export(
            net, (torch.rand(1, 3, 24, 24),), tmp_path / "two.onnx", dynamo=False, input_names=["x"],
            output_names=["y"], dynamic_axes={"x": free, "y": free},
        )  # fmt: skip
    mean = (0.5, 0.4, 0.3)
    more = {"teacher.onnx": str(tmp_path / "two.onnx"), "teacher.mean": mean}
    with pytest.raises(WeightsError, match=r"--teacher\.channel"):
        find(tiny("phantom", root, tmp_path, **more), data)
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        out = net(image - torch.tensor(mean).view(1, 3, 1, 1))
        for activation, expected in ((None, out[:, 1:]), ("softmax", out[:, 1:] - out[:, :1])):
            own = {"teacher.channel": 1, "teacher.activation": activation}
            found, _ = find(tiny("phantom", root, tmp_path, **more, **own), data)
            torch.testing.assert_close(found(image), expected, rtol=1e-4, atol=1e-5)
    assert "Which images it was trained on is not known" in caplog.text


# -- transformers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SegFormer of three classes with random weights, as save_pretrained leaves it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "segformer"
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def test_a_segformer_teaches(segformer: Path, data: PreparedData, root: Path, tmp_path: Path) -> None:
    import transformers

    more = {"teacher.transformers": str(segformer), "teacher.channel": 2, "trainer.epochs": 1}
    net, record = find(tiny("phantom", root, tmp_path, **more), data)
    model = transformers.SegformerForSemanticSegmentation.from_pretrained(segformer).eval()
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        coarse = model(pixel_values=(image - net.mean) / net.std).logits.log_softmax(1)
        found = net(image)
    assert found.shape == (2, 1, 64, 96)
    logits = coarse[:, 2:] - coarse[:, :2].logsumexp(1, keepdim=True)  # p against all the rest
    expected = torch.nn.functional.interpolate(logits, (64, 96), mode="bilinear")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    folder = training.distill(tiny("phantom", root, tmp_path, **more), progress=False)
    card = ModelCard.read(folder / "card.json")
    assert card.teacher == record
    words = model_card.to_markdown(
        card, file="x.onnx", size=1, data={}, summary=_a_summary(), encoder_weights=None
    )
    assert "a teacher: segformer" in words
    assert "which others made" in words


def _a_summary() -> dict[str, Any]:
    return {
        "scores": {}, "data": {"name": "phantom"}, "split": "test", "images": 1, "protocol": "x",
        "calibration": {"ece": 0.1}, "groups": {}, "strata": {}, "failures": 0, "agreement": None,
    }  # fmt: skip


def test_its_own_preprocessing_counts(
    segformer: Path, data: PreparedData, root: Path, tmp_path: Path
) -> None:
    told = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    path = segformer / "preprocessor_config.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    more = {"teacher.transformers": str(segformer), "teacher.channel": 0}
    net, _ = find(tiny("phantom", root, tmp_path, **more), data)
    path.unlink()
    assert net.mean.flatten().tolist() == pytest.approx(told["image_mean"])
    assert net.std.flatten().tolist() == pytest.approx(told["image_std"])


def test_what_is_refused_of_transformers(
    segformer: Path, data: PreparedData, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def named(folder: Path, **more: Any) -> Recipe:
        return tiny("phantom", root, tmp_path, **{"teacher.transformers": str(folder)}, **more)

    for more in ({}, {"teacher.channel": 3}):
        with pytest.raises(UsageError, match=r"has 3 classes(?s:.*)0 to 2 \(0 LABEL_0"):
            find(named(segformer, **more), data)
    with pytest.raises(WeightsError, match=r"no config\.json"):
        find(named(tmp_path / "absent"), data)
    headless = transformers.SegformerModel(transformers.SegformerConfig.from_pretrained(segformer))
    headless.save_pretrained(tmp_path / "encoder")
    with pytest.raises(WeightsError, match=r"of its weights, such as decode_head\S+: they would be random"):
        find(named(tmp_path / "encoder", **{"teacher.channel": 0}), data)
    (tmp_path / "encoder" / "model.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        find(named(tmp_path / "encoder", **{"teacher.channel": 0}), data)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"dermdistill\[transformers\]"):
        find(named(segformer), data)


# -- maps ----------------------------------------------------------------------------------------------


def names_of(data: PreparedData) -> list[str]:
    return [row.image_id for row in data.manifest if row.split != "test"]


@pytest.fixture(scope="module")
def hands(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A foundation model's probabilities as npy at another size, and one annotator's masks as PNG."""
    maps, masks = tmp_path_factory.mktemp("maps"), tmp_path_factory.mktemp("masks")
    for place, name in enumerate(names_of(data)):
        np.save(maps / f"{name}_prob.npy", np.full((20, 30), place / 100, np.float32))
        half = np.zeros((SIZE, SIZE), np.uint8)
        half[:, SIZE // 2 :] = 255
        Image.fromarray(half).save(masks / f"{name}_segmentation.png")
    return maps, masks


def test_maps_are_read_resized_clipped_and_averaged(data: PreparedData, hands: tuple[Path, Path]) -> None:
    rows = data.indices("train")
    one, _ = read_teacher_maps([hands[0]], data, rows, None, progress=False)
    both, record = read_teacher_maps(hands, data, rows, None, progress=False)
    wanted = torch.from_numpy(np.concatenate([rows[::-1], data.indices("val")]))
    names = [data.manifest[row].image_id for row in wanted.tolist()]
    prob = torch.tensor([names_of(data).index(name) / 100 for name in names])
    found = one.of(wanted).sigmoid()
    assert found.shape == (len(names), 1, SIZE, SIZE)
    torch.testing.assert_close(found[:, 0, 5, 5], prob.clamp(CLIP, 1 - CLIP), atol=1e-3, rtol=0)
    left, right = both.of(wanted).sigmoid()[:, 0, 5, [5, -5]].T
    torch.testing.assert_close(left, (prob / 2).clamp(CLIP), atol=1e-3, rtol=0)
    torch.testing.assert_close(right, (prob + 1) / 2, atol=1e-3, rtol=0)
    assert record.source == f"maps ({hands[0].name}, {hands[1].name})"


def test_annotators_need_not_have_drawn_all(
    data: PreparedData, hands: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dermdistill")
    name = names_of(data)[0]
    Image.fromarray(np.full((9, 9), 255, np.uint8)).save(tmp_path / f"{name}.png")
    found, _ = read_teacher_maps([hands[0], tmp_path], data, data.indices("train"), None, progress=False)
    row = next(i for i, one in enumerate(data.manifest) if one.image_id == name)
    assert float(found.of(torch.tensor([row])).sigmoid().mean()) == pytest.approx(0.5, abs=1e-3)
    assert f"maps of 1 of {len(names_of(data))} images in {tmp_path}" in caplog.text


def test_missing_maps_are_counted_and_named(
    data: PreparedData, hands: tuple[Path, Path], tmp_path: Path, root: Path
) -> None:
    names = names_of(data)
    for name in names[5:]:
        (tmp_path / f"{name}.npy").write_bytes((hands[0] / f"{name}_prob.npy").read_bytes())
    expected = rf"5 of the {len(names)} training and validation images have no map in \S+: \w+, \w+, \w+ …"
    recipe = tiny("phantom", root, tmp_path / "runs", **{"teacher.maps": [str(tmp_path)]})
    with pytest.raises(DataError, match=expected):
        find(recipe, data)
    some = tiny(
        "phantom", root, tmp_path / "runs", **{"teacher.maps": [str(hands[0])], "data.train_limit": 3}
    )
    cache, _ = find(some, data)
    assert len(cache.logits) == 3 + len(data.indices("val")), "those that are trained on are enough"
    beside = ImageRows(data, data.indices("test"))
    with pytest.raises(DataError, match="have no map"):
        read_teacher_maps([hands[0]], data, train_rows(some, data), beside, progress=False)
    np.save(tmp_path / f"{names[7]}.npy", np.full((4, 4), 1.5, np.float32))
    with pytest.raises(DataError, match="probabilities in"):
        read_teacher_maps([tmp_path, hands[0]], data, data.indices("train"), None, progress=False)


def test_maps_teach_and_move_with_the_image(
    data: PreparedData, hands: tuple[Path, Path], root: Path, tmp_path: Path
) -> None:
    more = {"teacher.maps": [str(hands[1])], "trainer.epochs": 2}
    folder = training.distill(tiny("phantom", root, tmp_path, **more), progress=False)
    card = ModelCard.read(folder / "card.json")
    assert card.teacher is not None
    assert card.teacher.cached_logits
    assert card.teacher.source == f"maps ({hands[1].name})"
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in hands[1].iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(changed / path.name)
    (folder / "finished").unlink()
    other = tiny("phantom", root, tmp_path, **more | {"teacher.maps": [str(changed)]})
    with pytest.raises(MismatchError, match="begun with the teacher"):
        training.distill(other, resume=True, progress=False)


def test_a_step_sees_the_map_of_its_view(data: PreparedData, hands: tuple[Path, Path]) -> None:
    from dermdistill.training.feed.augmentation import Augment

    torch.manual_seed(0)
    cache, _ = read_teacher_maps([hands[1]], data, data.indices("train"), None, progress=False)
    rows = torch.from_numpy(data.indices("train")[:8])
    logits = cache.of(rows)
    flip = Augment(flip=1.0, rotate=0.0, scale=0.0, translate=0.0, color=0.0, blur=0.0)
    seen = flip(torch.rand(8, 3, SIZE, SIZE), torch.zeros(8, 1, SIZE, SIZE, dtype=torch.uint8), logits)
    assert seen.teacher_logits is not None
    torch.testing.assert_close(seen.teacher_logits, logits.flip(2, 3), atol=1e-3, rtol=1e-3)
    assert isinstance(cache, TeacherLogitsCache)


# -- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"teacher": {"run": "a", "onnx": "b.onnx"}}, "both run and onnx are given"),
        ({"teacher": {"maps": ["a"], "transformers": "b"}}, "both transformers and maps are given"),
        ({"teacher": {"maps": ["a"], "folds": 2, "recipe": "r"}}, "folds is 2"),
        ({"role": "teacher", "teacher": {"arch": "Unet", "onnx": "b"}}, r"teacher\.onnx have no meaning"),
    ],
)
def test_settings_that_do_not_go_together(tree: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_recipe({"name": "x", **tree}, "x.yaml")
