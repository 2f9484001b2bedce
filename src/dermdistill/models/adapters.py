"""1×1 adaptors: bring the student's features to the teacher's channels before they are compared."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dermdistill.core.errors import ConfigError


def match_stages(student_strides: Sequence[int], teacher_strides: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs (student stage, teacher stage) of equal stride, at each stride the deepest stage of either.

    The deepest has seen most of the image; at equal stride the maps lie on each other without resizing.
    A dilated teacher (strides 4, 8, 8, 8) is thus matched by its first and its last stage.

    Raises:
        ConfigError: The two networks have no stride in common.
    """
    student = {stride: stage for stage, stride in enumerate(student_strides)}
    teacher = {stride: stage for stage, stride in enumerate(teacher_strides)}
    pairs = [(student[stride], teacher[stride]) for stride in sorted(student.keys() & teacher.keys())]
    if not pairs:
        raise ConfigError(
            f"The student has features at strides {sorted(student)}, the teacher at {sorted(teacher)}.",
            "at least one stride in common",
            "Switch feature distillation off (--kd.attention 0), or choose another student.",
        )
    return pairs


class Adaptors(nn.Module):
    """One 1×1 convolution (student channels → teacher channels) for each pair of matched stages.

    They are trained with the student, and thrown away after it: they are no part of either network.

    Args:
        student_channels, student_strides: Per feature map of the student (`LesionNet.feature_channels` …).
        teacher_channels, teacher_strides: The same of the teacher.

    Raises:
        ConfigError: No stride in common.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        student_strides: Sequence[int],
        teacher_channels: Sequence[int],
        teacher_strides: Sequence[int],
    ) -> None:
        super().__init__()
        self.pairs = match_stages(student_strides, teacher_strides)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(student_channels[s], teacher_channels[t], kernel_size=1, bias=False)
            for s, t in self.pairs
        )

    def forward(
        self, student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """(adapted features of the student, the teacher's features), pair by pair."""
        adapted = [
            convolution(student_features[stage])
            for convolution, (stage, _) in zip(self.convolutions, self.pairs, strict=True)
        ]
        return adapted, [teacher_features[stage] for _, stage in self.pairs]
