"""Augmentation: image and mask move together, values stay in range, the seed decides."""

from __future__ import annotations

import kornia
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dermdistill.training.feed import augmentation
from dermdistill.training.feed.augmentation import Augment

OFF = {"flip": 0.0, "rotate": 0.0, "scale": 0.0, "translate": 0.0, "color": 0.0, "blur": 0.0}
EVERYTHING = {"color": 0.5, "blur": 0.5}


def make_batch(count: int = 4, height: int = 48, width: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images with a blob each, and the blob's mask."""
    generator = torch.Generator().manual_seed(0)
    field = torch.rand(count, 3, 6, 6, generator=generator)
    image = F.interpolate(field, (height, width), mode="bicubic").clamp(0, 1)
    return image, (image.mean(dim=1, keepdim=True) > 0.5).to(torch.uint8)


def view(seed: int = 0, batch=None, **settings):
    torch.manual_seed(seed)
    return Augment(**settings)(*(batch or make_batch()))


@pytest.mark.parametrize("size", [(48, 48), (37, 53), (9, 5), (1, 1)])
@pytest.mark.parametrize("count", [1, 4])
def test_ranges_and_shapes(size, count):
    image, mask = make_batch(count, *size)
    for seed in range(5):
        out, out_mask, _ = view(seed, (image, mask), **EVERYTHING)
        assert out.shape == image.shape
        assert out.dtype == torch.float32
        assert out.min() >= 0
        assert out.max() <= 1
        assert out_mask.shape == mask.shape
        assert out_mask.dtype == torch.uint8
        assert set(out_mask.unique().tolist()) <= {0, 1}


def test_disabled_answers_the_batch_as_it_came():
    image, mask = make_batch()
    out = Augment(enabled=False)(image, mask)
    assert out[0] is image
    assert out[1] is mask
    assert out.teacher_logits is None


def test_nothing_on_changes_nothing():
    image, mask = make_batch()
    out, out_mask, *_ = view(batch=(image, mask), **OFF)
    assert torch.equal(out, image)
    assert torch.equal(out_mask, mask)


def test_the_seed_decides():
    first, second, other = (view(seed, **EVERYTHING) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first[:2], second[:2], strict=True))
    assert first.teacher_logits is None
    assert not torch.equal(first[0], other[0])


def test_switching_colour_off_leaves_the_geometry():
    assert torch.equal(view(7)[1], view(7, color=0.0, blur=0.0)[1])


def test_the_input_is_left_alone():
    image, mask = make_batch()
    before = image.clone(), mask.clone()
    view(batch=(image, mask), **EVERYTHING)
    assert torch.equal(image, before[0])
    assert torch.equal(mask, before[1])


@pytest.mark.parametrize("size", [(48, 48), (37, 53)])
def test_flips_alone_are_exact(size):
    """Every image is one of the four flips; all four occur, each about as often."""
    image, mask = make_batch(64, *size)
    out, out_mask, *_ = view(batch=(image, mask), **OFF | {"flip": 0.5})
    found = []
    for i in range(64):
        flips = {axes: (image[i].flip(axes), mask[i].flip(axes)) for axes in [(), (1,), (2,), (1, 2)]}
        same = [
            axes
            for axes, (a, b) in flips.items()
            if torch.allclose(out[i], a, atol=1e-3) and torch.equal(out_mask[i], b)
        ]
        assert len(same) == 1
        found += same
    assert all(6 <= found.count(axes) <= 28 for axes in [(), (1,), (2,), (1, 2)])


def test_mask_moves_with_the_image():
    """The mask given as the image too: the same outline afterwards, but for the interpolated edge."""
    _, mask = make_batch(8, 64, 80)
    out, out_mask, *_ = view(batch=(mask.float().expand(-1, 3, -1, -1), mask), color=0.0, blur=0.0)
    seen = (out[:, :1] > 0.5).to(torch.uint8)
    assert not torch.equal(out_mask, mask)
    assert (seen != out_mask).float().mean() < 0.005


def test_turning_an_oblong_image_keeps_a_disc_a_disc():
    """The angle is one of pixels: in relative coordinates an oblong image would be sheared."""
    y, x = torch.meshgrid(torch.arange(60) - 29.5, torch.arange(100) - 49.5, indexing="ij")
    disc = (x**2 + y**2 < 20**2).to(torch.uint8).expand(6, 1, -1, -1)
    out_mask = view(batch=(disc.float().expand(-1, 3, -1, -1), disc), **OFF | {"rotate": 180.0})[1]
    # Further out the reflected disc comes into view. The edge's pixels are 1 to 2 %; a shear would be 30 %.
    near = (x**2 + y**2 < 28**2).expand_as(disc)
    assert (out_mask != disc)[near].float().mean() < 0.03


