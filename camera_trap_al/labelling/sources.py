"""Other ways to answer a query than waiting for a person."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.labelling.csv_files import LabelEntry, LabelTable, match_answers, read_label_file
from camera_trap_al.query import Answer, LabelSource, Query

__all__ = ["KnownLabels", "LabelSource"]


class KnownLabels:
    """A label source that knows the answers already and gives them at once, as a simulation needs.

    Parameters
    ----------
    labels
        Class name of each photo, by its path relative to the unlabelled folder, separated by ``/``. An empty name
        means that the label is not known. Photos that nobody asks about do no harm.
    name
        What the record of the run and error messages call this source.
    """

    def __init__(self, labels: Mapping[str, str], name: str = "known labels") -> None:
        self._table = LabelTable(name, tuple(LabelEntry(None, path, species) for path, species in labels.items()))

    @classmethod
    def from_csv(cls, path: Path | str) -> Self:
        """Take the labels from a CSV with the columns File, RelativePath and Species.

        Raises
        ------
        LabelFileError
            If the file cannot be read as a table of labels, or its rows disagree about a photo.
        """
        table = read_label_file(path)
        labels: dict[str, str] = {}
        faults = []
        for row, photo, species in table.entries:
            if species and labels.setdefault(photo, species) != species:
                problem = f'It is "{species}" here and "{labels[photo]}" in an earlier row.'
                faults.append(LabelFault(row, photo, problem, "Leave only the right one."))
        if faults:
            raise LabelFileError(f"{table.name} has different labels for the same photo.", faults)
        return cls(labels, table.name)

    def request_labels(self, query: Query, commit: Callable[[Answer], None]) -> Answer:
        """Answer a query from the known labels.

        Raises
        ------
        LabelFileError
            If a photo has no known label, or one that is not among the classes: all of them are named.
        """
        matched = match_answers(self._table, query)
        if matched.faults:
            raise LabelFileError(f"{self._table.name} cannot answer what is asked.", matched.faults)
        answer = Answer(matched.labels, source=self._table.name)
        commit(answer)
        return answer
