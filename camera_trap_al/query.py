"""What is asked of the expert in one round, and what comes back."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.exceptions import LabelFault, LabelFileError

__all__ = [
    "SKIP",
    "UNUSABLE",
    "Answer",
    "KnownLabel",
    "LabelSource",
    "LabelSourceLike",
    "Query",
    "Reasons",
    "check_answer",
    "plain_form",
]

# What an expert may write in the place of a species.
SKIP = "skip"  # ask again later
UNUSABLE = "unusable"  # set the photo aside


def plain_form(word: str) -> str:
    """Keep of a class name what people tell it by: not its case, its spaces or how its accents are stored."""
    return " ".join(unicodedata.normalize("NFKC", word).casefold().split())


class KnownLabel(NamedTuple):
    """What an expert said about a photo earlier.

    Attributes
    ----------
    row
        The photo's row.
    class_id
        Its class, `UNLABELLED` if the photo is unusable.
    """

    row: int
    class_id: int


@dataclass(frozen=True, eq=False)
class Reasons:
    """What was thought of the photos of a query when they were chosen.

    Attributes
    ----------
    scores
        (n,) the strategy's score, higher for photos that it would rather ask about; NaN where it gives none.
    class_ids
        (n,) the class that the model thought likeliest, `UNLABELLED` where it was not asked.
    confidences
        (n,) the probability that it gave that class, 0 to 1; NaN where it was not asked.
    """

    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    confidences: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Query:
    """The photos that one round asks about.

    Attributes
    ----------
    round
        Number of the round, counted from 1 over the life of the run.
    rows
        (n,) int64, the rows asked about, in the order in which the strategy chose them.
    paths
        The same photos as paths relative to the unlabelled folder, separated by ``/``.
    classes
        Class names by class id: the names that an answer may use.
    asked_before
        The photos that earlier rounds asked about and this one does not, in the form of `paths`.
    known
        What is known of photos of the unlabelled folder, by path; only these can be corrected.
    advice
        Whether it is worth going on, in a line for the expert; "" without anything to say.
    """

    round: int
    rows: NDArray[np.int64]
    paths: tuple[str, ...]
    classes: tuple[str, ...]
    asked_before: tuple[str, ...] = ()
    known: Mapping[str, KnownLabel] = field(default_factory=dict, repr=False)
    advice: str = ""

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.paths):
            raise ValueError(f"A query needs one path per row; got {len(self.rows)} rows and {len(self.paths)} paths.")

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Answer:
    """What the expert said to one query.

    Attributes
    ----------
    labels
        Class id of each row that was asked about and has a label now. New classes have the ids behind `Query.classes`.
    skipped
        Rows that the expert wants to be asked about later.
    unusable
        Rows that are no use to anybody, such as blurred photos; with a correction, also rows known from earlier.
    corrections
        New class id of rows that had a label before.
    new_classes
        Names of classes that the run did not have.
    is_partial
        Whether the expert chose to answer a part only; the rest stays asked.
    stop
        True when the expert wants the run to end here; the query stays open and is asked again at the next start.
    look_again
        True when the expert wants photos that were added to the folders to be taken in first; the query stays open and
        is asked again then.
    source
        Where the labels came from, for the record: the name of the label file, or of the label source.
    file_content
        The accepted label file, byte for byte, to be archived; None when there was no file.
    n_ignored
        Labels in the file for photos that were not asked about and have no label.
    n_differing
        Labels in the file that differ from what was said earlier and were not marked as corrections.
    read_as
        Class of each name that was written in another way, as far as it was understood.
    """

    labels: Mapping[int, int] = field(default_factory=dict)
    skipped: tuple[int, ...] = ()
    unusable: tuple[int, ...] = ()
    corrections: Mapping[int, int] = field(default_factory=dict)
    new_classes: tuple[str, ...] = ()
    is_partial: bool = False
    stop: bool = False
    look_again: bool = False
    source: str = ""
    file_content: bytes | None = field(default=None, repr=False)
    n_ignored: int = 0
    n_differing: int = 0
    read_as: Mapping[str, str] = field(default_factory=dict)


class LabelSource(Protocol):
    """Whoever labels: any object with this one method can be given as `label_source`."""

    def request_labels(self, query: Query, commit: Callable[[Answer], None]) -> Answer:
        """Answer a query, and have the answer stored before anybody is told that it was accepted.

        Parameters
        ----------
        query
            The photos that are asked about.
        commit
            Stores an answer for good; must be called exactly once with an answer or a part of one, and never when the
            expert stops or wants to look again. If it raises, the answer is not stored and the error must be let
            through.

        Returns
        -------
        The stored answer: a word on every row of the query, on some if it `is_partial`, on none with `stop` or
        `look_again` set.
        """
        ...


LabelSourceLike = LabelSource | Callable[[Query], Any] | str | PathLike[str]
"""What the argument `label_source` of a run may be; see `run_active_learning`."""


def check_answer(query: Query, answer: Answer) -> None:
    """Refuse what a label source of the user's own might get wrong: it would be in the run for good.

    Raises
    ------
    LabelFileError
        If a photo has no answer or two, was neither asked about nor known, or gets a class that is not there; or if a
        new class has the name of one that is.
    """
    asked = dict(zip(query.rows.tolist(), query.paths, strict=True))
    known = {label.row: path for path, label in query.known.items()}
    said = [*answer.labels, *answer.skipped, *answer.unusable, *answer.corrections]
    missing = () if answer.is_partial else asked.keys() - said
    foreign = [
        *(row for row in (*answer.labels, *answer.skipped) if row not in asked),
        *(row for row in answer.unusable if row not in asked and row not in known),
        *(row for row in answer.corrections if row not in known),
    ]
    n_classes = len(query.classes) + len(answer.new_classes)
    wrong = {
        row: class_id
        for row, class_id in {**answer.labels, **answer.corrections}.items()
        if not 0 <= class_id < n_classes
    }
    problems = [
        *((row, "There is no answer for this photo.") for row in sorted(missing)),
        *((row, "Nobody asked about this photo.") for row in foreign),
        *((row, f"Got class id {class_id}, and there are {n_classes} classes.") for row, class_id in wrong.items()),
        *((row, "There are several answers for this photo.") for row in _repeated(said)),
    ]
    taken = Counter(map(plain_form, (*query.classes, SKIP, UNUSABLE, *answer.new_classes)))
    doubled = [name for name in answer.new_classes if not plain_form(name) or taken[plain_form(name)] > 1]
    if problems or doubled:
        advice = "An answer must say one thing about each photo that was asked about, with the class id of its species."
        names = known | asked
        faults = [LabelFault(None, names.get(row, f"row {row}"), problem, advice) for row, problem in problems]
        faults += [LabelFault(None, "", f"{name!r} cannot be a new class.", "It is one already.") for name in doubled]
        raise LabelFileError(f"{answer.source or 'label_source'}: the answer does not fit the question.", faults)


def _repeated(rows: Iterable[int]) -> list[int]:
    return [row for row, count in Counter(rows).items() if count > 1]
