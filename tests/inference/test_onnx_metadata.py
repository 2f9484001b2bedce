"""The card in an ONNX file is changed without the onnx package, and nothing else in it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from dermdistill.core.errors import WeightsError
from dermdistill.inference.backends import SHIPPED
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.inference.onnx_metadata import with_card, with_shifted_biases


def test_another_card_and_the_same_network(tmp_path):
    before = OnnxBackend(SHIPPED, 1)
    card = before.card.model_copy(update={"threshold": 0.625, "recipe": "ours é"})
    (tmp_path / "ours.onnx").write_bytes(with_card(SHIPPED.read_bytes(), card))
    after = OnnxBackend(tmp_path / "ours.onnx", 1)
    assert after.card == card
    image = np.random.default_rng(0).random((2, 3, card.input_size, card.input_size), dtype=np.float32)
    np.testing.assert_array_equal(after(image), before(image))


def test_the_onnx_package_reads_it_and_finds_one_entry_a_field():
    onnx = pytest.importorskip("onnx")
    content = SHIPPED.read_bytes()
    old = onnx.load_from_string(content)
    extra = old.metadata_props.add()
    extra.key, extra.value = "made by", "somebody"
    card = OnnxBackend(SHIPPED, 1).card
    new = onnx.load_from_string(with_card(old.SerializeToString(), card.model_copy(update={"seed": 7})))
    onnx.checker.check_model(new)
    assert new.graph == old.graph
    keys = [entry.key for entry in new.metadata_props]
    assert {entry.key for entry in old.metadata_props} <= set(keys)
    assert len(keys) == len(set(keys))


def test_changing_it_twice_is_changing_it_once():
    card = OnnxBackend(SHIPPED, 1).card
    other = card.model_copy(update={"threshold": 0.3})
    once = with_card(SHIPPED.read_bytes(), card)
    assert with_card(with_card(once, other), card) == once
    session = onnxruntime.InferenceSession(once)
    assert session.get_modelmeta().custom_metadata_map.keys() == card.to_metadata().keys()


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_file_that_is_not_whole_is_refused(cut):
    card = OnnxBackend(SHIPPED, 1).card
    with pytest.raises(WeightsError, match="not a whole ONNX model"):
        with_card(SHIPPED.read_bytes()[:-cut], card)


@pytest.mark.parametrize("content", [b"\x00\x00", b"\xff" * 12, b"\x0b", b"\x0a\x05ab"])
def test_what_is_no_message_is_refused(content):
    with pytest.raises(WeightsError):
        with_card(content, OnnxBackend(SHIPPED, 1).card)


def test_shifted_biases_are_those_of_the_onnx_package():
    onnx = pytest.importorskip("onnx")
    content = SHIPPED.read_bytes()
    before = {
        one.name: onnx.numpy_helper.to_array(one) for one in onnx.load_from_string(content).graph.initializer
    }
    shift = np.linspace(-1, 1, before["net.lateral.1.bias"].size).tolist()
    changed = with_shifted_biases(content, {"net.lateral.1.bias": shift})
    assert len(changed) == len(content)
    after = {
        one.name: onnx.numpy_helper.to_array(one) for one in onnx.load_from_string(changed).graph.initializer
    }
    expected = before["net.lateral.1.bias"] + np.asarray(shift, np.float32)
    np.testing.assert_array_equal(after.pop("net.lateral.1.bias"), expected)
    assert all(np.array_equal(value, before[name]) for name, value in after.items())


@pytest.mark.parametrize("shifts", [{"net.nothing.bias": [1.0]}, {"net.head.bias": [1.0]}])
def test_biases_that_are_not_there_are_named(shifts):
    with pytest.raises(WeightsError, match=next(iter(shifts))):
        with_shifted_biases(SHIPPED.read_bytes(), shifts)
