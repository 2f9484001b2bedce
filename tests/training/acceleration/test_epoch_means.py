"""The means of an epoch are over its images."""

from __future__ import annotations

import torch

from dermdistill.training.acceleration.epoch_means import EpochMeans


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
