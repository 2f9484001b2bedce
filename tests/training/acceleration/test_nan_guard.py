"""A loss that is not finite is found, however late it is read."""

from __future__ import annotations

import pytest
import torch

from dermdistill.training.acceleration.nan_guard import NonFiniteLossGuard


@pytest.mark.parametrize("ahead", [None, 0, 3])
def test_every_bad_loss_is_found_in_order(ahead):
    guard, found = NonFiniteLossGuard(ahead), []
    losses = [1.0, float("nan"), 2.0, float("inf"), 3.0, float("-inf")]
    for step, loss in enumerate(losses):
        guard.watch(torch.tensor(loss), lambda step=step: found.append(step))
        assert found == [s for s in (1, 3, 5) if s <= step - (ahead or 0)]
    guard.flush()
    assert found == [1, 3, 5]
    guard.flush()
    assert found == [1, 3, 5]
