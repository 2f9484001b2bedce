"""What the tests of losses compute losses of."""

from __future__ import annotations

import torch


def make_batch(seed: int = 0, count: int = 4, size: int = 12, dtype=torch.float64):
    """Logits of a student and of a teacher, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, count, 1, size, size, generator=generator, dtype=dtype)
    mask = (torch.nn.functional.avg_pool2d(teacher, 3, 1, 1) > 0.2).to(torch.uint8)
    return student, teacher, mask
