"""Losses: golden numbers and independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from sklearn.metrics import log_loss
from torchvision.ops import sigmoid_focal_loss

from dermdistill import losses
from lossbatch import make_batch

# Golden numbers, worked out by hand ------------------------------------------------------------------


def test_golden_dice():
    # p = ½ and ¾ on a mask of 1 and 0: (2·½) / (¼ + 9/16 + 1) = 16/29
    logits = torch.tensor([0.0, math.log(3)]).view(1, 1, 1, 2)
    mask = torch.tensor([1, 0], dtype=torch.uint8).view(1, 1, 1, 2)
    assert losses.soft_dice_loss(logits, mask, smooth=0.0).item() == pytest.approx(1 - 16 / 29, abs=1e-6)


def test_golden_bce_and_focal():
    # p of the true class is ¾ everywhere: −log ¾, and (¼)² of it
    logits = torch.tensor([math.log(3), -math.log(3)]).view(1, 1, 1, 2)
    mask = torch.tensor([1, 0], dtype=torch.uint8).view(1, 1, 1, 2)
    assert losses.bce_loss(logits, mask).item() == pytest.approx(-math.log(0.75), abs=1e-6)
    assert losses.focal_loss(logits, mask, gamma=2.0).item() == pytest.approx(-math.log(0.75) / 16, abs=1e-7)


def test_golden_kl():
    # T = 2: teacher σ(2·log 3 / 2) = ¾, student ½: 4·(¾·log 3/2 + ¼·log ½)
    student, teacher = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2 * math.log(3))
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert losses.bernoulli_kl_loss(student, teacher, 2.0).item() == pytest.approx(expected, abs=1e-6)


def test_golden_channel_wise():
    # two positions, T = 1: teacher ¾ : ¼, student ½ : ½
    student = torch.zeros(1, 1, 1, 2)
    teacher = torch.tensor([math.log(3), 0.0]).view(1, 1, 1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert losses.channel_wise_loss(student, teacher, 1.0).item() == pytest.approx(expected, abs=1e-6)


def test_boundary_band_is_as_wide_as_asked_on_both_sides():
    mask = torch.zeros(1, 1, 1, 12)
    mask[..., 6:] = 1
    assert losses.boundary_band(mask, 2).flatten().tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]


def test_boundary_counts_only_the_band():
    student, teacher, _ = make_batch()
    mask = torch.zeros(4, 1, 12, 12, dtype=torch.uint8)
    mask[..., 6:] = 1
    inside = losses.bernoulli_kl_loss(student[..., 4:8], teacher[..., 4:8], 3.0)
    torch.testing.assert_close(losses.boundary_kl_loss(student, teacher, mask, 3.0, 2), inside)


def test_boundary_of_an_image_without_outline_is_zero():
    student, teacher, mask = make_batch()
    for value in (0, 1):
        assert losses.boundary_kl_loss(student, teacher, torch.full_like(mask, value), 2.0, 3).item() == 0.0


# Independent references --------------------------------------------------------------------------------


def test_dice_against_a_loop():
    logits, _, mask = make_batch()
    expected = []
    for image, truth in zip(logits.numpy(), mask.double().numpy(), strict=True):
        prob = scipy.special.expit(image)
        expected.append(1 - 2 * (prob * truth).sum() / ((prob**2).sum() + (truth**2).sum()))
    value = losses.soft_dice_loss(logits, mask, smooth=0.0, reduction="none")
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-12)


def test_bce_against_sklearn():
    logits, _, mask = make_batch()
    expected = log_loss(mask.flatten().numpy(), logits.sigmoid().flatten().numpy())
    assert losses.bce_loss(logits, mask).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_against_torchvision(gamma):
    logits, _, mask = make_batch()
    expected = sigmoid_focal_loss(logits, mask.double(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(losses.focal_loss(logits, mask, gamma=gamma), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_against_torch_distributions(temperature):
    student, teacher, _ = make_batch()
    p, q = (torch.distributions.Bernoulli(logits=x / temperature) for x in (teacher, student))
    expected = temperature**2 * torch.distributions.kl_divergence(p, q).mean()
    torch.testing.assert_close(losses.bernoulli_kl_loss(student, teacher, temperature), expected)


def test_channel_wise_against_scipy():
    student, teacher, _ = make_batch()
    p, q = (scipy.special.softmax(x.flatten(1).numpy() / 4.0, axis=1) for x in (teacher, student))
    expected = 16 * scipy.special.rel_entr(p, q).sum(axis=1)
    value = losses.channel_wise_loss(student, teacher, 4.0, reduction="none")
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-9)
