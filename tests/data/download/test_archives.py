"""Archives: safe, bounded, complete or not there, resumable."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from dermdistill.core.errors import ArchiveError, DataError
from dermdistill.data.download.archives import unpack


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Meter:
    def __init__(self) -> None:
        self.expected = self.count = 0

    def expect(self, count: int) -> None:
        self.expected += count

    def advance(self, count: int) -> None:
        self.count += count


def test_unpacks_what_is_wanted_and_counts_it(tmp_path: Path) -> None:
    members = {
        "data/a.jpg": b"aa",
        "data/a_superpixels.png": b"s",
        "data/deep/b.jpg": b"bbb",
        "__MACOSX/data/._a.jpg": b"junk",
        "data/.DS_Store": b"junk",
        "data/empty/": b"",
    }
    meter = Meter()
    archive = make_zip(tmp_path / "a.zip", members)
    folder = unpack(
        archive, tmp_path / "raw" / "a", skip=lambda n: n.endswith("_superpixels.png"), progress=meter
    )
    assert files(folder) == {"data/a.jpg": b"aa", "data/deep/b.jpg": b"bbb"}
    assert (meter.expected, meter.count) == (5, 5)
    assert [p.name for p in folder.parent.iterdir()] == ["a"]


def test_a_complete_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert unpack(tmp_path / "absent.zip", tmp_path / "a") == tmp_path / "a"


def test_goes_on_file_by_file(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"done": b"1111", "torn": b"2222", "new": b"3333"})
    partial = tmp_path / "a.partial"
    partial.mkdir()
    (partial / "done").write_bytes(b"kept")  # same length: complete, since files appear only when they are
    (partial / "torn").write_bytes(b"2")
    assert files(unpack(archive, tmp_path / "a")) == {"done": b"kept", "torn": b"2222", "new": b"3333"}
    assert not partial.exists()


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil", "C:evil", "..", "a/b/../../../evil"],
)
def test_no_path_outside_the_target(name: str, tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    archive = make_zip(box / "a.zip", {"good.txt": b"good", name: b"evil"})
    with pytest.raises(ArchiveError, match="outside") as caught:
        unpack(archive, box / "target")
    assert repr(name) in str(caught.value)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.zip"]  # not even the good member


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_no_links_and_no_devices(kind: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="not a plain file"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"bomb": bytes(8 * 2**20)})
    with pytest.raises(ArchiveError, match="zip bomb"):
        unpack(archive, tmp_path / "a")
    assert not list(tmp_path.glob("a*/*"))


def test_a_bomb_of_many_small_members_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {f"{i}": bytes(2**19) for i in range(16)})
    with pytest.raises(ArchiveError, match="zip bomb"):
        unpack(archive, tmp_path / "a")


def test_a_bomb_behind_harmless_ballast_is_refused(tmp_path: Path) -> None:
    # Incompressible ballast keeps the total's ratio low; the member's own ratio gives it away.
    ballast = np.random.default_rng(0).bytes(2**18)
    archive = make_zip(tmp_path / "a.zip", {"ballast": ballast, "bomb": bytes(2**23)})
    with pytest.raises(ArchiveError, match="bomb"):
        unpack(archive, tmp_path / "a")


def test_the_total_is_bounded(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"x" * 60, "b": b"y" * 60})
    with pytest.raises(ArchiveError, match=r"120 bytes \(at most 100\)"):
        unpack(archive, tmp_path / "a", max_bytes=100)


def test_a_member_that_lies_about_its_size_is_not_taken(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"x" * 1000}, zipfile.ZIP_STORED)
    content = archive.read_bytes()
    # The directory's size field of the only member: 1000 → 10.
    at = content.rindex(b"PK\x01\x02") + 24
    assert content[at : at + 4] == (1000).to_bytes(4, "little")
    archive.write_bytes(content[:at] + (10).to_bytes(4, "little") + content[at + 4 :])
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path / "a")
    assert not any(p.stat().st_size > 10 for p in tmp_path.glob("a.partial/*"))


@pytest.mark.parametrize("cut", [10, 200, -30])
def test_a_truncated_archive_is_named(cut: int, tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {f"{i}.txt": b"text" * 50 for i in range(5)}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(ArchiveError, match=r"a\.zip cannot be unpacked") as caught:
        unpack(archive, tmp_path / "a")
    assert "fetch it again" in caught.value.fix
    assert not (tmp_path / "a").exists()


def test_a_damaged_member_is_named_and_mended_by_a_new_archive(tmp_path: Path) -> None:
    members = {"a.txt": b"first" * 20, "b.txt": b"second" * 20}
    archive = make_zip(tmp_path / "a.zip", members, zipfile.ZIP_STORED)
    good = archive.read_bytes()
    archive.write_bytes(good.replace(b"second", b"SECOND", 1))
    with pytest.raises(ArchiveError, match=r"b\.txt"):
        unpack(archive, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    archive.write_bytes(good)
    assert files(unpack(archive, tmp_path / "a")) == members


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"x"})
    content = bytearray(archive.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(bytes(content))
    with pytest.raises(ArchiveError, match="encrypted"):
        unpack(archive, tmp_path / "a")


def test_too_little_space_is_said_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"x" * 100})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(9, 0, 9))
    with pytest.raises(DataError, match="free"):
        unpack(archive, tmp_path / "a")
    assert not (tmp_path / "a.partial").exists()


def test_no_archive_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"<html>404</html>")
    with pytest.raises(ArchiveError, match="not a zip"):
        unpack(tmp_path / "a.zip", tmp_path / "a")


def test_an_archive_of_nothing_blocks_no_good_one(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {})
    with pytest.raises(ArchiveError, match="holds no files"):
        unpack(archive, tmp_path / "a")
    make_zip(tmp_path / "a.zip", {"a.txt": b"x"})
    assert files(unpack(archive, tmp_path / "a")) == {"a.txt": b"x"}


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.txt": b"whole"})
    with zipfile.ZipFile(archive, "a") as bundle, pytest.warns(UserWarning, match="Duplicate"):
        bundle.writestr("a.txt", b"wh")
    with pytest.raises(ArchiveError, match="two files of one name"):
        unpack(archive, tmp_path / "a")
    assert not (tmp_path / "a").exists()
