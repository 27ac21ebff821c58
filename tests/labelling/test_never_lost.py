"""No accepted label is lost and none counts twice, whenever the process is killed."""

import csv
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

PROMPT = "Press enter when you have placed the labels in the labels bin"
LOADED = "Labels were loaded successfully"
CLASSES = ("boar", "deer")
N_PHOTOS, BATCH, N_KILLS = 3000, 3, 50
PROGRAM = """
import os, sys
from functools import partial
from pathlib import Path
from camera_trap_al.config import RunConfig
from camera_trap_al.labelling import LabelRetriever
from camera_trap_al.photos.folders import FolderScan
from camera_trap_al.pools import Role
from camera_trap_al.run_store import RunStore

folder, n_photos, batch, n_kills = Path(sys.argv[1]), *map(int, sys.argv[2:])
paths = tuple(f"site/{number:04}.jpg" for number in range(n_photos))
train = FolderScan(folder, ("boar/t.jpg",), ("boar", "deer"), {}, 0)
scans = {Role.TRAIN: train, Role.UNLABELLED: FolderScan(folder, paths, ("site",), {}, 0)}

def run():  # the loop of a run without its models
    store, labels = RunStore.open(RunConfig(output_dir=folder)), LabelRetriever(paths, folder)
    while True:
        rows = store.register(scans).pools.unlabelled
        query = store.open_query() or store.ask(rows[:batch])
        labels.request_labels(query, partial(store.commit, query))

for _ in range(n_kills):  # each run is a process of its own, which finds everything imported
    child = os.fork()
    if child == 0:
        print("STARTED", os.getpid(), flush=True)
        run()
    print("\\nENDED", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # behind half a line, maybe
"""


def truth(name: str) -> str:
    return CLASSES[int(name.removesuffix(".jpg")) % 2]


def answer_request(folder: Path) -> list[str]:
    """Label what is selected, as a spreadsheet would; return its photos."""
    with (folder / "timelapse_selector.csv").open(newline="", encoding="utf-8") as file:
        asked = [row["File"] for row in csv.DictReader(file) if row["Selected"] == "true"]
    with (folder / "new_labels_bin" / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("File", "RelativePath", "Species"))
        writer.writerows((name, "site", truth(name)) for name in asked)
    return asked


def label_while_it_is_killed(folder: Path, moments: random.Random) -> tuple[list[str], list[int]]:
    """Answer the questions of runs, each of which is killed at some moment after a few of them.

    Returns the photos of which they said that their labels were loaded, and how the runs ended.
    """
    command = [sys.executable, "-c", PROGRAM, str(folder), *map(str, (N_PHOTOS, BATCH, N_KILLS))]
    loaded, ends, asked, n_questions, killer = [], [], [], 0, None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            first, _, number = line.partition(" ")
            if first == "STARTED":
                n_questions = moments.randrange(4)
                killer = threading.Timer(moments.uniform(0, 0.05), os.kill, (int(number), signal.SIGKILL))
            elif first == "ENDED":
                ends.append(int(number))
            elif line.startswith(LOADED):
                loaded += asked
            elif line.startswith(PROMPT):
                if n_questions == 0:
                    killer.start()
                n_questions -= 1
                asked = answer_request(folder)
                process.stdin.write("\n")
                process.stdin.flush()
    return loaded, ends


def test_fifty_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    loaded, ends = label_while_it_is_killed(tmp_path, random.Random(5))
    assert ends == [-signal.SIGKILL] * N_KILLS
    with closing(sqlite3.connect(tmp_path / "data" / "run.sqlite")) as db:
        events = db.execute(
            "SELECT path, name FROM label_events JOIN photos USING (photo_row)"
            " JOIN classes ON classes.class_id = label_events.new_class"
        ).fetchall()
        stored = db.execute(
            "SELECT path, name FROM photos JOIN classes USING (class_id) WHERE path LIKE 'site/%' ORDER BY path"
        ).fetchall()
    assert sorted(events) == stored, "each label was recorded once"
    assert len(loaded) == len(set(loaded)), "nothing was asked and loaded twice"
    assert {f"site/{name}" for name in loaded} <= {path for path, _ in stored}
    assert all(name == truth(path.removeprefix("site/")) for path, name in stored)
    assert len(loaded) >= N_KILLS, "labels were loaded between the kills"
