"""Finds the photos that a detection file is about: it was often made on another computer, of another folder above."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from camera_trap_al.exceptions import DataError
from camera_trap_al.interchange.megadetector import DetectedPhoto, DetectionFile
from camera_trap_al.interchange.paths import composed_path, folded_path, tidy_path

__all__ = ["MatchedDetections", "PathChange", "match_detections"]

WITH_ITS_NAME, WITHOUT = 0.5, 0.9  # how many must match if a beginning ends as the path of the folder does, and else
N_NAMED = 3  # of the paths that go with nothing, how many a person is told


class PathChange(NamedTuple):
    """What is done to each path of a detection file so that it is relative to the folder of the photos.

    Attributes
    ----------
    removed
        What all paths begin with that are of a photo in the folder, such as ``C:/photos/``; it is left out.
    added
        What is put before all paths, such as ``site 1/``.
    """

    removed: str = ""
    added: str = ""

    def __call__(self, path: str) -> str | None:
        """Change a path; None if it does not begin as it should."""
        return self.added + path.removeprefix(self.removed) if path.startswith(self.removed) else None

    def __str__(self) -> str:
        if self.removed:
            return f'its paths begin with "{self.removed}", which was left out'
        return f'"{self.added}" was put before its paths' if self.added else "its paths are of this folder"


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """Which entry of a detection file is of which photo.

    Attributes
    ----------
    by_photo
        The entry of each photo that has one, in the order of the photos.
    without_entry
        The photos that have none, in their order.
    not_there
        Paths of entries whose photo is not there, as the file has them, in its order.
    repeated
        Paths of further entries of a photo that has one, in the order of the file; they do not count.
    change
        What was done to the paths of the file.
    """

    by_photo: Mapping[str, DetectedPhoto]
    without_entry: tuple[str, ...]
    not_there: tuple[str, ...]
    repeated: tuple[str, ...]
    change: PathChange

    def __str__(self) -> str:
        """Tell the user how well the file goes with the photos."""
        n_photos = len(self.by_photo) + len(self.without_entry)
        told = [f"{len(self.by_photo)} of {n_photos} photos have an entry in the detection file"]
        if self.change != PathChange():
            told.append(str(self.change))
        for paths, what in (
            (self.without_entry, "photos without an entry"),
            (self.not_there, "entries of photos that are not there"),
            (self.repeated, "second entries of a photo, which do not count"),
        ):
            if paths:
                told.append(f"{what}: {len(paths)}, such as {', '.join(paths[:N_NAMED])}")
        if self.not_there and 2 * len(self.by_photo) < n_photos:
            told.append(
                "if these are the same photos, put the detection file into the folder that its paths begin in, or make "
                "it anew for the folder of the photos"
            )
        return "; ".join(told) + "."


def match_detections(file: DetectionFile, photos: Sequence[str], folder: Path) -> MatchedDetections:
    r"""Find the entry of each photo.

    Paths may be written with ``/`` or ``\``, begin with ``./``, and have their accents in either form of Unicode. Paths
    that differ in case match if only one photo can be meant; where one matches exactly, it is taken.

    The paths may also be absolute, or relative to another folder: then one beginning is looked for that is to be left
    out of all paths, or put before them. A beginning is taken

    - if it agrees with where `folder` lies or, to be put before, with where the file lies in it;
    - else if it ends with the name of `folder`, and half of the photos or entries, whichever are fewer, match with it;
    - else if nine in ten match with it,

    and if no other of its kind makes more than half as many match: so site 1 is not taken for site 2 where their
    cameras count alike. Also at least as many must match with it as with the paths as they are; and unless it agrees
    with the folders, at least twice as many. If the file lies in `folder`, and half of what could match does with its
    paths as they are, no beginning is looked for.

    Parameters
    ----------
    file
        The detections.
    photos
        Paths relative to `folder`, separated by ``/``.
    folder
        Where the photos are now.

    Raises
    ------
    DataError
        If half of what could match does as it is, but with a beginning as many or more would, and nothing tells which
        is meant.
    """
    written = [tidy_path(entry.file) for entry in file.photos]
    change, claims = PathChange(), list(_claims(written, photos))
    n_matching = _n_photos(claims)
    found = _find_change(written, photos, n_matching, folder, file.path)
    if found is not None and _n_photos(changed_claims := list(_claims(found[1], photos))) >= n_matching:
        change, claims = found[0], changed_claims
    return _sorted_out(file, photos, claims, change)


def _n_photos(claims: Sequence[tuple[int, str]]) -> int:
    return len({photo for _, photo in claims})


def _sorted_out(
    file: DetectionFile, photos: Sequence[str], claims: Sequence[tuple[int, str]], change: PathChange
) -> MatchedDetections:
    entry_of: dict[str, int] = {}
    for entry, photo in claims:
        entry_of.setdefault(photo, entry)
    claiming = {entry for entry, _ in claims}
    repeated = sorted(claiming.difference(entry_of.values()))
    return MatchedDetections(
        by_photo={photo: file.photos[entry_of[photo]] for photo in photos if photo in entry_of},
        without_entry=tuple(photo for photo in photos if photo not in entry_of),
        not_there=tuple(each.file for entry, each in enumerate(file.photos) if entry not in claiming),
        repeated=tuple(file.photos[entry].file for entry in repeated),
        change=change,
    )


SPELLINGS: tuple[Callable[[str], str], ...] = (str, composed_path, folded_path)  # from exact to lenient


def _claims(paths: Sequence[str | None], photos: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Give the position of each path that is of a photo, and the photo: those first that match more exactly."""
    left = [(position, path) for position, path in enumerate(paths) if path is not None]
    for spell in SPELLINGS:
        if not left:
            return
        meant = _unique(photos, spell)
        missed = []
        for position, path in left:
            photo = meant.get(spell(path))
            if photo is None:
                missed.append((position, path))
            else:
                yield position, photo
        left = missed


