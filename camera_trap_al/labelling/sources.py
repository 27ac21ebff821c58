"""Who answers: a person in one of several ways, a function, or a file of known labels."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.labelling.class_names import ClassNames
from camera_trap_al.labelling.csv_files import LABEL_COLUMN, LabelEntry, LabelTable, read_label_file
from camera_trap_al.labelling.matching import match_answers
from camera_trap_al.labelling.places import LabelsBin, TimelapseData
from camera_trap_al.labelling.retriever import BIN_FOLDER, LabelRetriever
from camera_trap_al.labelling.waiting import Enter, Leave, Waiting, Watch
from camera_trap_al.query import Answer, LabelSource, Query

__all__ = ["FunctionLabels", "KnownLabels", "LabelSource", "Reading", "label_source_for"]


WAYS_TO_WAIT: dict[str, Callable[[], Waiting]] = {"watch": Watch, "exit": Leave}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the words of an expert are read.

    Attributes
    ----------
    label_column
        The column, or the control of Timelapse, that holds the classes.
    class_aliases
        Class name by the word that stands for it.
    new_classes
        ``"refuse"`` or ``"add"``.
    """

    label_column: str = LABEL_COLUMN
    class_aliases: Mapping[str, str] = field(default_factory=dict)
    new_classes: str = "refuse"


class KnownLabels:
    """A label source that knows the answers already and gives them at once, as a simulation needs.

    Parameters
    ----------
    labels
        Class name of each photo, by its path relative to the unlabelled folder, separated by ``/``. An empty name
        means that the label is not known. Photos that nobody asks about do no harm.
    name
        What the record of the run and error messages call this source.
    reading
        How names are read. With ``new_classes="add"`` every name that is no class becomes one.
    photos
        All photos of the unlabelled folder, so that a path that differs in case is not taken for another photo's.
    """

    def __init__(
        self,
        labels: Mapping[str, str],
        name: str = "known labels",
        reading: Reading | None = None,
        photos: Collection[str] = (),
    ) -> None:
        self._table = LabelTable(name, tuple(LabelEntry(None, path, species) for path, species in labels.items()))
        self._reading = reading or Reading()
        self._photos = photos

    @classmethod
    def from_csv(cls, path: Path | str, reading: Reading | None = None, photos: Collection[str] = ()) -> "KnownLabels":
        """Take the labels from a CSV with the columns File, RelativePath and Species.

        Raises
        ------
        LabelFileError
            If the file cannot be read as a table of labels, or its rows disagree about a photo.
        """
        table = read_label_file(Path(path), label_column=(reading or Reading()).label_column)
        labels: dict[str, str] = {}
        faults = []
        for row, photo, species, *_ in table.entries:
            if species and labels.setdefault(photo, species) != species:
                problem = f'It is "{species}" here and "{labels[photo]}" in an earlier row.'
                faults.append(LabelFault(row, photo, problem, "Leave only the right one."))
        if faults:
            raise LabelFileError(f"{table.name} has different labels for the same photo.", faults)
        return cls(labels, table.name, reading, photos)

    def request_labels(self, query: Query, commit: Callable[[Answer], None]) -> Answer:
        """Answer a query from the known labels.

        Raises
        ------
        LabelFileError
            If a photo has no known label, or one that is not among the classes: all of them are named.
        """
        names = ClassNames(query.classes, self._reading.class_aliases)
        matched = match_answers(self._table, query, self._photos, names)
        new = tuple(names.new_classes(matched.unknown)) if self._reading.new_classes == "add" else ()
        if new:
            matched = match_answers(self._table, query, self._photos, names.with_classes(new))
        if matched.faults:
            raise LabelFileError(f"{self._table.name} cannot answer what is asked.", matched.faults)
        answer = Answer(
            matched.labels,
            skipped=matched.skipped,
            unusable=matched.unusable,
            new_classes=new,
            source=self._table.name,
            read_as=matched.read_as,
        )
        commit(answer)
        return answer


class FunctionLabels:
    """A label source that calls a function for each query.

    Parameters
    ----------
    function
        Called with the `Query`. It returns the class name of each photo, as a mapping by path or one after the other in
        the order of `Query.paths`, or None to stop. ``"skip"`` and ``"unusable"`` may stand for a class.
    reading
        How names are read.
    """

    def __init__(self, function: Callable[[Query], Any], reading: Reading | None = None) -> None:
        self._function = function
        self._reading = reading
        self._name = getattr(function, "__name__", type(function).__name__)

    def request_labels(self, query: Query, commit: Callable[[Answer], None]) -> Answer:
        """Answer a query with what the function says.

        Raises
        ------
        LabelFileError
            If it does not say a known class for each photo.
        """
        said = self._function(query)
        if said is None:
            return Answer(stop=True)
        if not isinstance(said, Mapping):
            names = list(said) if isinstance(said, Iterable) and not isinstance(said, str) else None
            if names is None or len(names) != len(query):
                given = repr(said) if names is None else f"{len(names)} names"
                raise LabelFileError(
                    f"label_source: {self._name}() must return one class name for each of {len(query)} photos, or None "
                    f"to stop; it returned {given}.",
                    [],
                )
            said = dict(zip(query.paths, names, strict=True))
        labels = {str(path): str(species) for path, species in said.items()}
        return KnownLabels(labels, self._name, self._reading).request_labels(query, commit)


def label_source_for(
    choice: Any, photos: Sequence[str], unlabelled_data: Path, run_dir: Path, reading: Reading, request_rows: str
) -> LabelSource:
    """Give the label source that the argument `label_source` of a run means.

    Parameters
    ----------
    choice
        An object with ``request_labels``, which is given back; a function; the path of a label CSV or a ``.ddb`` file;
        ``"timelapse"``, ``"watch"``, ``"exit"``; or None for somebody who presses Enter.
    photos
        All photos of the unlabelled folder, relative to it, separated by ``/``.
    unlabelled_data, run_dir
        The folder of these photos, and that of the run.
    reading
        How the words of an expert are read.
    request_rows
        Which photos the request lists.

    Raises
    ------
    DataError
        If Timelapse's data file is wanted and not there.
    LabelFileError
        If that file, or one of known labels, cannot be used.
    """
    if callable(getattr(choice, "request_labels", None)):
        source: LabelSource = choice
        return source
    if callable(choice):
        return FunctionLabels(choice, reading)
    ask_for_labels = partial(
        LabelRetriever,
        photos,
        run_dir,
        label_column=reading.label_column,
        class_aliases=reading.class_aliases,
        new_classes=reading.new_classes,
        request_rows=request_rows,
    )
    if choice is None or choice in WAYS_TO_WAIT:
        return ask_for_labels(waiting=WAYS_TO_WAIT.get(choice, Enter))
    file = None if choice == "timelapse" else Path(choice).expanduser()
    if file is None or file.suffix.lower() == ".ddb":
        labels_bin = LabelsBin(run_dir / BIN_FOLDER, reading.label_column)
        return ask_for_labels(place=TimelapseData(file or unlabelled_data, reading.label_column, labels_bin))
    return KnownLabels.from_csv(file, reading, photos)
