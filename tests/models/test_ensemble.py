"""The mean of several networks' probabilities, against a computation by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dermdistill.export.parity import OnnxLogits
from dermdistill.models import onnx_graph
from dermdistill.models.build import build_model
from dermdistill.models.ensemble import Ensemble, as_one_network, mean_logits


def test_the_answer_is_the_logit_of_the_mean_probability() -> None:
    logits = torch.tensor([[0.0, 2.0, -3.0], [4.0, -1.0, -3.0]]).view(2, 1, 1, 1, 3)
    # By hand: (σ(0) + σ(4)) / 2 = (0.5 + 0.982014) / 2 = 0.741007; its logit is 1.05125.
    assert mean_logits(logits).flatten()[0].item() == pytest.approx(1.05125, abs=1e-4)
    mean = logits.double().sigmoid().mean(0)
    torch.testing.assert_close(mean_logits(logits).double(), torch.logit(mean), atol=1e-5, rtol=1e-5)
    assert mean_logits(logits).flatten()[2].item() == pytest.approx(-3.0, abs=1e-6)


def test_certain_networks_stay_finite_and_exact() -> None:
    logits = torch.tensor([[200.0, -200.0, 200.0], [200.0, -200.0, -200.0]]).view(2, 1, 1, 1, 3)
    # Both certain: as certain as they are. Two that contradict each other: even.
    assert mean_logits(logits).flatten().tolist() == [200.0, -200.0, 0.0]


def test_several_networks_as_one_stay_exact_in_every_exported_form(tmp_path: Path) -> None:
    """Certain networks too, and in OpenVINO, whose ReduceLogSumExp is another."""
    torch.manual_seed(0)
    nets = [build_model("unet-w4").eval() for _ in range(3)]
    for net in nets:
        net.net.head.bias.data += 150  # type: ignore[union-attr, operator]
    one = as_one_network(nets).eval()
    onnx_graph.trace(one, tmp_path / "one.onnx", 32)
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = Ensemble(nets)(image).numpy()
        np.testing.assert_allclose(one(image).numpy(), expected, atol=1e-4)
    assert np.abs(expected).min() > 100
    np.testing.assert_allclose(OnnxLogits(tmp_path / "one.onnx")(image.numpy()), expected, atol=1e-4)
    openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
    model = openvino.convert_model(str(tmp_path / "one.onnx"))
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(image.numpy())[0], expected, atol=1e-3)


def test_half_precision_is_widened_before_the_mean() -> None:
    logits = torch.randn(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 5
    half = logits.bfloat16()
    found = mean_logits(half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.logit(half.double().sigmoid().mean(0)).float())


def test_networks_of_different_kinds_see_the_same_image_each_in_its_way() -> None:
    torch.manual_seed(0)
    nets = [build_model("unet-w4").eval(), build_model("Unet", "resnet18").eval()]
    assert not torch.equal(nets[0].mean, build_model("nano").mean)
    image = torch.rand(2, 3, 40, 56)  # neither side a multiple of resnet18's stride of 32
    with torch.no_grad():
        found = Ensemble(nets)(image)
        mean = torch.stack([net(image).double().sigmoid() for net in nets]).mean(0)
    assert found.shape == (2, 1, 40, 56)
    torch.testing.assert_close(found, torch.logit(mean).float())


def test_one_network_is_no_ensemble() -> None:
    net = build_model("unet-w4")
    with pytest.raises(ValueError, match="two networks"):
        Ensemble([net])