def _unique(photos: Sequence[str], spell: Callable[[str], str]) -> dict[str, str | None]:
    """Give the photo by spelling, None where there are several."""
    meant: dict[str, str | None] = {}
    for photo in photos:
        spelled = spell(photo)
        meant[spelled] = None if spelled in meant else photo
    return meant


def _find_change(
    written: Sequence[str], photos: Sequence[str], n_matching: int, folder: Path, file: Path
) -> tuple[PathChange, list[str | None]] | None:
    """Find what to do to the paths of a file, first with their case and then without; give them changed too."""
    place, home = folded_path(str(folder.absolute())), folded_path(str(file.absolute().parent))
    if place == home and _is_half(n_matching, min(len(written), len(photos))):
        return None
    for spell in (composed_path, folded_path):
        entries = [spell(path) for path in written]
        there = {spell(photo) for photo in photos}
        votes = _votes(set(entries), there)
        votes[PathChange()] = n_matching
        try:
            change = _elected(votes, place, home, min(len(entries), len(there)))
        except _InDoubt as doubt:
            raise DataError(f"{file}: {doubt}", file) from None
        if change is not None:
            return change, [change(path) for path in entries]
    return None


def _is_half(n_matching: int, n_possible: int) -> bool:
    return 0 < n_possible <= 2 * n_matching


class _InDoubt(Exception):
    """As many paths match as they are as after a change, and nothing tells which is meant."""


def _votes(entries: Collection[str], photos: Collection[str]) -> Counter[PathChange]:
    """Count for each change how many paths it makes match."""
    votes: Counter[PathChange] = Counter()
    for path in entries:
        votes.update(PathChange(removed=start) for start, rest in _parted(path) if rest in photos)
    for path in photos:
        votes.update(PathChange(added=start) for start, rest in _parted(path) if rest in entries)
    return votes


def _parted(path: str) -> Iterator[tuple[str, str]]:
    """Part a path at each of its separators, which stays with the first part."""
    at = path.find("/")
    while at >= 0:
        yield path[: at + 1], path[at + 1 :]
        at = path.find("/", at + 1)


def _elected(votes: Counter[PathChange], folder: str, home: str, n_possible: int) -> PathChange | None:
    """Choose the change that agrees best with where the photos are; None if it is best to change nothing.

    Parameters
    ----------
    votes
        How many paths each change makes match, and how many match without a change.
    folder, home
        Where the photos are and where the detection file lies, absolute and folded.
    n_possible
        How many paths could match at most.

    Raises
    ------
    _InDoubt
        If half of the paths match without a change, and a change that may be meant makes as many match.
    """
    unchanged = PathChange()

    def kind(change: PathChange) -> tuple[bool, int]:
        return _agrees(change, folder, home), _shared_tail(change.removed, folder)

    def is_enough(change: PathChange) -> bool:
        agrees, tail = kind(change)
        if change == unchanged or votes[change] < votes[unchanged]:
            return False
        return agrees or votes[change] >= n_possible * (WITH_ITS_NAME if tail else WITHOUT)

    best = max(filter(is_enough, votes), key=lambda change: (*kind(change), votes[change]), default=None)
    if best is None:
        return None
    rivals = {each for each in votes if each != best and kind(each) == kind(best)} - {unchanged}
    if not kind(best)[0]:
        rivals.add(unchanged)
    if 2 * max((votes[rival] for rival in rivals), default=0) <= votes[best]:
        return best
    if _is_half(votes[unchanged], n_possible):
        raise _InDoubt(_doubt(best, votes))
    return None


def _doubt(change: PathChange, votes: Counter[PathChange]) -> str:
    how = f'without "{change.removed}" at their beginning' if change.removed else f'with "{change.added}" before them'
    return (
        f"of its paths, {votes[PathChange()]} are of a photo as they are, and {votes[change]} are {how}; nothing tells "
        "which photos are meant, and the boxes would be looked for in the wrong ones. Put the detection file into the "
        "folder that its paths begin in, or make it anew for the folder of the photos."
    )


def _agrees(change: PathChange, folder: str, home: str) -> bool:
    """Whether a change is what is to be expected, going by where the photos and the detection file are."""
    if change.removed:
        return f"/{folder}/".endswith(f"/{change.removed.casefold()}")
    return f"{home}/" == f"{folder}/{change.added.casefold()}"


def _shared_tail(removed: str, folder: str) -> int:
    """Count the names at the end of a beginning that the folder ends with too."""
    ours, theirs = folder.split("/")[::-1], removed.casefold().rstrip("/").split("/")[::-1]
    differing = (n for n, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other)
    return next(differing, min(len(ours), len(theirs)))
