"""From a run to ONNX files: what is written, what is measured, what fails and what is then said."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from dermdistill import cli
from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import MismatchError, ParityError
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.export import fit_reference, onnx_tensors, quantization, targets
from dermdistill.export.export import export_run
from dermdistill.export.parity import TOLERANCES, OnnxLogits, Tolerance
from dermdistill.inference import reference_statistics
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.models import onnx_graph
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.torch_backend import load_run
from dermdistill.workflows.release import release


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, with a card that names the phantoms beside it in data/."""
    folder = tmp_path_factory.mktemp("export") / "tiny"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("*.onnx"))
    data = prepare_phantom(folder.parent / "data", count=20, size=64, seed=7, progress=False)
    card = ModelCard.read(folder / "card.json")
    about = {"name": data.name, "fingerprint": data.fingerprint}
    card.model_copy(update={"dataset": about}).write(folder / "card.json")
    return folder


@pytest.fixture
def root(run: Path) -> Path:
    return run.parent / "data"


def test_three_files_that_answer_as_the_network(
    run: Path, root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dermdistill"), "handlers", [])  # our own talk is no leak
    (tmp_path / ".export-killed").mkdir()  # what a kill left of an earlier call
    found = export_run(run, out=tmp_path, root=root, calibration=8, progress=False)
    net, card = load_run(run)
    names = ["parity.json", "student.fp16.onnx", "student.int8.onnx", "student.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    batch = np.random.default_rng(0).random((3, 3, 64, 64), dtype=np.float32)
    with torch.inference_mode():
        truth = net(torch.from_numpy(batch)).numpy()
    for precision, most in (("fp32", 1e-4), ("fp16", 0.1)):
        np.testing.assert_allclose(OnnxLogits(found.files[precision])(batch), truth, atol=most)
    sizes = {name: path.stat().st_size for name, path in found.files.items()}
    assert sizes["int8"] < sizes["fp16"] < sizes["fp32"]
    for precision, path in found.files.items():
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=precision != "int8")
        assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [17]
        assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
        read = OnnxBackend(path).card
        assert read.export is not None
        assert read.export["precision"] == precision
        assert read.export["int8"]["dice_drop"]["n"] == found.images
        assert read.model_copy(update={"export": None}) == card.model_copy(update={"export": None})
    kinds = {node.op_type for node in onnx.load(str(found.files["int8"])).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    parity = json.loads((tmp_path / "parity.json").read_text(encoding="utf-8"))
    assert parity["passed"] is True
    assert parity["files"]["fp32"]["logit_difference"] < 1e-4
    assert parity["int8_steps"][0]["step"] == "per-channel weights"
    assert ModelCard.read(run / "card.json").export is not None
    assert capfd.readouterr() == ("", ""), "the libraries' own talk leaks"


def test_a_damaged_layer_fails_the_export_and_is_named(
    run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = onnx_graph.trace

    def damaged(net: LesionNet, path: Path, *rest: Any, **more: Any) -> None:
        original(net, path, *rest, **more)
        model = onnx.load(str(path))
        node = next(n for n in model.graph.node if onnx_tensors.module_path(n.output[0]) == "decoder.2.3")
        weight = next(w for w in model.graph.initializer if w.name == node.input[1])
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, weight.name))
        onnx.save(model, str(path))

    (tmp_path / "student.onnx").write_bytes(b"an earlier, good one")
    monkeypatch.setattr(onnx_graph, "trace", damaged)
    with pytest.raises(ParityError, match=r"(?s)fp32 file.*first layer that differs is decoder\.2\.3 "):
        export_run(run, out=tmp_path, root=root, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parity-failed.json", "student.onnx"]
    assert (tmp_path / "student.onnx").read_bytes() == b"an earlier, good one"
    facts = json.loads((tmp_path / "parity-failed.json").read_text(encoding="utf-8"))
    assert facts["passed"] is False
    assert facts["first_layer"]["name"] == "decoder.2.3"
    assert facts["measured"]["logit_difference"] > 1e-3
    arguments = ["export", str(run), "--out", str(tmp_path / "cli"), "--root", str(root)]
    assert cli.main(arguments) == 1


def test_an_int8_file_that_loses_too_much_fails(
    run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = quantization.quantise_once

    def wrecked(source: Path, target: Path, *rest: Any) -> None:
        original(source, target, *rest)
        model = onnx.load(str(target))
        names = [
            n.input[1] for n in model.graph.node if "up.2" in n.input[0] and n.op_type == "QuantizeLinear"
        ]
        for scale in (w for w in model.graph.initializer if w.name in names):
            wrong = onnx.numpy_helper.to_array(scale) * np.float32(1e-3)
            scale.CopyFrom(onnx.numpy_helper.from_array(wrong, scale.name))
        onnx.save(model, str(target))

    monkeypatch.setattr(quantization, "quantise_once", wrecked)
    monkeypatch.setattr(quantization, "sensitivities", lambda *_: {})
    monkeypatch.setitem(TOLERANCES, "int8", Tolerance(None, 1e-4, 1e-4))
    with pytest.raises(ParityError, match=r"(?s)int8 file.*pixels that change.*first layer that differs is"):
        export_run(run, out=tmp_path, root=root, precisions=("int8",), calibration=4, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["parity-failed.json"]


def test_other_data_is_refused_unless_it_is_named(run: Path, tmp_path: Path) -> None:
    other = prepare_phantom(tmp_path / "data", count=8, size=64, seed=9, progress=False)
    with pytest.raises(MismatchError, match="--data"):
        export_run(run, out=tmp_path, root=other.folder.parent, progress=False)
    found = export_run(
        run, out=tmp_path, root=other.folder.parent, data=other.name, precisions=("fp32",), progress=False
    )
    assert list(found.files) == ["fp32"]


def test_openvino_answers_the_same(run: Path, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    found = export_run(run, out=tmp_path, root=root, precisions=("fp32",), also=("openvino",), progress=False)
    assert (tmp_path / "openvino" / "student.xml").is_file()
    assert found.measured["openvino"].logit_difference < 1e-3


def test_a_target_without_its_library_says_what_to_install(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(targets._PACKAGES, "coreml", "no_such_package_at_all")
    assert cli.main(["export", str(run), "--out", str(tmp_path), "--targets", "coreml"]) == 1
    assert "pip install 'dermdistill[coreml]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_release_is_one_call(
    run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_reference, "MIN_IMAGES", 8)
    monkeypatch.setattr(reference_statistics, "MIN_IMAGES", 8)
    release(run, tmp_path, root=root, calibration=8, remarks=("Only a test.",), progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MODEL_CARD.md", "student.onnx"]
    backend = OnnxBackend(tmp_path / "student.onnx")
    assert backend.card.reference is not None
    assert backend.card.reference["images"] == 14
    assert backend.card.scores["test:phantom"]["dice_per_image_mean"]["n"] == 4
    text = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    dice = 100 * backend.card.scores["test:phantom"]["dice_per_image_mean"]["mean"]
    for told in (
        "Not a medical device", "Only a test.", f"| Dice | {dice:.2f} |", "Licence of the images: MIT",
        "int8 file", backend.card.weights_sha256, "unet-w4",
    ):  # fmt: skip
        assert told in text


@pytest.mark.parametrize(
    "more", [["--calibration", "0"], ["--precisions", "int4"], ["--release", "x", "--out", "y"]]
)
def test_wrong_usage(more: list[str], run: Path) -> None:
    assert _exit_code(["export", str(run), *more]) == 2


def _exit_code(arguments: list[str]) -> object:
    try:
        return cli.main(arguments)
    except SystemExit as error:  # tyro's own way out
        return error.code
