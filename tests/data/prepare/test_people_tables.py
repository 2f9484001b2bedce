"""Tables as people and spreadsheets write them: read as they are meant, or refused with the true cause."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from dermdistill.core.errors import DataError, UsageError
from dermdistill.data.prepare.people_tables import match_ids
from dermdistill.data.prepare.tables import Entry, read_table
from smallfiles import prepare_own, split_sizes, write_pairs

EXPECTED = {"p1": Entry("train", "nevus", "a"), "p2": Entry("test", "", "b")}


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "image_id,split,diagnosis,group\np1,train,nevus,a\np2,test,,b\n",
        " Image_ID , Split ,DIAGNOSIS, Group\n p1 , Train ,nevus,a\np2,TEST,,b\n",
        "image_id;split;diagnosis;group\np1;train;nevus;a\np2;test;;b\n",
        "image_id\tsplit\tdiagnosis\tgroup\np1\ttrain\tnevus\ta\np2\ttest\t\tb\n",
        "sep=;\nimage_id;split;diagnosis;group\np1;train;nevus;a\np2;test;;b\n",
        '"sep=,"\nimage_id,split,diagnosis,group\np1,train,nevus,a\np2,test,,b\n',
        "image id,split,dx,patient-id\np1,train,nevus,a\np2,test,NA,b\n",
        "image_id,split,diagnosis,group,,\np1,train,nevus,a,,\np2,test,,b,,\n,,,,,\n\n,,,\n",
        "image_id,split,diagnosis,group\r\np1,train,nevus,a\r\np2,test,,b\r\n",
        'image_id,split,diagnosis,group\n"p1.jpg",train,nevus,a\n"p2.webp",test,None,b\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_spellings_of_one_table(tmp_path: Path, text: str, encoding: str) -> None:
    assert read_table(write(tmp_path, text, encoding)).entries == EXPECTED


@pytest.mark.parametrize("nothing", ["NA", "N/A", "nan", "NULL", "None", "-", "--", " "])
def test_cells_that_say_nothing_are_empty_and_counted(
    tmp_path: Path, nothing: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"image_id,split,diagnosis,group\np1,train,{nothing},{nothing}\np2,{nothing},x,g\n"
    with caplog.at_level("INFO"):
        table = read_table(write(tmp_path, text))
    assert table.entries == {"p1": Entry("train")}
    assert table.left_out == ["p2"]
    if nothing.strip():
        for column in ("split", "diagnosis", "group"):
            assert f"1 in {column}" in caplog.text


def test_columns_that_are_not_used_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        table = read_table(write(tmp_path, "image_id,split,age,site\np1,train,4,arm\n"))
    assert table.unused_columns == ["age", "site"]
    assert "columns that are not used: age, site" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "image_id,set\np1,train\np2,test\n",
        "image_id,Partition,age\np1,Training,3\np2,NA,4\np3,validation,5\n",
        "image_id;fold\np1;train\np2;train\n",
    ],
)
def test_a_split_that_would_be_passed_over_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match="--split-column") as caught:
        read_table(path)
    column = caught.value.fix.partition("--split-column ")[2].partition(",")[0]
    assert read_table(path, column).split_column == column
    assert read_table(path, f" {column.upper()}").split_column == column


def test_another_split_beside_the_one_that_is_used_is_no_error(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "image_id,split,set\np1,train,test\n"))
    assert table.entries == {"p1": Entry("train")}
    assert table.unused_columns == ["set"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,split\np1,\np2,NA\n", "no split in any row: split is empty"),
        ("image_id,Split,split\np1,train,test\n", "several columns called split"),
        ("", "has no rows"),
        ("image_id,split\n,\n\n", "has no rows"),
        ("image_id,split\n,train\n", "ids that are empty"),
    ],
)
def test_the_true_cause_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, text))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"image_id,split\np\xe9,train\n")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_table(path)
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "no.csv")


def test_ids_are_matched_where_it_is_unambiguous() -> None:
    files = ["IMG_001", "IMG_002", "Übung", "p1"]
    table = ["images/IMG_001.JPG", "img_2", unicodedata.normalize("NFD", "übung"), r"C:\pictures\p1.png", "q"]
    assert match_ids(table, files) == dict(zip(table, files, strict=False))
    assert match_ids(["p01", "p1"], ["p1"]) == {"p1": "p1"}, "what fits as it is written goes first"
    assert match_ids(["p01", "p001"], ["p1"]) == {}, "two ids for one file: neither"
    assert match_ids(["p1"], ["p01", "p001"]) == {}, "two files for one id: neither"
    assert match_ids(["9" * 6000], ["0" + "9" * 6000]) == {"9" * 6000: "0" + "9" * 6000}


def test_a_loosely_written_manifest_gives_the_same_data_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pairs(tmp_path, 6)
    rows = [f"p{n},{'test' if n > 3 else 'train'}" for n in range(6)]
    strict = tmp_path / "strict.csv"
    strict.write_text("image_id,split\n" + "\n".join(rows), encoding="utf-8")
    loose = tmp_path / "loose.csv"
    loose.write_text(
        "sep=;\n Image_ID ; Split\n"
        + "\n".join(f"images/{row.upper()}".replace(",", ".JPG;") for row in rows),
        encoding="utf-8",
    )
    one = prepare_own(tmp_path, name="one", manifest=strict)
    with caplog.at_level("INFO"):
        two = prepare_own(tmp_path, name="two", manifest=loose)
    assert split_sizes(one) == split_sizes(two)
    assert one.fingerprint == two.fingerprint
    assert "6 ids are written otherwise than the files are named" in caplog.text
    assert not any(two.info["unmatched"].values())
