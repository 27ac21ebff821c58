"""What is kept of every label beside the database, and how it is read again."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_trap_al.exceptions import CheckpointError, RunFileError
from camera_trap_al.files import write_csv
from camera_trap_al.pools import UNLABELLED, Role
from camera_trap_al.query import Answer, KnownLabel, Query
from camera_trap_al.run_store.label_archive import (
    ACCEPTED,
    INITIAL,
    LABEL_COLUMNS,
    keep_answer,
    keep_file,
    keep_initial,
)
from camera_trap_al.run_store.label_archive import read_labels as read_lazily
from camera_trap_al.run_store.run_folder import ARCHIVE

CLASSES = ("red deer", "Rüsselspringer, klein", '"fox"', "=boar", "'quoted", "'=both")
PATHS = ("a/1.jpg", 'b, "c"/ä 2.jpg', "=c/3.jpg", "d\r\ne/4.jpg")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder as far as labels go."""
    return with_archive(tmp_path)


def with_archive(folder: Path) -> Path:
    (folder / ARCHIVE).mkdir(parents=True)
    return folder


def read_labels(file: Path) -> list[tuple[Role, str, str]]:
    return list(read_lazily(file))


def question(round_number: int = 1) -> Query:
    known = {"known/8.jpg": KnownLabel(8, 0), "known/9.jpg": KnownLabel(9, UNLABELLED)}
    return Query(round_number, np.arange(len(PATHS)), PATHS, CLASSES, known=known)


def accepted(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """What each file says of photos of the unlabelled folder."""
    found = {file.name: read_labels(file) for file in (folder / ACCEPTED).iterdir()}
    assert {role for labels in found.values() for role, _, _ in labels} <= {Role.UNLABELLED}
    return {name: [(path, label) for _, path, label in labels] for name, labels in found.items()}


def test_all_that_an_answer_says_is_kept_by_name(run_folder: Path) -> None:
    answer = Answer(
        {0: 1, 1: 6}, skipped=(2,), unusable=(3, 8), corrections={9: 3}, new_classes=("-new",), source="anna"
    )
    keep_answer(run_folder, question(12), answer)
    assert accepted(run_folder) == {
        "round_0012.csv": [
            (PATHS[0], CLASSES[1]),
            (PATHS[1], "-new"),
            ("known/9.jpg", "=boar"),
            (PATHS[2], "skip"),
            (PATHS[3], "unusable"),
            ("known/8.jpg", "unusable"),
        ]
    }
    assert not list((run_folder / ACCEPTED).parent.glob("*.csv")), "it came in no file"


def test_the_file_of_an_answer_is_kept_as_it_came_under_the_end_of_its_name(run_folder: Path) -> None:
    answer = Answer({0: 0}, source="over/there/labels.csv", file_content=b"\xff\0;x", is_partial=True)
    keep_answer(run_folder, question(), answer)
    keep_file(run_folder, "initial", "x" * 300 + ".csv", b"initial")
    kept = {file.name: file.read_bytes() for file in (run_folder / ACCEPTED).parent.glob("*.csv")}
    assert kept == {"round_0001_labels.csv": b"\xff\0;x", f"initial_{'x' * 56}.csv": b"initial"}


def test_the_same_answer_again_is_kept_once(run_folder: Path) -> None:
    """As when the database had no room for it the first time."""
    for _ in range(2):
        keep_answer(run_folder, question(), Answer({0: 0}, is_partial=True))
    assert accepted(run_folder) == {"round_0001.csv": [(PATHS[0], CLASSES[0])]}


def test_what_is_said_changed_and_said_again_is_kept_in_this_order(run_folder: Path) -> None:
    for class_id in (0, 1, 0, 0):
        keep_answer(run_folder, question(), Answer(corrections={9: class_id}, is_partial=True))
    assert accepted(run_folder) == {
        "round_0001.csv": [("known/9.jpg", CLASSES[0])],
        "round_0001 (2).csv": [("known/9.jpg", CLASSES[1])],
        "round_0001 (3).csv": [("known/9.jpg", CLASSES[0])],
    }


def test_initial_labels_are_kept_and_replaced(run_folder: Path) -> None:
    keep_initial(run_folder, [("a/1.jpg", "red deer")])
    keep_initial(run_folder, [("=b/1.jpg", "=boar"), ("c/1.jpg", "unusable")])
    assert accepted(run_folder) == {Path(INITIAL).name: [("=b/1.jpg", "=boar"), ("c/1.jpg", "unusable")]}


names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(st.lists(st.tuples(names, names), max_size=5))
def test_any_names_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, labels) -> None:
    folder = with_archive(tmp_path_factory.mktemp("run"))
    labels = [
        (f"site/{path.replace('/', '').replace(chr(92), '').replace(chr(0), '')}.jpg", name) for path, name in labels
    ]
    keep_initial(folder, labels)
    expected = [(Role.UNLABELLED, path, name) for path, name in labels]
    assert read_labels(folder / INITIAL) == expected
    write_csv(folder / "labels.csv", LABEL_COLUMNS, [(f"unlabelled_data/{path}", name) for path, name in labels])
    assert read_labels(folder / "labels.csv") == expected, "data/labels.csv is written so"


