"""Another maker's ONNX file as a backend: what its card would say is told by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dermdistill.artifacts.card import ModelCard, make_card
from dermdistill.core.errors import UsageError, WeightsError
from dermdistill.core.files import hash_file
from dermdistill.inference.onnx_backend import open_session, run_session, sigmoid

Activation = Literal["sigmoid", "softmax", "none"]
_SMALLEST = 1e-6
"""Of a probability and of its rest, before they are made a logit."""


class ForeignOnnx:
    """Probabilities from an ONNX file of one input [n, 3, h, w] and one output [n, k, h, w] or [n, h, w].

    Args:
        path: The file.
        input_size: Side of the square that pictures are resized to; None: as the file says.
        default_size: The same, where the file leaves it open.
        mean: Per channel of RGB in [0, 1]; it is taken off.
        std: Likewise; what is left is divided by it.
        activation: Of the file's output: sigmoid where each channel is a logit of its own, softmax where the
            channels' logits compete, none where they are probabilities.
        channel: Which channel is the lesion's, from 0; None: there is one.
        threads: For the network.

    Attributes:
        card: What was told, as a model card.

    Raises:
        WeightsError: There is no such file, or its input or output is another.
        UsageError: The input size is not told, and the file does not fix it.
        DataError: Size, mean or std are out of their ranges (see `ModelCard`).
    """

    def __init__(
        self,
        path: Path,
        *,
        input_size: int | None = None,
        default_size: int | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        activation: Activation = "sigmoid",
        channel: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._session = open_session(path, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        takes, gives = _shape(inputs), _shape(outputs)
        one_by_one = len(takes) == 4 and takes[0] == 1
        if len(inputs) != 1 or len(takes) != 4 or takes[1] not in (3, None):
            raise _refused(path, "input", inputs, "one input [n, 3, h, w]")
        if isinstance(takes[0], int) and not one_by_one:
            raise _refused(path, "input", inputs, "a batch that is free, or 1")
        channels = gives[1] if len(gives) == 4 else 1
        if channel is None:
            expected, fits = "one output [n, 1, h, w], one channel for the lesion", channels in (1, None)
        else:
            expected, fits = (
                f"one output with a channel {channel}",
                channels is not None and channel < channels,
            )
        if len(outputs) != 1 or len(gives) not in (3, 4) or not fits:
            raise _refused(path, "output", outputs, expected)
        side = input_size or (takes[2] if takes[2] == takes[3] else None) or default_size
        if side is None:
            raise UsageError(
                f"{path} does not say how large its input is.",
                "--input-size SIDE",
                "Name the side of the square it was trained on, such as --input-size 256.",
            )
        if any(fixed not in (side, None) for fixed in takes[2:]):
            raise UsageError(
                f"--input-size is {side}, and {path} takes {takes[3]}×{takes[2]}.",
                "the size in the file",
                "Leave --input-size out.",
            )
        self._one_by_one, self._activation, self._channel = one_by_one, activation, channel or 0
        self._input, self._output, self._path = inputs[0].name, outputs[0].name, path
        self._channels = channels or 1
        self._shape = (side, side) if len(gives) == 3 else (self._channels, side, side)
        self._mean = np.asarray(mean, np.float32).reshape(1, -1, 1, 1)
        self._std = np.asarray(std, np.float32).reshape(1, -1, 1, 1)
        self.card: ModelCard = make_card(
            role="student", model={"arch": "onnx"}, input_size=side, mean=list(mean), std=list(std),
            weights=path.name, recipe=path.stem, seed=0, dataset={"name": "unknown", "fingerprint": ""},
            parameters=0,
        ).model_copy(update={"weights_sha256": hash_file(path)})  # fmt: skip

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [n, 3, s, s], RGB in [0, 1] → probability float32 [n, 1, s, s].

        Raises:
            WeightsError: The file's output is of another size or not finite, or holds values outside [0, 1]
                although no activation was named.
        """
        if self._activation == "none":
            return np.clip(self._lesion(batch), 0, 1)
        return sigmoid(self.logits(batch))

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [n, 3, s, s], RGB in [0, 1] → logit of the lesion float32 [n, 1, s, s].

        Raises:
            WeightsError: As of a call.
        """
        found = self._lesion(batch)
        if self._activation == "none":
            prob = np.clip(found, _SMALLEST, 1 - _SMALLEST)
            return np.log(prob / (1 - prob))
        return found

    def _lesion(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The lesion's channel: a logit, or where no activation was named a probability."""
        batch = np.ascontiguousarray((batch - self._mean) / self._std, dtype=np.float32)
        parts = [batch[i : i + 1] for i in range(len(batch))] if self._one_by_one and len(batch) else [batch]
        found = np.concatenate([self._run(part) for part in parts])
        found = found.astype(np.float32).reshape(len(batch), self._channels, *self._shape[-2:])
        lesion = found[:, self._channel : self._channel + 1]
        if self._activation == "softmax":
            others = np.delete(found, self._channel, axis=1)
            return lesion - np.logaddexp.reduce(others, axis=1, keepdims=True)
        if self._activation == "none" and found.size and (found.min() < -1e-6 or found.max() > 1 + 1e-6):
            raise WeightsError(
                f"The network's output reaches from {found.min():.3g} to {found.max():.3g}.",
                "probabilities in [0, 1]",
                "Name --activation sigmoid, or softmax where several channels compete: its output is logits.",
            )
        return lesion

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return run_session(self._session, self._output, {self._input: batch}, self._shape, self._path)


def _shape(places: Sequence[object]) -> list[int | None]:
    shape = getattr(places[0], "shape", []) if places else []
    return [side if isinstance(side, int) else None for side in shape]


def _refused(path: Path, role: str, places: Sequence[object], expected: str) -> WeightsError:
    found = ", ".join(f"{getattr(p, 'name', p)} {getattr(p, 'shape', '')}" for p in places) or "nothing"
    return WeightsError(
        f"{path} has the {role} {found}.",
        expected,
        "Export it so; of several channels name the lesion's by --channel (of a teacher --teacher.channel).",
    )
