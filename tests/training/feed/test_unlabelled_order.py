"""The order of unlabelled images beside the labelled ones, and what may not be among them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dermdistill.core.errors import DataError
from dermdistill.core.files import write_csv
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.folders import prepare_folder
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.training.feed.loader import EpochBatches, ImageRows, PackDataset
from dermdistill.training.feed.unlabelled import unlabelled_rows

SIZE = 32
counts = st.integers(1, 40)
shares = st.sampled_from([0.1, 0.3, 0.5, 0.8])


def batches(
    count: int, batch: int, unlabelled: int, share: float, *, rank: int = 0, world: int = 1, seed: int = 0
) -> EpochBatches:
    return EpochBatches(
        count, batch, shuffle=True, seed=seed, rank=rank, world=world, unlabelled=unlabelled,
        unlabelled_share=share,
    )  # fmt: skip


def beside(found: list[list[int]], labelled: int) -> list[int]:
    return [position - labelled for batch in found for position in batch if position >= labelled]


@settings(max_examples=40, deadline=None)
@given(count=counts, batch=counts, unlabelled=counts, share=shares)
def test_labelled_images_come_as_without_and_unlabelled_ones_pass_after_pass(
    count: int, batch: int, unlabelled: int, share: float
) -> None:
    sampler = batches(count, batch, unlabelled, share)
    found = [one for _ in range(4) for one in sampler]
    alone = EpochBatches(count, batch, shuffle=True, seed=0)
    expected = [one for _ in range(4) for one in alone]
    assert [[p for p in one if p < count] for one in found] == expected
    assert all(one == sorted(one, key=lambda p: p >= count) for one in found), "labelled ones come first"
    stream = beside(found, count)
    for number in range(len(stream) // unlabelled):
        one_pass = stream[number * unlabelled : (number + 1) * unlabelled]
        assert sorted(one_pass) == list(range(unlabelled)), "without replacement within a pass"


def test_the_share_is_of_a_steps_images() -> None:
    for share, expected in ((0.5, 8), (0.2, 2), (0.8, 32), (0.01, 1)):
        first = next(iter(batches(20, 8, 100, share)))
        assert len([p for p in first if p >= 20]) == expected
    last = list(batches(20, 8, 100, 0.5))[-1]  # the remainder of 4 has as many beside it
    assert (len(last), len([p for p in last if p >= 20])) == (8, 4)


@settings(max_examples=40, deadline=None)
@given(count=counts, batch=counts, unlabelled=counts, share=shares, step=st.integers(0, 60))
def test_seek_goes_on_where_an_unbroken_run_would_be(
    count: int, batch: int, unlabelled: int, share: float, step: int
) -> None:
    unbroken = batches(count, batch, unlabelled, share, seed=3)
    assert len(unbroken) == len(EpochBatches(count, batch, shuffle=True, seed=3))
    whole = list(itertools.chain.from_iterable(list(unbroken) for _ in range(step // len(unbroken) + 2)))
    resumed = batches(count, batch, unlabelled, share, seed=3)
    resumed.seek(step)
    rest = list(itertools.chain.from_iterable(list(resumed) for _ in range(2)))
    assert rest == whole[step : step + len(rest)]


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 40), half=st.integers(1, 10), unlabelled=st.integers(2, 40), share=shares)
def test_two_processes_take_equal_parts_of_the_same_images(
    count: int, half: int, unlabelled: int, share: float
) -> None:
    parts = [list(batches(count, 2 * half, unlabelled, share, rank=r, world=2)) for r in (0, 1)]
    taken: list[int] = []
    for first, second in zip(*parts, strict=True):
        sides = [[p for p in part if p >= count] for part in (first, second)]
        assert len(first) == len(second)
        assert len(sides[0]) == len(sides[1]) >= 1
        # Rank 0 takes the even places of the step's share and rank 1 the odd ones.
        taken += itertools.chain.from_iterable(zip(*sides, strict=True))
    one_pass = taken[:unlabelled]
    assert len(set(one_pass)) == len(one_pass), "no image twice in a pass, whichever process takes it"


def test_the_order_has_its_own_seed() -> None:
    first = beside(list(batches(8, 8, 30, 0.5, seed=0)), 8)
    assert first == beside(list(batches(8, 8, 30, 0.5, seed=0)), 8)
    assert first != beside(list(batches(8, 8, 30, 0.5, seed=1)), 8)
    labelled = EpochBatches(30, 30, shuffle=True, seed=0)
    assert first != next(iter(labelled))[: len(first)], "not the order of the labelled images"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def labelled(root: Path) -> PreparedData:
    return prepare_phantom(root, count=20, size=SIZE, seed=0, name="labelled", progress=False)


@pytest.fixture(scope="module")
def others(root: Path, labelled: PreparedData) -> PreparedData:
    """Other pictures under names of their own, all for training but one."""
    made = prepare_phantom(root, count=12, size=SIZE, seed=9, name="made", progress=False)
    for row in range(len(made)):
        for kind, path in (("images", made.image_path(row)), ("masks", made.mask_path(row))):
            target = root / "own" / kind / f"OTHER_{row}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    own = root / "own"
    return prepare_folder("others", root, own / "images", own / "masks", size=SIZE, progress=False)


def test_a_batch_has_masks_of_the_labelled_images_alone(labelled: PreparedData, others: PreparedData) -> None:
    rows, more = labelled.indices("train"), others.indices("train")
    images = PackDataset(labelled, rows, ImageRows(others, more))
    assert len(images) == len(rows) + len(more)
    batch = images.__getitems__([3, 1, len(rows) + 2, len(rows)])
    assert batch.image.shape == (4, 3, SIZE, SIZE)
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    expected = [*labelled.images[rows[[1, 3]]], *others.images[more[[0, 2]]]]
    for image, pixels in zip(batch.image, expected, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
    assert batch.has_mask.tolist() == [True, True, False, False]
    assert np.array_equal(batch.mask[:2, 0].numpy(), labelled.masks[rows[[1, 3]]])
    assert not batch.mask[2:].any()
    assert batch.row.tolist() == [*rows[[1, 3]], *(len(labelled) + more[[0, 2]])]
    assert images.image_ids(batch.row) == [
        *(labelled.manifest[row].image_id for row in rows[[1, 3]]),
        *(others.manifest[row].image_id for row in more[[0, 2]]),
    ]


def test_only_the_training_split_is_taken_less_exclusions(
    labelled: PreparedData, others: PreparedData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert unlabelled_rows(others, labelled, None).tolist() == others.indices("train").tolist()
    assert "dermdistill audit labelled others" in caplog.text
    gone = others.manifest[others.indices("train")[0]].image_id
    write_csv(tmp_path / "out.csv", [{"image_id": gone}], ["image_id"])
    rows = unlabelled_rows(others, labelled, tmp_path / "out.csv")
    assert gone not in {others.manifest[row].image_id for row in rows}
    assert len(rows) == len(others.indices("train")) - 1


def test_nothing_left_is_refused(labelled: PreparedData, others: PreparedData, tmp_path: Path) -> None:
    gone = [{"image_id": others.manifest[row].image_id} for row in others.indices("train")]
    write_csv(tmp_path / "out.csv", gone, ["image_id"])
    with pytest.raises(DataError, match="no unlabelled images"):
        unlabelled_rows(others, labelled, tmp_path / "out.csv")


def test_a_data_set_may_serve_its_own_training_images(labelled: PreparedData) -> None:
    """As with data.train_limit: few with masks, the rest without."""
    assert unlabelled_rows(labelled, labelled, None).tolist() == labelled.indices("train").tolist()


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("renamed", [False, True], ids=["by-name", "by-pixels"])
def test_validation_and_test_images_are_refused(
    split: str, renamed: bool, labelled: PreparedData, others: PreparedData, root: Path, tmp_path: Path
) -> None:
    """One image of the labelled set's other splits lies among the unlabelled ones."""
    leaked = int(labelled.indices(split)[0])
    name = "INNOCENT" if renamed else labelled.manifest[leaked].image_id
    source = labelled if renamed else others  # by name: another picture under the same name
    for kind in ("images", "masks"):
        folder = tmp_path / kind
        folder.mkdir()
        for path in (root / "own" / kind).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        row = leaked if renamed else 0
        path = source.image_path(row) if kind == "images" else source.mask_path(row)
        (folder / f"{name}{path.suffix}").write_bytes(path.read_bytes())
    manifest = [{"image_id": p.stem, "split": "train"} for p in (tmp_path / "images").iterdir()]
    manifest[0]["split"] = "val" if manifest[0]["image_id"] != name else "train"
    manifest[1]["split"] = "val" if manifest[0]["image_id"] == name else "train"
    write_csv(tmp_path / "manifest.csv", manifest, ["image_id", "split"])
    data = prepare_folder(
        "leaking", tmp_path, tmp_path / "images", tmp_path / "masks",
        manifest=tmp_path / "manifest.csv", size=SIZE, progress=False,
    )  # fmt: skip
    with pytest.raises(DataError, match=rf"(?s)1 of the .*of labelled.*{name}.*--data\.exclude"):
        unlabelled_rows(data, labelled, None)
    write_csv(tmp_path / "out.csv", [{"image_id": name}], ["image_id"])
    assert len(unlabelled_rows(data, labelled, tmp_path / "out.csv")) == len(data.indices("train")) - 1
