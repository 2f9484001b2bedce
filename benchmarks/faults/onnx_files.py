"""ONNX files that are damaged, hostile or of another network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from benchmarks.faults.material import Material
from benchmarks.faults.trial import PATIENCE, Trial
from onnx import TensorProto, helper

Rng = np.random.Generator


def _graph(*nodes: onnx.NodeProto, out: tuple[Any, ...] = ("n", 1, 192, 192), **more: Any) -> onnx.ModelProto:
    """A network of the nodes from ``image`` to ``logits``."""
    kind = more.pop("kind", TensorProto.FLOAT)
    given = helper.make_tensor_value_info("image", more.pop("given", TensorProto.FLOAT), ("n", 3, 192, 192))
    graph = helper.make_graph(
        nodes, "g", [given], [helper.make_tensor_value_info("logits", kind, out)], **more
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _node(op: str, given: tuple[str, ...], made: str, **more: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(given), [made], **more)


def _constant(name: str, values: Any, kind: Any = np.int64) -> onnx.NodeProto:
    return _node("Constant", (), name, value=onnx.numpy_helper.from_array(np.asarray(values, kind)))


def _scaled(value: float) -> onnx.ModelProto:
    return _graph(
        _node("ReduceMean", ("image", "axes"), "mean"), _constant("factor", value, np.float32),
        _node("Mul", ("mean", "factor"), "logits"), initializer=[_axes()],
    )  # fmt: skip


def _axes() -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")


def _shaped(*shape: int) -> onnx.ModelProto:
    return _graph(
        _constant("shape", shape),
        _node("ConstantOfShape", ("shape",), "logits"),
        out=tuple("abcdef"[: len(shape)]),
    )


def _cast(kind: int, given: int = TensorProto.FLOAT) -> onnx.ModelProto:
    return _graph(_node("Cast", ("image",), "logits", to=kind), kind=kind, given=given)


def _onnx_cases(good: bytes) -> dict[str, Callable[[Rng], bytes]]:
    """By name: what makes the file's bytes."""
    zero = _scaled(1.0)

    def made(model: onnx.ModelProto) -> Callable[[Rng], bytes]:
        return lambda rng: model.SerializeToString()

    def flipped(rng: Rng) -> bytes:
        content = bytearray(good)
        for at in rng.integers(0, len(content), int(rng.integers(1, 200))):
            content[at] ^= 255
        return bytes(content)

    def flipped_head(rng: Rng) -> bytes:
        content = bytearray(good)
        for at in rng.integers(0, 400, 8):
            content[at] = int(rng.integers(0, 256))
        return bytes(content)

    def versions(ir: int, opset: int) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(zero)
        model.ir_version, model.opset_import[0].version = ir, opset
        return model

    def external(location: str) -> onnx.ModelProto:
        model = onnx.load_from_string(good)
        tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        return model

    return {
        **{f"cut {i}": lambda rng: good[: int(len(good) * rng.uniform(0.01, 0.99))] for i in range(4)},
        **{f"flipped {i}": flipped for i in range(4)},
        **{f"flipped head {i}": flipped_head for i in range(4)},
        "empty": lambda rng: b"",
        "text": lambda rng: b"version https://git-lfs.github.com/spec/v1\n",
        "zeros": lambda rng: bytes(100_000),
        "noise": lambda rng: rng.bytes(100_000),
        "NaN": made(_scaled(float("nan"))),
        "infinite": made(_scaled(float("inf"))),
        "rank 2": made(_shaped(1, 192)),
        "rank 6": made(_shaped(1, 1, 1, 1, 192, 192)),
        "another size": made(_shaped(1, 1, 7, 5)),
        "no pixels": made(_shaped(1, 1, 0, 0)),
        "another batch": made(_shaped(5, 1, 192, 192)),
        "three classes": made(_shaped(1, 3, 192, 192)),
        "100 GiB": made(_shaped(1, 1, 160_000, 160_000)),
        "negative shape": made(_shaped(1, 1, -5, 192)),
        "whole numbers": made(_cast(TensorProto.INT64)),
        "text output": made(_cast(TensorProto.STRING)),
        "text input": made(_cast(TensorProto.FLOAT, TensorProto.STRING)),
        "unknown operation": made(_graph(_node("Nonsense", ("image",), "logits"))),
        "another domain": made(_graph(_node("Evil", ("image",), "logits", domain="evil"))),
        "circle": made(_graph(_node("Add", ("image", "logits"), "logits"))),
        "future": made(versions(99, 99)),
        "past": made(versions(1, 1)),
        "outside data": made(external("../../../../../../etc/hostname")),
        "absent data": made(external("absent.bin")),
    }  # fmt: skip


def bad_onnx(material: Material, work: Path, rng: Rng, count: int) -> Iterator[Trial]:
    """Files of other networks, with and without our card, given to ``predict`` for two pictures."""
    good = material.onnx.read_bytes()
    card = onnx.load_from_string(good).metadata_props
    cases = list(_onnx_cases(good).items())
    for number in range(count):
        name, make = cases[number % len(cases)]
        folder = work / f"{number}"
        folder.mkdir(parents=True)
        path = folder / "model.onnx"
        path.write_bytes(_with_card(make(rng), card))
        shutil.copy(material.images[0], folder / "a.jpg")
        shutil.copy(material.images[1], folder / "b.jpg")
        words = ("predict", folder / "a.jpg", folder / "b.jpg", "--model", path, "--out", folder / "out")
        done = material.product.run(*words, cwd=folder, patience=2 * PATIENCE)
        lost = done.problems()
        if not done.code and not name.startswith(("flipped", "past")):
            lost.append("used without a word")
        yield Trial("ONNX files", name, tuple(lost))


def _with_card(content: bytes, card: Any) -> bytes:
    try:
        model = onnx.load_from_string(content)
    except Exception:
        return content
    if not model.metadata_props:
        model.metadata_props.extend(card)
    return model.SerializeToString()
