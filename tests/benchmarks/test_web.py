"""Our students in onnxruntime-web: each operator is there, and what it answers is what ONNX Runtime does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from dermdistill.export import quantization
from dermdistill.models import onnx_graph
from dermdistill.models.build import build_model
from dermdistill.models.lite_unet import STUDENTS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
INSTALLED = BENCHMARKS / "web" / "node_modules" / "onnxruntime-web"


def operators(path: Path) -> set[str]:
    model = onnx.load(str(path))
    assert {(one.domain, one.version) for one in model.opset_import if one.domain != "ai.onnx.ml"} == {
        ("", onnx_graph.OPSET)
    }
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("arch", STUDENTS)
def test_every_operator_is_there(arch: str, tmp_path: Path) -> None:
    known = json.loads((BENCHMARKS / "web" / "operators.json").read_text(encoding="utf-8"))
    assert known["opset"] == onnx_graph.OPSET
    whole, small = tmp_path / "net.onnx", tmp_path / "net.int8.onnx"
    onnx_graph.trace(build_model(arch), whole, 64)
    images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    quantization.quantise_once(whole, small, images, quantization.Step(""))
    assert operators(whole) <= set(known["operators"])
    assert operators(small) <= set(known["operators"])
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(small)


def test_the_list_is_of_the_version_that_is_run() -> None:
    wanted = json.loads((BENCHMARKS / "web" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    known = json.loads((BENCHMARKS / "web" / "operators.json").read_text(encoding="utf-8"))
    assert wanted == {"onnxruntime-web": known["onnxruntime-web"]}
    assert "Conv" in known["operators"]
    assert "ImageDecoder" not in known["operators"]  # younger than opset 17


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("node") is None or not INSTALLED.is_dir(),
    reason="needs node and onnxruntime-web (npm install --prefix benchmarks/web)",
)
def test_answers_in_node_are_those_of_onnx_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import web

    engine, rows = web.compare(["unet-w4", *STUDENTS], [], side=64, rounds=1, repeats=1)
    assert engine.startswith("Node v")
    assert rows["unet-w4"]["ratio"] == 1
    for row in rows.values():
        assert row["ms"] > 0
        assert 0 <= row["difference"] < web.TOLERANCE


def test_a_different_answer_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import web

    web.fill(tmp_path, ["unet-w4"], [], 32, 1, 1)
    image = np.fromfile(tmp_path / "image.f32", np.float32).reshape(1, 3, 32, 32)
    logits = web.open_session(tmp_path / "unet-w4.onnx").run(None, {"image": image})[0].ravel()
    assert web.differences(tmp_path, {"unet-w4": ([], logits)}, 32) == {"unet-w4": 0.0}
    logits[7] += 0.5
    assert web.differences(tmp_path, {"unet-w4": ([], logits)}, 32)["unet-w4"] > web.TOLERANCE