def test_a_file_that_excel_saved_as_utf_8_is_read(run_folder: Path) -> None:
    (run_folder / "labels.csv").write_bytes("\ufeffpath,label\r\ntrain_data/Reh/1.jpg,Reh\r\n".encode())
    assert read_labels(run_folder / "labels.csv") == [(Role.TRAIN, "Reh/1.jpg", "Reh")]


WHOLE = "path,label\r\nvalidation_data/fox/1.jpg,fox\r\nunlabelled_data/a/2.jpg,unlabelled\r\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "its first line is ''"),
        (b"\0" * 500, "its first line is"),
        (WHOLE.replace(",", ";").encode(), "its first line is 'path;label'"),
        (WHOLE.encode("utf-16"), "decode"),
        (WHOLE.replace("fox", "f\u00fcx").encode("cp1252"), "'utf-8' codec can't decode"),
        (WHOLE.encode()[:-6], "it breaks off in its last line"),
        (WHOLE.encode()[:-14] + b"\r\n", "line 3 is no photo and its label: 'unlabelled_data/a/2.jp'"),
        ((WHOLE + "\r\n").encode(), "line 4"),
        ((WHOLE + "somewhere/a.jpg,fox\r\n").encode(), "line 4"),
        ((WHOLE + "train_data/a.jpg,fox,x\r\n").encode(), "line 4"),
        ((WHOLE + 'train_data/a.jpg,"fox\r\n').encode(), "unexpected end of data"),
        *(
            ((WHOLE + f"train_data/{path},fox\r\n").encode(), "line 4")
            for path in ("../a.jpg", "a/../../b.jpg", "/a.jpg", "\\\\server\\a.jpg", "C:/a.jpg", "a/..\\b.jpg", "")
        ),
    ],
)
def test_a_file_that_no_run_wrote_is_named_with_what_is_wrong_and_what_to_do(
    run_folder: Path, content: bytes, why: str
) -> None:
    file = run_folder / "labels.csv"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        read_labels(file)
    assert caught.value.path == file
    message = str(caught.value)
    assert message.startswith(f"{file}: ") and why in message
    assert "Put back a copy of the file" in message and "move the file out of the run folder" in message


def test_a_file_that_is_gone_or_cannot_be_opened_is_named(run_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        read_labels(run_folder / "labels.csv")
    (run_folder / "folder.csv").mkdir()
    with pytest.raises(CheckpointError, match="Is a directory"):
        read_labels(run_folder / "folder.csv")


def test_an_archive_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(RunFileError, match="Not a directory"):
        keep_answer(tmp_path, question(), Answer({0: 0}, is_partial=True))
