import csv
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from camera_trap_al.exceptions import DataError, LabelFileError
from camera_trap_al.interchange.timelapse import write_selector_csv
from camera_trap_al.labelling import LabelRetriever, retriever, waiting
from camera_trap_al.labelling.dialogue import ask, say
from camera_trap_al.labelling.places import LabelsBin
from camera_trap_al.labelling.waiting import LabelsNeeded, Leave, Watch
from camera_trap_al.query import Answer, KnownLabel, Query

PHOTOS = ("a/1.jpg", "a/2.jpg", "b/3.jpg", "top.jpg")
QUERY = Query(3, np.array([7, 2]), ("b/3.jpg", "a/1.jpg"), ("deer", "boar"))
GOOD = b"File,RelativePath,Species\r\n1.jpg,a,boar\r\n3.jpg,b,deer\r\n2.jpg,a,fox\r\n"
LABELS = {2: 1, 7: 0}
PROMPT = "Press enter when you have placed the labels in the labels bin"
LOADED = "Labels were loaded successfully"


@pytest.fixture
def labels(tmp_path) -> LabelRetriever:
    return LabelRetriever(PHOTOS, tmp_path / "run")


def put(labels: LabelRetriever, name: str, content: bytes, age: int = 0) -> Path:
    """Put a file into the bin that was last changed `age` seconds before an arbitrary moment."""
    path = labels.labels_bin / name
    path.write_bytes(content)
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return path


def faults_of(labels: LabelRetriever, query: Query = QUERY) -> str:
    with pytest.raises(LabelFileError) as caught:
        labels.read_answer(query)
    return str(caught.value)


def converse(labels: LabelRetriever, monkeypatch, typed: str, query: Query = QUERY) -> tuple[Answer, list[Answer]]:
    """Run the dialogue with `typed` on the standard input; return the answer and what was committed."""
    committed: list[Answer] = []
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    return labels.request_labels(query, committed.append), committed


def test_the_bin_is_made_and_the_request_marks_what_is_asked(labels):
    assert labels.labels_bin.is_dir()
    labels.write_request(QUERY)
    assert labels.request_path.read_bytes() == (
        b"File,RelativePath,Selected\r\n1.jpg,a,true\r\n2.jpg,a,false\r\n3.jpg,b,true\r\ntop.jpg,,false\r\n"
    )


def test_a_complete_file_is_an_answer_with_its_bytes(labels):
    put(labels, "export.CSV", GOOD)
    answer = labels.read_answer(QUERY)
    assert answer == Answer(LABELS, source="export.CSV", file_content=GOOD, n_ignored=1)


def test_the_query_decides_what_was_asked_and_not_the_selected_column(labels):
    put(labels, "x.csv", b"File,RelativePath,Selected,Species\n1.jpg,a,false,boar\n3.jpg,b,FALSE,deer\n2.jpg,a,true,\n")
    assert labels.read_answer(QUERY).labels == LABELS


def test_the_newest_file_with_a_photo_asked_about_counts(labels):
    put(labels, "a_newest.csv", b"File,RelativePath,Species\n2.jpg,a,boar\n", age=0)
    put(labels, "m_answer.csv", GOOD, age=10)
    put(labels, "z_old.csv", GOOD.replace(b"boar", b"deer"), age=20)
    answer = labels.read_answer(QUERY)
    assert (answer.source, answer.labels) == ("m_answer.csv", LABELS)


def test_a_newer_file_that_cannot_be_read_is_not_passed_over_for_an_older_one(labels):
    put(labels, "old.csv", GOOD, age=10)
    put(labels, "corrected.csv", b"nonsense")
    assert "corrected.csv cannot be used" in faults_of(labels)


def test_what_is_no_label_file_is_not_looked_at(labels):
    put(labels, "~$labels.csv", b"lock")
    put(labels, "._labels.csv", b"\0\0")
    put(labels, "notes.txt", b"hello")
    (labels.labels_bin / "older").mkdir()
    (labels.labels_bin / "folder.csv").mkdir()
    (labels.labels_bin / "older" / "labels.csv").write_bytes(GOOD)
    assert "There is no CSV file in the labels bin." in faults_of(labels)


