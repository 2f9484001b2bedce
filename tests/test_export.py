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

from dermdistill import cli, graph, layers, onnx_tensors, quantize, reference, targets, trust
from dermdistill.card import ModelCard
from dermdistill.data.prepare import prepare_phantom
from dermdistill.errors import MismatchError, ParityError, UsageError
from dermdistill.export import export
from dermdistill.metrics import Interval
from dermdistill.models.build import LesionNet, ModelSpec, build_model
from dermdistill.models.torch_backend import load_run
from dermdistill.models.unet import UNet
from dermdistill.onnx_backend import OnnxBackend
from dermdistill.parity import TOLERANCES, Measured, OnnxLogits, Tolerance
from dermdistill.release import release


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
    found = export(run, out=tmp_path, root=root, calibration=8, progress=False)
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
    original = graph.trace

    def damaged(net: LesionNet, path: Path, *rest: Any, **more: Any) -> None:
        original(net, path, *rest, **more)
        model = onnx.load(str(path))
        node = next(n for n in model.graph.node if onnx_tensors.module_path(n.output[0]) == "decoder.2.3")
        weight = next(w for w in model.graph.initializer if w.name == node.input[1])
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, weight.name))
        onnx.save(model, str(path))

    (tmp_path / "student.onnx").write_bytes(b"an earlier, good one")
    monkeypatch.setattr(graph, "trace", damaged)
    with pytest.raises(ParityError, match=r"(?s)fp32 file.*first layer that differs is decoder\.2\.3 "):
        export(run, out=tmp_path, root=root, progress=False)
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
    original = quantize.quantise_once

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

    monkeypatch.setattr(quantize, "quantise_once", wrecked)
    monkeypatch.setattr(quantize, "sensitivities", lambda *_: {})
    monkeypatch.setitem(TOLERANCES, "int8", Tolerance(None, 1e-4, 1e-4))
    with pytest.raises(ParityError, match=r"(?s)int8 file.*pixels that change.*first layer that differs is"):
        export(run, out=tmp_path, root=root, precisions=("int8",), calibration=4, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["parity-failed.json"]


def test_other_data_is_refused_unless_it_is_named(run: Path, tmp_path: Path) -> None:
    other = prepare_phantom(tmp_path / "data", count=8, size=64, seed=9, progress=False)
    with pytest.raises(MismatchError, match="--data"):
        export(run, out=tmp_path, root=other.folder.parent, progress=False)
    found = export(
        run, out=tmp_path, root=other.folder.parent, data=other.name, precisions=("fp32",), progress=False
    )
    assert list(found.files) == ["fp32"]


def measured(drop: float) -> Measured:
    return Measured(1.0, drop, 0.9, 0.9 - drop, Interval(drop, drop, drop, 9))


@pytest.mark.parametrize(
    ("drops", "ends_with", "steps", "reached"),
    [
        ([0.001], "per-channel weights", 1, True),
        ([0.02, 0.002], "per-channel, percentile calibration", 2, True),
        ([0.02, 0.03, 0.03, 0.0029], "per-channel, 1 layers in float32", 4, True),
        ([0.02, 0.03, 0.03, 0.02, 0.004, 0.005], "per-channel, 2 layers in float32", 6, False),
    ],
)
def test_the_ladder_stops_where_the_goal_is_met(
    drops: list[float], ends_with: str, steps: int, reached: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    written = iter(drops)

    def write(_source: Path, target: Path, _images: Any, step: quantize.Step) -> None:
        target.write_text(step.title, encoding="utf-8")

    monkeypatch.setattr(quantize, "quantise_once", write)
    monkeypatch.setattr(quantize, "sensitivities", lambda *_: dict.fromkeys("abcdef", 1.0))
    images = np.zeros((1, 3, 8, 8), np.float32)
    target = tmp_path / "net.int8.onnx"
    found = quantize.quantise(tmp_path / "net.onnx", target, images, lambda *_: measured(next(written)))
    assert (found.step.title, len(found.tried), found.reached) == (ends_with, steps, reached)
    assert target.read_text(encoding="utf-8") == ends_with, "the file is not that of the best step"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def small_net() -> LesionNet:
    torch.manual_seed(0)
    net = UNet(2, depth=1)
    return LesionNet(
        net, lambda n, x: n.forward_features(x), net.stride, ([0.5] * 3, [0.2] * 3), ModelSpec("x")
    )


def test_the_layer_that_suffers_most_is_found(tmp_path: Path) -> None:
    net = small_net()
    with torch.no_grad():  # one filter dwarfs the other: one scale for the tensor ruins the small one
        net.net.encoder[0][3].weight[1] *= 1e-3  # type: ignore[index, union-attr, operator]
        for norm in (net.net.encoder[0][1], net.net.encoder[0][4]):  # type: ignore[index, union-attr]
            norm.running_var.fill_(1.0)  # type: ignore[union-attr, operator]
    path = tmp_path / "net.onnx"
    graph.trace(net, path, 16)
    images = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)
    found = quantize.sensitivities(path, images)
    assert set(found) == set(quantize.heavy_nodes(path))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    worst = next(iter(found))
    errors = {}
    for name, excluded in (("whole", ()), ("without", (worst,))):
        target = tmp_path / f"{name}.onnx"
        quantize.quantise_once(path, target, images, quantize.Step("", excluded=excluded))
        errors[name] = float(np.sqrt(np.mean((OnnxLogits(target)(images) - OnnxLogits(path)(images)) ** 2)))
    assert errors["whole"] - errors["without"] == pytest.approx(found[worst], rel=0.05)
    assert errors["without"] < errors["whole"]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_every_calibration_writes_a_file_that_runs(method: quantize.Method, tmp_path: Path) -> None:
    path, target = tmp_path / "net.onnx", tmp_path / "net.int8.onnx"
    graph.trace(small_net(), path, 16)
    images = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)
    quantize.quantise_once(path, target, images, quantize.Step("", method=method))
    difference = OnnxLogits(target)(images) - OnnxLogits(path)(images)
    assert 0 < np.abs(difference).max() < 2


