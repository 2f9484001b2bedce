"""Other formats than ONNX, each through its maker's own library, which is asked for only when it is used.

- ``openvino``: OpenVINO IR (xml + bin), from the ONNX file; compared in float32 (its default on some CPUs is
  bf16). Apache-2.0, ``pip install 'dermdistill[openvino]'``.
- ``executorch``: a ``.pte`` program for phones (XNNPACK), from PyTorch. BSD,
  ``pip install 'dermdistill[executorch]'``.
- ``coreml``: an ``.mlpackage`` for Apple devices, from PyTorch. It can be written anywhere, but run, and so
  compared, on macOS only. BSD, ``pip install 'dermdistill[coreml]'``.
- ``monai``: a MONAI bundle with the network as TorchScript (`monai_bundle`). Apache-2.0,
  ``pip install 'dermdistill[monai]'``.
"""

from __future__ import annotations

import importlib.util
import platform
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import DermDistillError, MissingExtraError
from dermdistill.export import monai_bundle
from dermdistill.export.parity import Logits, Run
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.onnx_graph import INPUT, OUTPUT, ExportNet

Target = Literal["openvino", "executorch", "coreml", "monai"]
TARGETS: tuple[Target, ...] = get_args(Target)
PRECISION = {"openvino": "fp32", "executorch": "fp32", "coreml": "fp16", "monai": "fp32"}
"""Whose tolerance holds: Core ML computes in float16."""
_PACKAGES = {"openvino": "openvino", "executorch": "executorch", "coreml": "coremltools", "monai": "monai"}


def check_installed(target: Target) -> None:
    """Check that a target's library is there, before anything is made.

    Args:
        target: Which one.

    Raises:
        MissingExtraError: It is not installed.
    """
    package = _PACKAGES[target]
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(
            f"The target {target} needs {package}, which is not installed.",
            f"the extra {target} of dermdistill",
            f"pip install 'dermdistill[{target}]'",
        )


def convert(
    target: Target, net: LesionNet, card: ModelCard, onnx_file: Path, folder: Path
) -> tuple[Path, Run]:
    """Write a network in another format.

    Args:
        target: Which one.
        net: The network.
        card: Its card.
        onnx_file: The same as float32 ONNX.
        folder: Where to write.

    Returns:
        What was written, and how to run it.

    Raises:
        DermDistillError: It cannot be compared on this system.
    """
    size = card.input_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries warn about themselves; parity is what is checked
        match target:
            case "openvino":
                return _openvino(onnx_file, folder)
            case "executorch":
                return _executorch(net, folder / f"{onnx_file.stem}.pte", size)
            case "coreml":
                return _coreml(net, folder / f"{onnx_file.stem}.mlpackage", size)
            case "monai":
                return _monai(net, card, folder / "monai")


def _openvino(onnx_file: Path, folder: Path) -> tuple[Path, Run]:
    import openvino

    path = folder / "openvino" / f"{onnx_file.stem}.xml"
    model = openvino.convert_model(str(onnx_file))
    openvino.save_model(model, str(path), compress_to_fp16=False)
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(batch: NDArray[np.float32]) -> Logits:
        return np.asarray(compiled(batch)[0])

    return path.parent, run


def _executorch(net: LesionNet, path: Path, size: int) -> tuple[Path, Run]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    example = (torch.rand(1, 3, size, size),)
    program = torch.export.export(ExportNet(net, size).eval(), example)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    path.write_bytes(lowered.buffer)
    method = Runtime.get().load_program(path).load_method("forward")

    def run(batch: NDArray[np.float32]) -> Logits:
        one = [method.execute([torch.from_numpy(image[None])])[0].numpy().copy() for image in batch]
        return np.concatenate(one)

    return path, run


def _coreml(net: LesionNet, path: Path, size: int) -> tuple[Path, Run]:
    import coremltools

    if platform.system() != "Darwin":
        raise DermDistillError(
            f"Core ML cannot be compared with PyTorch on {platform.system()}.",
            "macOS, where it can be run",
            "Export there, or leave coreml out of --targets.",
        )
    example = torch.rand(1, 3, size, size)
    traced = torch.jit.trace(ExportNet(net, size).eval(), example)
    model: Any = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType(name=INPUT, shape=example.shape)],
        outputs=[coremltools.TensorType(name=OUTPUT)],
        convert_to="mlprogram",
    )
    model.save(str(path))

    def run(batch: NDArray[np.float32]) -> Logits:
        return np.concatenate([model.predict({INPUT: image[None]})[OUTPUT] for image in batch])

    return path, run


def _monai(net: LesionNet, card: ModelCard, folder: Path) -> tuple[Path, Run]:
    network = monai_bundle.write_bundle(net, card, folder)

    @torch.inference_mode()
    def run(batch: NDArray[np.float32]) -> Logits:
        logits: Logits = network(torch.from_numpy(batch)).numpy()
        return logits

    return folder, run
