from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fileserver import FileServer
from PIL import Image
from smallfiles import encode, image_bytes, mask_bytes, write, zip_bytes

from dermdistill.data import fetch, packing
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare import ensure_prepared, prepare_source
from dermdistill.data.sources import SOURCES, find_source
from dermdistill.errors import ArchiveError, DataError, MismatchError, UsageError


def _folder(name: str, files: dict[str, bytes]) -> bytes:
    """An official zip holds one folder of its own name."""
    return zip_bytes({f"{name.removesuffix('.zip')}/{file}": content for file, content in files.items()})


def _archives(source: str) -> dict[str, bytes]:
    """Tiny archives in the official layout: 6 training images, 2 of every other split."""
    found: dict[str, bytes] = {}
    first = {"train": 0, "val": 100, "test": 200}
    for file in SOURCES[source].files:
        numbers = range(first[file.split], first[file.split] + (6 if file.split == "train" else 2))
        images = {f"ISIC_{n:07d}.jpg": image_bytes(seed=n) for n in numbers}
        ending = "_Segmentation.png" if source.startswith("isic2016") else "_segmentation.png"
        masks = {f"ISIC_{n:07d}{ending}": mask_bytes(seed=n) for n in numbers}
        if source == "isic2017":
            images |= {f"ISIC_{n:07d}_superpixels.png": image_bytes(".png") for n in numbers}
            images["ISIC-2017_Training_Data_metadata.csv"] = b"image_id,age,sex\n"
        words = ("benign", "malignant") if file.split == "train" else ("0.0", "1.0")
        match file.content:
            case "images":
                found[file.file] = _folder(file.file, images)
            case "masks":
                found[file.file] = _folder(file.file, masks)
            case "both":
                found[file.file] = _folder(file.file, images | masks)
            case "labels":
                found[file.file] = "".join(f"ISIC_{n:07d},{words[n % 2]}\n" for n in numbers).encode()
    return found


