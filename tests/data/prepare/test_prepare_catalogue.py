"""Data sets of the catalogue: downloaded or fetched by hand, checked, broken off, refused."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dermdistill.core.errors import ArchiveError, DataError, MismatchError, UsageError
from dermdistill.data.download import fetch
from dermdistill.data.download.catalog import SOURCES, find_source
from dermdistill.data.prepare import packing
from dermdistill.data.prepare.prepare import ensure_prepared
from fileserver import FileServer
from officialfiles import expect_archives, official_archives
from smallfiles import prepare_official, split_sizes, write


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
    archives = official_archives(source)
    expect_archives(monkeypatch, source, archives)
    server = serve(source, archives)
    how: dict[str, Any] = {"part": part} if name == "isic2016" else {}
    data = prepare_official(name, tmp_path, bases=[server.base], **how)
    assert data.name == source
    assert split_sizes(data) == counts
    assert not any("superpixels" in path.name for path in data.folder.rglob("*"))
    assert data.info["license"] == SOURCES[source].license
    assert ("carved" in data.info["validation"].split(";")[0]) == (name == "isic2016")
    assert all(record["verified"] for record in data.info["source"]["files"])
    if part == "3b":
        assert {row.image_id: row.diagnosis for row in data.manifest}["ISIC_0000201"] == "malignant"
    asked = len(server.requests)
    with caplog.at_level(logging.INFO):
        again = prepare_official(name, tmp_path, bases=[server.base], **how)
    assert "nothing to do" in caplog.text
    assert len(server.requests) == asked
    assert again.fingerprint == data.fingerprint
    bigger = ensure_prepared(source, tmp_path, 48, progress=False)
    assert bigger.images.shape[1] == 48
    assert len(server.requests) == asked


def test_hand_fetched_archives_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = official_archives("isic2016")
    expect_archives(monkeypatch, "isic2016", archives)
    for name, content in archives.items():
        write(tmp_path / "by-hand" / name, content)
    monkeypatch.setattr(fetch, "download", None)
    data = prepare_official("isic2016", tmp_path / "data", archives=tmp_path / "by-hand")
    assert split_sizes(data) == [5, 1, 2]
    assert (tmp_path / "by-hand" / "ISBI2016_ISIC_Part1_Test_Data.zip").exists()


def test_a_name_of_ones_own(tmp_path: Path) -> None:
    for name, content in official_archives("isic2016").items():
        write(tmp_path / "by-hand" / name, content)
    how: dict[str, Any] = {"archives": tmp_path / "by-hand", "verify": False}
    data = prepare_official("isic2016", tmp_path, folder_name="mine", **how)
    assert (data.name, data.folder) == ("mine", tmp_path / "mine")
    assert not (tmp_path / "isic2016").exists()
    assert "--name mine" in data.info["command"]
    assert ensure_prepared("mine", tmp_path, 48, progress=False).images.shape[1] == 48
    for taken in ("isic2018", "phantom"):
        with pytest.raises(UsageError, match="catalogue"):
            prepare_official("isic2016", tmp_path, folder_name=taken, **how)


def test_absent_archives_are_listed_with_addresses(tmp_path: Path) -> None:
    archives = official_archives("isic2016")
    name = "ISBI2016_ISIC_Part1_Training_Data.zip"
    write(tmp_path / "by-hand" / name, archives[name])
    with pytest.raises(ArchiveError, match="lacks 3 of 4") as caught:
        prepare_official("isic2016", tmp_path / "data", archives=tmp_path / "by-hand")
    for absent in set(archives) - {name}:
        assert f"/2016/{absent}" in caught.value.found
    assert f"/2016/{name}" not in caught.value.found


def test_a_wrong_archive_is_refused_by_hand_too(tmp_path: Path) -> None:
    for name, content in official_archives("isic2016").items():
        write(tmp_path / "by-hand" / name, content)
    with pytest.raises(ArchiveError, match="md5") as caught:
        prepare_official("isic2016", tmp_path / "data", archives=tmp_path / "by-hand")
    assert "--no-verify" in caught.value.fix
    expected = {file.md5 for file in SOURCES["isic2016"].files}
    assert any(str(md5) in caught.value.expected for md5 in expected)
    data = prepare_official("isic2016", tmp_path / "data", archives=tmp_path / "by-hand", verify=False)
    assert not any(record["verified"] for record in data.info["source"]["files"])


def test_second_base(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = official_archives("isic2018")
    expect_archives(monkeypatch, "isic2018", archives)
    server = serve("isic2018", archives)
    data = prepare_official("isic2018", tmp_path, bases=[server.base + "/old", server.base])
    assert split_sizes(data) == [6, 2, 2]


def test_goes_on_after_a_failed_download(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = official_archives("isic2016")
    expect_archives(monkeypatch, "isic2016", archives)
    server = serve("isic2016", archives)
    late = "/2016/ISBI2016_ISIC_Part1_Test_GroundTruth.zip"
    body = server.files.pop(late)
    with pytest.raises(DataError, match="404"):
        prepare_official("isic2016", tmp_path, bases=[server.base])
    server.files[late] = body
    done = {path.name for path in (tmp_path / "isic2016" / "raw").glob("*.json")}
    server.requests.clear()
    data = prepare_official("isic2016", tmp_path, bases=[server.base])
    assert split_sizes(data) == [5, 1, 2]
    asked = {path.rpartition("/")[2] for path, _ in server.requests}
    assert not asked & {name.removesuffix(".json") + ".zip" for name in done}


def test_goes_on_after_an_interruption_in_the_pack(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = official_archives("isic2016")
    expect_archives(monkeypatch, "isic2016", archives)
    server = serve("isic2016", archives)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing, "open_picture", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_official("isic2016", tmp_path, bases=[server.base])
    server.requests.clear()
    assert split_sizes(prepare_official("isic2016", tmp_path, bases=[server.base])) == [5, 1, 2]
    assert not server.requests


def test_archives_are_dropped_when_asked(tmp_path: Path, serve: Any) -> None:
    archives = official_archives("isic2016")
    server = serve("isic2016", archives)
    data = prepare_official("isic2016", tmp_path, bases=[server.base], verify=False, discard=True)
    assert not (data.folder / "archives").exists()
    assert data.native_mask(0).any()


def test_an_evil_archive_is_refused(tmp_path: Path) -> None:
    archives = official_archives("isic2016")
    stream = io.BytesIO(archives["ISBI2016_ISIC_Part1_Test_Data.zip"])
    with zipfile.ZipFile(stream, "a") as bundle:
        bundle.writestr("../../../evil.txt", "evil")
    archives["ISBI2016_ISIC_Part1_Test_Data.zip"] = stream.getvalue()
    for name, content in archives.items():
        write(tmp_path / "by-hand" / name, content)
    with pytest.raises(ArchiveError, match=r"evil\.txt"):
        prepare_official("isic2016", tmp_path / "data", archives=tmp_path / "by-hand", verify=False)
    assert not list(tmp_path.rglob("evil.txt"))


def test_other_settings_are_refused(tmp_path: Path, serve: Any) -> None:
    server = serve("isic2016", official_archives("isic2016"))
    prepare_official("isic2016", tmp_path, bases=[server.base], verify=False)
    with pytest.raises(MismatchError, match="seed"):
        prepare_official("isic2016", tmp_path, bases=[server.base], verify=False, seed=7)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="isic2016") as caught:
        prepare_official("isic2061", tmp_path)
    assert "Perhaps you meant isic201" in caught.value.fix
    with pytest.raises(UsageError, match="part"):
        prepare_official("isic2016", tmp_path, part="2")


def test_catalogue_is_well_formed() -> None:
    for source in SOURCES.values():
        for file in source.files:
            assert file.md5 is None or len(file.md5) == 32
            assert file.sha256 is None or len(file.sha256) == 64
            assert all(url.startswith("https://") for url in file.urls(source.bases))
    assert find_source("isic2016", "3b").name == "isic2016-3b"
    assert len({file.file for source in SOURCES.values() for file in source.files}) == 20
