import numpy as np
import pytest

from camera_trap_al.exceptions import LabelFault
from camera_trap_al.labelling.class_names import ClassNames
from camera_trap_al.labelling.csv_files import LabelEntry, LabelTable, read_label_file
from camera_trap_al.labelling.matching import find_renamed_folder, match_answers
from camera_trap_al.pools import UNLABELLED
from camera_trap_al.query import KnownLabel, Query

CLASSES = ("Roe_Deer", "boar", "empty")
ROE, BOAR, EMPTY = range(3)


def ask_about(*paths: str) -> Query:
    return Query(1, np.arange(len(paths), dtype=np.int64) * 10, paths, CLASSES)


def table(*rows: tuple[str, str]) -> LabelTable:
    return LabelTable("labels.csv", tuple(LabelEntry(i, path, species) for i, (path, species) in enumerate(rows, 2)))


def test_labels_become_class_ids_of_the_rows_asked_about():
    matched = match_answers(table(("a/2.jpg", "empty"), ("a/1.jpg", "boar")), ask_about("a/1.jpg", "a/2.jpg"))
    assert (matched.labels, matched.faults) == ({0: 1, 10: 2}, ())
    assert (matched.n_found, matched.n_ignored) == (2, 0)


def test_labels_for_other_photos_are_ignored_and_only_those_that_say_something_counted():
    matched = match_answers(table(("a/1.jpg", "boar"), ("a/8.jpg", "unicorn"), ("a/9.jpg", "")), ask_about("a/1.jpg"))
    assert (matched.labels, matched.faults, matched.n_ignored) == ({0: 1}, (), 1)


def test_every_fault_is_found_in_the_order_of_the_file():
    labels = table(
        ("a/2.jpg", "roe_der"), ("a/3.jpg", ""), ("a/4.jpg", "boar"), ("a/5.jpg", "boar"), ("a/5.jpg", "empty")
    )
    matched = match_answers(labels, ask_about(*(f"a/{i}.jpg" for i in range(1, 6))))
    assert matched.labels == {30: 1}
    assert matched.faults == (
        LabelFault(2, "a/2.jpg", '"roe_der" is not a class.', 'Did you mean "Roe_Deer"?'),
        LabelFault(3, "a/3.jpg", "The species is empty.", "Fill it in."),
        LabelFault(
            6, "a/5.jpg", 'Its rows disagree: "boar" in row 5, "empty" in row 6.', "Give all its rows the same species."
        ),
        LabelFault(None, "a/1.jpg", "There is no label for this photo.", "Add its row, with its species."),
    )
    assert matched.n_found == 4


def test_a_class_like_no_other_is_answered_with_the_list_of_classes():
    (fault,) = match_answers(table(("a/1.jpg", "zzz")), ask_about("a/1.jpg")).faults
    assert fault.advice.startswith("The classes are: Roe_Deer, boar, empty. If it is a new one,")


def test_duplicates_that_agree_are_fine():
    matched = match_answers(table(("a/1.jpg", "boar"), ("a/1.jpg", "boar")), ask_about("a/1.jpg"))
    assert (matched.labels, matched.faults) == ({0: 1}, ())


def test_a_duplicate_left_empty_disagrees():
    (fault,) = match_answers(table(("a/1.jpg", "boar"), ("a/1.jpg", "")), ask_about("a/1.jpg")).faults
    assert fault.problem == 'Its rows disagree: "boar" in row 2, nothing in row 3.'


def test_paths_may_differ_in_case_where_one_photo_can_be_meant():
    matched = match_answers(table(("A/img.JPG", "boar")), ask_about("a/IMG.jpg"), ["a/IMG.jpg", "a/other.jpg"])
    assert (matched.labels, matched.n_ignored) == ({0: 1}, 0)


def test_an_exact_path_goes_before_one_in_another_case():
    matched = match_answers(table(("a/img.jpg", "empty"), ("a/IMG.jpg", "boar")), ask_about("a/IMG.jpg"))
    assert (matched.labels, matched.n_ignored) == ({0: 1}, 1)


def test_case_is_not_forgiven_where_it_tells_photos_apart():
    # a/img.jpg exists and was not asked about: its label must not go to a/IMG.jpg.
    matched = match_answers(table(("a/img.jpg", "boar")), ask_about("a/IMG.jpg"), ["a/IMG.jpg", "a/img.jpg"])
    assert (matched.labels, matched.n_ignored, matched.n_found) == ({}, 1, 0)
    both_asked = match_answers(table(("a/Img.jpg", "boar")), ask_about("a/IMG.jpg", "a/img.jpg"))
    assert (both_asked.labels, len(both_asked.faults)) == ({}, 2)


def test_names_that_no_spreadsheet_keeps_can_be_answered_all_the_same():
    # Cells are stripped, and a backslash in a Linux file name looks like a folder.
    labels = read_label_file(b"File,RelativePath,Species\n1.jpg ,a,boar\nc\\2.jpg,a,empty\n")
    assert match_answers(labels, ask_about("a/ 1.jpg", "a/c\\2.jpg")).labels == {0: 1, 10: 2}


@pytest.mark.parametrize("written", ["roe_deer", "ROE_DEER", " Roe_Deer\N{NO-BREAK SPACE}"])
def test_a_name_in_another_case_or_with_spaces_is_understood_and_reported(written):
    matched = match_answers(table(("a/1.jpg", written)), ask_about("a/1.jpg"))
    assert (matched.labels, matched.faults, matched.read_as) == ({0: ROE}, (), {written: "Roe_Deer"})


def test_two_spellings_of_one_class_agree():
    matched = match_answers(table(("a/1.jpg", "boar"), ("a/1.jpg", "Boar")), ask_about("a/1.jpg"))
    assert (matched.labels, matched.faults) == ({0: BOAR}, ())


