"""Reads the CSV in which people name the sites of their photos."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.interchange.paths import folded_path
from camera_trap_al.interchange.timelapse import join_path
from camera_trap_al.labelling.csv_files import read_file_content, read_table

__all__ = ["SiteTable", "read_sites"]

FOLDER, SITE, FILE = "relativepath", "site", "file"


@dataclass(frozen=True)
class SiteTable:
    """Names of sites by folder, and by photo.

    Attributes
    ----------
    by_place
        Name of the site by path of a folder or photo, in lower case, accents in one form, separated by ``/``; "" is the
        data folder itself.
    """

    by_place: Mapping[str, str]

    def site_of(self, path: str) -> str | None:
        """Name the site of a photo: by its own line, else by that of the nearest folder around it; None without any."""
        return next((self.by_place[place] for place in _places_around(path) if place in self.by_place), None)

    def without_photo(self, paths: Iterable[str]) -> list[str]:
        """Give the places, in the order of the file, that hold none of the photos."""
        there = {place for path in paths for place in _places_around(path)}
        return [place for place in self.by_place if place not in there]


def read_sites(file: Path) -> SiteTable:
    """Read a CSV with the columns RelativePath, site and, where folders hold photos of several sites, File.

    A line without a file is for all photos in the folder and below it, one without a site says nothing. Encodings and
    separators as for label files; the case of column names and paths does not matter.

    Raises
    ------
    LabelFileError
        If it cannot be read as such a table, or names two sites for one place; every fault is listed.
    """
    header, records = read_table(read_file_content(file), file.name, ("RelativePath", "site", "File"))
    columns = {name.casefold(): position for position, name in reversed(list(enumerate(header)))}
    missing = [name for name, column in (("RelativePath", FOLDER), ("site", SITE)) if column not in columns]
    if missing:
        advice = "It needs the columns RelativePath (a folder) and site; File is for single photos."
        fault = LabelFault(1, "", f"The file has no column {' and no column '.join(missing)}.", advice)
        raise LabelFileError(f"{file.name} cannot be read as a table of sites.", [fault])
    by_place: dict[str, str] = {}
    faults = list(_faults(records, columns, by_place))
    if faults:
        raise LabelFileError(f"{file.name} names several sites for one place.", faults)
    return SiteTable(by_place)


def _faults(
    records: Iterator[tuple[int, list[str]]], columns: Mapping[str, int], by_place: dict[str, str]
) -> Iterator[LabelFault]:
    """Fill `by_place` line by line, and give the lines that contradict an earlier one."""
    for row, cells in records:
        folder, site, photo = (
            cells[columns[name]].strip() if name in columns and columns[name] < len(cells) else ""
            for name in (FOLDER, SITE, FILE)
        )
        place = join_path(photo, folder)
        known = by_place.setdefault(folded_path(place), site) if site else site
        if known != site:
            problem = f"Its site is {site!r} here and {known!r} above."
            yield LabelFault(row, place, problem, "Leave the right line only.")


def _places_around(path: str) -> Iterator[str]:
    """Give a photo and the folders around it, folded, the nearest first; the last is the data folder, ""."""
    place = folded_path(path)
    while place:
        yield place
        place = place.rpartition("/")[0]
    yield ""
