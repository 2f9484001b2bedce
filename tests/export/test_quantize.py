"""Eight bits: which step is kept, which layer suffers, what is left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from dermdistill.export import quantization
from dermdistill.export.parity import Measured, OnnxLogits, Tolerance
from dermdistill.metrics.intervals import Interval
from dermdistill.models import onnx_graph
from dermdistill.models.build import build_model
from dermdistill.models.lesion_net import LesionNet, ModelSpec
from dermdistill.models.unet import UNet


def measured(drop: float) -> Measured:
    return Measured(1.0, drop, 0.9, 0.9 - drop, Interval(drop, drop, drop, 9))


@pytest.mark.parametrize(
    ("drops", "ends_with", "steps", "reached"),
    [
        ([0.001], "per-channel weights", 1, True),
        ([0.02, 0.002], "per-channel, percentile calibration", 2, True),
        ([0.02, 0.03, 0.03, 0.0029], "per-channel, 1 layer in float32", 4, True),
        ([0.02, 0.03, 0.03, 0.02, 0.004, 0.005], "per-channel, 2 layers in float32", 6, False),
    ],
)
def test_the_ladder_stops_where_the_goal_is_met(
    drops: list[float], ends_with: str, steps: int, reached: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    written = iter(drops)

    def write(_source: Path, target: Path, _images: Any, step: quantization.Step) -> None:
        target.write_text(step.title, encoding="utf-8")

    monkeypatch.setattr(quantization, "quantise_once", write)
    monkeypatch.setattr(quantization, "sensitivities", lambda *_: dict.fromkeys("abcdef", 1.0))
    images = np.zeros((1, 3, 8, 8), np.float32)
    target = tmp_path / "net.int8.onnx"
    found = quantization.quantise(tmp_path / "net.onnx", target, images, lambda *_: measured(next(written)))
    assert (found.step.title, len(found.tried), found.reached) == (ends_with, steps, reached)
    assert target.read_text(encoding="utf-8") == ends_with, "the file is not that of the best step"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_nan_is_beyond_every_tolerance() -> None:
    nan = measured(float("nan"))
    assert len(nan.beyond(Tolerance(float("inf"), 1.0, 1.0))) == 2


def small_net() -> LesionNet:
    torch.manual_seed(0)
    net = UNet(2, depth=1)
    return LesionNet(net, lambda n, x: n(x), net.stride, ([0.5] * 3, [0.2] * 3), ModelSpec("x"))


def test_the_layer_that_suffers_most_is_found(tmp_path: Path) -> None:
    net = small_net()
    with torch.no_grad():  # one filter dwarfs the other: one scale for the tensor ruins the small one
        net.net.encoder[0][3].weight[1] *= 1e-3  # type: ignore[index, union-attr, operator]
        for norm in (net.net.encoder[0][1], net.net.encoder[0][4]):  # type: ignore[index, union-attr]
            norm.running_var.fill_(1.0)  # type: ignore[union-attr, operator]
    path = tmp_path / "net.onnx"
    onnx_graph.trace(net, path, 16)
    images = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)
    found = quantization.sensitivities(path, images)
    assert set(found) == set(quantization.heavy_nodes(path))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    worst = next(iter(found))
    errors = {}
    for name, excluded in (("whole", ()), ("without", (worst,))):
        target = tmp_path / f"{name}.onnx"
        quantization.quantise_once(path, target, images, quantization.Step("", excluded=excluded))
        errors[name] = float(np.sqrt(np.mean((OnnxLogits(target)(images) - OnnxLogits(path)(images)) ** 2)))
    assert errors["whole"] - errors["without"] == pytest.approx(found[worst], rel=0.05)
    assert errors["without"] < errors["whole"]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_every_calibration_writes_a_file_that_runs(method: quantization.Method, tmp_path: Path) -> None:
    path, target = tmp_path / "net.onnx", tmp_path / "net.int8.onnx"
    onnx_graph.trace(small_net(), path, 16)
    images = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)
    quantization.quantise_once(path, target, images, quantization.Step("", method=method))
    difference = OnnxLogits(target)(images) - OnnxLogits(path)(images)
    assert 0 < np.abs(difference).max() < 2


def test_sizes_are_not_quantised(tmp_path: Path) -> None:
    # TensorFlow's "same" padding is computed in the graph, by additions of floats among others.
    net = build_model("DeepLabV3Plus", "tu-tf_mobilenetv3_small_minimal_100").eval()
    path = tmp_path / "net.onnx"
    onnx_graph.trace(net, path, 64)
    model = onnx.load(str(path)).graph
    names = quantization._size_nodes(model)
    kinds = {node.name: node.op_type for node in model.node}
    assert "Add" in {kinds[name] for name in names}
    assert not {kinds[name] for name in names} & {"Conv", "Relu", "Resize"}
    images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    quantization.quantise_once(path, tmp_path / "net.int8.onnx", images, quantization.Step(""))
    found = {node.name: node for node in onnx.load(str(tmp_path / "net.int8.onnx")).graph.node}
    made_by = {name: node.op_type for node in found.values() for name in node.output}
    for name in (name for name in names if kinds[name] in quantization.QUANTISED):
        assert "DequantizeLinear" not in {made_by.get(source) for source in found[name].input}, name
