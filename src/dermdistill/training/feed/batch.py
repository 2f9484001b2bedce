"""What one training step sees, and how it gets to the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TrainingBatch:
    """Images with all that is known of them; b images of s × s pixels.

    Lightning moves it by `to`, a data loader pins it by `pin_memory`.
    """

    image: Tensor
    """RGB [b, 3, s, s], channels-last in memory: uint8 from the loader, float32 in [0, 1] in a step."""
    mask: Tensor
    """uint8 {0, 1} [b, 1, s, s]; all 0 where there is none."""
    has_mask: Tensor
    """bool [b]: False for unlabelled images, which count in the distillation losses alone."""
    row: Tensor
    """int64 [b], rows of the images in `PackDataset.rows`' numbering: those of the manifest first."""
    position: Tensor
    """int64 [b], positions in the split: where per-image results are kept."""
    teacher_logits: Tensor | None = None
    """float32 [b, 1, s, s], a teacher's cached logits that moved with the image; None: not cached."""
    style: Tensor | None = None
    """float32 [b, styles], 1 at the style of the image's mask, all 0 where it is not known or not told; None:
    the network knows no styles."""

    def __len__(self) -> int:
        return len(self.image)

    def tensors(self) -> list[Tensor]:
        """All that are there, in the order of the fields."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return [value for value in values if value is not None]

    def map(self, function: Callable[[Tensor], Tensor]) -> TrainingBatch:
        """The same batch with ``function`` applied to each tensor."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed = {name: function(value) for name, value in values.items() if value is not None}
        return dataclasses.replace(self, **changed)

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on a device; from pinned memory nobody waits for it."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> TrainingBatch:
        """The same batch in pinned memory; what is on a device already stays there."""
        return self.map(lambda tensor: tensor if tensor.is_cuda else tensor.pin_memory())

    def as_float(self) -> TrainingBatch:
        """The same batch with its images as float32 in [0, 1]."""
        return dataclasses.replace(self, image=self.image.float() / 255)


def place_on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on ``device``; to a GPU through pinned memory, so that nobody waits.

    A plain ``tensor.to("cuda")`` lets the CPU wait until the GPU has done all that it was given; then the GPU
    waits until the CPU has thought of more. On a CPU this is the plain call.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        # An expanded tensor cannot be pinned: pinning copies into the same strides.
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
