"""A whole audit, on planted pairs: files, exit codes, interruptions."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermdistill import cli
from dermdistill.audit import search
from dermdistill.audit.entries import collect
from dermdistill.audit.features import fingerprint
from dermdistill.audit.run import audit
from dermdistill.audit.store import Store
from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import read_csv, read_json
from pictures import compressed, phantom, photographed_again


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten lesions in train; in test two others, a JPEG copy, a mirrored one, and one photographed again."""
    root = tmp_path_factory.mktemp("planted")
    for folder in ("train", "test"):
        (root / folder).mkdir()
    for i in range(10):
        phantom(i).save(root / "train" / f"lesion-{i}.png")
    for i in (20, 21):
        phantom(i).save(root / "test" / f"other-{i}.png")
    compressed(phantom(0).resize((160, 160)), 60).save(root / "test" / "small.png")
    phantom(3).transpose(Image.Transpose.TRANSVERSE).save(root / "test" / "mirrored.png")
    photographed_again(phantom(6)).save(root / "test" / "again.png")
    return root


@pytest.fixture(scope="module")
def audited(planted: Path) -> Path:
    code = cli.main(
        ["audit", f"{planted / 'train'}=train", f"{planted / 'test'}=test", "--out", str(planted / "out")]
    )
    assert code == 1
    return planted / "out"


def test_every_planted_pair_is_found_and_nothing_else(audited: Path) -> None:
    rows = read_csv(audited / "audit.csv")
    assert {(row["image_a"], row["image_b"]) for row in rows} == {
        ("lesion-0", "small"), ("lesion-3", "mirrored"), ("lesion-6", "again"),
    }  # fmt: skip
    assert {row["crosses"] for row in rows} == {"yes"}
    assert {row["image_b"] for row in rows if row["mirrored"] == "yes"} == {"mirrored"}
    assert {(row["set_a"], row["split_a"], row["split_b"]) for row in rows} == {("train", "train", "test")}
    assert all(int(row["score"]) >= 14 for row in rows)


def test_the_summary_counts_what_the_table_lists(audited: Path) -> None:
    summary = read_json(audited / "audit.json")
    assert summary["leaks"] == summary["leaking_training_images"] == 3
    assert sum(line["pairs"] for line in summary["table"]) == 3
    assert {(line["set"], line["count"]) for line in summary["images"]} == {("train", 10), ("test", 5)}


def test_the_picture_shows_the_second_image_where_the_first_one_is(audited: Path, planted: Path) -> None:
    page = np.asarray(Image.open(audited / "pairs.png").convert("L"), dtype=float)
    assert page.shape[1] > 2 * 3 * 256
    # The third panel of each pair is the second image laid onto the first panel: they must correlate.
    for row, column in ((0, 0), (0, 1), (1, 0)):
        x, y = 24 + column * (3 * 256 + 16 + 24), 24 + row * (256 + 66 + 24) + 66
        first, laid = (page[y + 60 : y + 196, x + at + 60 : x + at + 196].ravel() for at in (0, 2 * 264))
        assert np.corrcoef(first, laid)[0, 1] > 0.8, (row, column)


