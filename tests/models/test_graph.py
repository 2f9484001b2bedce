"""Networks as ONNX graphs: sizes, what is folded in, which layer differs first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dermdistill.core.errors import UsageError
from dermdistill.export import layer_diff, onnx_tensors
from dermdistill.export.parity import OnnxLogits
from dermdistill.models import onnx_graph
from dermdistill.models.build import build_model


def test_any_size_when_it_is_left_open(tmp_path: Path) -> None:
    net = build_model("unet-w4").eval()
    onnx_graph.trace(net, tmp_path / "net.onnx", 32, dynamic_size=True)
    for shape in ((1, 3, 32, 32), (2, 3, 48, 80)):
        image = torch.rand(shape)
        with torch.inference_mode():
            truth = net(image).numpy()
        np.testing.assert_allclose(OnnxLogits(tmp_path / "net.onnx")(image.numpy()), truth, atol=1e-4)
    with pytest.raises(UsageError, match="multiple of the network's stride, 16"):
        onnx_graph.trace(net, tmp_path / "net.onnx", 40, dynamic_size=True)


def test_a_fixed_size_is_padded_inside_the_graph(tmp_path: Path) -> None:
    net = build_model("unet-w4").eval()
    onnx_graph.trace(net, tmp_path / "net.onnx", 40)
    image = torch.rand(2, 3, 40, 40)
    with torch.inference_mode():
        truth = net(image).numpy()
    np.testing.assert_allclose(OnnxLogits(tmp_path / "net.onnx")(image.numpy()), truth, atol=1e-4)
    session = OnnxLogits(tmp_path / "net.onnx").session
    assert session.get_outputs()[0].shape == ["n", 1, 40, 40]


@pytest.mark.parametrize("size", [64, 90])
def test_a_student_is_averaged_down_before_it_is_normalised(size: int, tmp_path: Path) -> None:
    net = build_model("nano").eval()
    onnx_graph.trace(net, tmp_path / "net.onnx", size)
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
    onnx_graph.trace(net, tmp_path / "net.onnx", 64)
    image = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        truth = net(image).numpy()
    np.testing.assert_allclose(OnnxLogits(tmp_path / "net.onnx")(image.numpy()), truth, atol=1e-3)
    wrapped = onnx_graph.ExportNet(net, 64).eval()
    assert layer_diff.first_difference_from_torch(wrapped, tmp_path / "net.onnx", image.numpy(), 1e-4) is None


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
    layer = layer_diff.first_difference(truth, found, 0.01)
    assert layer is not None
    assert (layer.name, layer.relative_error) == ("b", pytest.approx(0.1, rel=1e-5))
    assert layer_diff.first_difference(truth, truth, 0.01) is None
    assert layer_diff.relative_error(truth["c"], truth["c"] * np.nan) == float("inf")