def test_scale_and_shift_have_the_announced_size():
    y, x = torch.meshgrid(torch.arange(101) - 50.0, torch.arange(101) - 50.0, indexing="ij")
    disc = (x**2 + y**2 < 25**2).to(torch.uint8).expand(64, 1, -1, -1)
    batch = disc.float().expand(-1, 3, -1, -1), disc
    area = view(batch=batch, **OFF | {"scale": 0.2})[1].sum(dim=(1, 2, 3)) / disc[0].sum()
    factor = area.sqrt()
    assert 0.79 < factor.min() < 0.85
    assert 1.15 < factor.max() < 1.21
    moved = view(batch=batch, **OFF | {"translate": 0.1})[1].double()
    centre = (moved * x).sum(dim=(1, 2, 3)) / moved.sum(dim=(1, 2, 3))
    assert centre.abs().max() < 10.6
    assert centre.max() > 8
    assert centre.min() < -8


def test_no_black_corners():
    image, mask = torch.full((4, 3, 40, 40), 0.7), torch.ones(4, 1, 40, 40, dtype=torch.uint8)
    out, out_mask, *_ = view(batch=(image, mask), translate=0.5, color=0.0)
    torch.testing.assert_close(out, image)
    assert torch.equal(out_mask, mask)


def test_grid_is_that_of_torch():
    theta = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = F.affine_grid(theta, [3, 1, 7, 9], align_corners=True)
    torch.testing.assert_close(augmentation._affine_grid(theta, 7, 9), expected)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 100)])
def test_matrices_of_the_grid_are_kornias(height, width):
    generator = torch.Generator().manual_seed(0)
    scale, angle, shift = (torch.rand(n, 9, generator=generator) - 0.5 for n in (2, 1, 2))
    scale, angle, shift = scale.sign() * (1 + scale), 6 * angle[0], 0.2 * shift
    side = torch.tensor([width, height]).float()
    moves = kornia.geometry.get_affine_matrix2d(
        shift.T * side, ((side - 1) / 2).expand(9, 2), scale.T, angle.rad2deg()
    )
    moves = kornia.geometry.conversions.normalize_homography(moves, (height, width), (height, width))
    found = augmentation._where_from(scale, angle, shift, height, width)
    torch.testing.assert_close(found, torch.linalg.inv(moves)[:, :2])


def test_autocast_does_not_reach_the_grid():
    expected = view(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = view(5)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_colour_jitter_golden():
    """By hand: hue and saturation keep grey, brightness multiplies, contrast turns about the mean."""
    image = torch.full((1, 3, 2, 2), 0.4)
    image[..., 0] = 0.2  # mean 0.3
    turned = augmentation.jitter_color(image, torch.tensor([[0.0], [0.0], [0.5], [0.7]]))
    torch.testing.assert_close(turned, image, atol=2e-3, rtol=0)
    brighter = augmentation.jitter_color(image, torch.tensor([[0.5], [0.0], [0.0], [0.0]]))
    torch.testing.assert_close(brighter, 1.5 * image, atol=1e-3, rtol=0)
    harder = augmentation.jitter_color(image, torch.tensor([[0.0], [0.5], [0.0], [0.0]]))
    torch.testing.assert_close(harder, 0.3 + 1.5 * (image - 0.3), atol=1e-3, rtol=0)


def test_hue_and_saturation_keep_the_brightness_and_change_the_colour():
    image, _ = make_batch()
    image = 0.3 + 0.4 * image  # away from the ends, where clamping would show
    out = augmentation.jitter_color(image, torch.tensor([[0.0], [0.0], [0.3], [0.5]]).expand(4, 4))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((out * weights).sum(1), (image * weights).sum(1), atol=2e-3, rtol=0)
    assert (out - image).abs().max() > 0.05


def test_colour_jitter_of_zero_is_the_identity():
    image, _ = make_batch()
    torch.testing.assert_close(augmentation.jitter_color(image, torch.zeros(4, 4)), image)


@pytest.mark.parametrize("size", [(32, 32), (17, 40), (3, 5), (1, 1)])
def test_blur_is_kornias(size):
    image = torch.rand(5, 3, *size, generator=torch.Generator().manual_seed(0))
    deviation, indices = torch.linspace(0.1, 1.5, 5), torch.tensor([0, 2, 3, 4])
    sigma = deviation[indices].unsqueeze(1).expand(-1, 2)
    expected = kornia.filters.gaussian_blur2d(image[indices], 9, sigma, border_type="replicate")
    found = augmentation.blur(image, indices, deviation)
    torch.testing.assert_close(found[indices], expected, atol=1e-6, rtol=0)
    assert torch.equal(found[1], image[1])


def test_blur_touches_the_chosen_only_and_smooths_them():
    image = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    out = augmentation.blur(image, torch.tensor([1]), torch.full((3,), 1.5))
    assert torch.equal(out[[0, 2]], image[[0, 2]])
    assert out[1].std() < 0.5 * image[1].std()
    assert out[1].mean() == pytest.approx(image[1].mean().item(), abs=0.01)
    assert augmentation.blur(image, torch.tensor([], dtype=torch.long), torch.ones(3)) is image


def test_no_work_per_image():
    """The number of operations does not grow with the batch."""

    class Counter(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.calls += 1
            return func(*args, **(kwargs or {}))

    counts = []
    for count in (3, 24):
        with Counter() as counter:
            view(batch=make_batch(count), **EVERYTHING | {"blur": 1.0})
        counts.append(counter.calls)
    assert counts[0] == counts[1]
