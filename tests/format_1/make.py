"""The run of format 1 in this folder: the photos and settings that it was made with, and how it was made.

The last commit of format 1, 708ce6840c7bba25dededfdb7f2b1c73d8ceccbc, made it::

    git worktree add ../last-of-format-1 708ce6840c7bba25dededfdb7f2b1c73d8ceccbc
    PYTHONPATH=../last-of-format-1 python tests/format_1/make.py

It has two answered rounds, the network finetuned after each, and an open third question. Of its folder only what cannot
be made again without learning is here: the database, as text, and the artefacts that it names.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
DATABASE = HERE / "run.sql"
ARTEFACTS = (
    "classifier/classifier.npz",
    "embedding/embedding.npy",
    "embedding/embedding_model_weights.pt",
    "embedding/photos.npz",
)
ROUNDS = 2
COLOURS = {"Red Deer": (170, 110, 50), "badger": (60, 60, 60), "fox": (200, 60, 20)}
CHANGED_AT = 1_700_000_000  # seconds since 1970; even, for file systems that keep no odd ones
WIDTH, HEIGHT = 32, 24


def write_photos(folder: Path) -> None:
    """Write 9 training photos, 12 unlabelled ones and 3 for validation, whose fingerprints are always the same."""
    for name in COLOURS:
        for number in range(3):
            _write_photo(folder, f"train/{name}/t{number}.ppm", name)
        for number in range(4):
            _write_photo(folder, f"unlabelled/site {number % 2}/{name}_{number}.ppm", name)
        _write_photo(folder, f"validation/{name}/v.ppm", name)


def _write_photo(folder: Path, path: str, name: str) -> None:
    """Write a photo without compression, so that its size depends on no encoder; its noise is that of its path."""
    noise = hashlib.shake_256(path.encode()).digest(3 * WIDTH * HEIGHT)
    pixels = bytes(COLOURS[name][index % 3] + byte // 5 for index, byte in enumerate(noise))
    photo = folder / path
    photo.parent.mkdir(parents=True, exist_ok=True)
    photo.write_bytes(b"P6\n%d %d\n255\n" % (WIDTH, HEIGHT) + pixels)
    os.utime(photo, (CHANGED_AT, CHANGED_AT))


def truth_of(path: str) -> str:
    """Class of an unlabelled photo, which its file name begins with."""
    return path.rpartition("/")[2].rpartition("_")[0]


def arguments(photos: Path, run: Path) -> dict[str, Any]:
    """Arguments of the run."""
    return {
        "train_data": str(photos / "train"),
        "unlabelled_data": str(photos / "unlabelled"),
        "validation_data": str(photos / "validation"),
        "output_dir": str(run),
        "active_batch": 3,
        "feat_dim": 8,
        "use_pretrained": False,
        "embedding_train_num_epochs": 1,
        "embedding_train_lr": 0.001,
        "embedding_finetuning_period": 3,
        "embedding_finetuning_num_epochs": 1,
        "classifier_params": {"hidden_layer_sizes": (16,), "max_iter": 200},
        "seed": 1,
        "device": "cpu",
        "num_workers": 1,
    }


class Expert:
    """A label source that knows the classes and keeps what it was asked.

    Parameters
    ----------
    rounds
        Rounds that it answers; asked for more, it raises KeyboardInterrupt, as somebody who presses Ctrl-C.
    """

    def __init__(self, rounds: int | None = None) -> None:
        self.rounds = rounds
        self.asked: list[tuple[str, ...]] = []

    def request_labels(self, query: Any, commit: Callable[[Any], None]) -> Any:
        """Answer a query."""
        from camera_trap_al.query import Answer

        self.asked.append(query.paths)
        if self.rounds is not None and len(self.asked) > self.rounds:
            raise KeyboardInterrupt
        class_ids = (query.classes.index(truth_of(path)) for path in query.paths)
        answer = Answer(dict(zip(query.rows.tolist(), class_ids, strict=True)), source="expert")
        commit(answer)
        return answer


def write_run(folder: Path) -> None:
    """Write the folder of the run, as it was left."""
    for file in ARTEFACTS:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / Path(file).name, folder / file)
    (folder / "data").mkdir()
    with closing(sqlite3.connect(folder / "data" / "run.sqlite")) as db:
        db.executescript(DATABASE.read_text("utf-8"))


def main() -> None:
    """Make the run, and put what is to be kept of it beside this file."""
    sys.path.append(str(HERE.parent / "support"))
    import sixteen_pixels

    from camera_trap_al import run_active_learning

    sixteen_pixels.put_in_place()
    with TemporaryDirectory() as scratch:
        photos, run = Path(scratch, "photos"), Path(scratch, "run")
        write_photos(photos)
        try:
            run_active_learning(**arguments(photos, run), label_source=Expert(ROUNDS))
        except KeyboardInterrupt:
            pass
        for file in ARTEFACTS:
            shutil.copyfile(run / file, HERE / Path(file).name)
        with closing(sqlite3.connect(run / "data" / "run.sqlite")) as db:
            roots = {name: f"/photos/{name.lower()}" for name in ("TRAIN", "UNLABELLED", "VALIDATION")}
            db.execute("UPDATE settings SET value = ? WHERE name = 'frozen.roots'", (json.dumps(roots),))
            (version,) = db.execute("PRAGMA user_version").fetchone()
            dump = "\n".join([*db.iterdump(), f"PRAGMA user_version = {version};", ""])
        DATABASE.write_text(dump, "utf-8", newline="\n")
        for kept in HERE.iterdir():
            assert kept.is_dir() or scratch.encode() not in kept.read_bytes(), kept


if __name__ == "__main__":
    main()