def test_sizes_are_not_quantised(tmp_path: Path) -> None:
    # TensorFlow's "same" padding is computed in the graph, by additions of floats among others.
    net = build_model("DeepLabV3Plus", "tu-tf_mobilenetv3_small_minimal_100").eval()
    path = tmp_path / "net.onnx"
    graph.trace(net, path, 64)
    model = onnx.load(str(path)).graph
    names = quantize._size_nodes(model)
    kinds = {node.name: node.op_type for node in model.node}
    assert "Add" in {kinds[name] for name in names}
    assert not {kinds[name] for name in names} & {"Conv", "Relu", "Resize"}
    images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    quantize.quantise_once(path, tmp_path / "net.int8.onnx", images, quantize.Step(""))
    found = {node.name: node for node in onnx.load(str(tmp_path / "net.int8.onnx")).graph.node}
    made_by = {name: node.op_type for node in found.values() for name in node.output}
    for name in (name for name in names if kinds[name] in quantize.QUANTISED):
        assert "DequantizeLinear" not in {made_by.get(source) for source in found[name].input}, name


def test_any_size_when_it_is_left_open(tmp_path: Path) -> None:
    net = build_model("unet-w4").eval()
    graph.trace(net, tmp_path / "net.onnx", 32, dynamic_size=True)
    for shape in ((1, 3, 32, 32), (2, 3, 48, 80)):
        image = torch.rand(shape)
        with torch.inference_mode():
            truth = net(image).numpy()
        np.testing.assert_allclose(OnnxLogits(tmp_path / "net.onnx")(image.numpy()), truth, atol=1e-4)
    with pytest.raises(UsageError, match="multiple of the network's stride, 16"):
        graph.trace(net, tmp_path / "net.onnx", 40, dynamic_size=True)


def test_a_fixed_size_is_padded_inside_the_graph(tmp_path: Path) -> None:
    net = build_model("unet-w4").eval()
    graph.trace(net, tmp_path / "net.onnx", 40)
    image = torch.rand(2, 3, 40, 40)
    with torch.inference_mode():
        truth = net(image).numpy()
    np.testing.assert_allclose(OnnxLogits(tmp_path / "net.onnx")(image.numpy()), truth, atol=1e-4)
    session = OnnxLogits(tmp_path / "net.onnx").session
    assert session.get_outputs()[0].shape == ["n", 1, 40, 40]


@pytest.mark.parametrize("size", [64, 90])
def test_a_student_is_averaged_down_before_it_is_normalised(size: int, tmp_path: Path) -> None:
    net = build_model("nano").eval()
    graph.trace(net, tmp_path / "net.onnx", size)
    image = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        truth = net(image).numpy()
    np.testing.assert_allclose(OnnxLogits(tmp_path / "net.onnx")(image.numpy()), truth, atol=1e-5)
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "net.onnx")).graph.node]
    assert kinds.index("AveragePool") < kinds.index("Sub")
    with torch.inference_mode():
        np.testing.assert_array_equal(net(image).numpy(), truth)  # it was a copy that was changed


@pytest.mark.parametrize(("arch", "encoder"), [("nano", None), ("DeepLabV3Plus", "tu-mobilenetv3_small_050")])
def test_other_networks_are_traced_too(arch: str, encoder: str | None, tmp_path: Path) -> None:
    net = build_model(arch, encoder).eval()
    graph.trace(net, tmp_path / "net.onnx", 64)
    image = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        truth = net(image).numpy()
    np.testing.assert_allclose(OnnxLogits(tmp_path / "net.onnx")(image.numpy()), truth, atol=1e-3)
    wrapped = graph.ExportNet(net, 64).eval()
    assert layers.first_difference_from_torch(wrapped, tmp_path / "net.onnx", image.numpy(), 1e-4) is None


@pytest.mark.parametrize(
    ("tensor", "path"),
    [
        ("/up.1/up.1.0/Relu_output_0", "up.1.0"),
        ("/encoder/model/blocks/blocks.0/blocks.0.0/conv/Conv_output_0", "encoder.model.blocks.0.0.conv"),
        ("/Concat_2_output_0", ""),
        ("logits", ""),
    ],
)
def test_module_paths(tensor: str, path: str) -> None:
    assert onnx_tensors.module_path(tensor) == path


def test_the_first_difference_is_the_first() -> None:
    truth = {name: np.full((2, 2), 3.0, np.float32) for name in ("/a/Conv_output_0", "/b/Conv_output_0", "c")}
    found = truth | {"/b/Conv_output_0": np.full((2, 2), 3.3, np.float32), "c": np.zeros((2, 2), np.float32)}
    layer = layers.first_difference(truth, found, 0.01)
    assert layer is not None
    assert (layer.name, layer.relative_error) == ("b", pytest.approx(0.1, rel=1e-5))
    assert layers.first_difference(truth, truth, 0.01) is None
    assert layers.relative_error(truth["c"], truth["c"] * np.nan) == float("inf")


def test_a_nan_is_beyond_every_tolerance() -> None:
    nan = measured(float("nan"))
    assert len(nan.beyond(Tolerance(float("inf"), 1.0, 1.0))) == 2


def test_openvino_answers_the_same(run: Path, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    found = export(run, out=tmp_path, root=root, precisions=("fp32",), also=("openvino",), progress=False)
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
    monkeypatch.setattr(trust, "MIN_IMAGES", 8)
    monkeypatch.setattr(reference, "MIN_IMAGES", 8)
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
