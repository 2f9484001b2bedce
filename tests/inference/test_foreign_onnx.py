"""Another maker's ONNX file: what it is told, what it gives, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dermdistill.cli import main
from dermdistill.core.errors import DataError, UsageError, WeightsError
from dermdistill.imaging import encode_jpeg, write_png
from dermdistill.inference.foreign_onnx import ForeignOnnx


def write(
    path: Path, *, channels: int = 1, batch: int | str = "n", side: int | str = 16, sigmoid: bool = False
) -> Path:
    """A network whose logit is the darkness of the mean over RGB (or of each of the first channels)."""
    weight = np.zeros((channels, 3, 1, 1), np.float32)
    weight[:] = -10.0 / 3
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"])]
    if sigmoid:
        nodes.append(helper.make_node("Sigmoid", ["y"], ["z"]))
    out = "z" if sigmoid else "y"
    graph = helper.make_graph(
        nodes,
        "dark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [batch, channels, side, side])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, weight.shape, weight.ravel()),
            helper.make_tensor("b", TensorProto.FLOAT, [channels], [5.0] * channels),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def expected(batch: np.ndarray) -> np.ndarray:
    logits = 5 - 10 * batch.mean(axis=1, keepdims=True)
    return 1 / (1 + np.exp(-logits))


def test_probabilities_are_the_networks_with_one_or_many_at_once(tmp_path: Path) -> None:
    batch = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    for name, options in (("free", {}), ("one", {"batch": 1})):
        backend = ForeignOnnx(write(tmp_path / f"{name}.onnx", **options))  # type: ignore[arg-type]
        assert backend.card.input_size == 16
        np.testing.assert_allclose(backend(batch), expected(batch), atol=1e-6)
    given = ForeignOnnx(write(tmp_path / "p.onnx", sigmoid=True), activation="none")
    np.testing.assert_allclose(given(batch), expected(batch), atol=1e-6)
    scaled = ForeignOnnx(tmp_path / "free.onnx", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    np.testing.assert_allclose(scaled(batch), expected((batch - 0.5) / 0.2), atol=1e-6)


def test_the_size_is_told_where_the_file_leaves_it_open(tmp_path: Path) -> None:
    path = write(tmp_path / "open.onnx", side="s")
    with pytest.raises(UsageError, match="--input-size"):
        ForeignOnnx(path)
    assert ForeignOnnx(path, input_size=32)(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 1, 32, 32)
    with pytest.raises(UsageError, match="16×16"):
        ForeignOnnx(write(tmp_path / "fixed.onnx"), input_size=32)


def test_several_channels_fixed_batches_and_wrong_activations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="one channel"):
        ForeignOnnx(write(tmp_path / "two.onnx", channels=2))
    with pytest.raises(WeightsError, match="free, or 1"):
        ForeignOnnx(write(tmp_path / "four.onnx", batch=4))
    logits = ForeignOnnx(write(tmp_path / "logits.onnx"), activation="none")
    with pytest.raises(WeightsError, match="--activation sigmoid"):
        logits(np.zeros((1, 3, 16, 16), np.float32))


def test_one_of_several_channels(tmp_path: Path) -> None:
    """As a logit of its own, or against the others; each channel here has the same logit."""
    path = write(tmp_path / "three.onnx", channels=3)
    batch = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    np.testing.assert_allclose(ForeignOnnx(path, channel=2)(batch), expected(batch), atol=1e-6)
    compete = ForeignOnnx(path, channel=1, activation="softmax")
    np.testing.assert_allclose(compete(batch), np.full((2, 1, 16, 16), 1 / 3), atol=1e-6)
    with pytest.raises(WeightsError, match="a channel 3"):
        ForeignOnnx(path, channel=3)


def test_its_logits(tmp_path: Path) -> None:
    batch = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    logits = 5 - 10 * batch.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(ForeignOnnx(write(tmp_path / "a.onnx")).logits(batch), logits, atol=1e-5)
    given = ForeignOnnx(write(tmp_path / "p.onnx", sigmoid=True), activation="none")
    np.testing.assert_allclose(given.logits(batch), logits, atol=1e-3)
    assert ForeignOnnx(write(tmp_path / "open.onnx", side="s"), default_size=24).card.input_size == 24


def test_it_is_scored_like_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for i in range(6):
        mask = np.zeros((32, 32), np.uint8)
        mask[4:20, 4 : 20 + i] = 1
        picture = np.where(mask[..., None], 20, 235).astype(np.uint8) * np.ones(3, np.uint8)
        (tmp_path / "images" / f"{i}.jpg").write_bytes(encode_jpeg(picture))
        write_png(tmp_path / "masks" / f"{i}.png", mask)
    write(tmp_path / "dark.onnx", side="s")
    words = ["evaluate", "dark.onnx", "--images", "images", "--masks", "masks", "--out", "e"]
    assert main([*words, "--input-size", "32"]) == 0
    text = capsys.readouterr().out
    assert "dark on" in text
    dice = float(next(line for line in text.splitlines() if " Dice " in line).split()[1])
    assert dice > 95
    assert main(words) == 2
    assert "--input-size" in capsys.readouterr().err
    write(tmp_path / "dark.onnx", channels=2)
    assert main(words) == 1
    assert "one channel" in capsys.readouterr().err


def test_an_empty_batch_infinite_logits_and_values_out_of_range(tmp_path: Path) -> None:
    for name, first in (("free", "n"), ("one", 1)):
        backend = ForeignOnnx(write(tmp_path / f"{name}.onnx", batch=first))  # type: ignore[arg-type]
        assert backend(np.zeros((0, 3, 16, 16), np.float32)).shape == (0, 1, 16, 16)
        with pytest.raises(WeightsError, match="not finite"):
            backend(np.full((1, 3, 16, 16), 3e38, np.float32))
    for wrong in ({"std": (0, 1, 1)}, {"mean": (123.7, 116.3, 103.5)}, {"mean": (float("nan"), 0, 0)}):
        with pytest.raises(DataError, match=r"std|mean"):
            ForeignOnnx(tmp_path / "free.onnx", **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="input_size"):
        ForeignOnnx(write(tmp_path / "open.onnx", side="s"), input_size=10**6)