def test_a_second_audit_reads_and_compares_nothing_again(
    audited: Path, planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (audited / "audit.csv").read_bytes()

    def never(*_: object) -> None:
        raise AssertionError("done already")

    monkeypatch.setattr(search, "fingerprint", never)
    monkeypatch.setattr(search, "match", never)
    entries = collect([f"{planted / 'test'}=test", f"{planted / 'train'}=train"], planted)
    audit(entries, planted / "again", cache=audited / "fingerprints.sqlite", pages=0, progress=False)
    assert sorted((planted / "again" / "audit.csv").read_bytes().splitlines()) == sorted(before.splitlines())
    assert not (planted / "again" / "pairs.png").exists()


def test_a_killed_audit_keeps_whole_batches(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def breaks(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return fingerprint(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search, "CHUNK", 3)
    monkeypatch.setattr(search, "_cores", lambda: 1)
    monkeypatch.setattr(search, "fingerprint", breaks)
    entries = collect([f"{planted / 'train'}=train"], planted)
    with pytest.raises(KeyboardInterrupt):
        audit(entries, tmp_path, progress=False)
    with Store(tmp_path / "fingerprints.sqlite") as store:
        assert len(store.pixels()) == 6
    assert not (tmp_path / "audit.csv").exists()
    done = len(calls)
    assert audit(entries, tmp_path, progress=False).leaks == []
    assert len(calls) - done == 4


def test_without_a_leak_the_exit_code_is_0(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["audit", str(planted / "test"), "--root", str(planted), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    assert "No pair crosses" in capsys.readouterr().out


def test_broken_images_are_left_out_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    phantom(0).save(folder / "good.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    assert cli.main(["audit", str(folder), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert '"unreadable"' in capsys.readouterr().out
    [line] = read_json(tmp_path / "out" / "audit.json")["unreadable"]
    assert line.startswith("images/broken")
    (folder / "good.png").unlink()
    with pytest.raises(DataError, match="None of 1"):
        audit(collect([str(folder)], tmp_path), tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs something"),
        (["nothing-of-the-kind"], "neither a prepared data set"),
        (["{planted}/train", "{planted}/train=test"], "called 'train'"),
        (["{planted}/train", "--pages", "-1"], "--pages"),
    ],
)
def test_wrong_usage(
    arguments: list[str], said: str, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = [a.format(planted=planted) for a in arguments]
    assert cli.main(["audit", *given, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_another_file_is_not_taken_for_a_cache(planted: Path, tmp_path: Path) -> None:
    cache = tmp_path / "notes.sqlite"
    cache.write_text(
        "these are my notes, and they are longer than a header of a hundred bytes would be …" * 5
    )
    with pytest.raises(DataError, match="cannot be used"):
        audit(collect([str(planted / "test")], planted), tmp_path, cache=cache, progress=False)
    assert cache.read_text().startswith("these are my notes")


def test_a_fingerprint_survives_the_store(tmp_path: Path) -> None:
    found = fingerprint(np.asarray(phantom(1)), 1.4)
    with Store(tmp_path / "s.sqlite") as store:
        store.add([("key", found)])
        again = store.get("key")
        assert store.counts() == {"key": len(found.points)}
    np.testing.assert_array_equal(again.points, found.points)
    np.testing.assert_array_equal(again.descriptors, found.descriptors)
    np.testing.assert_array_equal(again.grey, found.grey)
    assert again.pixels == found.pixels
    with sqlite3.connect(tmp_path / "s.sqlite") as base:
        assert base.execute("SELECT count(*) FROM fingerprints").fetchone() == (1,)


def test_a_manifest_gives_folders_splits_and_lesions(planted: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("image_id,split,lesion_id\nlesion-0,train,L1\nlesion-1,test,L1\nlesion-2,,\n")
    entries = {e.image_id: e for e in collect([str(planted / "train")], tmp_path, manifest=manifest)}
    assert (entries["lesion-0"].split, entries["lesion-0"].group) == ("train", "L1")
    assert (entries["lesion-1"].split, entries["lesion-2"].split, entries["lesion-9"].split) == (
        "test",
        "",
        "",
    )
    with pytest.raises(UsageError, match="has no column"):
        collect([str(planted / "train")], tmp_path, manifest=manifest, split_column="fold")


@pytest.mark.parametrize(("module", "title"), [("cv2", "OpenCV"), ("faiss", "FAISS")])
def test_a_missing_library_is_named_before_anything_is_read(
    module: str, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["audit", "no-such-folder", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert f"needs {title}" in said
    assert "pip install 'dermdistill[audit]'" in said
    assert not (tmp_path / "out").exists()