def _with_checksums(monkeypatch: pytest.MonkeyPatch, source: str, archives: dict[str, bytes]) -> None:
    """Make the catalogue expect these archives, so that they pass the check."""
    files = tuple(
        dataclasses.replace(
            file,
            md5=hashlib.md5(archives[file.file]).hexdigest(),
            sha256=None,
            bytes=len(archives[file.file]),
        )
        for file in SOURCES[source].files
    )
    monkeypatch.setitem(SOURCES, source, dataclasses.replace(SOURCES[source], files=files))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``serve(source, archives)``: a running server with the official paths."""
    monkeypatch.setenv("no_proxy", "*")
    running: list[FileServer] = []

    def start(source: str, archives: dict[str, bytes]) -> FileServer:
        year = SOURCES[source].files[0].year
        server = FileServer({f"/{year}/{name}": content for name, content in archives.items()})
        running.append(server.__enter__())
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)


def _counts(data: PreparedData) -> list[int]:
    return [len(data.indices(split)) for split in ("train", "val", "test")]


def _prepare(name: str, root: Path, **how: Any) -> PreparedData:
    return prepare_source(name, root, **({"size": 32, "progress": False, "backoff": 0.01} | how))


@pytest.mark.parametrize(
    ("name", "part", "counts"),
    [
        ("isic2016", "1", [5, 1, 2]),
        ("isic2016", "3b", [5, 1, 2]),
        ("isic2017", "1", [6, 2, 2]),
        ("isic2018", "1", [6, 2, 2]),
    ],
)
def test_download_to_pack(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    name: str, part: str, counts: list[int],
) -> None:  # fmt: skip
    source = "isic2016-3b" if part == "3b" else name
    archives = _archives(source)
    _with_checksums(monkeypatch, source, archives)
    server = serve(source, archives)
    how: dict[str, Any] = {"part": part} if name == "isic2016" else {}
    data = _prepare(name, tmp_path, bases=[server.base], **how)
    assert data.name == source
    assert _counts(data) == counts
    assert not any("superpixels" in path.name for path in data.folder.rglob("*"))
    assert data.info["license"] == SOURCES[source].license
    assert ("carved" in data.info["validation"].split(";")[0]) == (name == "isic2016")
    assert all(record["verified"] for record in data.info["source"]["files"])
    if part == "3b":
        assert {row.image_id: row.diagnosis for row in data.manifest}["ISIC_0000201"] == "malignant"
    asked = len(server.requests)
    with caplog.at_level(logging.INFO):
        again = _prepare(name, tmp_path, bases=[server.base], **how)
    assert "nothing to do" in caplog.text
    assert len(server.requests) == asked
    assert again.fingerprint == data.fingerprint
    bigger = ensure_prepared(source, tmp_path, 48, progress=False)
    assert bigger.images.shape[1] == 48
    assert len(server.requests) == asked


def test_hand_fetched_archives_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = _archives("isic2016")
    _with_checksums(monkeypatch, "isic2016", archives)
    for name, content in archives.items():
        write(tmp_path / "by-hand" / name, content)
    monkeypatch.setattr(fetch, "download", None)
    data = _prepare("isic2016", tmp_path / "data", archives=tmp_path / "by-hand")
    assert _counts(data) == [5, 1, 2]
    assert (tmp_path / "by-hand" / "ISBI2016_ISIC_Part1_Test_Data.zip").exists()


def test_a_name_of_ones_own(tmp_path: Path) -> None:
    for name, content in _archives("isic2016").items():
        write(tmp_path / "by-hand" / name, content)
    how: dict[str, Any] = {"archives": tmp_path / "by-hand", "verify": False}
    data = _prepare("isic2016", tmp_path, folder_name="mine", **how)
    assert (data.name, data.folder) == ("mine", tmp_path / "mine")
    assert not (tmp_path / "isic2016").exists()
    assert "--name mine" in data.info["command"]
    assert ensure_prepared("mine", tmp_path, 48, progress=False).images.shape[1] == 48
    for taken in ("isic2018", "phantom"):
        with pytest.raises(UsageError, match="catalogue"):
            _prepare("isic2016", tmp_path, folder_name=taken, **how)


def test_absent_archives_are_listed_with_addresses(tmp_path: Path) -> None:
    archives = _archives("isic2016")
    name = "ISBI2016_ISIC_Part1_Training_Data.zip"
    write(tmp_path / "by-hand" / name, archives[name])
    with pytest.raises(ArchiveError, match="lacks 3 of 4") as caught:
        _prepare("isic2016", tmp_path / "data", archives=tmp_path / "by-hand")
    for absent in set(archives) - {name}:
        assert f"/2016/{absent}" in caught.value.found
    assert f"/2016/{name}" not in caught.value.found


def test_a_wrong_archive_is_refused_by_hand_too(tmp_path: Path) -> None:
    for name, content in _archives("isic2016").items():
        write(tmp_path / "by-hand" / name, content)
    with pytest.raises(ArchiveError, match="md5") as caught:
        _prepare("isic2016", tmp_path / "data", archives=tmp_path / "by-hand")
    assert "--no-verify" in caught.value.mend
    expected = {file.md5 for file in SOURCES["isic2016"].files}
    assert any(str(md5) in caught.value.expected for md5 in expected)
    data = _prepare("isic2016", tmp_path / "data", archives=tmp_path / "by-hand", verify=False)
    assert not any(record["verified"] for record in data.info["source"]["files"])


def test_second_base(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = _archives("isic2018")
    _with_checksums(monkeypatch, "isic2018", archives)
    server = serve("isic2018", archives)
    data = _prepare("isic2018", tmp_path, bases=[server.base + "/old", server.base])
    assert _counts(data) == [6, 2, 2]


def test_goes_on_after_a_failed_download(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = _archives("isic2016")
    _with_checksums(monkeypatch, "isic2016", archives)
    server = serve("isic2016", archives)
    late = "/2016/ISBI2016_ISIC_Part1_Test_GroundTruth.zip"
    body = server.files.pop(late)
    with pytest.raises(DataError, match="404"):
        _prepare("isic2016", tmp_path, bases=[server.base])
    server.files[late] = body
    done = {path.name for path in (tmp_path / "isic2016" / "raw").glob("*.json")}
    server.requests.clear()
    data = _prepare("isic2016", tmp_path, bases=[server.base])
    assert _counts(data) == [5, 1, 2]
    asked = {path.rpartition("/")[2] for path, _ in server.requests}
    assert not asked & {name.removesuffix(".json") + ".zip" for name in done}


def test_goes_on_after_an_interruption_in_the_pack(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = _archives("isic2016")
    _with_checksums(monkeypatch, "isic2016", archives)
    server = serve("isic2016", archives)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing, "read_image", stop)
        with pytest.raises(KeyboardInterrupt):
            _prepare("isic2016", tmp_path, bases=[server.base])
    server.requests.clear()
    assert _counts(_prepare("isic2016", tmp_path, bases=[server.base])) == [5, 1, 2]
    assert not server.requests


def test_archives_are_dropped_when_asked(tmp_path: Path, serve: Any) -> None:
    archives = _archives("isic2016")
    server = serve("isic2016", archives)
    data = _prepare("isic2016", tmp_path, bases=[server.base], verify=False, discard=True)
    assert not (data.folder / "archives").exists()
    assert data.native_mask(0).any()


def test_an_evil_archive_is_refused(tmp_path: Path) -> None:
    archives = _archives("isic2016")
    stream = io.BytesIO(archives["ISBI2016_ISIC_Part1_Test_Data.zip"])
    with zipfile.ZipFile(stream, "a") as bundle:
        bundle.writestr("../../../evil.txt", "evil")
    archives["ISBI2016_ISIC_Part1_Test_Data.zip"] = stream.getvalue()
    for name, content in archives.items():
        write(tmp_path / "by-hand" / name, content)
    with pytest.raises(ArchiveError, match=r"evil\.txt"):
        _prepare("isic2016", tmp_path / "data", archives=tmp_path / "by-hand", verify=False)
    assert not list(tmp_path.rglob("evil.txt"))


def test_other_settings_are_refused(tmp_path: Path, serve: Any) -> None:
    server = serve("isic2016", _archives("isic2016"))
    _prepare("isic2016", tmp_path, bases=[server.base], verify=False)
    with pytest.raises(MismatchError, match="seed"):
        _prepare("isic2016", tmp_path, bases=[server.base], verify=False, seed=7)


def _write_ph2(folder: Path) -> None:
    for n in (2, 3, 4):
        name = f"IMD{n:03d}"
        place = folder / "PH2Dataset" / "PH2 Dataset images" / name
        write(place / f"{name}_Dermoscopic_Image" / f"{name}.bmp", image_bytes(".bmp", seed=n))
        with Image.open(io.BytesIO(mask_bytes(seed=n))) as mask:
            mode = "RGB" if n == 2 else "1"  # as in the copy that was looked at
            write(place / f"{name}_lesion" / f"{name}_lesion.bmp", encode(mask.convert(mode), ".bmp"))


def test_ph2_is_a_test_set(tmp_path: Path) -> None:
    _write_ph2(tmp_path / "ph2")
    data = _prepare("ph2", tmp_path / "data", archives=tmp_path / "ph2")
    assert _counts(data) == [0, 0, 3]
    assert [row.image_id for row in data.manifest] == ["IMD002", "IMD003", "IMD004"]
    assert set(np.unique(data.masks)) == {0, 1}
    assert "carved" not in json.dumps(data.info["validation"]).split(";")[0]


PH2_TABLE = """||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment || Colors ||
|| IMD002 ||                        ||                  1 ||         1 |       T ||   3  4 ||
|| IMD003 ||                        ||                  0 ||         0 |       T ||      4 ||
|| IMD004 ||               Melanoma ||                  2 ||         2 |      AT ||   1  4 ||

