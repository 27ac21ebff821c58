"""Where each photo was taken, and which photos are one burst."""

import re
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.pools import IndexArray

__all__ = ["ENOUGH_KNOWN", "group_sequences", "one_each", "site_of", "tell_their_sequence"]

ENOUGH_KNOWN = 0.5  # of the photos, to speak of sequences at all

SELDOM = 0.25  # of the steps from photo to photo of a folder; more steps back say nothing of the clock
NUMBER = re.compile("[0-9]+")
DIGITS = 12  # to which numbers in names are filled up, so that "deer (9).jpg" comes before "deer (10).jpg"


def site_of(path: str, level: int | None = None, *, below_class: bool = False) -> str:
    """Name the site of a photo by its folders.

    Parameters
    ----------
    path
        The photo below its data folder, separated by ``/``.
    level
        Which of its folders is the site, 1 for the uppermost; None: all of them together.
    below_class
        Whether the uppermost folder is that of a class, and does not count.

    Returns
    -------
    The name, "" if there is no such folder.
    """
    folders = path.split("/")[int(below_class) : -1]
    if level is None:
        return "/".join(folders)
    return folders[level - 1] if level <= len(folders) else ""


def group_sequences(
    paths: Sequence[str],
    sites: Sequence[str],
    taken_at: NDArray[np.float64],
    *,
    gap: float = 60.0,
    pattern: str | None = None,
) -> IndexArray:
    """Find bursts: photos of one site of which each was taken shortly after the one before.

    Where the clock of a camera was reset, photos before and after may have the same time. So in a folder, the photos in
    the order of their names, numbers in these by their size, each step back by `gap` or more begins a stretch of its
    own, and photos of different stretches are never one burst; but if a quarter of the steps or more go back, the names
    are in no order of time, and the folder is one stretch.

    Parameters
    ----------
    paths
        (n,) paths, separated by ``/``.
    sites
        (n,) names of sites, "" where it is not known. By their times, photos without a site are one burst only if they
        lie in one folder; by their names, they count as of one site.
    taken_at
        (n,) ms, NaN where it is not known.
    gap
        Seconds between two photos from which on they are of different bursts.
    pattern
        A regular expression, with one group at most, that is looked for in file names. Photos of one site are one
        burst if what the group matches, or else the whole, is the same; photos in whose names it is not found are
        grouped by time.

    Returns
    -------
    (n,) numbers, equal for photos of one burst, counted from 0 in the order of their first photos. A photo with neither
    a time nor a match is a burst of its own.
    """
    n = len(paths)
    taken_at = np.asarray(taken_at, np.float64)
    names = _matches(paths, pattern) if pattern is not None else [None] * n
    is_named = np.array([name is not None for name in names], np.bool_)
    numbers = np.arange(n)  # one each
    named, timed = np.flatnonzero(is_named), np.flatnonzero(~is_named & ~np.isnan(taken_at))
    numbers[named] = n + _numbered((sites[row], names[row]) for row in named.tolist())
    numbers[timed] = 2 * n + _by_time(paths, sites, taken_at, timed, 1000 * gap)
    _, first, of_photo = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[of_photo]


def one_each(sequences: IndexArray) -> IndexArray:
    """Give photos of which no sequence is known, -1, numbers of their own behind all others."""
    numbers = sequences.copy()
    alone = np.flatnonzero(sequences < 0)
    numbers[alone] = sequences.max(initial=-1) + 1 + np.arange(len(alone))
    return numbers


def tell_their_sequence(paths: Sequence[str], pattern: str | None) -> NDArray[np.bool_]:
    """Say of (n,) paths whether `pattern` finds the sequence in the file name; None finds nothing."""
    if pattern is None:
        return np.zeros(len(paths), np.bool_)
    return np.array([found is not None for found in _matches(paths, pattern)], np.bool_)


def _matches(paths: Sequence[str], pattern: str) -> list[str | None]:
    """Give what the pattern finds in each file name; None where it finds nothing."""
    search = re.compile(pattern).search
    found = [search(path.rpartition("/")[2]) for path in paths]
    return [None if match is None else match[match.lastindex or 0] for match in found]


def _numbered(keys: Iterable[Hashable]) -> IndexArray:
    """Give equal keys equal numbers, from 0."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)


def _by_time(
    paths: Sequence[str], sites: Sequence[str], taken_at: NDArray[np.float64], rows: IndexArray, gap: float
) -> IndexArray:
    """(n,) numbers of the bursts of `rows`, which have a time, with a gap in ms."""
    site = _numbered((sites[row], "" if sites[row] else paths[row].rpartition("/")[0]) for row in rows.tolist())
    time = taken_at[rows]
    stretch = _stretches([paths[row] for row in rows.tolist()], time, gap)
    order = np.lexsort((time, stretch, site))
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = (np.diff(site[order]) != 0) | (np.diff(stretch[order]) != 0) | (np.diff(time[order]) >= gap)
    numbers = np.empty(len(rows), np.int64)
    numbers[order] = np.cumsum(begins)
    return numbers


def _stretches(paths: Sequence[str], time: NDArray[np.float64], gap: float) -> IndexArray:
    """(n,) 0 for photos taken before any reset of the clock in their folder, else a number of the folder and reset."""
    folder = _numbered(path.rpartition("/")[0] for path in paths)
    names = "/".join(path.rpartition("/")[2] for path in paths)
    filled = NUMBER.sub(lambda digits: digits[0].zfill(DIGITS), names).split("/")
    order = np.array(sorted(range(len(paths)), key=filled.__getitem__), np.int64)
    order = order[np.argsort(folder[order], kind="stable")]
    folder = folder[order]
    is_step = np.zeros(len(paths), np.bool_)  # from the photo before
    is_step[1:] = np.diff(folder) == 0
    goes_back = is_step.copy()
    goes_back[1:] &= np.diff(time[order]) <= -gap
    n_steps, n_back = (np.bincount(folder, flags) for flags in (is_step, goes_back))
    is_reset = goes_back & (n_back < SELDOM * n_steps)[folder]
    count = np.cumsum(is_reset)
    before_folder = np.zeros(len(n_steps), np.int64)
    starts = np.flatnonzero(~is_step)
    before_folder[folder[starts]] = count[starts]
    stretch = np.empty(len(paths), np.int64)
    stretch[order] = np.where(count > before_folder[folder], count, 0)
    return stretch
