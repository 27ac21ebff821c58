"""When and where the photos of a run were taken, and which of them are one burst."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from camera_trap_al.config import RunConfig
from camera_trap_al.labelling.site_table import read_sites
from camera_trap_al.logs import stage
from camera_trap_al.parallel import decoding_threads
from camera_trap_al.photos.catalogue import Catalogue
from camera_trap_al.photos.sequences import ENOUGH_KNOWN, group_sequences, site_of, tell_their_sequence
from camera_trap_al.photos.times import PhotoTime, read_times
from camera_trap_al.pools import IndexArray, Role
from camera_trap_al.run_store import RunStore, place_table

__all__ = ["find_sequences", "read_photo_times", "with_sequences"]

logger = logging.getLogger(__name__)

N_TOLD = 3  # of the places without photos
KEPT_AT_ONCE = 10_000  # times
ARE_KNOWN = "sequences_are_known"  # under which the store remembers that sequences count in this run


def with_sequences(store: RunStore, catalogue: Catalogue) -> Catalogue:
    """Find out which photos of a run are one burst: read the times of those that were never asked for theirs.

    Raises
    ------
    LabelFileError
        If the file of sites cannot be used.
    """
    config = store.config
    or_of_file = config.photo_times == "file"
    with store.transaction() as db:
        unknown = place_table.rows_to_read(db, or_of_file=or_of_file)

    def keep(found: Mapping[int, PhotoTime]) -> None:
        with store.transaction() as db:
            place_table.store_times(db, found)

    read_photo_times(catalogue, config, unknown, keep)
    with store.transaction() as db:
        taken_at = place_table.times(db, or_of_file=or_of_file)
    grouped = find_sequences(catalogue, config, taken_at, are_known=bool(store.recall(ARE_KNOWN)))
    if grouped.sequences is not None:
        store.remember(ARE_KNOWN, True)
    with store.transaction() as db:
        unknown_everywhere = np.full(len(catalogue), -1)
        place_table.store_places(
            db, grouped.sites, unknown_everywhere if grouped.sequences is None else grouped.sequences
        )
    return grouped


def read_photo_times(
    catalogue: Catalogue, config: RunConfig, rows: IndexArray, keep: Callable[[Mapping[int, PhotoTime]], object]
) -> None:
    """Read when the photos of `rows` were taken; those whose name says their sequence are left out.

    Parameters
    ----------
    catalogue
        The photos.
    config
        The settings of times and names.
    rows
        (n,) rows.
    keep
        Is given what was found, by row, after every 10,000 photos, so that a stop loses little.
    """
    rows = rows[~catalogue.pools.is_set_aside[rows]]
    told_by_name = tell_their_sequence([catalogue.paths[row] for row in rows.tolist()], config.sequence_pattern)
    wanted = rows[~told_by_name].tolist()
    if not wanted:
        return
    sources: Counter[str] = Counter()
    with stage(logger, f"Reading when {len(wanted)} photos were taken", "reading times"):
        threads, or_of_file = decoding_threads(config.num_workers), config.photo_times == "file"
        times = read_times(map(catalogue.path, wanted), len(wanted), threads=threads, or_of_file=or_of_file)
        found = zip(wanted, times, strict=True)
        while some := dict(islice(found, KEPT_AT_ONCE)):
            keep(some)
            sources.update(time.source for time in some.values())
    logger.info("Times of photos: %s", ", ".join(f"{count} {source}" for source, count in sources.most_common()))


def find_sequences(
    catalogue: Catalogue, config: RunConfig, taken_at: NDArray[np.float64], *, are_known: bool = False
) -> Catalogue:
    """Group photos by site and time, or by their names, and enter that into the catalogue.

    Of photos that lie directly in the folder of their class, the site is not known. Those of one class in train_data
    and validation_data are taken to lie in one folder: that two cameras saw one species at the same time is less likely
    than that photos of one burst were dealt to both.

    Parameters
    ----------
    catalogue
        The photos.
    config
        The settings of sites and sequences.
    taken_at
        (n_rows,) ms since 1970 of the camera's clock, NaN where that is not known.
    are_known
        Whether sequences count already, so that they do however few photos have a time by now.

    Raises
    ------
    LabelFileError
        If the file of sites cannot be used.
    """
    sites = _sites(catalogue, config)
    pattern = config.sequence_pattern
    is_named = tell_their_sequence(catalogue.paths, pattern)
    roles = catalogue.pools.roles.tolist()
    # The numbers of the data sets keep apart folders that have the same name in two of them.
    paths = [f"{role}/{path}" for role, path in zip(roles, catalogue.paths, strict=True)]
    places = [
        site if site or named or role == Role.UNLABELLED else f"\0{path.rpartition('/')[0]}"  # no site is called so
        for site, named, role, path in zip(sites, is_named.tolist(), roles, catalogue.paths, strict=True)
    ]
    sequences = group_sequences(paths, places, taken_at, gap=config.sequence_gap, pattern=pattern)
    is_known = ~np.isnan(taken_at) | is_named
    sequences = np.where(is_known, sequences, -1)
    rows = catalogue.pools.unlabelled if len(catalogue.pools.unlabelled) else catalogue.pools.usable
    known = float(is_known[rows].mean())
    if known < ENOUGH_KNOWN and pattern is None and config.group_by != "sequence" and not are_known:
        told = (
            "No photo says when it was taken"
            if not known
            else f"Only {known:.0%} of the photos say when they were taken"
        )
        logger.info("%s, so that bursts are not known: each photo is asked about on its own.", told)
        return replace(catalogue, sites=sites)
    n_sequences = len(np.unique(sequences[rows[is_known[rows]]]))
    logger.info(
        "%d of %d unlabelled photos are in %d sequences at %d sites",
        np.count_nonzero(is_known[rows]),
        len(rows),
        n_sequences,
        len({sites[row] for row in rows.tolist()}),
    )
    return replace(catalogue, sites=sites, sequences=sequences)


def _sites(catalogue: Catalogue, config: RunConfig) -> list[str]:
    """Name the site of each photo, "" where it is not known."""
    file, level = config.path_of("sites"), config.site_level
    table = None if file is None else read_sites(file)
    sites = []
    for path, role in zip(catalogue.paths, catalogue.pools.roles.tolist(), strict=True):
        listed = None if table is None else table.site_of(path)
        sites.append(site_of(path, level, below_class=role != Role.UNLABELLED) if listed is None else listed)
    if table is not None and (unused := table.without_photo(catalogue.paths)):
        logger.warning(
            "%d folders or photos of %s are not among the data, such as %s. Look whether they are written as they are "
            "called in the data folder.",
            len(unused),
            file,
            ", ".join(f'"{place}"' for place in unused[:N_TOLD]),
        )
    return sites