def test_special_words_are_answers():
    matched = match_answers(
        table(("a/1.jpg", "skip"), ("a/2.jpg", "Unusable"), ("a/3.jpg", "boar")),
        ask_about("a/1.jpg", "a/2.jpg", "a/3.jpg"),
    )
    assert (matched.labels, matched.skipped, matched.unusable, matched.faults) == ({20: BOAR}, (0,), (10,), ())


def test_names_that_could_become_classes_are_counted_and_others_not():
    rows = [("a/1.jpg", "badger"), ("a/2.jpg", "badger"), ("a/3.jpg", "Unlabelled"), ("a/9.jpg", "fox")]
    matched = match_answers(table(*rows), ask_about("a/1.jpg", "a/2.jpg", "a/3.jpg"))
    assert matched.unknown == {"badger": 2, "Unlabelled": 1}
    assert ClassNames(CLASSES).new_classes(matched.unknown) == {"badger": 2}, "labels.csv says unlabelled of no label"
    grown = match_answers(
        table(*rows), ask_about("a/1.jpg", "a/2.jpg", "a/3.jpg"), names=ClassNames(CLASSES).with_classes(["badger"])
    )
    assert grown.labels == {0: 3, 10: 3}


KNOWN = {"b/1.jpg": KnownLabel(70, BOAR), "b/2.jpg": KnownLabel(71, EMPTY), "b/3.jpg": KnownLabel(72, UNLABELLED)}


def about_one_photo_with_known_ones() -> Query:
    return Query(2, np.array([0]), ("a/1.jpg",), CLASSES, known=KNOWN)


def corrected(*rows: tuple[str, str, bool]) -> LabelTable:
    return LabelTable("x", tuple(LabelEntry(i, *row) for i, row in enumerate([("a/1.jpg", "boar", False), *rows], 2)))


def test_earlier_labels_are_kept_and_differing_ones_counted():
    rows = [("b/1.jpg", "Boar", False), ("b/2.jpg", "boar", False), ("b/3.jpg", "boar", False), ("b/4.jpg", "x", False)]
    matched = match_answers(corrected(*rows), about_one_photo_with_known_ones())
    assert (matched.corrections, matched.unusable, matched.faults) == ({}, (), ())
    assert (matched.n_differing, matched.n_ignored) == (2, 1)


def test_marked_corrections_replace_earlier_labels():
    rows = [("b/1.jpg", "unusable", True), ("B/2.jpg", "boar", True), ("b/3.jpg", "Roe_Deer", True)]
    matched = match_answers(corrected(*rows), about_one_photo_with_known_ones())
    assert (matched.corrections, matched.unusable, matched.faults) == ({71: BOAR, 72: ROE}, (70,), ())


def test_a_correction_that_changes_nothing_is_none_and_one_that_means_nothing_a_fault():
    rows = [("b/1.jpg", "boar", True), ("b/2.jpg", "bore", True), ("b/3.jpg", "boar", True), ("b/3.jpg", "empty", True)]
    matched = match_answers(corrected(*rows), about_one_photo_with_known_ones())
    assert matched.corrections == {}
    assert [fault.row for fault in matched.faults] == [4, 6]
    assert matched.faults[0].advice == 'Did you mean "boar"?'
    assert "Its rows disagree" in matched.faults[1].problem


def test_a_correction_may_name_a_new_class():
    table_ = corrected(("b/1.jpg", "badger", True))
    matched = match_answers(table_, about_one_photo_with_known_ones())
    assert matched.unknown == {"badger": 1} and len(matched.faults) == 1
    names = ClassNames(CLASSES).with_classes(["badger"])
    matched = match_answers(table_, about_one_photo_with_known_ones(), names=names)
    assert (matched.corrections, matched.faults) == ({70: 3}, ())


def test_a_file_with_corrections_alone_is_about_the_question_until_they_are_made():
    only = LabelTable("x", (LabelEntry(2, "b/1.jpg", "empty", True),))
    assert match_answers(only, about_one_photo_with_known_ones()).n_found == 1
    done = Query(2, np.array([0]), ("a/1.jpg",), CLASSES, known={"b/1.jpg": KnownLabel(70, EMPTY)})
    assert match_answers(only, done).n_found == 0


def test_only_selected_records_answer_however_their_path_is_written():
    rows = (LabelEntry(None, "A/1.JPG", "boar", is_selected=False), LabelEntry(None, "a/2.jpg", "", is_selected=True))
    (unticked, empty) = match_answers(LabelTable("T.ddb", rows), ask_about("a/1.jpg", "a/2.jpg")).faults
    assert unticked.problem == "Its flag Selected is not ticked in Timelapse."
    assert empty.problem == "The species is empty."


def test_of_duplicated_records_the_selected_one_counts():
    """Facts 2.4: an import ticks the first of them only."""
    rows = (LabelEntry(None, "a/1.jpg", "boar"), LabelEntry(None, "a/1.jpg", "", is_selected=False))
    assert match_answers(LabelTable("T.ddb", rows), ask_about("a/1.jpg")).labels == {0: BOAR}


def test_a_folder_that_a_spreadsheet_has_rewritten_is_found_by_the_name_of_the_photo():
    assert find_renamed_folder(table(("1/a.jpg", "boar")), ask_about("001/a.jpg")) == ("1/a.jpg", "001/a.jpg")
    assert find_renamed_folder(table(("1/a.jpg", ""), ("1/b.jpg", "boar")), ask_about("001/a.jpg")) is None
    assert find_renamed_folder(table(("1/a.jpg", "boar")), ask_about("2/a.jpg"), ["1/a.jpg", "2/a.jpg"]) is None