Legends
 Clinical Diagnosis: 0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma.
"""


@pytest.mark.parametrize("inner", [False, True], ids=["the archive's folder", "the folder of images"])
def test_ph2_diagnoses_are_read_from_its_table(tmp_path: Path, inner: bool) -> None:
    _write_ph2(tmp_path / "ph2")
    dataset = tmp_path / "ph2" / "PH2Dataset"
    (dataset / "PH2_dataset.txt").write_text(PH2_TABLE.replace("\n", "\r\n"), encoding="latin-1")
    data = _prepare(
        "ph2", tmp_path / "data", archives=dataset / "PH2 Dataset images" if inner else tmp_path / "ph2"
    )
    assert [row.diagnosis for row in data.manifest] == ["atypical nevus", "common nevus", "melanoma"]


def test_ph2_without_its_table_or_with_holes_in_it_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write_ph2(tmp_path / "ph2")
    _prepare("ph2", tmp_path / "without", archives=tmp_path / "ph2")
    assert "no PH2_dataset.txt" in caplog.text
    table = tmp_path / "ph2" / "PH2_dataset.txt"
    table.write_text(PH2_TABLE.replace("IMD003", "IMD999"), encoding="utf-8")
    data = _prepare("ph2", tmp_path / "holes", archives=tmp_path / "ph2")
    assert [row.diagnosis for row in data.manifest] == ["atypical nevus", "", "melanoma"]
    assert "1 images have no diagnosis" in caplog.text
    table.write_text("<html>Not found</html>", encoding="utf-8")
    with pytest.raises(DataError, match="names no diagnosis"):
        _prepare("ph2", tmp_path / "broken", archives=tmp_path / "ph2")


def test_ph2_that_is_still_packed(tmp_path: Path) -> None:
    write(tmp_path / "ph2" / "PH2Dataset.rar", b"Rar!")
    with pytest.raises(DataError, match="still packed") as caught:
        _prepare("ph2", tmp_path / "data", archives=tmp_path / "ph2")
    assert "unrar" in caught.value.mend
    with pytest.raises(UsageError, match="RAR"):
        _prepare("ph2", tmp_path / "data")


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="isic2016") as caught:
        _prepare("isic2061", tmp_path)
    assert "Perhaps you meant isic201" in caught.value.mend
    with pytest.raises(UsageError, match="part"):
        _prepare("isic2016", tmp_path, part="2")


def test_catalogue_is_well_formed() -> None:
    for source in SOURCES.values():
        for file in source.files:
            assert file.md5 is None or len(file.md5) == 32
            assert file.sha256 is None or len(file.sha256) == 64
            assert all(url.startswith("https://") for url in file.urls(source.bases))
    assert find_source("isic2016", "3b").name == "isic2016-3b"
    assert len({file.file for source in SOURCES.values() for file in source.files}) == 20
