"""From a network to an ONNX graph: trace it, halve its precision, put its card in.

Traced by torch's TorchScript exporter: it writes opset 17 itself (the newer one writes 18 and its conversion
down fails on DeepLabV3+), folds batch norm, keeps the modules' paths in the nodes' names, by which a
deviating layer can be told, and takes 2 seconds where the newer one takes 30.
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import DermDistillError, UsageError
from dermdistill.core.files import atomic_path
from dermdistill.models.efficientnet_lite import evenly_padded
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.lite_unet import LiteUNet, merge_branches

OPSET = 17
INPUT, OUTPUT = "image", "logits"


class ExportNet(nn.Module):
    """A `LesionNet` without anything that depends on the size at run time: pads and crops are constants.

    Its own network is a copy. One of our students' is evenly padded, its branches are merged, and the image
    is averaged down before it is normalised and not after it: the two commute, and at a quarter of the pixels
    normalising is nearly free (benchmarks/README.md).

    Args:
        net: The network.
        size: Side of the images in pixels; None: any height and width that are multiples of the stride.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: LesionNet, size: int | None) -> None:
        super().__init__()
        self.net, self.size = evenly_padded(merge_branches(net.net)), size
        self.compute_logits = net.compute_logits
        self.register_buffer("mean", net.mean)
        self.register_buffer("std", net.std)
        self.late = isinstance(self.net, LiteUNet)
        if isinstance(self.net, LiteUNet):
            self.net.encoder.register_forward_pre_hook(lambda _, given: (self.normalised(given[0]),))
        cells = max(net.min_cells, -(-size // net.stride)) if size else 0
        self.missing = cells * net.stride - size if size else 0

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Logits of RGB images in [0, 1]."""
        x = F.pad(image, (0, self.missing, 0, self.missing), mode="replicate") if self.missing else image
        logits = self.compute_logits(self.net, x if self.late else self.normalised(x))
        if logits.shape[-2:] != x.shape[-2:]:
            logits = F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., : self.size, : self.size] if self.missing else logits

    def normalised(self, x: Tensor) -> Tensor:
        """Per channel: minus the mean, by the standard deviation."""
        return (x - self.mean) / self.std


def trace(net: LesionNet, path: Path, size: int, *, dynamic_size: bool = False) -> None:
    """Write ``net`` as ONNX, opset 17: ``image`` float32 [n, 3, h, w] → ``logits`` float32 [n, 1, h, w].

    Args:
        net: The network; it is put into evaluation mode, on the CPU.
        path: Where to write.
        size: Side of the images in pixels.
        dynamic_size: Leave height and width open (multiples of the network's stride).

    Raises:
        UsageError: ``dynamic_size``, but ``size`` is no multiple of the stride.
        DermDistillError: This torch has no TorchScript exporter.
    """
    if dynamic_size and (size % net.stride or size < net.min_cells * net.stride):
        raise UsageError(
            f"The input size {size} does not go with --dynamic-size.",
            f"a multiple of the network's stride, {net.stride}, and at least {net.min_cells * net.stride}",
            "Leave --dynamic-size out: a fixed size is padded inside the graph.",
        )
    if "dynamo" not in inspect.signature(torch.onnx.export).parameters:
        raise DermDistillError(
            f"torch {torch.__version__} has no TorchScript exporter.",
            "torch 2.6 to 2.15 (tried)",
            "Install a torch of that range.",
        )
    free = {0: "n"} | ({2: "height", 3: "width"} if dynamic_size else {})
    wrapped = ExportNet(net.cpu().eval(), None if dynamic_size else size).eval()
    with atomic_path(path) as temporary:
        with warnings.catch_warnings():
            # Deprecation of the exporter, and "the trace might not generalise", which the parity gate checks.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                wrapped,
                (torch.rand(2, 3, size, size),),
                str(temporary),
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: free, OUTPUT: free},
            )
        model = onnx.load(str(temporary))
        _drop_identities(model)
        _set_shape(model, None if dynamic_size else size)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(temporary))


def to_half(source: Path, target: Path) -> None:
    """Weights and arithmetic in float16; input and output stay float32.

    `onnxruntime.transformers.float16` (MIT) does it: it comes with onnxruntime and is kept up with it.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with warnings.catch_warnings():
        # It tells of each weight too small for float16; what that does, the parity gate measures.
        warnings.simplefilter("ignore")
        model = convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
    OnnxModel(model).topological_sort()  # the converter appends its casts at the end
    onnx.checker.check_model(model, full_check=True)
    with atomic_path(target) as temporary:
        onnx.save(model, str(temporary))


def write_card(path: Path, card: ModelCard) -> None:
    """Put the card into an ONNX file's metadata (another card there is replaced), atomically."""
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, card.to_metadata())
    model.producer_name, model.producer_version = "dermdistill", card.versions.get("dermdistill", "")
    onnx.checker.check_model(model, full_check=True)
    with atomic_path(path) as temporary:
        onnx.save(model, str(temporary))


def _drop_identities(model: onnx.ModelProto) -> None:
    """Let weights that are equal stand for each other directly: the tracer puts Identity nodes between."""
    weights = {weight.name for weight in model.graph.initializer}
    same = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity"}
    same = {name: source for name, source in same.items() if source in weights}
    kept = [node for node in model.graph.node if node.output[0] not in same]
    for node in kept:
        node.input[:] = [same.get(name, name) for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _set_shape(model: onnx.ModelProto, size: int | None) -> None:
    """Say the shapes of input and output as they are (the tracer gives a crop's sides made-up names)."""
    for value, channels in ((model.graph.input[0], 3), (model.graph.output[0], 1)):
        sides = [size, size] if size else ["height", "width"]
        shape = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["n", channels, *sides])
        value.type.CopyFrom(shape)