def test_files_about_other_photos_are_counted(labels):
    put(labels, "1.csv", b"File,RelativePath,Species\n2.jpg,a,boar\n")
    put(labels, "2.csv", b"File,RelativePath,Species\n")
    assert "Of 2 CSV files in the labels bin, none has a row for a photo that is asked about." in faults_of(labels)


def test_a_partial_answer_is_a_fault_that_names_the_photo(labels):
    put(labels, "part.csv", b"File,RelativePath,Species\n1.jpg,a,boar\n")
    assert "b/3.jpg: There is no label for this photo." in faults_of(labels)


def test_a_file_in_use_is_a_fault(labels, monkeypatch):
    put(labels, "locked.csv", GOOD)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "locked.csv" in faults_of(labels)


def test_a_file_that_vanishes_while_the_bin_is_listed_is_a_fault(labels):
    (labels.labels_bin / "gone.csv").symlink_to(labels.labels_bin / "nowhere")
    assert "The labels bin cannot be read" in faults_of(labels)


def test_a_bin_that_was_deleted_is_made_again(labels):
    labels.labels_bin.rmdir()
    assert "There is no CSV file" in faults_of(labels)
    assert labels.labels_bin.is_dir()


def test_the_answer_is_committed_before_it_is_called_loaded(labels, monkeypatch, capsys):
    put(labels, "x.csv", GOOD)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    answer = labels.request_labels(QUERY, lambda answer: say(f"committed {sorted(answer.labels)}"))
    lines = capsys.readouterr().out.splitlines()
    assert answer.labels == LABELS
    assert lines[-3:] == ["committed [2, 7]", LOADED, "2 labels from x.csv. Ignored: 1 label for other photos."]
    assert PROMPT in lines
    assert any(str(labels.request_path) in line for line in lines)
    assert any(str(labels.labels_bin) in line for line in lines)


def test_a_failed_commit_is_let_through_and_nothing_is_called_loaded(labels, monkeypatch, capsys):
    def fail(answer: Answer) -> None:
        raise OSError("disk full")

    put(labels, "x.csv", GOOD)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(OSError, match="disk full"):
        labels.request_labels(QUERY, fail)
    assert LOADED not in capsys.readouterr().out


def test_n_has_added_photos_taken_in_and_reads_nothing(labels, monkeypatch, capsys):
    put(labels, "x.csv", GOOD)
    assert converse(labels, monkeypatch, "n\n") == (Answer(look_again=True), [])
    assert "n to take in photos that were added" in capsys.readouterr().out


@pytest.mark.parametrize("typed", ["q\n", " Q \n"])
def test_q_stops_and_reads_nothing(labels, monkeypatch, typed):
    put(labels, "x.csv", GOOD)
    assert converse(labels, monkeypatch, typed) == (Answer(stop=True), [])


def test_what_is_typed_by_mistake_is_explained_and_asked_again(labels, monkeypatch, capsys):
    put(labels, "x.csv", GOOD)
    answer, committed = converse(labels, monkeypatch, "deer\n\n")
    assert committed == [answer]
    assert '"deer" means nothing here' in capsys.readouterr().out


def test_faults_beyond_a_screenful_are_counted(labels, monkeypatch, capsys):
    photos = tuple(f"a/{i:03}.jpg" for i in range(50))
    put(labels, "x.csv", b"File,RelativePath,Species\n" + b"".join(b"%03d.jpg,a,bore\n" % i for i in range(50)))
    many = Query(1, np.arange(50), photos, ("deer", "boar"))
    answer, committed = converse(LabelRetriever(photos, labels.labels_bin.parent), monkeypatch, "\nq\n", many)
    shown = capsys.readouterr().out
    assert (answer.stop, committed) == (True, [])
    assert shown.count('"bore" is not a class.  Did you mean "boar"?') == 20, "columns of a table"
    assert "and 30 more of the 50" in shown


