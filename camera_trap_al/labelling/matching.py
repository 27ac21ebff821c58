"""Compares labels that somebody wrote with what was asked."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from camera_trap_al.exceptions import LabelFault
from camera_trap_al.interchange.paths import folded_path
from camera_trap_al.labelling.class_names import ClassNames
from camera_trap_al.labelling.csv_files import LabelEntry, LabelTable
from camera_trap_al.pools import UNLABELLED
from camera_trap_al.query import SKIP, UNUSABLE, KnownLabel, Query

__all__ = ["MatchedLabels", "entries_by_photo", "find_renamed_folder", "judge", "match_answers"]


NOT_SELECTED_ADVICE = "Import timelapse_selector.csv there first, or tick it."


@dataclass(frozen=True)
class MatchedLabels:
    """What a label table says about one query.

    Attributes
    ----------
    labels
        Class id of each row of the query that has a usable label.
    skipped, unusable
        Rows that were given these words; `unusable` holds corrected rows too.
    corrections
        New class id of each row whose earlier label is corrected.
    faults
        Everything that is wrong, by row in the file; photos without a row come last. Empty exactly when there is an
        answer for every photo of the query and every correction is understood.
    n_found
        Photos of the query that the table has a row for, and photos with a correction that changes something or cannot
        be understood.
    n_ignored
        Labels for photos that were neither asked about nor are known.
    n_differing
        Photos whose label differs from what was said earlier, without being marked as a correction.
    read_as
        Class by name as written, where these differ.
    unknown
        How many photos have each name that means nothing, in answers and corrections.
    """

    labels: dict[int, int] = field(default_factory=dict)
    skipped: tuple[int, ...] = ()
    unusable: tuple[int, ...] = ()
    corrections: dict[int, int] = field(default_factory=dict)
    faults: tuple[LabelFault, ...] = ()
    n_found: int = 0
    n_ignored: int = 0
    n_differing: int = 0
    read_as: dict[str, str] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)


def match_answers(
    table: LabelTable, query: Query, photos: Collection[str] = (), names: ClassNames | None = None
) -> MatchedLabels:
    """Find what a table says about every photo that a query asks about, or what is wrong with it.

    Paths match exactly, or else but for upper and lower case (and white space around a name), where that can mean one
    photo only. Rows that agree about a photo count as one.

    Parameters
    ----------
    table
        What was labelled; may hold other photos too.
    query
        What was asked.
    photos
        All photos of the unlabelled folder, so that a path that differs in case is not taken for another photo's.
    names
        What words mean; by default the names of the query's classes.
    """
    names = names or ClassNames(query.classes)
    asked, others = entries_by_photo(table.entries, query.paths, photos)
    matched = _match_asked(asked, query, names)
    labelled_others = [entry for entry in others if entry.species]
    return _match_known(labelled_others, query, photos, names, matched) if labelled_others else matched


def _match_asked(asked: dict[str, list[LabelEntry]], query: Query, names: ClassNames) -> MatchedLabels:
    meanings: dict[int, str] = {}
    faults: list[LabelFault] = []
    words: Counter[str] = Counter()
    for row, path in zip(query.rows.tolist(), query.paths, strict=True):
        # Of a photo that was duplicated in Timelapse, only one record may be selected.
        selected = [entry for entry in asked[path] if entry.is_selected]
        if asked[path] and not selected:
            faults.append(LabelFault(None, path, "Its flag Selected is not ticked in Timelapse.", NOT_SELECTED_ADVICE))
            continue
        meaning, found = judge(path, selected, names)
        faults += found
        if meaning is not None:
            meanings[row] = meaning
        words.update({entry.species for entry in selected if entry.species})
    return MatchedLabels(
        labels=_class_ids(meanings, names),
        skipped=_rows_that_mean(SKIP, meanings),
        unusable=_rows_that_mean(UNUSABLE, meanings),
        faults=_in_order(faults),
        n_found=sum(map(bool, asked.values())),
        read_as={word: meaning for word in words if (meaning := names.meaning(word)) not in (None, word)},
        unknown=Counter({word: n for word, n in words.items() if names.meaning(word) is None}),
    )


def _match_known(
    entries: Sequence[LabelEntry], query: Query, photos: Collection[str], names: ClassNames, matched: MatchedLabels
) -> MatchedLabels:
    """Add what is said about photos that nobody asks about now."""
    known, others = entries_by_photo(entries, tuple(query.known), photos)
    meanings: dict[int, str] = {}
    faults: list[LabelFault] = []
    unknown = Counter(matched.unknown)
    n_differing = 0
    for path, own in known.items():
        said = query.known[path]
        corrections = [entry for entry in own if entry.is_correction]
        if corrections:
            meaning, found = judge(path, corrections, names)
            faults += found
            unknown.update({entry.species for entry in corrections if names.meaning(entry.species) is None})
            if meaning not in (None, SKIP, _name_of(said, names)):
                meanings[said.row] = str(meaning)
        elif any(names.meaning(entry.species) != _name_of(said, names) for entry in own):
            n_differing += 1
    return replace(
        matched,
        corrections=_class_ids(meanings, names),
        unusable=(*matched.unusable, *_rows_that_mean(UNUSABLE, meanings)),
        faults=_in_order((*matched.faults, *faults)),
        n_found=matched.n_found + len(meanings) + len(faults),
        unknown=unknown,
        n_ignored=len(others),
        n_differing=n_differing,
    )


def find_renamed_folder(table: LabelTable, query: Query, photos: Collection[str] = ()) -> tuple[str, str] | None:
    """Find a row that has the name of a photo that is asked about, and a folder without such a photo.

    Parameters
    ----------
    table
        What was labelled.
    query
        What was asked.
    photos
        All photos of the unlabelled folder: many cameras call their photos by the same names.

    Returns
    -------
    The photo as the row has it, and as it was asked about; None if there is no such row.
    """
    asked = {path.rpartition("/")[2]: path for path in query.paths}
    found = ((entry.path, asked.get(entry.path.rpartition("/")[2])) for entry in table.entries if entry.species)
    namesakes = [(path, meant) for path, meant in found if meant is not None]
    there = frozenset(photos) if namesakes else frozenset()
    return next(((path, meant) for path, meant in namesakes if path not in there), None)


def judge(path: str, entries: Sequence[LabelEntry], names: ClassNames) -> tuple[str | None, list[LabelFault]]:
    """Say what the entries of one photo mean, or everything that is wrong with them.

    Parameters
    ----------
    path
        The photo.
    entries
        Its entries, none or several.
    names
        What words mean.

    Returns
    -------
    A class name, ``skip`` or ``unusable``, and no faults; or None and the faults.
    """
    if not entries:
        return None, [LabelFault(None, path, "There is no label for this photo.", "Add its row, with its species.")]
    first = {entry.species: entry.row for entry in reversed(entries)}
    if first.keys() == {""}:
        return None, [LabelFault(first[""], path, "The species is empty.", "Fill it in.")]
    meanings = {word: names.meaning(word) for word in first if word}
    faults = [
        LabelFault(first[word], path, f'"{word}" is not a class.', names.advice(word))
        for word, meaning in meanings.items()
        if meaning is None
    ]
    if "" in first or len(set(meanings.values())) > 1:
        said = ", ".join(map(_quoted_entry, entries))
        advice = "Give all its rows the same species."
        faults.append(LabelFault(entries[-1].row, path, f"Its rows disagree: {said}.", advice))
    return (None, faults) if faults else (next(iter(meanings.values())), [])


def _quoted_entry(entry: LabelEntry) -> str:
    what = f'"{entry.species}"' if entry.species else "nothing"
    return what if entry.row is None else f"{what} in row {entry.row}"


def _class_ids(meanings: dict[int, str], names: ClassNames) -> dict[int, int]:
    return {row: names.ids[meaning] for row, meaning in meanings.items() if meaning in names.ids}


def _rows_that_mean(word: str, meanings: dict[int, str]) -> tuple[int, ...]:
    return tuple(row for row, meaning in meanings.items() if meaning == word)


def _name_of(said: KnownLabel, names: ClassNames) -> str:
    return UNUSABLE if said.class_id == UNLABELLED else names.classes[said.class_id]


def _in_order(faults: Iterable[LabelFault]) -> tuple[LabelFault, ...]:
    return tuple(sorted(faults, key=lambda fault: (fault.row is None, fault.row or 0)))


def entries_by_photo(
    entries: Sequence[LabelEntry], wanted: Sequence[str], photos: Collection[str]
) -> tuple[dict[str, list[LabelEntry]], list[LabelEntry]]:
    """Give each photo that is wanted its entries, and return the other entries apart.

    Parameters
    ----------
    entries
        What somebody wrote.
    wanted
        Photos as paths relative to the unlabelled folder, separated by ``/``.
    photos
        All photos there are, in the same form.
    """
    found: dict[str, list[LabelEntry]] = {path: [] for path in wanted}
    others: list[LabelEntry] = []
    for entry in entries:
        found.get(entry.path, others).append(entry)
    missing = {_without_case(path): path for path, own in found.items() if not own}
    if not missing:
        return found, others
    n_meant = Counter(key for key in map(_without_case, {*wanted, *photos}) if key in missing)
    rest: list[LabelEntry] = []
    for entry in others:
        key = _without_case(entry.path)
        (found[missing[key]] if n_meant[key] == 1 else rest).append(entry)
    return found, rest


def _without_case(path: str) -> str:
    """Fold a path, and leave out the spaces that a spreadsheet leaves out at the ends of a cell."""
    return "/".join(part.strip() for part in folded_path(path).split("/"))
