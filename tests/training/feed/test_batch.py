"""A batch is moved, pinned and changed as a whole."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader

from dermdistill.training.feed import augmentation
from dermdistill.training.feed.augmentation import Augment
from dermdistill.training.feed.batch import TrainingBatch, place_on_device


def a_batch(count=3):
    return TrainingBatch(
        image=torch.full((count, 3, 4, 4), 51, dtype=torch.uint8),
        mask=torch.ones(count, 1, 4, 4, dtype=torch.uint8),
        has_mask=torch.ones(count, dtype=torch.bool),
        row=torch.arange(count),
        position=torch.arange(count),
    )


def test_lightning_moves_every_tensor_of_it():
    """The meta device stands for a GPU: whatever is left behind would still be on the CPU."""
    batch = dataclasses.replace(a_batch(), teacher_logits=torch.zeros(3, 1, 4, 4), style=torch.zeros(3, 2))
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, TrainingBatch)
    assert len(moved.tensors()) == len(dataclasses.fields(TrainingBatch)) == 7
    assert {tensor.device.type for tensor in moved.tensors()} == {"meta"}


def test_a_loader_pins_it_as_a_whole(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    assert isinstance(a_batch().pin_memory(), TrainingBatch)
    assert len(pinned) == 5
    loader = DataLoader([0, 1], batch_size=2, collate_fn=lambda _: a_batch(2))
    assert isinstance(next(iter(loader)), TrainingBatch)


def test_what_is_not_there_stays_so():
    batch = a_batch()
    assert batch.teacher_logits is None
    assert batch.to(torch.device("cpu")).teacher_logits is None
    assert len(batch.tensors()) == 5
    assert len(batch) == 3


def test_images_become_fractions_of_1():
    torch.testing.assert_close(a_batch().as_float().image, torch.full((3, 3, 4, 4), 0.2))


def test_placing_on_a_cpu_is_no_copy():
    tensor = torch.arange(3)
    assert place_on_device(tensor, torch.device("cpu")) is tensor


def test_whatever_augmentation_places_on_a_gpu_can_be_pinned(monkeypatch):
    """Pinning copies a tensor into memory of the same strides: one that is expanded has none to copy to."""
    sent: list[tuple[int, ...]] = []

    def pin(tensor):
        sent.append(tuple(tensor.shape))
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)

    def place_as_on_a_gpu(tensor, device):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "pin_memory", pin)
            patch.setattr(torch.Tensor, "to", lambda tensor, device, non_blocking: tensor)
            return place_on_device(tensor, torch.device("cuda"))

    image, mask = torch.rand(8, 3, 32, 32), torch.ones(8, 1, 32, 32, dtype=torch.uint8)
    views = Augment(blur=1.0)
    torch.manual_seed(0)
    expected = views(image, mask)
    monkeypatch.setattr(augmentation, "place_on_device", place_as_on_a_gpu)
    torch.manual_seed(0)
    for ours, there in zip(views(image, mask), expected, strict=True):
        if there is not None:  # no teacher logits were given
            torch.testing.assert_close(ours, there)
    assert len(sent) == 6
    with pytest.raises(RuntimeError, match="single memory location"):
        pin(torch.ones(3, 1).expand(3, 2))