def test_ctrl_c_at_the_prompt_is_let_through(labels, monkeypatch):
    def interrupt(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    with pytest.raises(KeyboardInterrupt):
        labels.request_labels(QUERY, lambda answer: None)


def test_a_selector_held_open_is_said_and_tried_again_at_enter(labels, monkeypatch, capsys):
    replace, refusals = Path.replace, [PermissionError(13, "Permission denied")]

    def refuse_once(self: Path, target: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse_once)
    put(labels, "x.csv", GOOD)
    answer, _ = converse(labels, monkeypatch, "\n\n")
    assert answer.labels == LABELS
    assert "timelapse_selector.csv cannot be written: Permission denied" in capsys.readouterr().out
    assert labels.request_path.exists()


def test_a_person_may_stop_while_the_selector_is_held_open(labels, monkeypatch):
    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    assert converse(labels, monkeypatch, "q\n") == (Answer(stop=True), [])


def test_nothing_in_the_bin_is_changed(labels, monkeypatch):
    put(labels, "bad.csv", b"nonsense")
    put(labels, "good.csv", GOOD, age=10)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in labels.labels_bin.iterdir()}
    converse(labels, monkeypatch, "\nq\n")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in labels.labels_bin.iterdir()} == before


def test_a_console_without_the_letters_shows_question_marks(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    say("狐/Füchse\udcff.jpg")
    assert raw.getvalue().decode("cp1252").strip() == "?/Füchse?.jpg"


def test_bytes_that_are_no_text_are_an_answer_like_any_other(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8"))
    assert ask("?") not in ("", "q")


def test_the_constants_are_the_sentences_that_scripts_wait_for():
    assert (LabelsBin.prompt, retriever.LOADED_MESSAGE) == (PROMPT, LOADED)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from camera_trap_al.labelling import LabelRetriever
from camera_trap_al.query import Query

folder = Path(sys.argv[1])
query = Query(1, np.array([1]), ("a/2.jpg",), ("deer", "boar"))
answer = LabelRetriever(["a/1.jpg", "a/2.jpg"], folder).request_labels(
    query, lambda answer: (folder / "committed").write_text(str(answer.labels))
)
print("answer", dict(answer.labels), answer.stop)
"""


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, bufsize=1) as process:
        watchdog = threading.Timer(60, process.kill)  # a dialogue that hangs must fail the test, not hang it
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()


def read_until(process: subprocess.Popen[str], sentence: str) -> str:
    """Read whole lines until one is `sentence`, as a script that drives a run does."""
    lines = []
    while not lines or lines[-1] != f"{sentence}\n":
        lines.append(process.stdout.readline())
        assert lines[-1], f"ended without {sentence!r}: {''.join(lines)}"
    return "".join(lines)


def test_under_a_real_pipe_a_typo_is_told_and_its_correction_accepted(tmp_path):
    answers = tmp_path / "new_labels_bin" / "answers.csv"
    with running(tmp_path) as process:
        read_until(process, PROMPT)
        rows = (tmp_path / "timelapse_selector.csv").read_text("utf-8").splitlines()
        assert rows == ["File,RelativePath,Selected", "1.jpg,a,false", "2.jpg,a,true"]

        answers.write_text("File,RelativePath,Species\n2.jpg,a,dear\n", "utf-8")
        process.stdin.write("\n")
        told = read_until(process, PROMPT)
        assert '2    a/2.jpg  "dear" is not a class.  Did you mean "deer"?' in told
        assert "answers.csv" in told
        assert not (tmp_path / "committed").exists()

        answers.write_text("File,RelativePath,Species\n2.jpg,a,deer\n", "utf-8")
        process.stdin.write("\n")
        read_until(process, LOADED)
        assert (tmp_path / "committed").read_text() == "{1: 0}"
        assert "answer {1: 0} False" in process.stdout.read()
    assert process.returncode == 0


def test_under_a_pipe_that_is_closed_at_once_the_dialogue_stops_and_says_so(tmp_path):
    with running(tmp_path) as process:
        process.stdin.close()
        said = process.stdout.read()
    assert "the input has ended" in said
    assert "answer {} True" in said
    assert process.returncode == 0
    assert not (tmp_path / "committed").exists()


def test_labels_written_into_the_request_itself_can_be_read(labels):
    # Without Timelapse: open the selector in a spreadsheet, add a column Species, save it into the bin.
    labels.write_request(QUERY)
    species = {"1.jpg": "boar", "3.jpg": "deer"}
    header, *rows = labels.request_path.read_text("utf-8").splitlines()
    filled = [f"{header};Species".replace(",", ";")]
    filled += [f"{row};{species.get(row.split(',')[0], '')}".replace(",", ";") for row in rows]
    put(labels, "from_excel.csv", "\r\n".join(filled).encode("utf-16"))
    answer = labels.read_answer(QUERY)
    assert (answer.labels, answer.n_ignored) == (LABELS, 0)


def test_an_old_selector_is_replaced_whole(labels):
    write_selector_csv(labels.request_path, PHOTOS, PHOTOS)
    labels.write_request(QUERY)
    assert labels.request_path.read_text("utf-8").count("true") == len(QUERY)


def test_every_fault_is_in_a_file_however_many_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = [f"site/{number}.jpg" for number in range(40)]
    retriever = LabelRetriever(photos, tmp_path)
    query = Query(1, np.arange(40), tuple(photos), ("deer",))
    rows = "".join(f"{number}.jpg,site,deeer\n" for number in range(40))
    (retriever.labels_bin / "typos.csv").write_text(f"File,RelativePath,Species\n{rows}", encoding="utf-8")
    with pytest.raises(LabelFileError) as refused:
        retriever.read_answer(query)
    retriever._report(refused.value)
    with retriever.faults_path.open(newline="", encoding="utf-8-sig") as file:
        listed = list(csv.DictReader(file))
    assert [fault["file"] for fault in listed] == photos
    assert all("deer" in fault["advice"] for fault in listed)
    assert str(retriever.faults_path) in capsys.readouterr().out


def test_an_accent_may_be_written_in_either_unicode_form(tmp_path: Path) -> None:
    apart, together = "e\u0301lan/1.jpg", "\u00e9lan/1.jpg"
    retriever = LabelRetriever([apart], tmp_path)
    table = f"File,RelativePath,Species\n1.jpg,{together.partition('/')[0]},deer\n"
    (retriever.labels_bin / "windows.csv").write_text(table, encoding="utf-8")
    assert retriever.read_answer(Query(1, np.array([7]), (apart,), ("deer",))).labels == {7: 0}


def test_p_takes_the_part_that_is_there_and_enter_never_does(labels, monkeypatch, capsys):
    put(labels, "part.csv", b"File,RelativePath,Species\n1.jpg,a,boar\n3.jpg,b,bore\n")
    answer, committed = converse(labels, monkeypatch, "\np\n")
    assert committed == [answer]
    assert (answer.labels, answer.is_partial) == ({2: 1}, True)
    said = capsys.readouterr().out
    assert said.index('"bore" is not a class.') < said.index(LOADED)
    assert said.endswith("1 label from part.csv.\nStill asked: 1 photo.\n")
    assert said.rindex('"bore" is not a class.') > said.index("Left out of part.csv:"), "what p left out is told"
    assert labels.faults_path.exists()


def test_p_with_nothing_usable_is_refused_and_with_everything_is_a_whole_answer(labels, monkeypatch):
    put(labels, "x.csv", b"File,RelativePath,Species\n1.jpg,a,bore\n")
    assert converse(labels, monkeypatch, "p\nq\n")[1] == []
    put(labels, "y.csv", GOOD)
    answer, _ = converse(labels, monkeypatch, "p\n")
    assert (answer.labels, answer.is_partial) == (LABELS, False)


def test_skip_and_unusable_are_answers(labels, monkeypatch, capsys):
    put(labels, "x.csv", b"File,RelativePath,Species\n1.jpg,a,skip\n3.jpg,b,Unusable\n")
    answer, _ = converse(labels, monkeypatch, "\n")
    assert (answer.labels, answer.skipped, answer.unusable, answer.is_partial) == ({}, (2,), (7,), False)
    said = capsys.readouterr().out
    assert "Skipped, to be asked about later: 1 photo." in said
    assert "Left out as unusable: 1 photo." in said


def test_names_in_another_case_are_accepted_and_told(labels, monkeypatch, capsys):
    put(labels, "x.csv", b"File,RelativePath,Species\n1.jpg,a,BOAR\n3.jpg,b,deer\n")
    assert converse(labels, monkeypatch, "\n")[0].labels == LABELS
    assert 'Read "BOAR" as "boar".' in capsys.readouterr().out


def test_aliases_and_another_label_column(tmp_path):
    labels = LabelRetriever(PHOTOS, tmp_path, label_column="Art", class_aliases={"Wildschwein": "boar"})
    put(labels, "x.csv", b"File,RelativePath,Species,Art\n1.jpg,a,deer,Wildschwein\n3.jpg,b,boar,deer\n")
    assert labels.read_answer(QUERY).labels == LABELS


NEW = b"File,RelativePath,Species\n1.jpg,a,badger\n3.jpg,b,deer\n"


@pytest.mark.parametrize(("typed", "expected"), [("\ny\n", ({2: 2, 7: 0}, ("badger",))), ("\n\nq\n", ({}, ()))])
def test_a_new_class_is_asked_about_and_added_or_refused(tmp_path, monkeypatch, capsys, typed, expected):
    labels = LabelRetriever(PHOTOS, tmp_path, new_classes="add")
    put(labels, "x.csv", NEW)
    answer, _ = converse(labels, monkeypatch, typed)
    assert (answer.labels, answer.new_classes) == expected
    assert '"badger" (1 photo) is not a class yet.' in capsys.readouterr().out


def test_a_new_class_like_an_old_one_is_doubted(tmp_path, monkeypatch, capsys):
    labels = LabelRetriever(PHOTOS, tmp_path, new_classes="add")
    put(labels, "x.csv", NEW.replace(b"badger", b"bores"))
    converse(labels, monkeypatch, "\n\nq\n")
    assert 'is not a class yet. It looks like "boar".' in capsys.readouterr().out


def test_by_default_a_new_class_is_a_fault(labels, monkeypatch):
    put(labels, "x.csv", NEW)
    assert converse(labels, monkeypatch, "\ny\nq\n")[1] == []


def test_earlier_labels_are_corrected_only_where_that_is_marked(labels, monkeypatch, capsys):
    query = replace(QUERY, known={"a/2.jpg": KnownLabel(4, 0), "top.jpg": KnownLabel(5, 0)})
    rows = b"1.jpg,a,boar,\n3.jpg,b,deer,\n2.jpg,a,boar,TRUE\ntop.jpg,,boar,\n"
    put(labels, "x.csv", b"File,RelativePath,Species,Correct\n" + rows)
    answer, _ = converse(labels, monkeypatch, "\n", query)
    assert (answer.labels, answer.corrections, answer.n_differing) == (LABELS, {4: 1}, 1)
    said = capsys.readouterr().out
    assert "Corrected: 1 earlier label." in said
    assert "Not taken, since the photo has another label from earlier: 1 label." in said


def test_the_prompt_says_what_timelapse_must_show_and_can_never_show(tmp_path, monkeypatch, capsys):
    photos = ("a/1.jpg", "a/2.JPG", "a/3.png", "a/4.jpeg", "b/5.png")
    query = Query(1, np.arange(4), photos[:4], ("deer",))
    converse(LabelRetriever(photos, tmp_path), monkeypatch, "q\n", query)
    said = capsys.readouterr().out
    assert "tick Selected: Timelapse must show\n2 files." in said
    assert "never 2 photos of this question and 1 .jpeg, 2 .png in the unlabelled folder" in said
    assert "reset the selection" in said


def test_only_changed_rows_are_requested(tmp_path):
    labels = LabelRetriever(PHOTOS, tmp_path, request_rows="changed")
    labels.write_request(replace(QUERY, asked_before=("a/2.jpg", "gone/9.jpg")))
    rows = labels.request_path.read_bytes()
    assert rows == b"File,RelativePath,Selected\r\n1.jpg,a,true\r\n2.jpg,a,false\r\n3.jpg,b,true\r\n"


def test_changed_rows_are_refused_where_one_would_mean_several_photos(tmp_path, monkeypatch, capsys):
    """Facts 2.4: without RelativePath Timelapse changes every file of that name."""
    photos = ("1.jpg", "a/1.jpg", "a/2.jpg")
    query = Query(1, np.arange(1), ("1.jpg",), ("deer",))
    labels = LabelRetriever(photos, tmp_path, request_rows="changed")
    with pytest.raises(DataError, match=r'1\.jpg lies directly in .* Use request_rows="all"'):
        labels.write_request(query)
    LabelRetriever(photos, tmp_path, request_rows="all").write_request(query)


@pytest.fixture
def held_open(monkeypatch) -> list[None]:
    """Excel holds the selector open; each entry is one attempt to write it that fails."""
    replace_, attempts = Path.replace, [None]

    def refuse(self: Path, target: Path) -> Path:
        if target.name == "timelapse_selector.csv" and attempts:
            attempts.pop()
            raise PermissionError(13, "Permission denied")
        return replace_(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    return attempts


def test_watching_waits_for_a_selector_that_is_held_open(tmp_path, held_open, monkeypatch, capsys):
    monkeypatch.setattr(waiting.time, "sleep", lambda seconds: None)
    labels = LabelRetriever(PHOTOS, tmp_path, waiting=Watch)
    put(labels, "x.csv", GOOD)
    assert labels.request_labels(QUERY, lambda answer: None).labels == LABELS
    assert "cannot be written: Permission denied" in capsys.readouterr().out


def test_a_program_that_leaves_does_so_when_the_selector_is_held_open(tmp_path, held_open, capsys):
    with pytest.raises(LabelsNeeded):
        LabelRetriever(PHOTOS, tmp_path, waiting=Leave).request_labels(QUERY, pytest.fail)
    assert "the request cannot be written now" in capsys.readouterr().out


def test_leaving_when_labels_are_needed_and_going_on_when_they_are_there(tmp_path, capsys):
    labels = LabelRetriever(PHOTOS, tmp_path, waiting=Leave)
    committed: list[Answer] = []
    with pytest.raises(LabelsNeeded):
        labels.request_labels(QUERY, committed.append)
    assert labels.request_path.exists() and committed == []
    put(labels, "x.csv", GOOD)
    assert labels.request_labels(QUERY, committed.append).labels == LABELS
    assert LOADED in capsys.readouterr().out


def test_watching_takes_an_answer_only_when_it_is_whole(tmp_path, monkeypatch):
    labels = LabelRetriever(PHOTOS, tmp_path, waiting=Watch)
    contents = iter([GOOD[:40], GOOD[:51], GOOD])

    def later(seconds: float) -> None:
        if not later.pauses % 3:
            put(labels, "x.csv", next(contents), age=-later.pauses)
        later.pauses += 1

    later.pauses = 0
    monkeypatch.setattr(waiting.time, "sleep", later)
    assert labels.request_labels(QUERY, lambda answer: None).labels == LABELS
    assert next(contents, None) is None


def test_nobody_is_shown_faults_where_there_are_only_no_labels_yet(tmp_path, capsys):
    labels = LabelRetriever(PHOTOS, tmp_path, waiting=Leave)
    with pytest.raises(LabelsNeeded):
        labels.request_labels(QUERY, pytest.fail)
    said = capsys.readouterr().out
    assert "what is wrong" not in said and "Labels are needed" in said
    assert not labels.faults_path.exists()
    put(labels, "x.csv", GOOD.replace(b"boar", b"bore"))
    with pytest.raises(LabelsNeeded):
        labels.request_labels(QUERY, pytest.fail)
    assert '"bore" is not a class.' in capsys.readouterr().out and labels.faults_path.exists()


def test_the_list_of_faults_goes_when_they_are_put_right(labels, monkeypatch):
    put(labels, "x.csv", GOOD.replace(b"boar", b"bore"))
    converse(labels, monkeypatch, "\nq\n")
    assert labels.faults_path.exists()
    put(labels, "x.csv", GOOD)
    converse(labels, monkeypatch, "\n")
    assert not labels.faults_path.exists()


def test_each_new_class_is_asked_about_once_for_a_question(tmp_path, monkeypatch, capsys):
    labels = LabelRetriever(PHOTOS, tmp_path, new_classes="add")
    put(labels, "x.csv", NEW.replace(b"deer", b""))  # the other photo has no species yet
    answer, _ = converse(labels, monkeypatch, "\ny\np\n")
    assert (answer.labels, answer.new_classes) == ({2: 2}, ("badger",))
    assert capsys.readouterr().out.count("is not a class yet") == 1


def test_when_nobody_can_answer_a_new_class_is_refused(tmp_path, monkeypatch):
    labels = LabelRetriever(PHOTOS, tmp_path, new_classes="add")
    put(labels, "x.csv", NEW)
    assert converse(labels, monkeypatch, "\n") == (Answer(stop=True), [])


def test_a_notebook_that_is_run_without_anybody_is_an_input_that_has_ended(monkeypatch):
    def no_frontend(prompt: str) -> str:
        raise NotImplementedError  # as ipykernel's StdinNotImplementedError

    monkeypatch.setattr("builtins.input", no_frontend)
    with pytest.raises(EOFError):
        ask("?")


def test_corrections_are_taken_from_a_newer_file_and_answers_from_the_next(labels, monkeypatch, capsys):
    query = replace(QUERY, known={"a/2.jpg": KnownLabel(4, 0)})
    put(labels, "answers.csv", GOOD.replace(b"2.jpg,a,fox\r\n", b""), age=10)
    put(labels, "corrections.csv", b"File,RelativePath,Species,Correct\n2.jpg,a,boar,true\n")
    answer, _ = converse(labels, monkeypatch, "\np\n", query)
    assert (answer.labels, answer.corrections, answer.is_partial) == ({}, {4: 1}, True)
    corrected = replace(query, known={"a/2.jpg": KnownLabel(4, 1)})
    assert labels.read_answer(corrected).labels == LABELS


def test_a_correction_that_means_nothing_does_not_keep_a_whole_answer_open(labels, monkeypatch):
    query = replace(QUERY, known={"a/2.jpg": KnownLabel(4, 0)})
    rows = b"1.jpg,a,boar,\n3.jpg,b,deer,\n2.jpg,a,bore,TRUE\n"
    put(labels, "x.csv", b"File,RelativePath,Species,Correct\n" + rows)
    answer, _ = converse(labels, monkeypatch, "\np\n", query)
    assert (answer.labels, answer.corrections, answer.is_partial) == (LABELS, {}, False)


def test_a_folder_rewritten_by_a_spreadsheet_is_told_with_the_way_out(tmp_path):
    labels = LabelRetriever(["001/a.jpg"], tmp_path)
    put(labels, "x.csv", b"File,RelativePath,Species\na.jpg,1,deer\n")
    query = Query(1, np.array([0]), ("001/a.jpg",), ("deer",))
    told = faults_of(labels, query)
    assert 'Its folder is "1", and a photo of this name was asked about in "001".' in told
    assert "with its columns as text" in told
