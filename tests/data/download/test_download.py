"""Downloads against a real local server with the faults of real ones."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from dermdistill.core.errors import ArchiveError, DataError
from dermdistill.data.download import http as module
from dermdistill.data.download.catalog import Checksum
from dermdistill.data.download.resumable import check_file, download
from fileserver import FileServer, Rule

BODY = bytes(range(256)) * 40  # 10,240 bytes
MD5 = Checksum("md5", hashlib.md5(BODY).hexdigest())
FILE = "/2016/a.zip"


class Meter:
    """Adds up what a progress is told."""

    def __init__(self) -> None:
        self.expected = self.count = 0

    def expect(self, count: int) -> None:
        self.expected += count

    def advance(self, count: int) -> None:
        self.count += count


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "*")  # this machine is reached without any proxy
    with FileServer({FILE: BODY}) as running:
        yield running


def begin(
    target: Path, have: bytes, *, url: str = "", etag: str | None = None, total: int | None = None
) -> None:
    """Leave what a killed download leaves."""
    target.with_name(target.name + ".part").write_bytes(have)
    note = {"total": total, "etag": etag, "modified": None, "url": url}
    target.with_name(target.name + ".part.json").write_text(json.dumps(note))


def ranges(server: FileServer) -> list[str | None]:
    return [headers.get("Range") for _, headers in server.requests]


def test_fetches_verifies_counts_and_leaves_nothing_beside(server: FileServer, tmp_path: Path) -> None:
    meter = Meter()
    path = download(
        [server.base + FILE], tmp_path / "x" / "a.zip", checksum=MD5, size=len(BODY), progress=meter
    )
    assert path.read_bytes() == BODY
    assert (meter.expected, meter.count) == (len(BODY), len(BODY))
    assert list(path.parent.iterdir()) == [path]
    assert server.requests[0][1]["User-Agent"].startswith("dermdistill/")


def test_a_file_that_is_there_is_not_fetched(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"mine")
    assert download([server.base + FILE], tmp_path / "a.zip").read_bytes() == b"mine"
    assert server.requests == []


def test_goes_on_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    meter = Meter()
    url = server.base + FILE
    begin(tmp_path / "a.zip", BODY[:4000], url=url, etag='"one"', total=len(BODY))
    assert download([url], tmp_path / "a.zip", checksum=MD5, progress=meter).read_bytes() == BODY
    assert ranges(server) == ["bytes=4000-"]
    assert server.requests[0][1]["If-Range"] == '"one"'
    assert (meter.expected, meter.count) == (len(BODY), len(BODY))


def test_a_complete_part_needs_no_request(server: FileServer, tmp_path: Path) -> None:
    begin(tmp_path / "a.zip", BODY, total=len(BODY))
    assert download([server.base + FILE], tmp_path / "a.zip", checksum=MD5).read_bytes() == BODY
    assert server.requests == []


def test_a_transfer_that_breaks_off_is_continued(server: FileServer, tmp_path: Path) -> None:
    server.rules[FILE].break_after = [3000, 2000]
    path = download([server.base + FILE], tmp_path / "a.zip", checksum=MD5, backoff=0.001)
    assert path.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=3000-", "bytes=5000-"]


def test_a_server_that_ignores_ranges_starts_over(server: FileServer, tmp_path: Path) -> None:
    server.rules[FILE] = Rule(ignore_range=True, break_after=[3000])
    meter = Meter()
    path = download([server.base + FILE], tmp_path / "a.zip", checksum=MD5, progress=meter, backoff=0.001)
    assert path.read_bytes() == BODY
    assert meter.count == len(BODY)


def test_a_file_that_changed_meanwhile_is_fetched_whole(server: FileServer, tmp_path: Path) -> None:
    url = server.base + FILE
    begin(tmp_path / "a.zip", b"old" * 1000, url=url, etag='"old"', total=len(BODY))
    assert download([url], tmp_path / "a.zip", checksum=MD5).read_bytes() == BODY
    assert len(server.requests) == 1  # If-Range made the server send all of it


def test_a_part_longer_than_the_file_starts_over(server: FileServer, tmp_path: Path) -> None:
    begin(tmp_path / "a.zip", b"x" * (len(BODY) + 5))
    assert download([server.base + FILE], tmp_path / "a.zip", checksum=MD5).read_bytes() == BODY
    assert ranges(server) == [f"bytes={len(BODY) + 5}-", None]


def test_a_part_of_another_file_is_found_out_by_the_checksum(server: FileServer, tmp_path: Path) -> None:
    # No ETag was noted, so the server cannot tell; only the checksum of the joined file can.
    begin(tmp_path / "a.zip", b"?" * 4000)
    assert download([server.base + FILE], tmp_path / "a.zip", checksum=MD5).read_bytes() == BODY
    assert ranges(server) == ["bytes=4000-", None]


def test_a_changed_length_starts_over(server: FileServer, tmp_path: Path) -> None:
    begin(tmp_path / "a.zip", b"?" * 4000, total=99_999)
    path = download([server.base + FILE], tmp_path / "a.zip", backoff=0.001)
    assert path.read_bytes() == BODY


def test_the_second_address_is_taken_when_the_first_has_no_file(server: FileServer, tmp_path: Path) -> None:
    with FileServer({}) as other:
        path = download(
            [other.base + FILE, server.base + FILE], tmp_path / "a.zip", checksum=MD5, backoff=0.001
        )
    assert path.read_bytes() == BODY
    assert len(other.requests) == 1  # 404 is final: no further attempt


def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.rules[FILE].status = [503, 429]
    assert download([server.base + FILE], tmp_path / "a.zip", backoff=0.001).read_bytes() == BODY
    assert len(server.requests) == 3


def test_attempts_end_and_every_address_is_reported(server: FileServer, tmp_path: Path) -> None:
    server.rules[FILE].status = [500] * 50
    nobody = "http://127.0.0.1:1/2016/a.zip"
    with pytest.raises(DataError, match="HTTP 500") as caught:
        download([server.base + FILE, nobody], tmp_path / "a.zip", backoff=0.0)
    assert len(server.requests) == module.ATTEMPTS
    assert nobody in str(caught.value)
    assert "--archives" in caught.value.fix
    assert not (tmp_path / "a.zip").exists()


def test_what_broke_off_is_kept_for_the_next_call(server: FileServer, tmp_path: Path) -> None:
    server.rules[FILE].break_after = [3000, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match="3000 of 10240"):
        download([server.base + FILE], tmp_path / "a.zip", checksum=MD5, backoff=0.0)
    server.requests.clear()
    server.rules[FILE] = Rule()
    assert download([server.base + FILE], tmp_path / "a.zip", checksum=MD5).read_bytes() == BODY
    assert ranges(server) == ["bytes=3000-"]


def test_a_wrong_checksum_reports_both_values(server: FileServer, tmp_path: Path) -> None:
    wrong = Checksum("sha256", "ab" * 32)
    with pytest.raises(ArchiveError) as caught:
        download([server.base + FILE], tmp_path / "a.zip", checksum=wrong)
    text = str(caught.value)
    assert hashlib.sha256(BODY).hexdigest() in text
    assert "ab" * 32 in text
    assert "--no-verify" in text
    assert not (tmp_path / "a.zip").exists()


def test_no_verify_takes_the_mismatching_file_without_fetching_it_again(
    server: FileServer, tmp_path: Path
) -> None:
    wrong = Checksum("md5", "0" * 32)
    with pytest.raises(ArchiveError):
        download([server.base + FILE], tmp_path / "a.zip", checksum=wrong)
    server.requests.clear()
    path = download([server.base + FILE], tmp_path / "a.zip", checksum=wrong, size=1, verify=False)
    assert path.read_bytes() == BODY
    assert server.requests == []


def test_a_wrong_length_reports_both_values(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=f"{len(BODY)} bytes.*\n.*7 bytes"):
        download([server.base + FILE], tmp_path / "a.zip", size=7)


def test_truncation_without_a_length_header_is_found_by_the_checksum(
    server: FileServer, tmp_path: Path
) -> None:
    server.rules[FILE] = Rule(hide_length=True, break_after=[100])
    with pytest.raises(ArchiveError, match="md5"):
        download([server.base + FILE], tmp_path / "a.zip", checksum=MD5)


def test_a_full_disk_is_said_before_the_transfer(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10, 5, 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="disk is full"):
        download([server.base + FILE], tmp_path / "a.zip")


def test_a_disk_that_fills_up_meanwhile_is_said(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(DataError, match="disk is full") as caught:
        download([server.base + FILE], tmp_path / "a.zip")
    assert "goes on where it stopped" in caught.value.fix


def test_a_stop_keeps_what_was_fetched(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 1024)
    stop = threading.Event()
    stop.set()
    with pytest.raises(DataError, match="was stopped"):
        download([server.base + FILE], tmp_path / "a.zip", stop=stop)
    assert (tmp_path / "a.zip.part").read_bytes() == BODY[:1024]


@pytest.mark.parametrize("checksum", [None, MD5, Checksum("md5", MD5.value.upper())])
def test_check_file_accepts_the_right_one(checksum: Checksum | None, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BODY)
    check_file(tmp_path / "a", checksum, len(BODY))
    with pytest.raises(ArchiveError):
        check_file(tmp_path / "a", checksum, len(BODY) + 1)
