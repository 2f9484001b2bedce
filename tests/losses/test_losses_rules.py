"""Losses: gradients, properties, and the module's three rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from dermdistill import losses
from lossbatch import make_batch

Loss = Callable[..., Tensor]

# Every loss as a function of (student logits, teacher logits, mask).
LOSSES: dict[str, Loss] = {
    "dice": lambda s, t, m, **k: losses.soft_dice_loss(s, m, **k),
    "bce": lambda s, t, m, **k: losses.bce_loss(s, m, **k),
    "focal": lambda s, t, m, **k: losses.focal_loss(s, m, gamma=2.0, **k),
    "focal-half": lambda s, t, m, **k: losses.focal_loss(s, m, gamma=0.5, **k),
    "kl": lambda s, t, m, **k: losses.bernoulli_kl_loss(s, t, 3.0, **k),
    "channel-wise": lambda s, t, m, **k: losses.channel_wise_loss(s, t, 4.0, **k),
    "boundary": lambda s, t, m, **k: losses.boundary_kl_loss(s, t, m, 3.0, 2, **k),
}
DISTILLATION = ("kl", "channel-wise", "boundary")
every_loss = pytest.mark.parametrize("name", LOSSES)


@every_loss
def test_gradient(name):
    student, teacher, mask = make_batch(count=2, size=6)
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, teacher, mask), student.requires_grad_())


@every_loss
def test_value_is_a_scalar_and_the_mean_of_the_values_per_image(name):
    batch = make_batch()
    value, per_image = LOSSES[name](*batch), LOSSES[name](*batch, reduction="none")
    assert value.shape == ()
    assert per_image.shape == (4,)
    torch.testing.assert_close(per_image.mean(), value)
    alone = torch.stack([LOSSES[name](*(x[i : i + 1] for x in batch)) for i in range(4)])
    torch.testing.assert_close(alone, per_image)


@every_loss
def test_doubling_height_and_width_does_not_change_the_scale(name):
    batch = make_batch()
    doubled = [x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) for x in batch]
    # The boundary's band is as wide as before in pixels, so twice the width is the same band.
    boundary = name == "boundary"
    large = losses.boundary_kl_loss(*doubled, 3.0, 4) if boundary else LOSSES[name](*doubled)
    torch.testing.assert_close(large, LOSSES[name](*batch))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_computed_in_float32(name, dtype):
    student, teacher, mask = make_batch(dtype=torch.float32)
    student, teacher = student.to(dtype), teacher.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LOSSES[name](student, teacher, mask)
    assert value.dtype == torch.float32
    # What comes out is exactly the float32 value of the rounded inputs.
    assert torch.equal(value, LOSSES[name](student.float(), teacher.float(), mask))


def test_dice_of_a_large_image_in_float16_does_not_overflow():
    logits = torch.full((1, 1, 512, 512), 8.0, dtype=torch.float16)  # Σp² = 262 000 > 65 504
    mask = torch.ones(1, 1, 512, 512, dtype=torch.uint8)
    assert losses.soft_dice_loss(logits, mask).item() == pytest.approx(0.0, abs=1e-3)


@every_loss
@pytest.mark.parametrize(("student", "teacher"), [(1e3, 1e3), (1e3, -1e3), (-1e3, 1e3), (-1e3, 0.0)])
def test_extreme_logits_stay_finite(name, student, teacher):
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    mask[..., 4:] = 1
    logits = torch.full((1, 1, 8, 8), student, requires_grad=True)
    value = LOSSES[name](logits, torch.full((1, 1, 8, 8), teacher), mask)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["kl", "boundary"])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_logits_have_exactly_zero_loss_and_gradient(name, scale, dtype):
    student, _, mask = make_batch(dtype=dtype)
    student = (student * scale).requires_grad_()
    value = LOSSES[name](student, student.detach().clone(), mask)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.item() == 0.0
    assert torch.count_nonzero(gradient) == 0


def test_equal_logits_have_zero_channel_wise_loss_and_gradient():
    student, _, mask = make_batch()
    student.requires_grad_()
    value = LOSSES["channel-wise"](student, student.detach().clone(), mask)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.item() == 0.0
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("name", DISTILLATION)
def test_no_gradient_reaches_the_teacher(name):
    student, teacher, mask = make_batch()
    LOSSES[name](student.requires_grad_(), teacher.requires_grad_(), mask).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_kl_tends_to_the_squared_difference():
    student, teacher, _ = make_batch()
    limit = ((student - teacher) ** 2).mean() / 8
    errors = [abs(losses.bernoulli_kl_loss(student, teacher, t) - limit) for t in (1.0, 10.0, 100.0)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3 * limit


def test_temperature_keeps_the_size_of_the_gradient():
    student, teacher, _ = make_batch()
    norms = []
    for temperature in (4.0, 40.0):
        leaf = student.clone().requires_grad_()
        losses.bernoulli_kl_loss(leaf, teacher, temperature).backward()
        norms.append(leaf.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.2)


def test_empty_and_perfect_masks():
    empty = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    sure = torch.full((1, 1, 64, 64), -30.0)
    assert losses.soft_dice_loss(sure, empty).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.soft_dice_loss(-sure, empty).item() > 0.99
    assert losses.soft_dice_loss(-sure, empty + 1).item() == pytest.approx(0.0, abs=1e-6)


def test_channel_wise_does_not_see_a_constant():
    student, teacher, _ = make_batch()
    shifted = losses.channel_wise_loss(student + 5, teacher - 3, 2.0)
    torch.testing.assert_close(shifted, losses.channel_wise_loss(student, teacher, 2.0))


def test_shapes_are_checked_here():
    """The annotations are alive in tests: a mask of another size, or two logits, is refused."""
    with pytest.raises(TypeCheckError):
        losses.bce_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 5))
    with pytest.raises(TypeCheckError):
        losses.bernoulli_kl_loss(torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4))


logit = st.floats(-40, 40, width=32)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(logit, logit, st.booleans()), min_size=1, max_size=16), st.floats(0.5, 20))
def test_properties(pixels, temperature):
    student, teacher, mask = (
        torch.tensor(column, dtype=torch.float64).view(1, 1, 1, -1) for column in zip(*pixels, strict=True)
    )
    kl = losses.bernoulli_kl_loss(student, teacher, temperature)
    assert kl >= -1e-12
    # Swapping the names of the two classes changes nothing.
    torch.testing.assert_close(losses.bernoulli_kl_loss(-student, -teacher, temperature), kl)
    torch.testing.assert_close(losses.bce_loss(-student, 1 - mask), losses.bce_loss(student, mask))
    assert losses.channel_wise_loss(student, teacher, temperature) >= -1e-12
    assert 0 <= losses.soft_dice_loss(student, mask) <= 1
    assert losses.focal_loss(student, mask) <= losses.bce_loss(student, mask)
