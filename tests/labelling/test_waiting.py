import io
import sys

import pytest

from camera_trap_al.labelling import waiting
from camera_trap_al.labelling.places import LabelsBin
from camera_trap_al.labelling.waiting import Enter, LabelsNeeded, Leave, Watch


@pytest.fixture
def place(tmp_path) -> LabelsBin:
    return LabelsBin(tmp_path / "bin")


@pytest.fixture
def looks(monkeypatch) -> list:
    """What happens in each pause between two looks, instead of waiting; too many pauses are an error."""
    steps: list = []
    monkeypatch.setattr(waiting.time, "sleep", lambda seconds: steps.pop(0)())
    return steps


def nothing() -> None: ...


@pytest.mark.parametrize(
    ("typed", "word"), [("\n", ""), ("p\n", "p"), ("Q\n", "q"), ("N\n", "n"), ("deer\n\n", ""), ("", "q")]
)
def test_enter_waits_for_a_word_that_means_something(place, monkeypatch, capsys, typed, word):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert Enter().next_word("Press enter", place) == word
    assert "Press enter\n" in capsys.readouterr().out


def test_watch_looks_at_once_and_then_at_each_change_that_has_settled(place, looks):
    watch = Watch()
    looks += [nothing]
    assert watch.next_word("", place) == ""
    file = place.folder / "a.csv"
    looks += [nothing, nothing, lambda: file.write_text("half"), lambda: file.write_text("whole file"), nothing]
    assert watch.next_word("", place) == ""
    assert looks == [], "every pause was waited for"


def test_watch_lets_ctrl_c_through(place, looks):
    def interrupt() -> None:
        raise KeyboardInterrupt

    looks += [interrupt]
    with pytest.raises(KeyboardInterrupt):
        Watch().next_word("", place)


def test_leave_looks_once_and_then_ends_the_program_with_its_own_status(place, capsys):
    leave = Leave()
    assert leave.next_word("", place) == ""
    with pytest.raises(SystemExit) as caught:
        leave.next_word("", place)
    assert isinstance(caught.value, LabelsNeeded) and caught.value.code == 3
    assert "Labels are needed" in capsys.readouterr().out
