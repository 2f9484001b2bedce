"""Which files are predicted, what is written, and what is never overwritten: no network, no torch."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermdistill import imaging
from dermdistill.artifacts.card import make_card
from dermdistill.cli import main
from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import read_csv, read_json
from dermdistill.imaging import contours
from dermdistill.imaging.find import LINES, find_images
from dermdistill.inference import shape
from dermdistill.inference.folder import predict_files
from dermdistill.inference.input_checks import fit_from_checks
from dermdistill.inference.predictor import Predictor
from dermdistill.inference.reference_statistics import MIN_IMAGES
from dermdistill.inference.workers import choose_workers
from dermdistill.inference.writers import COCO, DICOM_KINDS, KINDS, OUTLINE, TABLE, read_kinds

CARD = make_card(
    role="student", model={"arch": "unet-w4"}, input_size=32, mean=[0.5] * 3, std=[0.5] * 3,
    weights="w.pth", weights_sha256="ab", dataset={"name": "x", "fingerprint": "y"}, recipe="r",
    seed=0, parameters=1,
)  # fmt: skip
ALL = tuple(kind for kind in KINDS if kind not in DICOM_KINDS)


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
        list(predict_files(Predictor.from_backend(CARD, Darkness()), found, tmp_path / "out"))
    assert len(find_images([tmp_path / "out"])) == 2  # asked for by name


def test_a_file_of_the_users_is_never_overwritten(tmp_path: Path) -> None:
    save(tmp_path / "lesion.png", picture(30))
    truth = save(tmp_path / "lesion_mask.png", np.full((60, 90), 255, np.uint8))
    before = truth.read_bytes()
    predictor = Predictor.from_backend(CARD, Darkness())
    with pytest.raises(UsageError, match="where the results are to go"):
        list(predict_files(predictor, [tmp_path / "lesion.png"], tmp_path / "." / ".." / tmp_path.name))
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
    paths[1] = tmp_path / "in" / "1.jpg"
    Image.fromarray(picture(300, 2000, 1500)).save(paths[1])  # its decoder shrinks it: it is opened again

    class Vanishing(Darkness):
        def __call__(self, batch: np.ndarray) -> np.ndarray:
            paths[1].write_bytes(b"gone")
            return super().__call__(batch)

    lines = list(
        predict_files(Predictor.from_backend(CARD, Vanishing()), paths, tmp_path / "out", batch_size=3)
    )
    assert [isinstance(line, DataError) for line in lines] == [False, True, False]
    assert not (tmp_path / "out" / "1_mask.png").exists()


def test_the_line_of_json_says_what_the_mask_says(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "lésion.png", picture(30))
    (line,) = predict_files(Predictor.from_backend(CARD, Darkness()), [path], tmp_path / "out")
    assert isinstance(line, dict)
    mask, greys = imaging.read_mask(Path(line["mask"]))
    assert not greys
    assert mask.shape == (line["height"], line["width"]) == (60, 90)
    assert line["area_fraction"] == pytest.approx(mask.mean(), abs=1e-6)
    x0, y0, x1, y1 = line["bounding_box"]
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    assert mask[y0].any() and mask[y1 - 1].any() and mask[:, x0].any() and mask[:, x1 - 1].any()  # noqa: PT018
    assert 0.5 < line["confidence"] <= 1
    assert line["threshold"] == 0.5
    assert line["uncertainty"] is None
    assert line["measures"]["area_px"] == pytest.approx(mask.sum(), rel=0.05)
    assert line["not_checked"] == ["not_dermoscopy"]  # this card has no reference
    assert line["model"] == {"recipe": "r", "weights_sha256": "ab"}
    assert imaging.read_image(Path(line["overlay"])).shape == (60, 90, 3)
    written = (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8")
    assert json.loads(written) == json.loads(json.dumps(line))
    assert "lésion" in written


def test_batches_of_anything_and_folders(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", picture(10 * i)) for i in range(3)]
    predictor = Predictor.from_backend(CARD, Darkness())
    masks = [prediction.mask for _, prediction in predictor.predict_folder(tmp_path, 2)]
    mixed = [str(paths[0]), paths[1].read_bytes(), picture(20), b"no image"]
    found = list(predictor.predict_many(mixed, 3))
    assert [source for source, _ in found] == mixed
    for mask, (_, prediction) in zip(masks, found, strict=False):
        assert not isinstance(prediction, DataError)
        assert np.array_equal(mask, prediction.mask)
    assert isinstance(found[3][1], DataError)
    with pytest.raises(UsageError, match="names no image"):
        predictor.predict_folder(tmp_path / "absent")


def test_confidence_of_an_empty_mask_is_that_of_no_lesion() -> None:
    found = Predictor.from_backend(CARD, Darkness())(np.full((40, 50, 3), 204, np.uint8))
    assert found.area_fraction == 0
    assert found.confidence == pytest.approx(0.8)


def test_every_output_is_written_when_asked_and_none_else(tmp_path: Path) -> None:
    paths = [save(tmp_path / "in" / f"{i}.png", picture(20 + i)) for i in range(2)]
    for kinds in ((), ("mask",), ALL):
        out = tmp_path / f"out{len(kinds)}"
        predictor = Predictor.from_backend(CARD, Darkness(), tta=True)
        lines = list(predict_files(predictor, paths, out, outputs=kinds, mm_per_pixel=0.1))
        per_image = {KEYS[kind] for kind in kinds if kind in KEYS}
        assert all(per_image == set(KEYS.values()) & set(line) for line in lines if isinstance(line, dict))
        written = {Path(line[kind]) for line in lines if isinstance(line, dict) for kind in per_image}
        written |= {out / "predictions.jsonl"}
        whole_call = (("coco", COCO), ("coco", "coco.jsonl"), ("csv", TABLE))
        written |= {out / name for kind, name in whole_call if kind in kinds}
        assert set(out.iterdir()) == written
    rows = read_csv(tmp_path / f"out{len(ALL)}" / TABLE)
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert float(rows[0]["area_mm2"]) == pytest.approx(float(rows[0]["area_px"]) / 100, rel=1e-3)
    assert len(read_json(out / COCO)["images"]) == 2
    probability = np.asarray(Image.open(out / "0_probability.png")) / 255
    expected = Predictor.from_backend(CARD, Darkness())(paths[0]).prob
    np.testing.assert_allclose(probability, expected, atol=0.02)
    assert np.asarray(Image.open(out / "0_uncertainty.png")).max() < 30  # the views of this backend agree


KEYS = {
    "mask": "mask", "overlay": "overlay", "probability": "probability_map", "uncertainty": "uncertainty_map",
    "geojson": "geojson",
}  # fmt: skip


def test_equal_names_in_two_folders_keep_their_paths(tmp_path: Path) -> None:
    paths = [save(tmp_path / "in" / f / "x.png", picture(30 + i)) for i, f in enumerate(("a", "b", "b/c"))]
    predictor, kinds, out = Predictor.from_backend(CARD, Darkness()), ("geojson", "coco"), tmp_path / "out"

    def names() -> tuple[list[str], list[str]]:
        collections = [read_json(out / f"x{end}.geojson") for end in ("", "-2", "-3")[: len(lines)]]
        images = read_json(out / COCO)["images"]
        return [one["image"]["name"] for one in collections], [one["file_name"] for one in images]

    lines = list(predict_files(predictor, paths[:1], out, outputs=kinds))
    assert names() == (["x.png"], ["x.png"])
    lines += predict_files(predictor, paths, out, outputs=kinds, resume=True)
    assert names()[1] == ["a/x.png", "b/x.png", "b/c/x.png"]  # the first, which was kept, too
    list(predict_files(predictor, paths, out, outputs=kinds, workers=2))
    assert names() == (["a/x.png", "b/x.png", "b/c/x.png"], ["a/x.png", "b/x.png", "b/c/x.png"])


def test_long_names_have_results_and_stay_apart(tmp_path: Path) -> None:
    names = ["a" * 251, "a" * 250 + "b", "é" * 125]  # as long as the system takes, with .png
    paths = [save(tmp_path / "in" / f"{name}.png", picture(30)) for name in names]
    predictor = Predictor.from_backend(CARD, Darkness())
    lines = list(predict_files(predictor, paths, tmp_path / "out"))
    assert len({line["mask"] for line in lines if isinstance(line, dict)}) == 3
    assert list(predict_files(predictor, paths, tmp_path / "out", resume=True)) == []


def test_kinds_are_read_from_text() -> None:
    assert read_kinds("mask, geojson,mask") == ("mask", "geojson")
    assert read_kinds("") == ()
    assert "uncertainty" not in read_kinds("all")
    assert len(read_kinds("all")) == len(ALL) - 1
    assert read_kinds("all", views=True) == ALL
    with pytest.raises(UsageError, match="Perhaps you meant 'geojson'"):
        read_kinds("mask,geo-json")


def test_a_map_of_uncertainty_needs_views(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "a.png", picture(20))
    predictor = Predictor.from_backend(CARD, Darkness())
    with pytest.raises(UsageError, match="--tta"):
        list(predict_files(predictor, [path], tmp_path / "out", outputs=["uncertainty"]))


def test_the_overlay_is_the_photo_with_a_clean_line(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "a.png", picture(30))
    (line,) = predict_files(Predictor.from_backend(CARD, Darkness()), [path], tmp_path / "out")
    assert isinstance(line, dict)
    drawn = imaging.read_image(Path(line["overlay"])).astype(int)
    mask = imaging.read_mask(Path(line["mask"]))[0]
    x0, y0, x1, y1 = line["bounding_box"]
    middle = (y0 + y1) // 2
    for x in (x0, x1):
        near = drawn[middle, x - 1 : x + 1].mean(axis=0)
        assert np.abs(near - OUTLINE).max() < 70  # the line's colour, not washed out by compression
    far = np.ones_like(mask, bool)
    far[y0 - 6 : y1 + 6, x0 - 6 : x1 + 6] = False
    assert np.abs(drawn[far] - picture(30)[far]).max() < 12


def test_uncertainty_grows_with_disagreement_between_views() -> None:
    class Lopsided(Darkness):
        """Sees lesions in the left half only, so that mirrored views disagree."""

        def __call__(self, batch: np.ndarray) -> np.ndarray:
            prob = super().__call__(batch)
            prob[..., 16:] = 0
            return prob

    left = picture(5, width=100, height=100)
    agreeing = Predictor.from_backend(CARD, Darkness(), tta=True)(left)
    split = Predictor.from_backend(CARD, Lopsided(), tta=True)(left)
    assert agreeing.uncertainty is not None
    assert split.uncertainty is not None
    assert agreeing.uncertainty_map is not None
    assert split.uncertainty_map is not None
    assert agreeing.uncertainty < 0.05
    # Two views see the lesion, two see nothing: of six pairs two agree.
    assert split.uncertainty == pytest.approx(4 / 6, abs=0.1)
    assert split.uncertainty_map.shape == (100, 100)
    assert split.uncertainty_map[25:35, 8:30].mean() > 0.3
    assert agreeing.uncertainty_map.max() < 0.05


def test_a_reference_is_fitted_from_the_predictors_own_answers() -> None:
    images = [picture(5 + i % 40, 80 + i % 7, 70) + np.uint8(i % 20) for i in range(MIN_IMAGES)]
    predictor = Predictor.from_backend(CARD, Darkness())
    reference = predictor.fit_reference(images, batch_size=7)
    assert reference == fit_from_checks([predictor(image).checks for image in images], CARD.threshold)
    assert reference["images"] == MIN_IMAGES
    with pytest.raises(DataError, match="cannot be fitted on 3 images"):
        predictor.fit_reference(images[:3])
    with pytest.raises(DataError, match="no pixels"):
        predictor(np.zeros((0, 5, 3), np.uint8))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_workers_change_nothing_but_the_time(tmp_path: Path, batch_size: int) -> None:
    paths = [save(tmp_path / f"in{i % 3}" / f"p{i // 3}.png", picture(4 * i, 90 + i)) for i in range(12)]
    paths[5].write_bytes(b"no image")
    found = []
    for workers in (1, 4):
        predictor = Predictor.from_backend(CARD, Darkness())
        (tmp_path / "out").mkdir()
        lines = list(
            predict_files(
                predictor, paths, tmp_path / "out", outputs=ALL[:3] + ALL[4:], batch_size=batch_size,
                workers=workers,
            )
        )  # fmt: skip
        assert [isinstance(line, DataError) for line in lines].index(True) == 5
        found.append(snapshot(tmp_path / "out"))
        (tmp_path / "out").rename(tmp_path / f"done{workers}")
    assert found[0] == found[1]


def test_a_call_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"in{i % 2}" / f"p{i // 2}.png", picture(4 * i, 90 + i)) for i in range(8)]
    kinds = ("mask", "overlay", "coco", "csv")
    backend = Darkness()
    predictor = Predictor.from_backend(CARD, backend)
    list(predict_files(predictor, paths, tmp_path / "out", outputs=kinds))
    whole = snapshot(tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    lines = predict_files(predictor, paths, tmp_path / "out", outputs=kinds)
    first = [next(lines) for _ in range(3)]
    lines.close()  # type: ignore[attr-defined]
    text = (tmp_path / "out" / LINES).read_text(encoding="utf-8")
    assert [json.loads(line)["path"] for line in text.splitlines()] == [str(path) for path in paths[:3]]
    (tmp_path / "out" / LINES).write_text(text + '{"path": "cut o', encoding="utf-8")  # as a kill leaves it
    (tmp_path / "out" / "p0_overlay.jpg").unlink()  # the first is not whole any more
    backend.batches.clear()
    rest = list(predict_files(predictor, paths, tmp_path / "out", outputs=kinds, resume=True))
    assert len(first) + len(rest) == 9
    assert sum(backend.batches) == 6
    after = snapshot(tmp_path / "out")
    for name in set(whole) - {LINES, "coco.jsonl", COCO, TABLE}:
        assert after[name] == whole[name]
    assert sorted(after[LINES].splitlines()) == sorted(whole[LINES].splitlines())
    assert len(read_csv(tmp_path / "out" / TABLE)) == len(read_json(tmp_path / "out" / COCO)["images"]) == 8


def test_results_of_another_model_are_not_gone_on_with(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "a.png", picture(20))
    list(predict_files(Predictor.from_backend(CARD, Darkness()), [path], tmp_path / "out"))
    other = Predictor.from_backend(CARD.model_copy(update={"weights_sha256": "cd"}), Darkness())
    with pytest.raises(UsageError, match="another model"):
        list(predict_files(other, [path], tmp_path / "out", resume=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_with_one_message_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    paths = [save(tmp_path / "in" / f"{i}.png", picture(4 * i)) for i in range(6)]
    written: list[Path] = []
    real = imaging.write_bytes

    def full(path: Path, content: bytes) -> None:
        if path.name.startswith("3_overlay"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, content)
        written.append(path)

    monkeypatch.setattr(imaging, "write_bytes", full)
    lines = predict_files(Predictor.from_backend(CARD, Darkness()), paths, tmp_path / "out", workers=workers)
    done = []
    with pytest.raises(DataError, match="disk is full"):
        done.extend(iter(lines.__next__, None))
    text = (tmp_path / "out" / LINES).read_text(encoding="utf-8")
    assert [Path(json.loads(line)["path"]).stem for line in text.splitlines()] == ["0", "1", "2"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {LINES, *(path.name for path in written)}


def test_a_file_in_the_folders_place_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "a.png", picture(20))
    with pytest.raises(DataError, match="cannot be written"):
        list(predict_files(Predictor.from_backend(CARD, Darkness()), [path], path / "out"))


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    many = [tmp_path / str(number) for number in range(1000)]
    assert choose_workers(many, None, None) == (8, 1)
    assert choose_workers(many[:1], None, None) == (1, 8)
    assert choose_workers(many[:20], None, None) == (1, 8)  # done before a second process has begun
    for path in many[:3]:
        path.write_bytes(bytes(20_000_000))
    assert choose_workers(many[:3], None, None) == (3, 2)
    assert choose_workers(many, 2, 3) == (2, 3)


def test_processes_write_what_one_alone_writes(tmp_path: Path, tiny_onnx: Path) -> None:
    paths = [save(tmp_path / "in" / f"{i}.png", picture(4 * i, 90 + i)) for i in range(6)]
    paths[2].write_bytes(b"no image")
    predictor = Predictor(tiny_onnx, threads=1)
    found = []
    for workers in (1, 2):
        lines = list(predict_files(predictor, paths, tmp_path / "out", workers=workers))
        assert [isinstance(line, DataError) for line in lines] == [False, False, True, False, False, False]
        found.append(snapshot(tmp_path / "out"))
        (tmp_path / "out").rename(tmp_path / f"done{workers}")
    assert found[0] == found[1]


def test_the_mask_is_that_of_the_whole_map_bit_by_bit() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((20, 30), (64, 64), (501, 77), (1000, 700)):
        coarse = Image.fromarray(rng.random((9, 9), dtype=np.float32)).resize(
            (64, 64), Image.Resampling.BICUBIC
        )
        prob = np.asarray(coarse).clip(0, 1)
        for threshold in (0.5, 0.9, 0.999):
            restored = imaging.restore_prob(prob, height, width)
            region = imaging.restore_region(prob, height, width, threshold)
            mask = imaging.to_mask(restored, threshold)
            assert np.array_equal(region.mask, mask)
            assert region.count == mask.sum()
            assert region.prob_sum == pytest.approx(restored[mask > 0].sum(dtype=np.float64), abs=1e-6)
            if region.bounding_box is None:
                assert not mask.any()
            else:
                x0, y0, x1, y1 = region.bounding_box
                assert mask[y0:y1, x0:x1].sum() == mask.sum()
                assert mask[[y0, y1 - 1]].any(axis=1).all()
                assert mask[:, [x0, x1 - 1]].any(axis=0).all()


def test_nothing_is_computed_that_no_output_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "in" / "a.png", picture(40))
    calls: Counter[str] = Counter()

    def count(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, counted)

    for module, name in (
        (imaging, "draw_outlines"),
        (imaging, "encode_jpeg"),
        (imaging, "open_picture"),
        (contours, "polygons"),
        (shape, "measure"),
    ):
        count(module, name)
    predictor = Predictor.from_backend(CARD, Darkness())
    prediction = predictor(path)
    assert prediction.mask.any()
    assert prediction.area_fraction > 0
    assert calls == {"open_picture": 1}  # neither outlines nor measures were asked for
    calls.clear()
    list(predict_files(predictor, [path], tmp_path / "mask", outputs=["mask"]))
    assert calls == {"open_picture": 1, "polygons": 1, "measure": 1}  # the line of JSON has measures
    calls.clear()
    list(predict_files(predictor, [path], tmp_path / "both"))
    assert calls == {"open_picture": 1, "polygons": 1, "measure": 1, "draw_outlines": 1, "encode_jpeg": 1}


def test_names_that_are_hard_are_read_and_told_as_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = [
        b"latin\xe9.png",
        b"\x1b[31mred.png",
        b"two\nlines.png",
        b"=SUM(A1).png",
        b"c\xc2\x9b1.png",
        b"l" * 250 + b".png",
    ]
    (tmp_path / "in").mkdir()
    for name in raw:
        Image.new("RGB", (40, 30), "tan").save(tmp_path / "in" / os.fsdecode(name))
    broken = tmp_path / "in" / os.fsdecode(b"broken\xff\x1b.png")
    broken.write_bytes(b"no picture")
    command = ["predict", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--outputs", "all"]
    assert main([*command, "--threads", "1"]) == 1
    printed = capsys.readouterr()
    assert all(sign.isprintable() or sign == "\n" for sign in printed.out + printed.err)
    assert "broken\\udcff\\x1b.png" in printed.err
    lines = [json.loads(line) for line in (tmp_path / "out" / LINES).read_text(encoding="utf-8").splitlines()]
    assert {os.fsencode(Path(line["path"]).name) for line in lines} == set(raw)
    assert all(Path(line["mask"]).is_file() for line in lines)
    assert len(read_csv(tmp_path / "out" / TABLE)) == len(raw)
    assert len(read_json(tmp_path / "out" / COCO)["images"]) == len(raw)
    with (tmp_path / "out" / LINES).open("a") as stream:
        stream.write('5\n{"path": 1}\n{"torn')
    assert main([*command, "--threads", "1", "--resume"]) == 1
    assert len((tmp_path / "out" / LINES).read_text(encoding="utf-8").splitlines()) == len(raw)
