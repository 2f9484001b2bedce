"""The order and shares of batches: nothing lost, nothing twice, resumable, the same over processes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermdistill.core.errors import TrainingError
from dermdistill.training.feed.loader import EpochBatches

sizes = st.integers(1, 60)
slowly = settings(deadline=None)  # a busy machine is no failure


@slowly
@given(count=sizes, batch=sizes, seed=st.integers(0, 5))
def test_one_process_sees_every_image_once_per_epoch(count: int, batch: int, seed: int) -> None:
    sampler = EpochBatches(count, batch, shuffle=True, seed=seed)
    batches = list(sampler)
    assert sorted(itertools.chain(*batches)) == list(range(count))
    assert len(batches) == len(sampler)


@slowly
@given(count=st.integers(4, 60), batch=st.integers(2, 9))
def test_no_batch_of_one_where_two_are_needed(count: int, batch: int) -> None:
    sampler = EpochBatches(count, batch, shuffle=True, min_batch=2)
    batches = list(sampler)
    assert min(map(len, batches)) >= 2
    assert sorted(itertools.chain(*batches)) == list(range(count))
    assert len(batches) == len(sampler)


@slowly
@given(count=sizes, batch=sizes, step=st.integers(0, 100))
def test_seek_goes_on_where_an_unbroken_run_would_be(count: int, batch: int, step: int) -> None:
    unbroken = EpochBatches(count, batch, shuffle=True, seed=3)
    whole = list(itertools.chain.from_iterable(list(unbroken) for _ in range(step // len(unbroken) + 2)))
    resumed = EpochBatches(count, batch, shuffle=True, seed=3)
    resumed.seek(step)
    rest = list(itertools.chain.from_iterable(list(resumed) for _ in range(2)))
    assert rest == whole[step : step + len(rest)]


@slowly
@given(count=st.integers(2, 60), half=st.integers(1, 12))
def test_two_processes_share_the_batches_of_one(count: int, half: int) -> None:
    # Two processes need two images in a step, so one is told to keep to that too.
    one = EpochBatches(count, 2 * half, shuffle=True, seed=1, min_batch=2)
    shares = [EpochBatches(count, 2 * half, shuffle=True, seed=1, rank=r, world=2) for r in (0, 1)]
    for whole, first, second in zip(one, *shares, strict=True):
        assert len(first) == len(second)
        even = len(whole) - len(whole) % 2
        assert sorted([*first, *second]) == sorted(whole[:even])


@slowly
@given(count=sizes, batch=sizes, world=st.integers(1, 5))
def test_validation_is_split_without_padding(count: int, batch: int, world: int) -> None:
    shares = [EpochBatches(count, batch, shuffle=False, rank=r, world=world) for r in range(world)]
    seen = [position for share in shares for part in share for position in part]
    assert sorted(seen) == list(range(count))
    assert all(len(list(share)) == len(share) for share in shares)


def test_epochs_differ_and_seeds_repeat() -> None:
    sampler = EpochBatches(50, 50, shuffle=True, seed=0)
    first, second = next(iter(sampler)), next(iter(sampler))
    assert first != second
    assert next(iter(EpochBatches(50, 50, shuffle=True, seed=0))) == first


def test_impossible_batches_say_what_to_do() -> None:
    with pytest.raises(TrainingError, match="multiple of 2"):
        EpochBatches(10, 3, shuffle=True, world=2)
    with pytest.raises(TrainingError, match=r"--data\.batch-size"):
        EpochBatches(10, 1, shuffle=True, min_batch=2)
    with pytest.raises(TrainingError, match="no images"):
        EpochBatches(0, 4, shuffle=False)
