"""Which files are predicted, what is written, and what is never overwritten: no network, no torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermdistill import imaging
from dermdistill.card import make_card
from dermdistill.errors import DataError, UsageError
from dermdistill.predict import Predictor, find_images, write_outputs

CARD = make_card(
    role="student", model={"arch": "unet-w4"}, input_size=32, mean=[0.5] * 3, std=[0.5] * 3,
    weights="w.pth", weights_sha256="ab", dataset={"name": "x", "fingerprint": "y"}, recipe="r",
    seed=0, parameters=1,
)  # fmt: skip


class Darkness:
    """A backend in numpy: dark is lesion. It remembers the sizes of its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        assert batch.dtype == np.float32
        assert batch.shape[1:] == (3, 32, 32)
        assert 0 <= batch.min() <= batch.max() <= 1
        self.batches.append(len(batch))
        return (1 - batch.mean(axis=1, keepdims=True)).astype(np.float32)


def picture(left: int, width: int = 90, height: int = 60) -> np.ndarray:
    image = np.full((height, width, 3), 230, np.uint8)
    image[20:40, left : left + 30] = 20
    return image


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def test_each_file_is_found_once_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/p10.png", "a/p2.PNG", "a/deep/p1²3.jpg", "a/notes.txt", "b/p.tif", "b/odd.dat"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    given = ["b/odd.dat", "a", str(tmp_path / "a" / "p2.PNG"), "b/../a/p10.png", "*/*"]
    found = [path.as_posix() for path in find_images(given)]
    assert found == ["b/odd.dat", "a/deep/p1²3.jpg", "a/p2.PNG", "a/p10.png", "b/p.tif"]
    assert [path.name for path in find_images(["**/*.jpg"])] == ["p1²3.jpg"]
    for nothing in ("c", "*.bmp", "a/[", str(tmp_path / "a" / "notes")):
        with pytest.raises(UsageError, match="names no image"):
            find_images(["a", nothing])


def test_results_of_an_earlier_call_are_not_taken_for_photos(tmp_path: Path) -> None:
    save(tmp_path / "lesion.png", picture(30))
    for _ in range(2):
        found = find_images([tmp_path])
        assert [path.name for path in found] == ["lesion.png"]
        list(
            write_outputs(
                tmp_path / "out", Predictor.from_backend(CARD, Darkness()).predict_many(found), progress=False
            )
        )
    assert len(find_images([tmp_path / "out"])) == 2  # asked for by name


def test_a_file_of_the_users_is_never_overwritten(tmp_path: Path) -> None:
    save(tmp_path / "lesion.png", picture(30))
    truth = save(tmp_path / "lesion_mask.png", np.full((60, 90), 255, np.uint8))
    before = truth.read_bytes()
    predictions = Predictor.from_backend(CARD, Darkness()).predict_many([tmp_path / "lesion.png"])
    with pytest.raises(UsageError, match="where the results are to go"):
        list(write_outputs(tmp_path / "." / ".." / tmp_path.name, predictions, progress=False))
    assert truth.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_batches_mix_sizes_and_broken_files_and_keep_the_order(tmp_path: Path, batch_size: int) -> None:
    paths = [save(tmp_path / f"{i}.png", picture(10 * i, width=90 + 7 * i)) for i in range(5)]
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(paths[0].read_bytes()[:60])
    paths.insert(2, truncated)
    paths.append(tmp_path / "absent.png")
    backend = Darkness()
    predictor = Predictor.from_backend(CARD, backend)
    found = list(predictor.predict_many(paths, batch_size))
    assert [path for path, _ in found] == paths
    assert max(backend.batches) <= batch_size
    assert sum(backend.batches) == 5
    for path, prediction in found:
        if path in (truncated, paths[-1]):
            assert isinstance(prediction, DataError)
            assert path.name in str(prediction)
        else:
            assert not isinstance(prediction, DataError)
            alone = predictor(path)
            assert np.array_equal(alone.mask, prediction.mask)
            assert prediction.mask.shape == (60, imaging.image_size(path)[0])


def test_an_image_that_breaks_before_its_overlay_is_reported_and_skipped(tmp_path: Path) -> None:
    paths = [save(tmp_path / "in" / f"{i}.png", picture(30)) for i in range(3)]
    predictions = list(Predictor.from_backend(CARD, Darkness()).predict_many(paths))
    paths[1].write_bytes(b"gone")
    lines = list(write_outputs(tmp_path / "out", predictions, progress=False))
    assert [isinstance(line, DataError) for line in lines] == [False, True, False]
    assert not (tmp_path / "out" / "1_mask.png").exists()


def test_the_line_of_json_says_what_the_mask_says(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "lésion.png", picture(30))
    (line,) = write_outputs(
        tmp_path / "out", Predictor.from_backend(CARD, Darkness()).predict_many([path]), progress=False
    )
    assert isinstance(line, dict)
    mask, greys = imaging.read_mask(Path(line["mask"]))
    assert not greys
    assert mask.shape == (line["height"], line["width"]) == (60, 90)
    assert line["area_fraction"] == pytest.approx(mask.mean(), abs=1e-6)
    x0, y0, x1, y1 = line["bounding_box"]
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    assert mask[y0].any() and mask[y1 - 1].any() and mask[:, x0].any() and mask[:, x1 - 1].any()  # noqa: PT018
    assert 0.5 < line["mean_confidence"] <= 1
    assert line["model"] == {"recipe": "r", "weights_sha256": "ab"}
    assert imaging.read_image(Path(line["overlay"])).shape == (60, 90, 3)
    written = (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8")
    assert json.loads(written) == json.loads(json.dumps(line))
    assert "lésion" in written


def test_confidence_of_an_empty_mask_is_that_of_no_lesion() -> None:
    found = Predictor.from_backend(CARD, Darkness())(np.full((40, 50, 3), 204, np.uint8))
    assert found.area_fraction == 0
    assert found.mean_confidence == pytest.approx(0.8)
