"""Time and memory of the run store: starting again, storing an answer, and the files written for people.

    python benchmarks/store.py             # 1,000,000 photos
    python benchmarks/store.py --photos 10000

Made paths, no photos: one in a hundred is a training photo. A tenth of the photos was labelled in earlier rounds, one
in two hundred is set aside, and one question is open. Each line is measured in a process of its own, whose highest
memory it shows; the lines after it that begin with a dash are parts of it. The exit status is 1 if a bound is broken.
"""

import argparse
import csv
import io
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from labels import ASKED, CLASSES, photo_paths
from memory import peak_memory

from camera_trap_al.config import RunConfig
from camera_trap_al.interchange.timelapse import split_path
from camera_trap_al.labelling import LabelRetriever
from camera_trap_al.photos.catalogue import Catalogue
from camera_trap_al.photos.folders import FolderScan
from camera_trap_al.pools import IndexArray, Role
from camera_trap_al.predictions import PREDICTIONS_FILE, Predictions, write_predictions
from camera_trap_al.query import Answer, Query
from camera_trap_al.run_store import RunStore, query_table
from camera_trap_al.run_store.artefact import Artefact

COMMITS = 5
LONG_AGO = "2025-01-03T18:01:53+00:00"
MOST_GIGABYTES = 2


@contextmanager
def opened(folder: Path) -> Iterator[RunStore]:
    """Open the run in a folder."""
    with RunStore.open(RunConfig(output_dir=folder, seed=1)) as store:
        yield store


