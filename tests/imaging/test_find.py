"""The one rule by which predict, prepare and audit walk a folder."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import write_text
from dermdistill.data.prepare.pairing import pair_folders
from dermdistill.imaging import find, image_size, read_image
from dermdistill.imaging.find import find_images, is_text, list_folder, name_key, printable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and names of Unix")


def fill(folder: Path, *names: str) -> None:
    """Empty files of these names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_what_systems_and_tools_leave_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = (
        ".hidden.jpg", ".thumbnails/a.png", "__MACOSX/._p1.jpg", "__MACOSX/p1.jpg", "@eaDir/p1.jpg/SYNO.jpg",
        "Thumbs.db", "thumbnails/p1.jpg", ".ipynb_checkpoints/p1-checkpoint.png", "checkpoints/best.png",
        "$RECYCLE.BIN/x.jpg", ".DS_Store", "out/predictions.jsonl", "out/p1_overlay.jpg",
    )  # fmt: skip
    fill(tmp_path, "p10.jpg", "deep/p2.PNG", "deep/er/p3.jfif", "notes.txt", *left)
    with caplog.at_level("INFO"):
        listing = list_folder(tmp_path)
    assert names(listing.images) == ["p3.jfif", "p2.PNG", "p10.jpg"]
    assert not listing.missed
    assert len(caplog.records) == 1, "one line says it"
    assert caplog.records[0].levelname == "INFO"
    for word in ("4 hidden", "1 __MACOSX", "1 @eaDir", "1 Thumbs.db", "1 checkpoints", "1 folder of results"):
        assert word in caplog.text
    assert "notes" not in caplog.text


def test_a_folder_is_listed_whatever_its_own_name(tmp_path: Path) -> None:
    for name in (".photos", "checkpoints", "__MACOSX"):
        fill(tmp_path / name, "p.jpg")
        assert names(list_folder(tmp_path / name).images) == ["p.jpg"]


def test_formats_that_are_not_read_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "SUFFIXES", find.PLAIN_SUFFIXES)
    missing = {suffix: pip for pip, suffixes in find._MORE.values() for suffix in suffixes}
    monkeypatch.setattr(find, "_INSTALL", missing)
    monkeypatch.setattr(find, "OTHER_FORMATS", (*find.OTHER_FORMATS, *missing))
    fill(tmp_path, "a.HEIC", "b.heic", "c.svg", "d.dcm", "e.jpg", "f.avif", "g.nef")
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    assert names(list_folder(tmp_path).images) == ["e.jpg"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    for word in ("2 .heic (pip install 'dermdistill[heic]')", "2 .dcm (pip install 'dermdistill[dicom]')",
                 "1 .svg (not read)", "1 .avif (pip install --upgrade pillow)", "1 .nef"):  # fmt: skip
        assert word in caplog.text


def test_links_pipes_and_folders_that_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "p1.jpg", "other/p2.jpg", "closed/p3.jpg")
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "p1.jpg")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "other" / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "null.png").symlink_to("/dev/null")
    scandir = os.scandir

    def refuse_closed(folder: Path) -> Any:  # no mode of a folder keeps root out
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse_closed)
    listing = list_folder(tmp_path)
    told = {"link to nowhere": 1, "link in a circle": 1, "linked folder": 1, "pipe or device": 2}
    told["folder that cannot be read"] = 1
    assert names(listing.images) == ["linked.jpg", "p2.jpg", "p1.jpg"]
    assert {key: listing.missed[key] for key in told} == told
    assert caplog.text.count("passed over") == 1


def test_a_pipe_that_is_named_is_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UsageError, match="names no image"):
        find_images([tmp_path / "pipe.jpg"])
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(UsageError, match="names no image"):
        find_images([tmp_path / "nowhere.jpg"])


def test_a_glob_below_a_folder_with_brackets(tmp_path: Path) -> None:
    fill(tmp_path / "clinic [2020] *", "a1.jpg", "a2.jpg", "thumbs/a1.jpg", "deep/a3.jpg")
    folder = str(tmp_path / "clinic [2020] *")
    assert names(find_images([folder + "/*.jpg"])) == ["a1.jpg", "a2.jpg"]
    assert names(find_images([folder + "/a[2].jpg"])) == ["a2.jpg"]
    assert names(find_images([folder + "/**/*.jpg"])) == ["a1.jpg", "a2.jpg", "a3.jpg"]
    fill(tmp_path, "odd[1].jpg")
    assert names(find_images([str(tmp_path / "odd[1].jpg")])) == ["odd[1].jpg"]


def test_names_that_are_hard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "two\nlines.jpg", "\x1b[31mred.jpg", "=SUM(A1).png", "é.jpg", "l" * 250 + ".jpg", "p.svg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin\xe9.jpg")).touch()
    listing = list_folder(tmp_path)
    assert len(listing.images) == 6
    assert [is_text(path) for path in listing.images].count(False) == 1
    shown = [printable(path.name) for path in listing.images]
    assert "two\\nlines.jpg" in shown
    assert "\\x1b[31mred.jpg" in shown
    assert all(line.isprintable() for line in caplog.messages)
    assert "latin\\udce9.jpg" in shown
    assert printable("ü≥ =") == "ü≥ ="
    assert printable(os.fsdecode(b"a\xe9")) == "a\\udce9"


def test_the_temporary_name_of_a_long_one_is_short(tmp_path: Path) -> None:
    path = tmp_path / ("l" * 250 + ".json")
    write_text(path, "{}")
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_composed_and_decomposed_accents_and_case_are_one_name(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    assert composed != decomposed
    assert name_key(f"Lesion {composed}") == name_key(f"LESION {decomposed}")
    fill(tmp_path, f"images/{decomposed}1.JPG", f"masks/{composed}1_mask.png")
    (pair,) = pair_folders(tmp_path / "images", tmp_path / "masks").pairs
    assert pair.image_id == f"{composed}1"
    fill(tmp_path, f"images/{composed}1.png")
    with pytest.raises(DataError, match="2 images are called"):
        pair_folders(tmp_path / "images", tmp_path / "masks")


def test_ambiguous_names_say_the_folders(tmp_path: Path) -> None:
    fill(tmp_path, "images/a/p1.jpg", "images/b/p1.jpg", "masks/x/p1.png", "masks/y/p1_mask.png")
    with pytest.raises(DataError, match=r"a/p1\.jpg, b/p1\.jpg(?s:.*)x/p1\.png"):
        pair_folders(tmp_path / "images", tmp_path / "masks")


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".jfif"])
def test_webp_and_the_first_frame_of_gif_are_read(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (40, 30), "tan"), Image.new("RGB", (40, 30), "navy")
    path = tmp_path / f"p{suffix}"
    more = {"save_all": True, "append_images": [second]} if suffix != ".jfif" else {}
    first.save(path, format={".webp": "WEBP", ".gif": "GIF", ".jfif": "JPEG"}[suffix], **more)
    assert find_images([tmp_path]) == [path]
    assert image_size(path) == (40, 30)
    image = read_image(path)
    assert image.shape == (30, 40, 3)
    assert abs(image[15, 20].astype(int) - (210, 180, 140)).max() < 6
