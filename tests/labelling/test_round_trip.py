"""Whatever photos and classes are called, labels come back as they went out."""

import csv
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from camera_trap_al.labelling import LabelRetriever
from camera_trap_al.labelling.class_names import plain_form
from camera_trap_al.query import SKIP, UNUSABLE, Query

# What a cell of a spreadsheet and a name of Windows can hold: no control characters, no spaces at the ends.
words = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1).filter(
    lambda word: word == word.strip() and word not in (".", "..")
)
odd_words = st.one_of(
    words, st.sampled_from(['a,b;c\td"e"', "site 1, left", "Füchse", "狐", "'=1+1", "é" * 120, "x" * 251])
)
names = odd_words.filter(lambda word: len(word.encode()) <= 255 - len(".jpg"))
paths = st.lists(names, min_size=1, max_size=6).map(lambda parts: "/".join(parts) + ".jpg")
classes = odd_words.filter(lambda word: plain_form(word) not in ("", SKIP, UNUSABLE))


@st.composite
def labelled_photos(draw) -> tuple[list[str], dict[str, str]]:
    """All photos, and the species of those that are asked about."""
    photos = draw(st.lists(paths, min_size=1, max_size=12, unique=True))
    asked = draw(st.lists(st.sampled_from(photos), min_size=1, unique=True))
    return photos, {photo: draw(classes) for photo in asked}


def label_in_a_spreadsheet(request: Path, target: Path, species_of: list[str], encoding: str, separator: str) -> None:
    """Add the column Species to a request, for the selected photos in their order, and save it."""
    with request.open(newline="", encoding="utf-8") as file:
        rows, species = list(csv.DictReader(file)), iter(species_of)
    with target.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(("Selected", "Species", "RelativePath", "File"))
        for row in rows:
            label = next(species) if row["Selected"] == "true" else ""
            writer.writerow((row["Selected"], label, row["RelativePath"], row["File"]))


@settings(deadline=None, max_examples=300)
@given(
    labelled_photos(),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["all", "changed"]),
)
def test_labels_come_back_whatever_photos_and_classes_are_called(drawn, encoding, separator, request_rows):
    photos, species = drawn
    all_classes = tuple(sorted(set(species.values())))
    query = Query(1, np.arange(len(species)), tuple(species), all_classes)
    top_level = {photo for photo in photos if "/" not in photo}
    if top_level & {photo.rpartition("/")[2] for photo in photos if "/" in photo}:
        request_rows = "all"  # "changed" is refused there
    with tempfile.TemporaryDirectory() as folder:
        labels = LabelRetriever(photos, folder, request_rows=request_rows)
        labels.write_request(query)
        in_order = [species[photo] for photo in sorted(photos) if photo in species]
        label_in_a_spreadsheet(labels.request_path, labels.labels_bin / "saved.csv", in_order, encoding, separator)
        answer = labels.read_answer(query)
    assert {query.paths[row]: all_classes[class_id] for row, class_id in answer.labels.items()} == species


def test_paths_of_three_hundred_characters_and_names_of_255_bytes(tmp_path):
    name = "é" * 125 + "x.jpg"
    assert len(name.encode()) == 255
    photo = "/".join([*["folder of forty characters, more or less"] * 5, name])
    assert len(photo) > 300
    query = Query(1, np.arange(1), (photo,), ("deer",))
    labels = LabelRetriever([photo], tmp_path)
    labels.write_request(query)
    label_in_a_spreadsheet(labels.request_path, labels.labels_bin / "saved.csv", ["deer"], "utf-8", ",")
    assert labels.read_answer(query).labels == {0: 0}
