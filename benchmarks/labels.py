"""Time and memory of what an expert waits for: the request, and the labels that are read.

    python benchmarks/labels.py             # 1,000,000 photos
    python benchmarks/labels.py --photos 10000

Made paths, no photos. Each line is measured in a process of its own, whose highest memory it shows. An answer has a
row for every photo, as Timelapse exports them, and labels for the 100 that were asked about; half of the others have a
label from an earlier round.
"""

import argparse
import csv
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from memory import peak_memory

from camera_trap_al.interchange.timelapse import split_path
from camera_trap_al.labelling import LabelRetriever
from camera_trap_al.labelling.places import TimelapseData
from camera_trap_al.query import KnownLabel, Query

PHOTOS_PER_CAMERA = 2000
ASKED = 100
CLASSES = tuple(f"species {number:02d}" for number in range(30))
WHAT = {
    "request": ("the request written", 10),
    "answer": ("the answer read, from a CSV with a row for each photo", 15),
    "timelapse": ("the answer read, from a .ddb file with a record of each photo", 15),
}
MOST_GIGABYTES = 2


def photo_paths(n: int) -> list[str]:
    """Paths as of cameras whose cards were read out many times."""
    return [f"Site {i // PHOTOS_PER_CAMERA:03d}/card {i // 1000 % 2}/IMG_{i:07d}.JPG" for i in range(n)]


def new_query(paths: list[str]) -> Query:
    """Ask about photos all over the pool; know the labels of every other one."""
    rows = np.linspace(0, len(paths) - 1, ASKED).astype(np.int64)
    asked = frozenset(rows.tolist())
    known = {
        path: KnownLabel(row, row % len(CLASSES)) for row, path in enumerate(paths) if row % 2 and row not in asked
    }
    return Query(7, rows, tuple(paths[row] for row in rows), CLASSES, known=known)


def exported_rows(paths: list[str], query: Query) -> Iterator[tuple[str, ...]]:
    """Give the rows of an export of the whole image set by Timelapse."""
    asked = frozenset(query.paths)
    yield ("RootFolder", "File", "RelativePath", "DateTime", "Species", "Selected")
    for row, path in enumerate(paths):
        species = CLASSES[row % len(CLASSES)] if path in asked or path in query.known else ""
        yield ("photos", *split_path(path), " 2025-01-03 18:01:53", species, "true" if path in asked else "false")


def write_data_file(path: Path, rows: Iterator[tuple[str, ...]]) -> None:
    """Write what Timelapse itself keeps of such rows, as far as it matters here."""
    columns = "File, RelativePath, Species, Selected"
    next(rows)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"CREATE TABLE DataTable (Id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})")
        records = ((file, folder, species, flag) for _, file, folder, _, species, flag in rows)
        db.executemany(f"INSERT INTO DataTable ({columns}) VALUES (?, ?, ?, ?)", records)


def measured(work: Callable[[], object]) -> None:
    """Print seconds and the most memory, in bytes, that this process ever had."""
    begun_at = time.perf_counter()
    work()
    print(time.perf_counter() - begun_at, peak_memory())


def work(what: str, n_photos: int, folder: Path) -> None:
    """Measure one line."""
    paths = photo_paths(n_photos)
    query, labels = new_query(paths), LabelRetriever(paths, folder)
    if what == "request":
        measured(lambda: labels.write_request(query))
        return
    if what == "answer":
        with (labels.labels_bin / "ImageData.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(exported_rows(paths, query))
    else:
        write_data_file(folder / "TimelapseData.ddb", exported_rows(paths, query))
        labels = LabelRetriever(paths, folder, place=TimelapseData(folder / "TimelapseData.ddb"))
    answers = []
    measured(lambda: answers.append(labels.read_answer(query)))
    assert len(answers[0].labels) == ASKED and answers[0].n_differing == 0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--only", choices=WHAT, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.only:
            work(chosen.only, chosen.photos, Path(folder))
            return
    print(f"{chosen.photos:,} photos, {ASKED} of them asked about\n")
    print("| what | seconds | must | peak memory, GB | must | holds |\n|---|---|---|---|---|---|")
    for what, (title, most_seconds) in WHAT.items():
        command = [sys.executable, __file__, "--photos", str(chosen.photos), "--only", what]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        seconds, gigabytes = float(told[0]), int(told[1]) / 1e9
        holds = "yes" if seconds < most_seconds and gigabytes < MOST_GIGABYTES else "NO"
        print(f"| {title} | {seconds:.1f} | < {most_seconds} | {gigabytes:.2f} | < {MOST_GIGABYTES} | {holds} |")


if __name__ == "__main__":
    main()
