"""What keeps a GPU busy does on a CPU what the plain call would; and nothing is overlooked for being late."""

from __future__ import annotations

import pytest
import torch

from dermdistill.training.acceleration.devices import EpochMeans, Lookout, send
from dermdistill.training.feed import augmentation
from dermdistill.training.feed.augmentation import Augment


def test_send_on_a_cpu_is_no_copy():
    tensor = torch.arange(3)
    assert send(tensor, torch.device("cpu")) is tensor


def test_whatever_augmentation_sends_to_a_gpu_can_be_pinned(monkeypatch):
    """Pinning copies a tensor into memory of the same strides: one that is expanded has none to copy to."""
    sent: list[tuple[int, ...]] = []

    def pin(tensor):
        sent.append(tuple(tensor.shape))
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)

    def send_as_to_a_gpu(tensor, device):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "pin_memory", pin)
            patch.setattr(torch.Tensor, "to", lambda tensor, device, non_blocking: tensor)
            return send(tensor, torch.device("cuda"))

    image, mask = torch.rand(8, 3, 32, 32), torch.ones(8, 1, 32, 32, dtype=torch.uint8)
    views = Augment(blur=1.0)
    torch.manual_seed(0)
    expected = views(image, mask)
    monkeypatch.setattr(augmentation, "send", send_as_to_a_gpu)
    torch.manual_seed(0)
    for ours, there in zip(views(image, mask), expected, strict=True):
        if there is not None:  # no teacher answered
            torch.testing.assert_close(ours, there)
    assert len(sent) == 6
    with pytest.raises(RuntimeError, match="single memory location"):
        pin(torch.ones(3, 1).expand(3, 2))


@pytest.mark.parametrize("ahead", [None, 0, 3])
def test_every_bad_loss_is_found_in_order(ahead):
    lookout, found = Lookout(ahead), []
    losses = [1.0, float("nan"), 2.0, float("inf"), 3.0, float("-inf")]
    for step, loss in enumerate(losses):
        lookout.look(torch.tensor(loss), lambda step=step: found.append(step))
        assert found == [s for s in (1, 3, 5) if s <= step - (ahead or 0)]
    lookout.settle()
    assert found == [1, 3, 5]
    lookout.settle()
    assert found == [1, 3, 5]


def test_means_are_over_images_and_not_over_batches_also_after_a_stop():
    values, counts = torch.rand(3, 2, generator=torch.Generator().manual_seed(0)), (4, 4, 1)
    means = EpochMeans()
    for number, (row, count) in enumerate(zip(values, counts, strict=True)):
        if number == 1:
            state, means = means.state_dict(), EpochMeans()
            means.load_state_dict(state)
        means.add({"loss": row[0], "dice": row[1]}, count)
    found = means.take(lambda sums: 2 * sums)  # as of two processes that have seen the same
    expected = (values * torch.tensor(counts).unsqueeze(1)).sum(dim=0) / 9
    torch.testing.assert_close(torch.stack([found["loss"], found["dice"]]), expected)
    assert means.take(lambda sums: sums) == {}
