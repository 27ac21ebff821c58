"""Small runs that are killed at a change of a file each, and go on; `test_faults.py` starts this with kill_at.c loaded.

    LD_PRELOAD=kill_at.so python runs.py SCENE FOLDER    # points on stdin, one JSON line out for each

A point is "0 0", which lists the changes of an undisturbed run, or "NUMBER HALF": the change that the process dies at,
and whether half of it is done. The processes are forked from this one, which has everything imported and computed
nothing yet.
"""

import builtins
import csv
import ctypes
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx.checker
import onnx.helper
import onnxruntime
import skl2onnx
import torch
from skl2onnx.common import data_types
from threadpoolctl import threadpool_limits

from camera_trap_al import evaluation, run_report
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning import embedding_parts
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.network_graph import PhotoNetwork, network_graph
from camera_trap_al.main_scripts import run_active_learning
from camera_trap_al.model_description import DESCRIPTION_FILE

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "support"), str(TESTS / "format_1")]
import make as format_1  # noqa: E402  the photos and settings of a small run
import sixteen_pixels  # noqa: E402

IMPORTED_FOR_THE_CHILDREN = (onnx, skl2onnx, data_types)
ADDED_PHOTOS = 8
BIN = "new_labels_bin"
# What an end does not depend on: when things happened, and whether the drift of the pixels was told before a refit.
IGNORED_SETTINGS = {"frozen.pixel_drift_told_of"}
TABLES = {
    "classes": "SELECT * FROM classes ORDER BY class_id",
    "photos": "SELECT * FROM photos ORDER BY photo_row",
    "settings": "SELECT * FROM settings ORDER BY name",
    "queries": "SELECT round, answered_at IS NULL FROM queries ORDER BY round",
    "query_rows": "SELECT * FROM query_rows ORDER BY round, position",
    "label_events": "SELECT round, photo_row, kind, old_class, new_class, source FROM label_events ORDER BY event",
    "evaluations": "SELECT * FROM evaluations ORDER BY train_set_size",
    "lineages": "SELECT file, lineage FROM artefacts ORDER BY file",
}


class Person:
    """Labels what the selector asks for and presses Enter, or stops at a round."""

    def __init__(self, run: Path, stops_at: int | None = None) -> None:
        self._run = run
        self._stops_at = stops_at

    def __call__(self, prompt: str = "") -> str:
        if self._stops_at is not None and self._n_rounds() >= self._stops_at:
            return "q"
        with (self._run / "timelapse_selector.csv").open(newline="", encoding="utf-8") as file:
            asked = [row for row in csv.DictReader(file) if row["Selected"] == "true"]
        with (self._run / BIN / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("File", "RelativePath", "Species"))
            writer.writerows((row["File"], row["RelativePath"], self._word(row["File"])) for row in asked)
        return ""

    def _n_rounds(self) -> int:
        with closing(sqlite3.connect(self._run / "data" / "run.sqlite")) as db:
            return int(db.execute("SELECT COUNT(*) FROM queries WHERE answered_at IS NOT NULL").fetchone()[0]) + 1

    def _word(self, name: str) -> str:
        return {"fox_1.ppm": "skip", "badger_2.ppm": "unusable"}.get(name) or format_1.truth_of(name)


def settings(photos: Path, run: Path) -> dict[str, Any]:
    quick = {"classifier_params": {"hidden_layer_sizes": (16,), "max_iter": 10}}
    return {**format_1.arguments(photos, run), **quick}


def season(photos: Path, run: Path) -> None:
    """Some rounds in one go: finetuning after each, predictions before each question, a skip and an unusable photo."""
    builtins.input = Person(run)
    run_active_learning(**settings(photos, run), max_labels=7, predict_pool="rounds")


def growing(photos: Path, run: Path) -> None:
    """A round, a stop, more photos of another brightness, and a later start that measures pixels anew."""
    builtins.input = Person(run, stops_at=2)
    chosen = settings(photos, run) | {"max_labels": 6, "embedding_finetuning_period": 100}
    run_active_learning(**chosen)
    for number in range(ADDED_PHOTOS):
        new = photos / "unlabelled" / "site 9" / f"fox_{number + 10}.ppm"
        if not new.exists():
            format_1._write_photo(photos, str(new.relative_to(photos)), "fox")
    builtins.input = Person(run)
    run_active_learning(**chosen, refit="pixel_stats")


SCENES: dict[str, Callable[[Path, Path], None]] = {"season": season, "growing": growing}


def outcome(run: Path) -> dict[str, Any]:
    """Everything that the end of a run must not owe to chance, as plain values."""
    found: dict[str, Any] = {}
    with closing(sqlite3.connect(run / "data" / "run.sqlite")) as db:
        for table, statement in TABLES.items():
            rows = [list(row) for row in db.execute(statement)]
            found[table] = [row for row in rows if row[0] not in IGNORED_SETTINGS]
    found["settings"] = json.dumps(found["settings"]).replace(str(run.parent), "")  # where it lies
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if file.is_file() and name != "data/run.sqlite" and not name.startswith(("cache", "embedding/parts")):
            found[name] = content(file)
    return found


