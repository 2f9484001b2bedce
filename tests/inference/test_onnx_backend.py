"""The torch-free backend: equal to torch, and clear about files that it cannot use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from dermdistill.artifacts.card import ModelCard
from dermdistill.cli import main
from dermdistill.core.errors import MissingExtraError, UsageError, WeightsError
from dermdistill.data.prepare.phantom import make_phantom
from dermdistill.evaluation.open_any import open_model as open_any
from dermdistill.inference.backends import SHIPPED, open_model
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.inference.predictor import Predictor
from dermdistill.models.torch_backend import TorchBackend, load_run


def batch(count: int = 3) -> np.ndarray:
    images = np.stack([make_phantom(9, index, 64).image for index in range(count)])
    return images.transpose(0, 3, 1, 2).astype(np.float32) / 255


def test_the_card_and_the_probabilities_are_those_of_torch(tiny_run: Path, tiny_onnx: Path) -> None:
    backend = OnnxBackend(tiny_onnx, threads=1)
    net, card = load_run(tiny_run)
    assert backend.card == card
    for images in (batch(3), batch(1)):
        prob = backend(images)
        assert prob.dtype == np.float32
        assert prob.shape == (len(images), 1, 64, 64)
        np.testing.assert_allclose(prob, TorchBackend(net, "cpu")(images), atol=1e-5)
        assert 0 < prob.min() < prob.max() < 1


def test_a_predictor_takes_the_file_the_run_and_the_weights(tiny_run: Path, tiny_onnx: Path) -> None:
    phantom = make_phantom(9, 5, 96)
    found = [
        Predictor(model, threads=1)(phantom.image)
        for model in (tiny_onnx, str(tiny_run), tiny_run / "best_student_model.pth")
    ]
    for other in found[1:]:
        np.testing.assert_allclose(found[0].prob, other.prob, atol=1e-5)
        assert np.mean(found[0].mask != other.mask) < 1e-3
        assert other.model == found[0].model


def test_extreme_logits_are_probabilities(tiny_onnx: Path) -> None:
    from dermdistill.inference.onnx_backend import sigmoid

    logits = np.array([-3e38, -100, -1, 0, 1, 100, 3e38], np.float32)
    with np.errstate(all="raise", under="ignore"):
        prob = sigmoid(logits)
    np.testing.assert_allclose(prob, [0, 0, 0.26894143, 0.5, 0.7310586, 1, 1], atol=1e-7)
    assert prob.dtype == np.float32


def changed(source: Path, path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(source)
    change(model)
    onnx.save(model, path)
    return path


def test_files_that_cannot_be_used_are_refused_with_reasons(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        OnnxBackend(tmp_path / "absent.onnx")
    for name, content in (
        ("empty", b""),
        ("text", b"no model at all"),
        ("cut", tiny_onnx.read_bytes()[:999]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="not an ONNX model"):
            OnnxBackend(tmp_path / name)

    def no_card(model: onnx.ModelProto) -> None:
        del model.metadata_props[:]

    with pytest.raises(WeightsError, match="no model card"):
        OnnxBackend(changed(tiny_onnx, tmp_path / "bare.onnx", no_card))

    def other_input(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 32

    with pytest.raises(WeightsError, match=r"has the input image tensor\(float\) \['n', 3, 32, 64\]"):
        OnnxBackend(changed(tiny_onnx, tmp_path / "other.onnx", other_input))

    def fixed_batch(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(WeightsError, match="the batch dynamic"):
        OnnxBackend(changed(tiny_onnx, tmp_path / "fixed.onnx", fixed_batch))


def network(path: Path, card: ModelCard, node: onnx.NodeProto, *values: onnx.TensorProto) -> Path:
    """A file whose logits are one operation on the mean over RGB."""
    side = card.input_size
    mean = onnx.helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1], keepdims=1)
    graph = onnx.helper.make_graph(
        [mean, node],
        "one",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, side, side])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 1, "h", "w"])],
        values,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    for key, value in card.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_refused(
    value: float, tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = OnnxBackend(tiny_onnx, threads=1).card
    constant = onnx.numpy_helper.from_array(np.float32(value), "k")
    node = onnx.helper.make_node("Add", ["mean", "k"], ["logits"])
    path = network(tmp_path / "bad.onnx", card, node, constant)
    with pytest.raises(WeightsError, match="not finite"):
        OnnxBackend(path, threads=1)(batch(2))
    Image.new("RGB", (40, 30)).save(tmp_path / "one.png")
    command = ["predict", str(tmp_path / "one.png"), "--model", str(path), "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert "not finite" in capsys.readouterr().err


def test_an_empty_batch_and_outputs_of_another_shape(tiny_onnx: Path, tmp_path: Path) -> None:
    backend = OnnxBackend(tiny_onnx, threads=1)
    assert backend(batch(1)[:0]).shape == (0, 1, 64, 64)
    parts = [
        onnx.numpy_helper.from_array(np.array([v], np.int64), n) for n, v in (("a", 0), ("b", -9), ("c", 2))
    ]
    node = onnx.helper.make_node("Slice", ["mean", "a", "b", "c"], ["logits"])
    with pytest.raises(WeightsError, match=r"has the output|returns \[2, 1, 55, 64\]"):
        OnnxBackend(network(tmp_path / "cut.onnx", backend.card, node, *parts), threads=1)(batch(2))


def test_a_network_too_large_for_the_machine_is_told(tiny_onnx: Path, tmp_path: Path) -> None:
    card = OnnxBackend(tiny_onnx, threads=1).card
    times = onnx.numpy_helper.from_array(np.array([1, 100_000, 10_000, 1], np.int64), "k")
    node = onnx.helper.make_node("Tile", ["mean", "k"], ["logits"])
    with pytest.raises(WeightsError, match=r"cannot be computed|has the output"):
        OnnxBackend(network(tmp_path / "huge.onnx", card, node, times), threads=1)(batch(2))


def test_a_card_out_of_range_is_not_taken_for_another_makers_file(tiny_onnx: Path, tmp_path: Path) -> None:
    def no_threshold(model: onnx.ModelProto) -> None:
        for entry in model.metadata_props:
            if entry.key == "dermdistill.threshold":
                entry.value = "1.5"

    path = changed(tiny_onnx, tmp_path / "wrong.onnx", no_threshold)
    with pytest.raises(WeightsError, match=r"threshold.*found 1\.5"):
        OnnxBackend(path)
    with pytest.raises(WeightsError, match=r"threshold.*found 1\.5"):
        open_any(path)


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(WeightsError, match="neither a file nor a folder"):
        open_model(tmp_path / "pipe.onnx")


def test_weights_in_other_files_are_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_onnx)
    onnx.save_model(
        model, tmp_path / "split.onnx", save_as_external_data=True, location="w.bin", size_threshold=16
    )
    assert (tmp_path / "w.bin").is_file()
    with pytest.raises(WeightsError, match="weights in other files"):
        OnnxBackend(tmp_path / "split.onnx")


def test_models_that_are_not_there(tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        Predictor(tmp_path / "nothing")
    for make in (lambda: Predictor(tiny_run, threads=0), lambda: OnnxBackend(tmp_path, threads=0)):
        with pytest.raises(UsageError, match="0 threads"):
            make()
    monkeypatch.setattr("dermdistill.inference.backends.SHIPPED", tmp_path / "student.onnx")
    with pytest.raises(WeightsError, match="no student in it"):
        Predictor()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="torch"):
        Predictor(tiny_run)


def test_the_shipped_student_opens_and_is_small() -> None:
    if not SHIPPED.is_file():
        pytest.skip("no student is shipped in this tree")
    card, _ = open_model()
    assert isinstance(card, ModelCard)
    assert card.role == "student"
    assert SHIPPED.stat().st_size < 2_000_000


def test_mirror_images_are_averaged(tiny_onnx: Path) -> None:
    image = make_phantom(9, 2, 64).image
    plain, mean = Predictor(tiny_onnx, threads=1), Predictor(tiny_onnx, threads=1, tta=True)
    views = []
    for axes in ((), (0,), (1,), (0, 1)):
        views.append(np.flip(plain(np.ascontiguousarray(np.flip(image, axes))).prob, axes))
    np.testing.assert_allclose(mean(image).prob, np.mean(views, axis=0), atol=1e-6)
    assert np.abs(mean(image).prob - plain(image).prob).max() > 1e-4
