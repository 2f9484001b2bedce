"""Files as users write them: a small network, its mistakes, a loss."""

from __future__ import annotations

from pathlib import Path

NETWORK = """
import torch
from torch import nn
from torch.nn.functional import interpolate


class TinyNet(nn.Module):
    def __init__(self, width=4, classes=1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1)
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        return interpolate(self.head(self.body(x).relu()), x.shape[2:], mode="bilinear")


class Small(TinyNet):
    def forward(self, x):
        return self.head(self.body(x))


class Dict(TinyNet):
    def forward(self, x):
        return {"out": super().forward(x), "aux": None}


class Tuple(TinyNet):
    def forward(self, x):
        return super().forward(x), x


class Flat(TinyNet):
    def forward(self, x):
        return super().forward(x).mean(1)


class Broken(TinyNet):
    def forward(self, x):
        return self.head(x)


class Infinite(TinyNet):
    def forward(self, x):
        return super().forward(x) / 0


def nothing():
    return 5


def seeded():
    torch.manual_seed(0)
    return TinyNet()
"""

LOSS = """
import torch
from torch.nn import functional as F


def logit_distance(student_logits, teacher_logits, mask):
    assert student_logits.dtype == torch.float32 and mask.shape == student_logits.shape
    return F.l1_loss(student_logits, teacher_logits, reduction="none").mean(dim=(1, 2, 3))


def one_number(student_logits, teacher_logits, mask):
    return (student_logits - teacher_logits).abs().mean()


def detached(student_logits, teacher_logits, mask):
    return (teacher_logits ** 2).mean(dim=(1, 2, 3))


def infinite(student_logits, teacher_logits, mask):
    return student_logits.mean(dim=(1, 2, 3)) / 0


def broken(student_logits, teacher_logits, mask):
    return student_logits.nothing()
"""


def write_network(folder: Path, name: str = "my_net.py") -> str:
    """The file of the network, in a folder; its path."""
    (folder / name).write_text(NETWORK, encoding="utf-8")
    return str(folder / name)


def write_loss(folder: Path) -> str:
    """The file of the losses, in a folder; its path."""
    (folder / "my_loss.py").write_text(LOSS, encoding="utf-8")
    return str(folder / "my_loss.py")
