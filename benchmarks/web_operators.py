"""Which operators of opset 17 onnxruntime-web's WebAssembly build has: ONNX's own examples are opened by it.

    npm install --prefix benchmarks/web
    python benchmarks/web_operators.py          writes benchmarks/web/operators.json

An operator is listed where at least one of the one-node examples that the package onnx brings, and that is
valid at opset 17, can be opened. tests/test_web.py holds the exported students against the list.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import onnx
from onnx.backend.test.case.node import collect_testcases
from web import HERE, in_node, version

from dermdistill.core.errors import DermDistillError
from dermdistill.core.files import write_json
from dermdistill.models import onnx_graph

OPERATORS = HERE / "operators.json"


def probe() -> list[str]:
    """Their names, in order."""
    with tempfile.TemporaryDirectory() as name:
        folder, kinds = Path(name), {}
        for number, case in enumerate(collect_testcases(None)):
            model = case.model
            if model is None or len(model.graph.node) != 1 or model.opset_import[0].domain:
                continue
            model.ir_version = 8
            model.opset_import[0].version = onnx_graph.OPSET
            try:
                onnx.checker.check_model(model)
            except onnx.checker.ValidationError:
                continue  # an example of a newer signature
            kinds[f"{number}.onnx"] = model.graph.node[0].op_type
            onnx.save(model, str(folder / f"{number}.onnx"))
        in_node(folder, "--probe")
        opened = json.loads((folder / "opened.json").read_text(encoding="utf-8"))
    return sorted({kinds[file] for file in opened})


def main() -> int:
    """Probe and write."""
    try:
        found = {"onnxruntime-web": version(), "opset": onnx_graph.OPSET, "operators": probe()}
    except DermDistillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_json(OPERATORS, found)
    print(f"{OPERATORS}: {len(found['operators'])} operators")
    return 0


if __name__ == "__main__":
    sys.exit(main())
