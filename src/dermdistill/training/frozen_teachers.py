"""Teachers that others made and that teach as they are: an ONNX file, a local transformers model."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dermdistill.artifacts.card import ModelCard, TeacherRecord
from dermdistill.config.settings import TeacherSettings
from dermdistill.core.errors import DataError, MissingExtraError, UsageError, WeightsError
from dermdistill.core.files import hash_file
from dermdistill.inference.foreign_onnx import ForeignOnnx
from dermdistill.inference.onnx_backend import open_session
from dermdistill.models.lesion_net import LesionNet, ModelSpec, Statistics
from dermdistill.models.pretrained import IMAGENET
from dermdistill.models.teacher import logit_of_class
from dermdistill.models.weights import hash_state

logger = logging.getLogger(__name__)

_NOTHING = ((0.0,) * 3, (1.0,) * 3)
"""Mean and standard deviation that leave RGB in [0, 1] as it is."""
_TRANSFORMERS_STRIDE = 32


class OnnxNet(nn.Module):
    """A frozen network run by ONNX Runtime on the CPU; images of another side than its own are resized.

    Args:
        backend: What runs it.
    """

    def __init__(self, backend: ForeignOnnx) -> None:
        super().__init__()
        self.backend = backend

    def __deepcopy__(self, memo: Any) -> OnnxNet:
        return self  # a session cannot be copied, and does not change

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """RGB in [0, 1] [b, 3, s, s] → logits [b, 1, h, w] at its own side."""
        side = self.backend.card.input_size
        if image.shape[-2:] != (side, side):
            image = nn.functional.interpolate(
                image.float(), (side, side), mode="bilinear", align_corners=False, antialias=True
            )
        logits = self.backend.logits(image.float().cpu().numpy())
        return torch.from_numpy(logits).to(image.device)


def open_onnx(settings: TeacherSettings, size: int) -> tuple[LesionNet, TeacherRecord, ModelCard | None]:
    """The teacher in an ONNX file.

    Args:
        settings: Its file, channel, activation, mean and standard deviation.
        size: Side of the student's images in pixels, for a file that leaves its own open.

    Returns:
        The network, what the student's card says of it, and the file's card, if it is a file of ours.

    Raises:
        WeightsError: There is no such file, or its input or output is another.
    """
    path = settings.onnx
    assert path is not None
    backend = ForeignOnnx(
        path,
        default_size=size,
        mean=settings.mean or _NOTHING[0],
        std=settings.std or _NOTHING[1],
        activation=settings.activation or "sigmoid",
        channel=settings.channel,
        threads=torch.get_num_threads(),
    )
    try:
        card = ModelCard.from_metadata(open_session(path, 1).get_modelmeta().custom_metadata_map, str(path))
    except DataError:
        card = None
    net = _wrapped(OnnxNet(backend), _run, 1, _NOTHING, path.name)
    return net, _record(path, net, hash_file(path)), card


def open_transformers(settings: TeacherSettings) -> tuple[LesionNet, TeacherRecord]:
    """The teacher in a folder that transformers' ``save_pretrained`` wrote; nothing in it is run.

    Args:
        settings: Its folder, channel and activation.

    Raises:
        MissingExtraError: transformers is not installed.
        WeightsError: There is no such model, or the folder lacks weights of it.
        UsageError: It has several classes, and none is chosen, or one that it does not have.
    """
    folder = settings.transformers
    assert folder is not None
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError(
            f"The teacher {folder} needs transformers, which is not installed.",
            "the library that saved it",
            "pip install 'dermdistill[transformers]'",
        )
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"{folder} is no folder of a transformers model: it has no config.json.",
            "a local folder, as save_pretrained writes it",
            "Check the path; a model of the hub is saved there first by save_pretrained.",
        )
    model = _load_transformers(folder)
    classes = int(model.config.num_labels)
    channel, most = settings.channel, classes - 1
    if (channel is None and classes > 1) or (channel is not None and channel > most):
        names = ", ".join(f"{i} {name}" for i, name in list(model.config.id2label.items())[:10])
        raise UsageError(
            f"{folder} has {classes} classes, and teacher.channel is {channel}.",
            f"the one that is the lesion, 0 to {most} ({names})",
            "Name it with --teacher.channel.",
        )
    activation = settings.activation or ("softmax" if classes > 1 else "sigmoid")
    run = functools.partial(_run_transformers, channel=channel or 0, activation=activation)
    net = _wrapped(model, run, _TRANSFORMERS_STRIDE, _statistics(folder), folder.resolve().name)
    return net, _record(folder, net, hash_state(model))


def _load_transformers(folder: Path) -> Any:
    from transformers import AutoModelForSemanticSegmentation

    try:
        model, about = AutoModelForSemanticSegmentation.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # transformers and safetensors raise what they like
        raise WeightsError(
            f"{folder} cannot be loaded: {type(error).__name__}: {str(error).strip().splitlines()[0]}",
            "a model for semantic segmentation in model.safetensors, of a kind that transformers knows",
            "Save it again with save_pretrained.",
        ) from error
    lacking = sorted([*about["missing_keys"], *(str(key[0]) for key in about["mismatched_keys"])])
    if lacking:
        raise WeightsError(
            f"{folder} lacks {len(lacking)} of its weights, such as {lacking[0]}: they would be random.",
            "a model whose segmentation head was trained",
            "Save the whole fine-tuned model with save_pretrained.",
        )
    return model.eval()


def _statistics(folder: Path) -> Statistics:
    """Mean and standard deviation of the folder's own preprocessing; ImageNet's where it says none."""
    path = folder / "preprocessor_config.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return told.get("image_mean") or IMAGENET[0], told.get("image_std") or IMAGENET[1]


def _run(net: nn.Module, image: Tensor) -> Tensor:
    logits: Tensor = net(image)
    return logits


def _run_transformers(net: nn.Module, image: Tensor, channel: int, activation: str) -> Tensor:
    """At the model's own resolution, a quarter of the image's for a SegFormer; `LesionNet` resizes."""
    out: Tensor = net(pixel_values=image).logits
    match activation:
        case "softmax":
            return logit_of_class(out, channel)
        case "none":
            return torch.logit(out[:, channel : channel + 1].float(), eps=1e-6)
        case _:
            return out[:, channel : channel + 1]


def _wrapped(net: nn.Module, run: Any, stride: int, statistics: Statistics, name: str) -> LesionNet:
    made = LesionNet(net, run, stride, statistics, ModelSpec(arch=name))
    made.foldable = False
    return made.eval()


def _record(path: Path, net: LesionNet, digest: str) -> TeacherRecord:
    logger.warning(
        "the teacher is %s as it is (SHA-256 %s…). Which images it was trained on is not known: they may be "
        "images of this test split",
        path, digest[:12],
    )  # fmt: skip
    return TeacherRecord(
        run=None, source=path.resolve().name, model=net.spec.to_dict(), weights_sha256=digest
    )
