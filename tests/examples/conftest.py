"""The examples run as a user runs them: real processes, on photos whose species is their colour."""

import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import camera_trap_al

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMPT = "Press enter when you have placed the labels in the labels bin"
COLOURS = {"badger": (60, 60, 60), "deer": (120, 180, 60), "fox": (210, 90, 30)}
N_UNLABELLED = 3  # of each species


@pytest.fixture
def examples() -> Path:
    """The folder of the examples."""
    return EXAMPLES


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folder with train, unlabelled and validation photos of three species, and truth.csv."""
    rng = np.random.default_rng(0)
    for species in COLOURS:
        for name in ("train/{0}/t1 {0}.jpg", "train/{0}/t2 {0}.jpg", "validation/{0}/v {0}.jpg"):
            write_photo(tmp_path / name.format(species), species, rng)
        for number in range(N_UNLABELLED):
            write_photo(tmp_path / "unlabelled" / f"site{number}" / f"{number} {species}.jpg", species, rng)
    found = sorted((tmp_path / "unlabelled").rglob("*.jpg"))
    write_labels(tmp_path / "truth.csv", [(path.name, path.parent.name) for path in found])
    return tmp_path


def write_photo(path: Path, species: str, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.array(COLOURS[species]) + rng.integers(-40, 41, (24, 32, 3))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=95)


def species_of(name: str) -> str:
    return Path(name).stem.rpartition(" ")[2]


def write_labels(path: Path, photos: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("File", "RelativePath", "Species"))
        writer.writerows((name, folder, species_of(name)) for name, folder in photos)


@dataclass
class Person:
    """Somebody who started an example in a terminal, and labels what its run folder asks for."""

    process: "subprocess.Popen[str]"
    run_folder: Path
    n_answers: int = 0

    def listen_for(self, text: str) -> str:
        """Read what the program says, up to the line with `text`."""
        said = []
        for line in self.process.stdout or ():
            said.append(line)
            if text in line:
                return "".join(said)
        raise AssertionError(f"it ended without saying {text!r}:\n{''.join(said)}")

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def asked(self) -> list[tuple[str, str]]:
        with (self.run_folder / "timelapse_selector.csv").open(newline="", encoding="utf-8") as file:
            return [(row["File"], row["RelativePath"]) for row in csv.DictReader(file) if row["Selected"] == "true"]

    def answer(self) -> list[tuple[str, str]]:
        """Wait for the question, put labels into the bin, press Enter, and give what was asked."""
        self.listen_for(PROMPT)
        asked = self.asked()
        self.n_answers += 1
        write_labels(self.run_folder / "new_labels_bin" / f"answer {self.n_answers}.csv", asked)
        self.type("")
        self.listen_for("Labels were loaded successfully")
        return asked

    def stop(self) -> str:
        """Wait for the question, type q, and give the last words."""
        self.listen_for(PROMPT)
        return self.end("q\n")

    def end(self, typed: str | None = None) -> str:
        """See the program end without an error."""
        said, _ = self.process.communicate(typed)
        assert self.process.returncode == 0, said
        return said


@pytest.fixture
def start(tmp_path):
    """Function that starts an example in a process of its own, in the folder of the test."""
    started = []
    # One thread: with so few photos, several spend their time waiting for each other.
    environment = os.environ | {"PYTHONPATH": str(Path(camera_trap_al.__file__).parents[1]), "OMP_NUM_THREADS": "1"}

    def start(script: Path, *words: str | Path, run_folder: Path = tmp_path) -> Person:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        command = [sys.executable, str(script), *map(str, words)]
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, encoding="utf-8", **pipes))
        return Person(started[-1], run_folder)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def tell_species():
    """Function that names the species of a photo."""
    return species_of
