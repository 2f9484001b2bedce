"""The split of the shipped student, as a manifest for `dermdistill prepare own --manifest`.

Training images are those of ISIC 2016 and 2017 (CC-0), without any image of the ISIC 2016 test set and
without the images that show what one of its images shows (`release_near_duplicates.csv`, found by
`dermdistill audit` and looked at one by one). 305 of the 379 ISIC 2016 test images are ISIC 2017 *training*
images: they become the test split. All other images are left out (of ISIC 2017's validation and test
images only those that are ISIC 2016 training images are used).

    python benchmarks/release_manifest.py --out release.csv \\
        --train-ids isic2016_train_ids.txt isic2017_train_ids.txt --test-ids isic2016_test_ids.txt

A list of ids may also be a folder of images, as the official archives unpack:

    python benchmarks/release_manifest.py --out release.csv \\
        --train-ids ISBI2016_ISIC_Part1_Training_Data ISIC-2017_Training_Data \\
        --test-ids ISBI2016_ISIC_Part1_Test_Data

With ``--annotations CSV`` (image_id; masks as ``annotator:tool:skill``, blanks between several; lesion_id;
patient_id) the manifest says who drew each mask and how, where all of an image's masks agree on it, and which
lesion and patient it shows:

=====  ========  ====================================
T1     points    set by hand, joined by a line
T2     flood     filled from a click
T3     autofill  proposed by the archive, accepted
=====  ========  ====================================
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dermdistill.core.errors import DataError
from dermdistill.core.files import read_csv, write_csv
from dermdistill.data.prepare.tables import read_labels
from dermdistill.imaging.find import SUFFIXES

STYLES = {"T1": "points", "T2": "flood", "T3": "autofill"}
"""The archive's tools, in words."""
NEAR_DUPLICATES = Path(__file__).with_name("release_near_duplicates.csv")


def read_ids(source: Path) -> set[str]:
    """Image ids of a text file (one a line), or of the images in a folder.

    Raises:
        DataError: There are none.
    """
    if source.is_dir():
        found = {path.stem for path in source.iterdir() if path.suffix.lower() in SUFFIXES}
        ids = {name for name in found if not name.endswith("_superpixels")}
    elif source.is_file():
        ids = {line.strip() for line in source.read_text(encoding="utf-8").splitlines() if line.strip()}
    else:
        raise DataError(f"{source} does not exist.", "a text file with one id a line, or a folder of images")
    if not ids:
        raise DataError(f"{source} holds no ids.", "a text file with one id a line, or a folder of images")
    return ids


def make_rows(
    train: set[str], test: set[str], near_duplicates: set[str], diagnoses: dict[str, str]
) -> list[dict[str, str]]:
    """One row per image that has a split, sorted by id; a test id is never a training image."""
    split = dict.fromkeys(train - test - near_duplicates, "train") | dict.fromkeys(test, "test")
    return [
        {"image_id": name, "release_split": split[name], "release_diagnosis": diagnoses.get(name, "")}
        for name in sorted(split)
    ]


def read_annotations(path: Path) -> dict[str, dict[str, str]]:
    """Annotator, style, lesion and patient of each image; the first two are empty where masks differ."""
    found = {}
    for row in read_csv(path):
        masks = [mask.split(":") for mask in row["masks"].split()]
        annotators, tools = {mask[0] for mask in masks}, {mask[1] for mask in masks}
        found[row["image_id"]] = {
            "annotator": annotators.pop() if len(annotators) == 1 else "",
            "style": STYLES[tools.pop()] if len(tools) == 1 else "",
            "patient_id": row["patient_id"],
            "lesion_id": row["lesion_id"],
        }
    return found


def main() -> None:
    """Read the lists, write the manifest, say how many."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train-ids", type=Path, nargs="+", required=True, help="files or folders")
    parser.add_argument("--test-ids", type=Path, nargs="+", required=True, help="files or folders")
    parser.add_argument("--near-duplicates", type=Path, default=NEAR_DUPLICATES, help="CSV with image_id")
    parser.add_argument("--labels", type=Path, nargs="*", default=[], help="ISIC 2016 Part 3 label files")
    parser.add_argument("--annotations", type=Path, help="CSV that says who drew each mask")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    train = set().union(*map(read_ids, options.train_ids))
    test = set().union(*map(read_ids, options.test_ids))
    near = {row["image_id"] for row in read_csv(options.near_duplicates)}
    diagnoses = {name: label for path in options.labels for name, label in read_labels(path).items()}
    rows = make_rows(train, test, near, diagnoses)
    columns = ["image_id", "release_split", "release_diagnosis"]
    if options.annotations:
        known, more = read_annotations(options.annotations), ["annotator", "style", "patient_id", "lesion_id"]
        rows = [row | known.get(row["image_id"], dict.fromkeys(more, "")) for row in rows]
        columns += more
    write_csv(options.out, rows, columns)
    counts = {name: sum(row["release_split"] == name for row in rows) for name in ("train", "test")}
    print(
        f"{options.out}: {counts['train']} training and {counts['test']} test images; left out: "
        f"{len(train & test)} training ids that are test images, {len(near & train - test)} near-duplicates"
    )


if __name__ == "__main__":
    main()
