"""On a CPU the frozen teacher is run by ONNX Runtime: the same logits, and PyTorch's wherever it cannot."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from dermdistill.models.batchnorm_folding import fold_batch_norm
from dermdistill.models.build import build_model
from dermdistill.models.ensemble import Ensemble
from dermdistill.training import run as training
from dermdistill.training.acceleration import onnx_teacher
from dermdistill.training.acceleration.compile import plain_forward
from dermdistill.training.acceleration.onnx_teacher import OnnxForward, forward_on_cpu
from tinyruns import tiny

SIZE = 48


def lively(arch: str, encoder: str | None = None, seed: int = 0) -> Any:
    """A network in eval() whose batch norms have statistics of their own."""
    torch.manual_seed(seed)
    net = build_model(arch, encoder).train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(4, 3, SIZE, SIZE))
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [("unet-w4", None), ("DeepLabV3Plus", "tu-tf_efficientnet_lite0"), ("nano", None), ("base", None)],
)
def test_the_logits_are_pytorchs(arch: str, encoder: str | None) -> None:
    net = fold_batch_norm(lively(arch, encoder)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = OnnxForward(net, SIZE, 1)
    for count in (1, 3):
        image = torch.rand(count, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
        expected = plain_forward(net, image)
        torch.testing.assert_close(found(net, image), expected, rtol=1e-4, atol=1e-4)


def test_several_teachers_as_one() -> None:
    nets = Ensemble([lively("unet-w4", seed=seed) for seed in (0, 1)])
    image = torch.rand(2, 3, SIZE, SIZE)
    found = OnnxForward(nets, SIZE, 1)(nets, image)
    torch.testing.assert_close(found, nets(image), rtol=1e-4, atol=1e-4)
    member_mask = torch.tensor([[False, True], [True, False]])
    found = OnnxForward(nets, SIZE, 1)(nets, image, member_mask)
    expected = torch.stack([nets.nets[1](image)[0], nets.nets[0](image)[1]])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_other_sizes_are_pytorchs() -> None:
    net = lively("unet-w4")
    found = OnnxForward(net, SIZE, 1)
    other = torch.rand(1, 3, 32, 64)
    assert torch.equal(found(net, other), net(other))


def test_a_network_without_a_graph_is_run_by_pytorch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("no symbolic of this operator\nand more")

    monkeypatch.setattr(onnx_teacher, "trace", refuse)
    caplog.set_level(logging.INFO)
    assert forward_on_cpu(lively("unet-w4"), SIZE) is plain_forward
    assert "run by PyTorch: ONNX has no graph of it (no symbolic of this operator)" in caplog.text


def test_a_graph_that_differs_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other, real = lively("unet-w4", seed=1), onnx_teacher.trace
    monkeypatch.setattr(onnx_teacher, "trace", lambda _, path, size: real(other, path, size))
    assert forward_on_cpu(lively("unet-w4"), SIZE) is plain_forward
    assert "its ONNX graph differs" in caplog.text


def distilled(
    root: Path, runs_root: Path, teacher: Path, caplog: pytest.LogCaptureFixture, **more: Any
) -> tuple[float, bool]:
    """Loss of the epoch in training, and whether ONNX Runtime is said to have taught them."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    # Few and small steps of SGD, so that rounding stays rounding: Adam makes a step out of any gradient.
    steps = {"optim.name": "sgd", "optim.lr": 0.001, "trainer.epochs": 1, "kd.kl": 10.0}
    changes = {"teacher.run": str(teacher), **steps, **more}
    folder = training.distill(tiny("phantom", root, runs_root, **changes), progress=False)
    with (folder / "metrics.csv").open(encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    return float(row["train_loss"]), "run by ONNX Runtime" in caplog.text


def test_a_student_learns_the_same_from_it(
    root: Path,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    by_torch, said = distilled(root, tmp_path / "torch", teacher, caplog)
    assert not said, "a graph is traced for a training of few steps"
    monkeypatch.setattr(onnx_teacher, "MIN_STEPS", 1)
    by_onnx, said = distilled(root, tmp_path / "onnx", teacher, caplog)
    assert said
    assert by_onnx == pytest.approx(by_torch, rel=1e-5)
