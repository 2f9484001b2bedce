"""An archive as units and rows, without an engine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermdistill.core.errors import DataError, UsageError
from dermdistill.inference.archive.table import done_partitions, schema, segment_unit, write_partition
from dermdistill.inference.archive.units import find_units
from dermdistill.inference.predictor import Predictor
from pictures import phantom

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def jpeg(index: int) -> bytes:
    stream = io.BytesIO()
    phantom(index).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images and a broken one in folders, a tar with two, a Parquet file with three in two groups."""
    root = tmp_path_factory.mktemp("archive")
    (root / "deep" / "er").mkdir(parents=True)
    for index, name in enumerate(("a.jpg", "deep/b.JPG", "deep/er/c.jpeg")):
        (root / name).write_bytes(jpeg(index))
    (root / "broken.png").write_bytes(b"no picture")
    (root / "notes.txt").write_text("not read")
    for hidden in ("._a.jpg", "__MACOSX/a.jpg"):
        (root / hidden).parent.mkdir(exist_ok=True)
        (root / hidden).write_bytes(b"not read")
    with tarfile.open(root / "shard.tar", "w") as tar:
        for name, content in (("x.jpg", jpeg(3)), ("x.json", b"{}"), ("y.jpg", b"broken")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    images = pa.table({"image_id": ["p", "q", "r"], "image": [jpeg(4), None, jpeg(5)]})
    parquet.write_table(images, root / "rows.parquet", row_group_size=2)
    return root


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(threads=1)


def test_everything_is_found_once_in_units(folder: Path) -> None:
    units = find_units([str(folder), str(folder / "a.jpg"), f"{folder}/**/*.jpeg"], images_each=3)
    assert [(unit.kind, len(unit.paths), unit.row_group) for unit in units] == [
        ("images", 3, -1), ("images", 1, -1), ("tar", 1, -1), ("parquet", 1, 0), ("parquet", 1, 1),
    ]  # fmt: skip
    names = {unit.name("model") for unit in units}
    assert len(names) == 5
    assert names.isdisjoint(unit.name("another") for unit in units)
    assert names == {unit.name("model") for unit in find_units([str(folder)], images_each=3)}


@pytest.mark.parametrize(
    ("source", "said"),
    [("{}/no*", "names no"), ("{}/gone", "names no"), ("odd://x/y", "cannot be reached")],
)
def test_sources_that_are_none_are_refused(source: str, said: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=said):
        find_units([source.format(folder)])


def test_each_picture_is_a_row_and_a_bad_one_says_why(folder: Path, predictor: Predictor) -> None:
    rows = [row for unit in find_units([str(folder)]) for row in segment_unit(unit, predictor, "sha")]
    by_name = {row["path"].removeprefix(f"{folder}/"): row for row in rows}
    assert set(by_name) == {
        "a.jpg", "deep/b.JPG", "deep/er/c.jpeg", "broken.png", "shard.tar#x.jpg", "shard.tar#y.jpg",
        "rows.parquet#p", "rows.parquet#q", "rows.parquet#r",
    }  # fmt: skip
    bad = {name for name, row in by_name.items() if row["error"]}
    assert bad == {"broken.png", "shard.tar#y.jpg", "rows.parquet#q"}
    assert all("area_px" not in by_name[name] for name in bad)
    assert {row["model_sha256"] for row in rows} == {"sha"}


def test_the_numbers_are_those_of_predict(folder: Path, predictor: Predictor) -> None:
    prediction = predictor(folder / "a.jpg")
    [row] = segment_unit(find_units([str(folder / "a.jpg")])[0], predictor, "sha", masks=True)
    assert (row["height"], row["width"]) == prediction.mask.shape
    assert row["area_px"] == np.count_nonzero(prediction.mask) > 0
    assert row["box"] == prediction.bounding_box
    assert row["confidence"] == pytest.approx(prediction.confidence)
    values = np.arange(len(row["rle"])) % 2
    flat = np.repeat(values, row["rle"])
    np.testing.assert_array_equal(flat.reshape(row["width"], row["height"]).T, prediction.mask)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["mask"]))) > 127, prediction.mask > 0)


def test_a_partition_is_there_in_full_or_not_at_all(
    folder: Path, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = str(tmp_path / "results.parquet")
    assert done_partitions(table) == set()
    unit = find_units([str(folder / "*.png")])[0]
    rows = list(segment_unit(unit, predictor, "sha"))
    write_partition(table, unit.name("sha"), rows)
    assert done_partitions(table) == {unit.name("sha")}
    assert parquet.read_table(table).schema == schema()

    def fails(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(parquet, "write_table", fails)
    with pytest.raises(DataError, match="disk full"):
        write_partition(table, unit.name("other"), rows)
    assert done_partitions(table) == {unit.name("sha")}


def test_a_tar_that_breaks_off_keeps_what_came_before(tmp_path: Path, predictor: Predictor) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("x.jpg", "y.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(jpeg(3))
            tar.addfile(member, io.BytesIO(jpeg(3)))
    (tmp_path / "cut.tar").write_bytes(stream.getvalue()[: len(jpeg(3)) + 2500])
    rows = list(segment_unit(find_units([str(tmp_path)])[0], predictor, "sha"))
    assert {row["path"].rpartition("/")[2]: bool(row["error"]) for row in rows} == {
        "cut.tar#x.jpg": False, "cut.tar": True,
    }  # fmt: skip
