"""One run on a large pool, in a process of its own; `pipeline.py` calls it.

    python benchmarks/pipeline_runs.py question PHOTOS FOLDER N DEVICE    # until the first question
    python benchmarks/pipeline_runs.py start PHOTOS FOLDER N DEVICE       # until the first photo would be decoded

The pool are N hard links to PHOTOS in FOLDER, made if they are not there. Prints seconds and peak memory.
"""

import sys
import time
from pathlib import Path

from memory import peak_memory

from camera_trap_al import run_active_learning
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.query import Answer
from camera_trap_al.run_store import RunStore

PER_FOLDER, MOST_FOR_TRAINING = 1000, 60


class FirstQuestion:
    """Somebody who notes when the first question comes, and leaves."""

    asked_at = 0.0

    def request_labels(self, query, commit):
        """Look at the clock."""
        self.asked_at = time.perf_counter()
        return Answer(stop=True)


def make_links(photos: Path, folder: Path, n: int) -> dict[str, Path]:
    """Make training and unlabelled folders of hard links, each photo under many names."""
    originals = sorted(photos.glob("*.jpg"))
    copies = folder / "originals"
    copies.mkdir(exist_ok=True)
    for original in originals:  # hard links do not cross file systems
        if not (copies / original.name).exists():
            (copies / original.name).write_bytes(original.read_bytes())
    for role, count in (("train", min(MOST_FOR_TRAINING, n // 10)), ("pool", n)):
        for number in range(count):
            place = f"class{number % 3}" if role == "train" else f"site{number // PER_FOLDER:04d}"
            link = folder / role / place / f"{role}_{number:07d}.jpg"
            if number % PER_FOLDER == 0 or role == "train":
                link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.hardlink_to(copies / originals[number % len(originals)].name)
    return {"train_data": folder / "train", "unlabelled_data": folder / "pool", "output_dir": folder / "run"}


def main() -> None:
    """Do what the command line says."""
    what, photos, folder, n, device = sys.argv[1:]
    settings = make_links(Path(photos), Path(folder), int(n))
    settings |= {"use_pretrained": False, "seed": 1, "device": device}
    begun_at = time.perf_counter()
    if what == "question":
        person = FirstQuestion()
        run_active_learning(**settings, label_source=person, predict_pool="never")
        ended_at = person.asked_at
    else:
        store = RunStore.open(RunConfig(**settings))
        environment = ActiveLearningEnvironment.start(store)
        environment.rows_to_decode()
        if not store.open_query():  # a run with a first question keeps what it registered
            store.ask(environment.candidates[:1])
        ended_at = time.perf_counter()
    print(f"seconds={ended_at - begun_at:.3f} peak_gb={peak_memory() / 1e9:.3f}")


if __name__ == "__main__":
    main()
