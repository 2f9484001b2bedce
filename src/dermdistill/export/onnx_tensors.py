"""What an ONNX file computes on its way: its tensors by name, the modules behind them, what they cost."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from dermdistill.inference.onnx_backend import open_session

Activations = dict[str, NDArray[np.float32]]
"""Tensors by name, in the order in which they are computed."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
_AROUND_WEIGHTS = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity")


def activations(path: Path, image: NDArray[np.float32]) -> Activations:
    """Compute every float tensor of a file; nothing is fused.

    Args:
        path: ONNX file.
        image: Its input, float32 [n, 3, s, s].

    Returns:
        The tensors in order, the output last.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    known = {value.name: value for value in model.graph.value_info}
    last = model.graph.output[0].name
    names = [
        name
        for node in model.graph.node
        for name in node.output
        if name in known and known[name].type.tensor_type.elem_type in _FLOATS
    ]
    model.graph.output.extend(known[name] for name in names)
    session = open_session(model.SerializeToString(), optimize=False)
    values = session.run([*names, last], {model.graph.input[0].name: image})
    return {name: value.astype(np.float32) for name, value in zip([*names, last], values, strict=True)}


def module_path(tensor: str) -> str:
    """The module inside `LesionNet.net` of a tensor's name: ``/net/up.1/up.1.0/Relu_output_0`` → ``up.1.0``.

    The exporter writes a path of scopes, and repeats a container's name in those of its children.
    """
    scopes: list[str] = []
    for scope in tensor.removeprefix("/net/").removeprefix("/").split("/")[:-1]:
        if scopes and scope.startswith(f"{scopes[-1]}."):
            scopes[-1] = scope
        else:
            scopes.append(scope)
    return ".".join(scopes)


def graph_cost(path: Path, size: int) -> tuple[int, int]:
    """Count the parameters of a graph, quantised or not, and the MACs of one image.

    Parameters are the values of the weights and biases of convolutions and matrix products; MACs are counted
    as `models.complexity.count_macs` does. One image is computed to see every tensor's shape.

    Args:
        path: ONNX file.
        size: Side of the image in pixels.

    Returns:
        Parameters, and MACs.
    """
    model = onnx.load(str(path))
    shapes = {model.graph.input[0].name: (1, 3, size, size)} | {
        name: value.shape
        for name, value in activations(path, np.zeros((1, 3, size, size), np.float32)).items()
    }
    weights = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    behind = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in _AROUND_WEIGHTS}

    def weight(name: str) -> tuple[int, ...] | None:
        while name in behind and name not in weights:
            name = behind[name]
        return weights.get(name)

    parameters, macs = 0, 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        held = [shape for name in node.input[1:] if (shape := weight(name)) is not None]
        parameters += sum(map(math.prod, held))
        if not held:
            continue  # a product of two activations
        match node.op_type:
            case "Conv":
                macs += math.prod(shapes[node.output[0]]) * math.prod(held[0][1:])
            case "ConvTranspose":
                macs += math.prod(shapes[node.input[0]]) * math.prod(held[0][1:])
            case _:
                macs += math.prod(shapes[node.input[0]][:-1]) * math.prod(held[0])
    return parameters, macs
