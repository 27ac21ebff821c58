"""LabelRetriever: the request goes out as a CSV, a person presses Enter, the labels come in from the labels bin."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from camera_trap_al.exceptions import DataError, LabelFault, LabelFileError
from camera_trap_al.files import write_csv
from camera_trap_al.interchange.timelapse import write_selector_csv
from camera_trap_al.labelling.csv_files import MatchedLabels, match_answers, read_file_content, read_label_file
from camera_trap_al.labelling.dialogue import ask, say
from camera_trap_al.query import Answer, Query

__all__ = ["LabelRetriever"]

# Scripts that drive a run wait for these two sentences: they stand as they are.
READY_PROMPT = "Press enter when you have placed the labels in the labels bin"
LOADED_MESSAGE = "Labels were loaded successfully"

STOP_WORD = "q"
# A screen that scrolls away helps nobody.
MAX_FAULTS_SHOWN = 20


class LabelRetriever:
    """Asks a person for labels through Timelapse or any program that edits a CSV.

    A query is written as a CSV that Timelapse can import. The person labels the selected photos and puts the result,
    under any name ending in ``.csv``, into a folder, the labels bin, which is only ever read. It needs no run::

        retriever = LabelRetriever(["a/1.jpg", "a/2.jpg"], Path("labelling"))
        query = Query(round=1, rows=np.array([1]), paths=("a/2.jpg",), classes=("deer", "fox"))
        retriever.write_request(query)
        ...                                   # a person labels a/2.jpg
        answer = retriever.read_answer(query)  # answer.labels == {1: 0} if it is a deer

    Parameters
    ----------
    unlabelled_paths
        All photos of the unlabelled folder, relative to it, separated by ``/``, also those labelled by now.
    output_dir
        Folder for the request and the labels bin; made if need be.

    Attributes
    ----------
    request_path
        The CSV that says which photos are asked about.
    labels_bin
        The folder that label files are read from.
    faults_path
        The CSV that lists everything wrong with the last label file that was refused.
    """

    def __init__(self, unlabelled_paths: Sequence[str], output_dir: Path | str) -> None:
        self._photos = tuple(unlabelled_paths)
        self.request_path = Path(output_dir) / "timelapse_selector.csv"
        self.labels_bin = Path(output_dir) / "new_labels_bin"
        self.faults_path = Path(output_dir) / "label_faults.csv"
        self.labels_bin.mkdir(parents=True, exist_ok=True)

    def write_request(self, query: Query) -> None:
        """Write the CSV that asks: a row per photo of the unlabelled folder, ``Selected`` true for those of `query`.

        Raises
        ------
        DataError
            If the file cannot be written, most often since a program holds it open.
        """
        write_selector_csv(self.request_path, self._photos, query.paths)

    def read_answer(self, query: Query) -> Answer:
        """Read the labels of all photos of `query` from the labels bin.

        Of the CSV files in the top level of the bin, the newest with a row for at least one of the photos counts. A
        newer one that cannot be read is a fault: going on to an older one might accept labels corrected since then.

        Returns
        -------
        A complete answer, with the name and the bytes of the file it came from.

        Raises
        ------
        LabelFileError
            If any photo has no label or one that cannot be used; lists every fault.
        """
        paths = self._list_label_files()
        for path in paths:
            content = read_file_content(path)
            matched = match_answers(read_label_file(content, path.name), query, self._photos)
            if matched.n_found:
                return _check_complete(matched, path.name, content)
        raise _refuse_bin(self.labels_bin, len(paths))

    def request_labels(self, query: Query, commit: Callable[[Answer], None]) -> Answer:
        """Ask for the labels of `query` and wait until they are all there, or until the person stops.

        Parameters
        ----------
        query
            The photos that are asked about.
        commit
            Stores the answer; called once, before the person is told that the labels were loaded. What it raises is
            let through.

        Returns
        -------
        The answer as committed, or one with `stop` set when the person typed ``q`` or nobody can answer any more.
        """
        answer = self._await_answer(query) if self._publish(query) else None
        if answer is None:
            say("Stopped. The same photos are asked about at the next start.")
            return Answer(stop=True)
        commit(answer)
        say(LOADED_MESSAGE)
        ignored = f" Ignored: {_count(answer.n_ignored, 'label')} for other photos." if answer.n_ignored else ""
        say(f"{_count(len(answer.labels), 'label')} from {answer.source}.{ignored}")
        return answer

    def _publish(self, query: Query) -> bool:
        """Write the request and say so; False if the person stops since it cannot be written."""
        while True:
            try:
                self.write_request(query)
                break
            except DataError as error:
                say(str(error))
            if _is_stopped("Press enter to try again"):
                return False
        say(f"\nRound {query.round}: {_count(len(query), 'photo')} to label, marked in the new selector file")
        say(f"  {self.request_path}")
        say('Import it into Timelapse and select the files with "Selected" ticked, or open it in a spreadsheet.')
        say(f"Give each of them a Species: {', '.join(sorted(query.classes))}")
        say(f"Then save or export them as CSV, under any name, into the labels bin\n  {self.labels_bin}\n")
        return True

    def _await_answer(self, query: Query) -> Answer | None:
        """Ask until there is a complete answer; None if the person stops."""
        while not _is_stopped(READY_PROMPT):
            try:
                return self.read_answer(query)
            except LabelFileError as error:
                self._report(error)
        return None

    def _report(self, error: LabelFileError) -> None:
        """Say what is wrong: all of it in a file, on the screen as much as can be read there."""
        rows = [(fault.row, fault.file, fault.problem, fault.advice) for fault in error.faults]
        with suppress(OSError):  # when it is open in Excel, the screen must do; the mark tells Excel that it is UTF-8
            write_csv(self.faults_path, ("row", "file", "problem", "advice"), rows, encoding="utf-8-sig")
        heading, _, _ = str(error).partition("\n")
        say(heading)
        for fault in error.faults[:MAX_FAULTS_SHOWN]:
            say(f"  - {fault}")
        n_more = len(error.faults) - MAX_FAULTS_SHOWN
        if n_more > 0:
            say(
                f"  ... and {n_more} more of the {len(error.faults)} things to put right; all are in {self.faults_path}"
            )
        say("Nothing was loaded. Put it right, save the file again, and then:\n")

    def _list_label_files(self) -> list[Path]:
        """List the CSV files in the top level of the bin, newest first."""
        try:
            self.labels_bin.mkdir(parents=True, exist_ok=True)
            dated = [(path.stat().st_mtime_ns, path.name) for path in self.labels_bin.iterdir() if _is_label_file(path)]
        except OSError as error:
            # A file may vanish while we look; then nobody knows any more which one is the newest.
            problem = f"The labels bin cannot be read: {error.strerror or error} ({error.filename})."
            fault = LabelFault(None, "", problem, "Look whether the folder can be reached, then try again.")
            raise LabelFileError(f"No labels could be read from {self.labels_bin}.", [fault]) from error
        return [self.labels_bin / name for _, name in sorted(dated, reverse=True)]


def _is_label_file(path: Path) -> bool:
    # Excel keeps a lock file ~$name beside an open file, macOS one named ._name on network drives.
    return path.suffix.lower() == ".csv" and not path.name.startswith(("~$", ".")) and not path.is_dir()


def _check_complete(matched: MatchedLabels, name: str, content: bytes) -> Answer:
    if matched.faults:
        raise LabelFileError(f"{name} does not answer everything that was asked.", matched.faults)
    return Answer(matched.labels, source=name, file_content=content, n_ignored=matched.n_ignored)


def _refuse_bin(labels_bin: Path, n_files: int) -> LabelFileError:
    if n_files:
        problem = f"Of {_count(n_files, 'CSV file')} in the labels bin, none has a row for a photo that is asked about."
        advice = "Put the labels of the selected photos there; RelativePath must start in the unlabelled folder."
    else:
        problem = "There is no CSV file in the labels bin."
        advice = "Save the labels there, under a name that ends in .csv; folders in it are not searched."
    return LabelFileError(f"No labels were found in {labels_bin}.", [LabelFault(None, "", problem, advice)])


def _is_stopped(prompt: str) -> bool:
    """Wait for Enter (False) or for the word that stops the run (True)."""
    while True:
        try:
            typed = ask(f"{prompt}\n(or type {STOP_WORD} and press enter to stop here)\n")
        except EOFError:
            say("Nobody can answer: the input has ended. That counts as stopping.")
            return True
        if typed.lower() in ("", STOP_WORD):
            return bool(typed)
        say(f'"{typed}" means nothing here: labels are read from the labels bin, not from what is typed.')


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
