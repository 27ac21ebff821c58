"""What Timelapse (Saul Greenberg) reads and leaves behind: its selector CSV, its way of writing paths, its folders."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from camera_trap_al.exceptions import DataError
from camera_trap_al.files import write_csv
from camera_trap_al.interchange.paths import tidy_path

__all__ = [
    "CORRECT",
    "FOLDERS_MADE_BY_TIMELAPSE",
    "SELECTED",
    "SELECTOR_COLUMNS",
    "ambiguous_photos",
    "join_path",
    "never_shown",
    "split_path",
    "write_selector_csv",
]

# Lower case: Windows does not tell `backups` from `Backups`, so callers compare name.casefold().
FOLDERS_MADE_BY_TIMELAPSE = frozenset(
    {"backups", "deletedfiles", "csvexportedfiles", "camtrapdpexportedfiles", ".vthumb", "@recycle"}
)

SHOWN_SUFFIX = ".jpg"  # the only one of pictures that Timelapse loads, in any case

# Flags of the user's template, and columns of what Timelapse exports.
SELECTED = "Selected"  # the photo is asked about
CORRECT = "Correct"  # its label is to replace an earlier one

# Timelapse refuses the whole file for any column that is neither its own nor in the user's template.
SELECTOR_COLUMNS = ("File", "RelativePath", SELECTED)


def split_path(path: str) -> tuple[str, str]:
    r"""Write a photo's path as Timelapse does: ``site/a/IMG.JPG`` becomes ``("IMG.JPG", "site\a")``.

    Returns
    -------
    The cells File and RelativePath; RelativePath has no separator at its ends and is empty in the top level.
    """
    folder, _, file = path.rpartition("/")
    return file, folder.replace("/", "\\")


def join_path(file: str, relative_path: str) -> str:
    """Undo `split_path`, also for cells that people and other programs wrote."""
    return tidy_path(f"{relative_path}/{file}")


def never_shown(photos: Iterable[str]) -> Counter[str]:
    """Count by suffix, in lower case, the photos that Timelapse never loads, whatever is done."""
    suffixes = (f".{photo.rpartition('.')[2].lower()}" for photo in photos)
    return Counter(suffix for suffix in suffixes if suffix != SHOWN_SUFFIX)


def ambiguous_photos(listed: Collection[str], photos: Iterable[str]) -> list[str]:
    """Find photos directly in the image folder of whose name there is another one in a subfolder.

    The row of such a photo has no RelativePath, and Timelapse gives what it says to all photos of that name, unless
    rows for the others follow.

    Parameters
    ----------
    listed
        The photos that get a row.
    photos
        All photos, relative to the image folder, separated by ``/``.
    """
    top_level = {photo for photo in listed if "/" not in photo}
    if not top_level:
        return []
    return sorted(top_level.intersection(photo.rpartition("/")[2] for photo in photos if "/" in photo))


def write_selector_csv(path: Path, photos: Collection[str], selected: Collection[str]) -> None:
    """Write the CSV that tells Timelapse which photos are asked about.

    Every one of `photos` has a row, sorted by path; UTF-8 without BOM, comma, CRLF. The file is written aside and
    renamed, so that nobody ever reads half of it.

    Parameters
    ----------
    path
        The file to write; replaced if it exists.
    photos
        Photos of the unlabelled folder, relative to it, separated by ``/``; Timelapse leaves others as they are.
    selected
        Those of `photos` that are asked about.

    Raises
    ------
    ValueError
        If `selected` is not part of `photos`.
    DataError
        If the file cannot be written, most often since Excel holds it open on Windows; a file already there is intact.
    """
    selected = frozenset(selected)
    unknown = sorted(selected.difference(photos))
    if unknown:
        raise ValueError(f"`selected` has {len(unknown)} paths that are not in `photos`, the first is {unknown[0]}.")
    try:
        write_csv(path, SELECTOR_COLUMNS, _selector_rows(photos, selected), verbatim=True)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path} cannot be written: the name of a photo holds a character that is no valid text ({error}). "
            "Rename that photo, in the unlabelled folder, with ordinary letters and start again."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}. If it is open in another program, such as Excel, "
            "close it there; else look whether the folder may be written to and the disk has room.",
            path,
        ) from error


def _selector_rows(photos: Collection[str], selected: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    for photo in sorted(photos):
        yield *split_path(photo), "true" if photo in selected else "false"
