"""LabelRetriever: the request goes out as a CSV, a person labels, the labels come in."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from camera_trap_al.exceptions import DataError, LabelFault, LabelFileError
from camera_trap_al.files import write_csv
from camera_trap_al.interchange.timelapse import ambiguous_photos, never_shown, write_selector_csv
from camera_trap_al.labelling.class_names import ClassNames
from camera_trap_al.labelling.csv_files import LABEL_COLUMN
from camera_trap_al.labelling.dialogue import ask, say, say_table
from camera_trap_al.labelling.matching import MatchedLabels, find_renamed_folder, match_answers
from camera_trap_al.labelling.places import FoundLabels, LabelPlace, LabelsBin, NoLabelsFound
from camera_trap_al.labelling.waiting import NEW_PHOTOS_WORD, PART_WORD, STOP_WORD, Enter, Waiting
from camera_trap_al.query import Answer, Query

__all__ = ["BIN_FOLDER", "LabelRetriever"]

# Scripts that drive a run wait for this sentence: it stands as it is.
LOADED_MESSAGE = "Labels were loaded successfully"

BIN_FOLDER = "new_labels_bin"
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
    place
        Where labels are looked for; by default the labels bin.
    waiting
        Makes what waits for the person, anew for each query; by default they press Enter.
    label_column
        The column of the label file that holds the classes.
    class_aliases
        Class name by the word that stands for it in label files.
    new_classes
        ``"refuse"``: a name that is no class is a fault; ``"add"``: the person is asked whether it is a new class.
    request_rows
        ``"all"``: the request has a row for every photo; ``"changed"``: for those that are asked about now or were
        earlier, which is all that Timelapse needs.

    Attributes
    ----------
    request_path
        The CSV that says which photos are asked about.
    labels_bin
        The folder that label files are read from.
    faults_path
        The CSV that lists everything wrong with the last labels that were refused.
    """

    def __init__(
        self,
        unlabelled_paths: Sequence[str],
        output_dir: Path | str,
        *,
        place: LabelPlace | None = None,
        waiting: Callable[[], Waiting] = Enter,
        label_column: str = LABEL_COLUMN,
        class_aliases: Mapping[str, str] | None = None,
        new_classes: str = "refuse",
        request_rows: str = "all",
    ) -> None:
        self._photos = tuple(unlabelled_paths)
        self.request_path = Path(output_dir) / "timelapse_selector.csv"
        self.labels_bin = Path(output_dir) / BIN_FOLDER
        self.faults_path = Path(output_dir) / "label_faults.csv"
        self._place = place or LabelsBin(self.labels_bin, label_column)
        self._new_waiting = waiting
        self._label_column = label_column
        self._aliases = class_aliases
        self._adds_classes = new_classes == "add"
        self._lists_all = request_rows == "all"

    def write_request(self, query: Query) -> None:
        """Write the CSV that asks: ``Selected`` is true for the photos of `query`.

        Raises
        ------
        DataError
            If the file cannot be written, most often since a program holds it open; or if a row of a "changed" request
            would mean several photos to Timelapse.
        """
        if self._lists_all:
            write_selector_csv(self.request_path, self._photos, query.paths)
            return
        listed = {*query.paths, *query.asked_before}.intersection(self._photos)
        ambiguous = ambiguous_photos(listed, self._photos)
        if ambiguous:
            raise DataError(
                f'request_rows="changed" cannot be used: {ambiguous[0]} lies directly in the unlabelled folder, and '
                'Timelapse would take its row for every photo of that name in the subfolders. Use request_rows="all".'
            )
        write_selector_csv(self.request_path, listed, query.paths)

    def read_answer(self, query: Query, *, is_partial: bool = False) -> Answer:
        """Read the labels of all photos of `query`.

        Of the CSV files in the top level of the bin, the newest with a row for at least one of the photos counts. A
        newer one that cannot be read is a fault: going on to an older one might accept labels corrected since then.

        Parameters
        ----------
        query
            What was asked.
        is_partial
            Whether to take what can be used and leave the rest.

        Returns
        -------
        An answer, with the name and the bytes of the file it came from.

        Raises
        ------
        LabelFileError
            If any photo has no label or one that cannot be used, or with `is_partial` all; lists every fault.
        """
        return self._read(query, is_partial=is_partial)[0]

    def _read(
        self, query: Query, *, is_partial: bool, agreed: dict[str, bool] | None = None
    ) -> tuple[Answer, tuple[LabelFault, ...]]:
        """Read an answer, and give what was left out of it.

        New classes are asked about if there is a dict `agreed` to remember what was said about each.
        """
        names = ClassNames(query.classes, self._aliases)
        found, matched = self._newest_match(query, names)
        new = self._agree_on_classes(matched, names, agreed) if self._adds_classes and agreed is not None else []
        if new:
            matched = match_answers(found.table, query, self._photos, names.with_classes(new))
        has_something = bool(matched.labels or matched.skipped or matched.unusable or matched.corrections)
        if matched.faults and not (is_partial and has_something):
            raise LabelFileError(f"{found.table.name} does not answer everything that was asked.", matched.faults)
        answered = {*matched.labels, *matched.skipped, *matched.unusable}
        answer = Answer(
            matched.labels,
            skipped=matched.skipped,
            unusable=matched.unusable,
            corrections=matched.corrections,
            new_classes=tuple(new),
            is_partial=not answered.issuperset(query.rows.tolist()),
            source=found.table.name,
            file_content=found.content,
            n_ignored=matched.n_ignored,
            n_differing=matched.n_differing,
            read_as=matched.read_as,
        )
        return answer, matched.faults

    def _newest_match(self, query: Query, names: ClassNames) -> tuple[FoundLabels, MatchedLabels]:
        renamed = None
        for found in self._place.labels(query):
            matched = match_answers(found.table, query, self._photos, names)
            if matched.n_found:
                return found, matched
            renamed = renamed or find_renamed_folder(found.table, query, self._photos)
        raise _renamed_folder(*renamed) if renamed else self._place.nothing_found()

    def request_labels(self, query: Query, commit: Callable[[Answer], None]) -> Answer:
        """Ask for the labels of `query` and wait until they are there, or until the person stops.

        Parameters
        ----------
        query
            The photos that are asked about.
        commit
            Stores the answer; called once, before the person is told that the labels were loaded. What it raises is
            let through.

        Returns
        -------
        The answer as committed; one with `stop` set when the person typed ``q`` or nobody can answer any more; one with
        `look_again` set when they typed ``n``.
        """
        waiting = self._new_waiting()
        answer = self._await_answer(query, waiting) if self._announce(query, waiting) else None
        if answer is None:
            say("Stopped. The same photos are asked about at the next start.")
            return Answer(stop=True)
        if answer.look_again:
            say("Looking for photos that were added. The same photos are asked about after that.")
            return answer
        commit(answer)
        say(LOADED_MESSAGE)
        for line in _account(query, answer):
            say(line)
        return answer

    def _announce(self, query: Query, waiting: Waiting) -> bool:
        """Write the request and say so; False if the person stops since it cannot be written."""
        while True:
            try:
                self.write_request(query)
                break
            except DataError as error:
                say(str(error))
            if not waiting.tries_again():
                return False
        n_hidden = sum(never_shown(query.paths).values())
        say(f"\nRound {query.round}: {_count(len(query), 'photo')} to label, marked in the new selector file")
        say(f"  {self.request_path}")
        say("Import it into Timelapse, then choose Select > Custom Select and tick Selected: Timelapse must show")
        say(f"{_count(len(query) - n_hidden, 'file')}. Or open it in a spreadsheet.")
        self._warn_of_hidden(n_hidden)
        say(f"Give each of them a {self._label_column}: {', '.join(sorted(query.classes))},")
        say('or "skip" to be asked again later, or "unusable" to leave the photo out for good.')
        say(self._place.instructions(query))
        say("In Timelapse, reset the selection (Select > All files) before the next import.")
        say(f"{query.advice}\n" if query.advice else "")
        return True

    @cached_property
    def _hidden(self) -> Counter[str]:
        return never_shown(self._photos)

    def _warn_of_hidden(self, n_asked: int) -> None:
        if self._hidden:
            listed = ", ".join(f"{n} {suffix}" for suffix, n in sorted(self._hidden.items()))
            say(
                f"WARNING: Timelapse shows .jpg only, never {_count(n_asked, 'photo')} of this question and {listed} "
                "in the unlabelled folder. Label such photos in a spreadsheet."
            )

    def _await_answer(self, query: Query, waiting: Waiting) -> Answer | None:
        """Ask until there is an answer; None if the person stops."""
        agreed: dict[str, bool] | None = {} if waiting.is_attended else None
        while (word := waiting.next_word(self._place.prompt, self._place)) != STOP_WORD:
            if word == NEW_PHOTOS_WORD:
                return Answer(look_again=True)
            try:
                answer, left_out = self._read(query, is_partial=word == PART_WORD, agreed=agreed)
            except LabelFileError as error:
                if waiting.is_attended or not isinstance(error, NoLabelsFound):
                    self._report(error)
                    say("Nothing was loaded. Put it right, save it again, and then:\n" if waiting.is_attended else "")
                continue
            if left_out:
                self._report(LabelFileError(f"Left out of {answer.source}:", left_out))
            else:
                with suppress(OSError):  # what it says was put right
                    self.faults_path.unlink(missing_ok=True)
            return answer
        return None

    def _agree_on_classes(self, matched: MatchedLabels, names: ClassNames, agreed: dict[str, bool]) -> list[str]:
        """Ask about each name that is no class yet whether it is to be one, once for a question."""
        new = names.new_classes(matched.unknown)
        for name, n_photos in new.items():
            if name not in agreed:
                agreed[name] = _is_agreed(name, n_photos, names.nearest(name))
        return [name for name in new if agreed[name]]

    def _report(self, error: LabelFileError) -> None:
        """Say what is wrong: all of it in a file, on the screen as much as can be read there."""
        rows = [(fault.row, fault.file, fault.problem, fault.advice) for fault in error.faults]
        # When it is open in Excel, or its drive is gone, the screen must do; the mark tells Excel that it is UTF-8.
        with suppress(OSError):
            self.faults_path.parent.stat()
            write_csv(self.faults_path, ("row", "file", "problem", "advice"), rows, encoding="utf-8-sig")
        heading, _, _ = str(error).partition("\n")
        say(heading)
        say_table(("row", "file", "what is wrong", "what to do"), rows[:MAX_FAULTS_SHOWN])
        n_more = len(rows) - MAX_FAULTS_SHOWN
        if n_more > 0:
            say(f"  ... and {n_more} more of the {len(rows)} things to put right; all are in {self.faults_path}")