def content(file: Path) -> Any:
    """Name what a file says, without what its format adds."""
    if file.name == DESCRIPTION_FILE:
        return described(file)
    checksum = hashlib.sha256()
    for part in parts_of(file):
        checksum.update(part)
    return checksum.hexdigest()


def parts_of(file: Path) -> Iterator[bytes]:
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            yield from (name.encode() + arrays[name].tobytes() for name in sorted(arrays.files))
    elif file.suffix == ".pt":
        network = torch.load(file, weights_only=True)
        for name, tensor in sorted(network["embedding_model_state_dict"].items()):
            yield name.encode() + tensor.numpy().tobytes()
    elif (
        file.suffix == ".onnx" and file.parent.name == "export"
    ):  # its converter names things in an order that differs between processes
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        yield from (answer.tobytes() for answer in session.run(None, examples_for(session.get_inputs())))
    elif file.suffix != ".png":
        yield file.read_bytes()


def described(file: Path) -> dict[str, Any]:
    """Give what a description of a model says, but for the checksums of files, which are compared otherwise."""
    description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    del description["model"]["sha256"], description["network"]["sha256"], description["parts"]
    return description


def examples_for(inputs: Any) -> dict[str, Any]:
    """Random photos or embeddings, whichever an exported model wants."""
    (wanted,) = inputs
    rng, (_, *shape) = np.random.default_rng(0), wanted.shape
    if wanted.type == "tensor(uint8)":
        return {wanted.name: rng.integers(0, 256, (4, *shape), np.uint8)}
    return {wanted.name: rng.random((16, *shape), np.float32)}


def in_a_child(work: Callable[[], object], log: Path) -> int:
    """Do `work` in a forked process with its output in `log`; return how that ended."""
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            torch.set_num_threads(1)
            with threadpool_limits(1):
                work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Stage:
    """Where a scene is played, once for each point.

    Parameters
    ----------
    scene
        What is played.
    folder
        Where.
    """

    def __init__(self, scene: Callable[[Path, Path], None], folder: Path) -> None:
        self._scene = scene
        self._folder = folder
        self._photos, self._run = folder / "photos", folder / "run"

    def play(self, number: int, half: int) -> dict[str, Any]:
        """Play it, killed at a change if `number` is not 0 and then to its end; say how that went."""
        for leftover in (self._photos, self._run):
            shutil.rmtree(leftover, ignore_errors=True)
        format_1.write_photos(self._photos)
        log, changes = self._folder / "log.txt", self._folder / "changes.txt"
        changes.touch()
        report: dict[str, Any] = {"status": in_a_child(lambda: self._watched(number, half, changes), log)}
        if number == 0:
            return report | {"changes": changes.read_text().splitlines(), "log": log.read_text(), **self._end(log)}
        report["log"] = "" if report["status"] == -signal.SIGKILL else log.read_text(errors="replace")
        report["resumed"] = in_a_child(lambda: self._scene(self._photos, self._run), log)
        return report | (self._end(log) if report["resumed"] == 0 else {"log": log.read_text(errors="replace")})

    def _watched(self, number: int, half: int, changes: Path) -> None:
        lines = os.open(changes, os.O_WRONLY | os.O_TRUNC)
        below, left_alone = str(self._run).encode(), str(self._run / BIN).encode()
        ctypes.CDLL(None).watch(below, left_alone, ctypes.c_long(number), half, lines)
        self._scene(self._photos, self._run)

    def _end(self, log: Path) -> dict[str, Any]:
        end = self._folder / "end.json"
        in_a_child(lambda: end.write_text(json.dumps(outcome(self._run))), log)  # here torch must compute nothing
        return {"end": json.loads(end.read_text())}


def know_the_network_graph() -> None:
    """Trace the network for the export once, instead of in each child: that takes as long as all else that it does."""
    torch.set_num_threads(1)  # threads do not survive a fork
    chosen = format_1.arguments(Path(), Path())
    config = RunConfig(**{name: chosen[name] for name in ("feat_dim", "use_pretrained", "seed")})
    network_graph(PhotoNetwork(EmbeddingTrainer(config, 1, torch.device("cpu"))))


def main() -> None:
    """Play the scene once for each point on stdin."""
    sixteen_pixels.put_in_place()
    embedding_parts.PART_SIZE = 8  # several files of a few photos
    know_the_network_graph()
    evaluation._draw = lambda report, path: path.write_bytes(b"drawn")  # matplotlib would take half of the time
    run_report.render = lambda data: "the page"
    stage = Stage(SCENES[sys.argv[1]], Path(sys.argv[2]))
    for line in sys.stdin:
        number, half = map(int, line.split())
        print(json.dumps(stage.play(number, half)), flush=True)


if __name__ == "__main__":
    main()