class Laps:
    """Seconds by what took them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun_at = time.perf_counter()

    def end(self, what: str) -> None:
        """Say what the time since the last such call was spent on."""
        now = time.perf_counter()
        self.seconds[what] = now - self._begun_at
        self._begun_at = now


def made_scans(n_photos: int) -> dict[Role, FolderScan]:
    """Make the scans of folders with so many photos in all."""
    n_train = n_photos // 100
    train = sorted(f"{CLASSES[i % len(CLASSES)]}/IMG_{i:07d}.JPG" for i in range(n_train))
    unlabelled = photo_paths(n_photos - n_train)
    sites = sorted({path.partition("/")[0] for path in unlabelled})
    return {
        Role.TRAIN: FolderScan(Path("/train"), tuple(train), CLASSES, {}, 0),
        Role.UNLABELLED: FolderScan(Path("/unlabelled"), tuple(unlabelled), tuple(sites), {}, 0),
    }


def shuffled(rows: IndexArray) -> IndexArray:
    """Give the rows in an order that is always the same: a strategy asks about photos all over the pool."""
    return np.random.default_rng(0).permutation(rows)


def answer_to(query: Query) -> Answer:
    """Give each photo a class, as from a CSV of these photos."""
    labels = {row: row % len(CLASSES) for row in query.rows.tolist()}
    file = io.StringIO(newline="")
    rows = ((*split_path(path), CLASSES[labels[row]]) for row, path in zip(labels, query.paths, strict=True))
    csv.writer(file).writerows([("File", "RelativePath", "Species"), *rows])
    return Answer(labels, source="ImageData.csv", file_content=file.getvalue().encode())


def label(database: Path, catalogue: Catalogue, rows: IndexArray) -> None:
    """Store rounds of labels past the store: it loads each question, which would take minutes."""
    with closing(sqlite3.connect(database)) as db, db:
        for number, begin in enumerate(range(0, len(rows), ASKED), start=1):
            asked = rows[begin : begin + ASKED]
            positions = [(number, position, row) for position, row in enumerate(asked.tolist())]
            db.execute("INSERT INTO queries (round, asked_at) VALUES (?, ?)", (number, LONG_AGO))
            db.executemany("INSERT INTO query_rows (round, position, photo_row) VALUES (?, ?, ?)", positions)
            query = Query(number, asked, tuple(catalogue.paths[row] for row in asked), catalogue.classes)
            query_table.store_answer(db, query, answer_to(query), LONG_AGO)


def some_reasons(rows: IndexArray, n_photos: int) -> dict[int, str]:
    """Make one photo in two hundred unreadable."""
    return dict.fromkeys(rows[: n_photos // 200].tolist(), "truncated: the file ends in the middle of the picture")


def time_making(folder: Path, scans: Mapping[Role, FolderScan]) -> dict[str, float]:
    """Make the store that the other lines are measured on; time the first registration alone."""
    laps = Laps()
    with opened(folder) as store:
        laps.end("the run begun")
        catalogue = store.register(scans)
    laps.end("the photos registered")
    rows = shuffled(catalogue.pools.unlabelled)
    n_labelled = len(catalogue) // 10
    label(store.database, catalogue, rows[:n_labelled])
    with opened(folder) as store:
        store.set_aside(some_reasons(rows[n_labelled + ASKED :], len(catalogue)))
        store.ask(rows[n_labelled : n_labelled + ASKED])
    return laps.seconds


def start_again(store: RunStore, scans: Mapping[Role, FolderScan], laps: Laps) -> tuple[Catalogue, Query]:
    """Do what a later start does with the store that was opened."""
    laps.end("the store opened")
    catalogue = store.register(scans)
    laps.end("the photos registered again")
    query = store.open_query()
    laps.end("the open question loaded")
    assert query is not None and len(query) == ASKED and len(query.known) >= len(catalogue) // 10
    return catalogue, query


def time_opening(folder: Path, scans: Mapping[Role, FolderScan]) -> dict[str, float]:
    """Start the run again."""
    laps = Laps()
    with opened(folder) as store:
        start_again(store, scans, laps)
    return laps.seconds


def time_commits(folder: Path, scans: Mapping[Role, FolderScan]) -> dict[str, float]:
    """Answer some rounds; asking is not timed."""
    seconds: dict[str, float] = {}
    with opened(folder) as store:
        catalogue, query = start_again(store, scans, Laps())
        rows = shuffled(np.setdiff1d(catalogue.pools.unlabelled, query.rows))
        for begin in range(0, COMMITS * ASKED, ASKED):
            answer, laps = answer_to(query), Laps()
            store.commit(query, answer)
            laps.end(f"round {query.round}")
            seconds |= laps.seconds
            query = store.ask(rows[begin : begin + ASKED])
        assert store.n_rounds() == -(-len(catalogue) // 10 // ASKED) + COMMITS
    return seconds


def made_predictions(rows: IndexArray) -> Predictions:
    """Predict rows by lot."""
    lots = np.random.default_rng(1)
    first = lots.integers(len(CLASSES), size=len(rows))
    confidence = lots.random(len(rows), np.float32)
    ids = np.stack([first, (first + 1) % len(CLASSES)], axis=1)
    return Predictions(rows, ids, np.stack([confidence, confidence * np.float32(0.5)], axis=1))


def time_writing(folder: Path, scans: Mapping[Role, FolderScan]) -> dict[str, float]:
    """Write all that people read, each file as a run does."""
    with opened(folder) as store:
        catalogue, query = start_again(store, scans, Laps())
        rows = catalogue.pools.unlabelled
        reasons = some_reasons(shuffled(np.setdiff1d(rows, query.rows)), len(catalogue))
        predictions = made_predictions(rows)
        write = partial(write_predictions, predictions=predictions, paths=catalogue.paths, classes=catalogue.classes)
        retriever = LabelRetriever(scans[Role.UNLABELLED].photos, folder)
        laps = Laps()
        store.set_aside(reasons)
        laps.end(f"unreadable_images.csv, {len(reasons):,} set aside")
        store.write_labels()
        laps.end(f"data/labels.csv, {len(catalogue):,} rows")
        retriever.write_request(query)
        laps.end(f"timelapse_selector.csv, {len(scans[Role.UNLABELLED].photos):,} rows")
        store.save([Artefact(PREDICTIONS_FILE, {}, write)])
        laps.end(f"predictions.csv, {len(rows):,} rows")
    assert count_lines(folder / "unreadable_images.csv") == 1 + len(reasons)
    assert count_lines(folder / "data" / "labels.csv") == 1 + len(catalogue)
    assert count_lines(retriever.request_path) == 1 + len(scans[Role.UNLABELLED].photos)
    assert count_lines(folder / PREDICTIONS_FILE) == 1 + len(rows)
    return laps.seconds


def count_lines(path: Path) -> int:
    with path.open(encoding="utf-8") as file:
        return sum(1 for _ in file)


@dataclass(frozen=True)
class Line:
    """What is measured: `total` makes one figure of its parts, `most_seconds` is None where there is no bound."""

    title: str
    work: Callable[[Path, Mapping[Role, FolderScan]], dict[str, float]]
    total: Callable[[list[float]], float]
    most_seconds: int | None


LINES = {
    "making": Line("the first start", time_making, sum, None),
    "opening": Line("a later start", time_opening, sum, 15),
    "commit": Line(f"{ASKED} labels stored, the median of {COMMITS} rounds", time_commits, median, 1),
    "writing": Line("everything written for people", time_writing, sum, 60),
}


def rows_of(line: Line, parts: Mapping[str, float], peak_bytes: int) -> tuple[list[str], bool]:
    """Give the rows of the table for a line, and whether it holds."""
    seconds, gigabytes = line.total(list(parts.values())), peak_bytes / 1e9
    holds = gigabytes < MOST_GIGABYTES and (line.most_seconds is None or seconds < line.most_seconds)
    must = "" if line.most_seconds is None else f"< {line.most_seconds}"
    told = "yes" if holds else "NO"
    row = f"| {line.title} | {seconds:.2f} | {must} | {gigabytes:.2f} | < {MOST_GIGABYTES} | {told} |"
    return [row, *(f"| - {what} | {part:.2f} | | | | |" for what, part in parts.items())], holds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000, help="how many, at least 2000 (default: %(default)s)")
    parser.add_argument("--only", nargs=2, metavar=("LINE", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        name, folder = chosen.only
        parts = LINES[name].work(Path(folder), made_scans(chosen.photos))
        print(json.dumps([parts, peak_memory()]))
        return
    print(f"{chosen.photos:,} photos, {chosen.photos // 10:,} of them labelled earlier, {ASKED} asked about\n")
    print("| what | seconds | must | peak memory, GB | must | holds |\n|---|---|---|---|---|---|", flush=True)
    all_hold = True
    with tempfile.TemporaryDirectory() as folder:
        for name, line in LINES.items():
            command = [sys.executable, __file__, "--photos", str(chosen.photos), "--only", name, folder]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows, holds = rows_of(line, *json.loads(told))
            print("\n".join(rows), flush=True)
            all_hold &= holds
    sys.exit(0 if all_hold else 1)


if __name__ == "__main__":
    main()
