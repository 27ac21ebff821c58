"""How a run waits for an expert: at the keyboard, by watching for labels, or by leaving until the next start."""

import time
from typing import NoReturn, Protocol

from camera_trap_al.labelling.dialogue import ask, say
from camera_trap_al.labelling.places import LabelPlace

__all__ = [
    "LABELS_NEEDED_STATUS",
    "NEW_PHOTOS_WORD",
    "PART_WORD",
    "STOP_WORD",
    "Enter",
    "LabelsNeeded",
    "Leave",
    "Waiting",
    "Watch",
]

STOP_WORD = "q"
PART_WORD = "p"
NEW_PHOTOS_WORD = "n"
OTHER_WORDS = (
    f"(or type {PART_WORD} and press enter to take the part that is there, {NEW_PHOTOS_WORD} to take in photos that "
    f"were added to the folders, or {STOP_WORD} to stop here)"
)
LABELS_NEEDED_STATUS = 3
SECONDS_BETWEEN_LOOKS = 2.0


class LabelsNeeded(SystemExit):
    """The program leaves, with exit status 3, until labels are there; the next start goes on with them."""

    def __init__(self) -> None:
        super().__init__(LABELS_NEEDED_STATUS)


class Waiting(Protocol):
    """Waits until it is worth looking for labels; made anew for each question.

    Attributes
    ----------
    is_attended
        Whether somebody is there to answer a further question.
    """

    is_attended: bool

    def next_word(self, prompt: str, place: LabelPlace) -> str:
        """Wait, and return "" to look for a whole answer, or one of the words above for something else."""

    def tries_again(self) -> bool:
        """Wait until a file that could not be written may be free again; False to stop."""


class Enter:
    """Waits for somebody to press Enter."""

    is_attended = True

    def next_word(self, prompt: str, place: LabelPlace) -> str:
        """Ask until what is typed means something; a closed input means stopping."""
        while True:
            try:
                typed = ask(f"{prompt}\n{OTHER_WORDS}\n")
            except EOFError:
                say("Nobody can answer: the input has ended. That counts as stopping.")
                return STOP_WORD
            if typed.lower() in ("", PART_WORD, NEW_PHOTOS_WORD, STOP_WORD):
                return typed.lower()
            say(f'"{typed}" means nothing here: labels are read from a file, not from what is typed.')

    def tries_again(self) -> bool:
        """Ask for Enter; ``q`` stops."""
        try:
            return (
                ask(f"Press enter to try again (or type {STOP_WORD} and press enter to stop here)\n").lower()
                != STOP_WORD
            )
        except EOFError:
            return False


class Watch:
    """Looks every few seconds whether labels have come, and are no longer being written."""

    is_attended = False

    def __init__(self) -> None:
        self._seen: object = self  # nothing yet

    def next_word(self, prompt: str, place: LabelPlace) -> str:
        """Wait until what is in the place has changed since the last time, and then for the writing to end."""
        say("Waiting for labels. They are taken as soon as all are there; Ctrl-C stops the run, which can go on later.")
        while (state := _settled_state(place)) == self._seen:
            pass
        self._seen = state
        return ""

    def tries_again(self) -> bool:
        """Wait a little."""
        time.sleep(SECONDS_BETWEEN_LOOKS)
        return True


def _settled_state(place: LabelPlace) -> object:
    """Look again and again until two looks in a row are equal."""
    state = place.state()
    while True:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        later = place.state()
        if later == state:
            return state
        state = later


class Leave:
    """Looks once, and leaves the program if the labels are not there."""

    is_attended = False

    def __init__(self) -> None:
        self._looked = False

    def next_word(self, prompt: str, place: LabelPlace) -> str:
        """Look the first time, leave the second time.

        Raises
        ------
        LabelsNeeded
            The second time in a row.
        """
        if self._looked:
            self._leave("Labels are needed")
        self._looked = True
        return ""

    def tries_again(self) -> bool:
        """Leave.

        Raises
        ------
        LabelsNeeded
            Always.
        """
        self._leave("Labels are needed, and the request cannot be written now")

    def _leave(self, why: str) -> NoReturn:
        say(f"{why}: the program leaves, and goes on at the next start when they are there.")
        raise LabelsNeeded
