import numpy as np
import pytest

from camera_trap_al.exceptions import LabelFileError
from camera_trap_al.query import Answer, KnownLabel, Query, check_answer

QUERY = Query(1, np.array([7, 3]), ("a/7.jpg", "a/3.jpg"), ("deer", "boar"), known={"b/1.jpg": KnownLabel(1, 0)})


def test_a_query_has_a_path_for_each_row():
    assert len(QUERY) == 2
    with pytest.raises(ValueError, match="2 rows and 1 paths"):
        Query(1, np.array([7, 3]), ("a/7.jpg",), ())


@pytest.mark.parametrize(
    "answer",
    [
        Answer({7: 0, 3: 1}),
        Answer({7: 0}, skipped=(3,)),
        Answer(unusable=(3, 7)),
        Answer({7: 0}, is_partial=True),
        Answer({7: 2, 3: 1}, new_classes=("badger",)),
        Answer({7: 0, 3: 1}, corrections={1: 1}),
        Answer({7: 0, 3: 1}, unusable=(1,)),
    ],
)
def test_an_answer_that_says_one_thing_about_each_photo_fits(answer):
    check_answer(QUERY, answer)


@pytest.mark.parametrize(
    ("answer", "photo", "problem"),
    [
        (Answer({7: 0}), "a/3.jpg", "no answer"),
        (Answer({7: 0, 3: 2}), "a/3.jpg", "Got class id 2, and there are 2 classes."),
        (Answer({7: 0, 3: -1}), "a/3.jpg", "Got class id -1"),
        (Answer({7: 0, 3: 0, 5: 0}), "row 5", "Nobody asked"),
        (Answer({7: 0, 3: 0, 1: 1}), "b/1.jpg", "Nobody asked"),
        (Answer({7: 0, 3: 0}, skipped=(1,)), "b/1.jpg", "Nobody asked"),
        (Answer({7: 0, 3: 0}, unusable=(5,)), "row 5", "Nobody asked"),
        (Answer({7: 0, 3: 0}, corrections={3: 1}), "a/3.jpg", "Nobody asked"),
        (Answer({7: 0, 3: 0}, skipped=(3,)), "a/3.jpg", "several answers"),
        (Answer({7: 0, 3: 0}, corrections={1: 1}, unusable=(1,)), "b/1.jpg", "several answers"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_the_photo(answer, photo, problem):
    with pytest.raises(LabelFileError, match="label_source: the answer does not fit the question") as caught:
        check_answer(QUERY, answer)
    faults = {(fault.file, problem in fault.problem) for fault in caught.value.faults}
    assert (photo, True) in faults


@pytest.mark.parametrize("names", [("Deer",), ("skip",), ("owl", "Owl"), ("",)])
def test_a_new_class_must_have_a_name_of_its_own(names):
    with pytest.raises(LabelFileError, match="cannot be a new class"):
        check_answer(QUERY, Answer({7: 0, 3: 1}, new_classes=names))


def test_a_large_answer_is_checked_in_no_time():
    """One pass over the rows, not one for each: a hundred thousand would take minutes."""
    rows = np.arange(100_000)
    query = Query(1, rows, tuple(f"a/{row}.jpg" for row in rows), ("deer",))
    check_answer(query, Answer(dict.fromkeys(rows.tolist(), 0)))