def _is_agreed(name: str, n_photos: int, near: str | None) -> bool:
    doubt = f' It looks like "{near}".' if near else ""
    try:
        typed = ask(
            f'"{name}" ({_count(n_photos, "photo")}) is not a class yet.{doubt} Type y and press enter to make it one, '
            "or press enter to refuse it.\n"
        )
    except EOFError:
        say("Nobody can answer: the input has ended. That counts as refusing.")
        return False
    return typed.lower() in ("y", "yes")


def _renamed_folder(found: str, asked: str) -> LabelFileError:
    folder, meant = (path.rpartition("/")[0] for path in (found, asked))
    problem = f'Its folder is "{folder}", and a photo of this name was asked about in "{meant}".'
    advice = (
        "RelativePath must start in the unlabelled folder. If a spreadsheet has rewritten a folder that looks like a "
        "number or a date, open the request again with its columns as text."
    )
    fault = LabelFault(None, found, problem, advice)
    return LabelFileError("No row is for a photo that is asked about.", [fault])


def _account(query: Query, answer: Answer) -> list[str]:
    """Say what was taken from an answer and what was not."""
    lines = [f"{_count(len(answer.labels), 'label')} from {answer.source}."]
    if answer.n_ignored:
        lines[0] += f" Ignored: {_count(answer.n_ignored, 'label')} for other photos."
    if answer.skipped:
        lines.append(f"Skipped, to be asked about later: {_count(len(answer.skipped), 'photo')}.")
    if answer.unusable:
        lines.append(f"Left out as unusable: {_count(len(answer.unusable), 'photo')}.")
    if answer.corrections:
        lines.append(f"Corrected: {_count(len(answer.corrections), 'earlier label')}.")
    if answer.n_differing:
        lines.append(
            f"Not taken, since the photo has another label from earlier: {_count(answer.n_differing, 'label')}. To "
            "correct that one, add a column Correct with true in its row."
        )
    if answer.new_classes:
        lines.append(f"New classes: {', '.join(answer.new_classes)}. Add them to the choice list of Timelapse too.")
    lines += [f'Read "{word}" as "{meaning}".' for word, meaning in sorted(answer.read_as.items())]
    if answer.is_partial:
        answered = {*answer.labels, *answer.skipped, *answer.unusable}
        lines.append(f"Still asked: {_count(sum(row not in answered for row in query.rows.tolist()), 'photo')}.")
    return lines


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
