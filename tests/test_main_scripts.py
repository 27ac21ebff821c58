"""The whole job as a person does it: a real process, a real pipe on its stdin, real files in the labels bin."""

import csv
import json
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from PIL import Image

from camera_trap_al import RunResult, run_active_learning
from camera_trap_al.active_learning_methods import STRATEGIES
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning import pixel_statistics
from camera_trap_al.exceptions import CheckpointError, ConfigError, DataError, LabelFileError
from camera_trap_al.model_description import ModelDescription
from camera_trap_al.photos import image_cache
from camera_trap_al.photos.images import read_photo
from camera_trap_al.query import Answer, Query
from camera_trap_al.run_store import RunStore

PROMPT = "Press enter when you have placed the labels in the labels bin"
LOADED = "Labels were loaded successfully"
PROGRAM = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell that runs in the background turns off
from camera_trap_al.main_scripts import run_active_learning
result = run_active_learning(**json.loads(sys.argv[1]))
print("RESULT", json.dumps([result.labels_given, result.rounds, result.ended_because]), flush=True)
"""

SMALL_PROGRAM = f"""
import sys
sys.path.append({str(Path(__file__).parent / "support")!r})
import sixteen_pixels
sixteen_pixels.put_in_place()
{PROGRAM}
"""


@dataclass
class Person:
    """Somebody at a terminal who knows the species, and mistypes when told to."""

    arguments: dict[str, Any]
    truth: dict[str, str]
    program: str = PROGRAM
    process: subprocess.Popen[str] | None = None
    last_words: str = ""

    @property
    def folder(self) -> Path:
        return Path(self.arguments["output_dir"])

    def start(self) -> None:
        command = [sys.executable, "-c", self.program, json.dumps(self.arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def listen_for(self, text: str) -> str:
        """Read what the program says up to the line with `text`."""
        assert self.process is not None and self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if text in line:
                return "".join(said)
        raise AssertionError(f"the program ended without saying {text!r}; it said:\n{''.join(said)}")

    def type(self, text: str) -> None:
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def send(self, signal_number: int) -> None:
        assert self.process is not None
        self.process.send_signal(signal_number)

    def see_it_end(self) -> int:
        """Wait for the program to end; give its exit status."""
        assert self.process is not None
        # This closes the pipes too: a signal that came a moment before the program began to wait for input is heeded
        # only when the waiting ends.
        self.last_words, _ = self.process.communicate()
        return self.process.returncode

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.see_it_end() == -signal.SIGKILL

    def leave(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.kill()

    def selected(self) -> list[tuple[str, str]]:
        """File and RelativePath of what the request selects."""
        with (self.folder / "timelapse_selector.csv").open(newline="", encoding="utf-8") as file:
            return [(row["File"], row["RelativePath"]) for row in csv.DictReader(file) if row["Selected"] == "true"]

    def species(self, name: str, folder: str) -> str:
        return self.truth[f"{folder}/{name}".replace("\\", "/")]

    def save_labels(self, *, typo: bool = False, missing: bool = False) -> None:
        """Answer the request as a spreadsheet would, into the labels bin."""
        rows = [(name, folder, self.species(name, folder)) for name, folder in self.selected()]
        if typo:
            rows[0] = (*rows[0][:2], rows[0][2] + "x")
        with (self.folder / "new_labels_bin" / "answers.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("File", "RelativePath", "Species"))
            writer.writerows(rows[1:] if missing else rows)


def label_three_rounds(person: Person) -> None:
    """Three rounds with a typo, a missing row, a kill while asked, a kill while learning, and `q`."""
    person.start()
    person.listen_for(PROMPT)
    person.save_labels(typo=True)
    person.type("")
    first_name, first_folder = person.selected()[0]
    right = person.species(first_name, first_folder)
    faults = person.listen_for(PROMPT).splitlines()
    assert any(f"{right}x" in line and f'"{right}"' in line for line in faults), "the fault names the nearest class"
    person.save_labels(missing=True)
    person.type("")
    assert first_name in person.listen_for(PROMPT), "the missing row is named"
    person.save_labels()
    person.type("")
    person.listen_for(LOADED)
    person.listen_for(PROMPT)
    second = person.selected()
    person.kill()  # while the person labels

    person.start()
    person.listen_for(PROMPT)
    assert person.selected() == second, "a restart asks about the same photos"
    person.save_labels()
    person.type("")
    person.listen_for(LOADED)
    person.kill()  # while the program learns

    person.start()
    person.listen_for(PROMPT)
    assert not set(person.selected()) & set(second), "no accepted label is asked for again"
    person.save_labels()
    person.type("")
    person.listen_for(LOADED)
    person.listen_for(PROMPT)
    person.type("q")
    said = person.listen_for("RESULT")
    assert person.see_it_end() == 0
    batch = person.arguments["active_batch"]
    assert json.loads(said.split("RESULT ")[1]) == [3 * batch, 3, "the expert stopped"]


def stored_labels(folder: Path) -> dict[str, str]:
    with sqlite3.connect(folder / "data" / "run.sqlite") as db:
        labels = dict(db.execute("SELECT path, name FROM photos JOIN classes USING (class_id) WHERE role = 1"))
    db.close()
    return labels


def accuracy_of_export(folder: Path, validation: Path) -> float:
    """Apply the exported files with torchvision, Pillow and onnxruntime alone."""
    export = folder / "export"
    mean, std = np.load(export / "dataset_mean.npy"), np.load(export / "dataset_std.npy")
    saved = torch.load(export / "embedding_model_weights.pt", weights_only=True)
    net = torchvision.models.get_model(saved["arch_name"], weights=None)
    if saved["arch_name"] == "mobilenet_v2":
        net.classifier[1] = torch.nn.Linear(net.classifier[1].in_features, saved["feat_dim"])
    else:
        net.classifier[1] = torch.nn.Conv2d(512, saved["feat_dim"], kernel_size=1)  # squeezenet
    prefix = "module.inner_model."
    net.load_state_dict({key.removeprefix(prefix): value for key, value in saved["embedding_model_state_dict"].items()})
    net.eval()
    scaler = np.load(export / "embedding_scaler.npz")
    session = onnxruntime.InferenceSession(export / "classifier.onnx", providers=["CPUExecutionProvider"])
    hits = []
    for path in sorted(validation.glob("*/*.jpg")):
        with Image.open(path) as photo:
            square = np.asarray(photo.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))
        crop = (square[16:240, 16:240] / 255 - mean) / std
        with torch.inference_mode():
            embedding = net(torch.from_numpy(crop.astype(np.float32)).permute(2, 0, 1)[None]).numpy()
        scaled = (embedding - scaler["minimum"]) / (scaler["maximum"] - scaler["minimum"])
        (class_id,) = session.run(None, {session.get_inputs()[0].name: scaled.astype(np.float32)})[0]
        hits.append(saved["classes"][class_id] == path.parent.name)
    return float(np.mean(hits))


def accuracy_of_model(folder: Path, validation: Path) -> float:
    """Apply the exported model as a whole with Pillow and onnxruntime alone."""
    described = json.loads((folder / "export" / "model.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(folder / "export" / "model.onnx", providers=["CPUExecutionProvider"])
    hits = []
    for path in sorted(validation.glob("*/*.jpg")):
        with Image.open(path) as photo:
            square = np.asarray(photo.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))
        (probabilities,) = session.run(["probabilities"], {"images": square[np.newaxis]})
        hits.append(described["classes"][probabilities.argmax()] == path.parent.name)
    return float(np.mean(hits))


def check_finished_run(person: Person, n_train: int) -> None:
    batch = person.arguments["active_batch"]
    labels = stored_labels(person.folder)
    assert len(labels) == 3 * batch
    assert labels == {path: person.truth[path] for path in labels}, "no accepted label is missing or wrong"
    results = person.folder / "test_results"
    sizes = [n_train + round_number * batch for round_number in range(4)]
    assert {path.name for path in results.iterdir()} == {f"train_set_size_{size}" for size in sizes}
    final = results / f"train_set_size_{sizes[-1]}"
    assert {path.name for path in final.iterdir()} == {
        "confusion_matrix.npy",
        "confusion_matrix.png",
        "metrics.json",
        "misclassified.csv",
    }
    metrics = json.loads((final / "metrics.json").read_text(encoding="utf-8"))
    # A tie between two classes may fall to the other side: one photo of tolerance.
    accuracy = pytest.approx(metrics["accuracy"], abs=1.01 / metrics["n_images"])
    assert accuracy_of_export(person.folder, Path(person.arguments["validation_data"])) == accuracy
    assert accuracy_of_model(person.folder, Path(person.arguments["validation_data"])) == accuracy
    training = ModelDescription.read(person.folder / "export").training
    assert training["validation"] == metrics
    assert training["labels"] == sum(training["labels_per_class"].values()) == sizes[-1]


CLASSES = ("Red_Deer", "green frog", "Blue Jay")


def noise_photo(path: Path, hue: int, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 100, (24, 24, 3))
    pixels[..., hue] += 120
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny photos of three classes that differ in hue: 12 labelled, 24 unlabelled at two sites, 12 for validation."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for hue, name in enumerate(CLASSES):
        for index in range(4):
            noise_photo(root / "train" / name / f"t{index}.jpg", hue, rng)
            noise_photo(root / "validation" / name / f"v{index}.jpg", hue, rng)
        for index in range(8):
            noise_photo(root / "unlabelled" / f"site {index % 2}" / "card, 1" / f"{name}_{index}.jpg", hue, rng)
    return root


@pytest.fixture(scope="session")
def truth(photos: Path) -> dict[str, str]:
    """Class of each unlabelled photo, which its file name begins with."""
    paths = [path.relative_to(photos / "unlabelled").as_posix() for path in (photos / "unlabelled").rglob("*.jpg")]
    return {path: path.rpartition("/")[2].rpartition("_")[0] for path in paths}


def quick_arguments(photos: Path, folder: Path) -> dict[str, Any]:
    """Arguments of a run in `folder` that takes seconds."""
    return {
        "train_data": str(photos / "train"),
        "unlabelled_data": str(photos / "unlabelled"),
        "validation_data": str(photos / "validation"),
        "output_dir": str(folder / "Active Learning Files"),
        "active_batch": 5,
        "use_pretrained": False,
        "embedding_arch": "squeezenet1_1",
        "embedding_train_num_epochs": 1,
        "feat_dim": 8,
        "seed": 7,
        "classifier_params": {"max_iter": 200},
    }


@pytest.fixture
def arguments(photos: Path, tmp_path: Path) -> dict[str, Any]:
    """Arguments of a run that takes seconds."""
    return quick_arguments(photos, tmp_path)


class Oracle:
    """A label source that knows the truth and remembers what it was asked."""

    def __init__(self, truth: dict[str, str], stop_after: int | None = None) -> None:
        self.truth, self.stop_after = truth, stop_after
        self.asked: list[list[int]] = []

    def request_labels(self, query: Query, commit: Any) -> Answer:
        if len(self.asked) == self.stop_after:
            return Answer(stop=True)
        self.asked.append(query.rows.tolist())
        labels = {
            int(row): query.classes.index(self.truth[path]) for row, path in zip(query.rows, query.paths, strict=True)
        }
        answer = Answer(labels, source="oracle")
        commit(answer)
        return answer


@pytest.fixture
def person(arguments: dict[str, Any], truth: dict[str, str]) -> Iterator[Person]:
    """Somebody who labels the tiny photos; no process of theirs outlives the test."""
    somebody = Person(arguments, truth)
    yield somebody
    somebody.leave()


def test_a_person_labels_three_rounds_through_a_real_pipe(person: Person) -> None:
    label_three_rounds(person)
    check_finished_run(person, n_train=12)


@pytest.mark.data
def test_a_person_labels_three_rounds_of_camera_trap_photos(data: Path, tmp_path: Path) -> None:
    crops = data / "camera_trap_crops"
    with (crops / "truth.csv").open(newline="", encoding="utf-8") as file:
        truth = {f"{row['RelativePath']}/{row['File']}": row["Species"] for row in csv.DictReader(file)}
    arguments = {
        "train_data": str(crops / "train"),
        "unlabelled_data": str(crops / "unlabelled"),
        "validation_data": str(crops / "validation"),
        "output_dir": str(tmp_path / "run"),
        "active_batch": 20,
        "embedding_arch": "mobilenet_v2",
        "pretrained_weights": str(data / "weights" / "mobilenet_v2_imagenet.pth"),
        "embedding_train_num_epochs": 1,
        "seed": 1,
    }
    person = Person(arguments, truth)
    try:
        label_three_rounds(person)
        check_finished_run(person, n_train=115)
    finally:
        person.leave()


def test_ctrl_c_at_the_prompt_leaves_a_run_that_asks_the_same_again(person: Person) -> None:
    person.start()
    person.listen_for(PROMPT)
    asked = person.selected()
    person.send(signal.SIGINT)
    assert person.see_it_end() != 0
    assert "Interrupted. No label is lost" in person.last_words
    at_rest = sorted(path.name for path in (person.folder / "data").iterdir())
    assert at_rest == ["label_archive", "labels.csv", "run.sqlite"], "no journal is left"
    person.start()
    person.listen_for(PROMPT)
    assert person.selected() == asked
    person.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what another process has open")
def test_at_the_prompt_nothing_of_the_run_is_open_and_a_copy_of_the_database_has_every_label(
    person: Person, tmp_path: Path
) -> None:
    person.program = SMALL_PROGRAM
    person.start()
    given: dict[str, str] = {}
    for _ in range(2):
        person.listen_for(PROMPT)
        given |= {f"{folder}/{name}": person.species(name, folder) for name, folder in person.selected()}
        person.save_labels()
        person.type("")
    person.listen_for(PROMPT)
    assert person.process is not None
    process = Path("/proc", str(person.process.pid))
    opened = [link.readlink() for link in (process / "fd").iterdir()]
    mapped = (process / "maps").read_text()
    assert not [file for file in opened if file.is_relative_to(person.folder)]
    assert str(person.folder) not in mapped, "nor do decoded photos stay mapped into memory"
    in_data = {path.name for path in (person.folder / "data").iterdir()}
    assert in_data == {"label_archive", "labels.csv", "run.sqlite", "writer.json"}, "no -journal, no -wal"
    (tmp_path / "copy" / "data").mkdir(parents=True)
    shutil.copyfile(person.folder / "data" / "run.sqlite", tmp_path / "copy" / "data" / "run.sqlite")
    assert stored_labels(tmp_path / "copy") == {path.replace("\\", "/"): name for path, name in given.items()}
    with RunStore.open(RunConfig(output_dir=tmp_path / "copy")) as copy:
        query = copy.open_query()
    assert query is not None
    assert (query.round, len(given)) == (3, 10)
    asked = {f"{folder}/{name}".replace("\\", "/") for name, folder in person.selected()}
    assert set(query.paths) == asked
    person.type("q")
    assert person.see_it_end() == 0


def test_the_run_ends_when_everything_is_labelled(arguments: dict[str, Any], truth: dict[str, str]) -> None:
    result = run_active_learning(**arguments | {"active_batch": 10}, label_source=Oracle(truth))
    assert isinstance(result, RunResult)
    assert (result.labels_given, result.rounds) == (24, 3), "the last batch of 4 is smaller"
    assert result.ended_because == "everything is labelled"
    assert [point["train_set_size"] for point in result.validation_history] == [12, 22, 32, 36], "the last one too"
    assert result.export_dir == Path(arguments["output_dir"]) / "export"


def test_max_labels_trims_the_last_batch_and_counts_over_the_life_of_the_run(
    arguments: dict[str, Any], truth: dict[str, str]
) -> None:
    first = run_active_learning(**arguments, max_labels=7, label_source=Oracle(truth))
    assert (first.labels_given, first.rounds, first.ended_because) == (7, 2, "max_labels is reached")
    oracle = Oracle(truth)
    second = run_active_learning(**arguments, max_labels=9, label_source=oracle)
    assert (second.labels_given, second.rounds) == (9, 3)
    assert [len(rows) for rows in oracle.asked] == [2]
    third = run_active_learning(**arguments, max_labels=9, label_source=Oracle(truth, stop_after=0))
    assert third.ended_because == "max_labels is reached", "nothing is asked when the limit was met before"


def test_one_seed_gives_the_same_questions_and_figures_also_across_a_stop(
    arguments: dict[str, Any], truth: dict[str, str], tmp_path: Path
) -> None:
    whole, first, second = Oracle(truth), Oracle(truth, stop_after=1), Oracle(truth)
    straight = run_active_learning(**arguments, max_labels=15, label_source=whole)
    arguments["output_dir"] = str(tmp_path / "stopped")
    run_active_learning(**arguments, max_labels=15, label_source=first)
    arguments["seed"] = None  # the run remembers it
    resumed = run_active_learning(**arguments, max_labels=15, label_source=second)
    assert first.asked + second.asked == whole.asked
    assert resumed.validation_history == straight.validation_history


def test_an_open_question_is_trimmed_to_max_labels_on_resume(arguments: dict[str, Any], truth: dict[str, str]) -> None:
    run_active_learning(**arguments, label_source=Oracle(truth, stop_after=0))  # leaves a question of 5
    result = run_active_learning(**arguments, max_labels=2, label_source=Oracle(truth))
    assert (result.labels_given, result.ended_because) == (2, "max_labels is reached")


def test_a_label_source_that_stores_nothing_is_told_so(arguments: dict[str, Any], truth: dict[str, str]) -> None:
    class Forgetful(Oracle):
        def request_labels(self, query: Query, commit: Any) -> Answer:
            return super().request_labels(query, lambda answer: None)

        def __len__(self) -> int:  # what is empty must not be taken for "none given"
            return 0

    with pytest.raises(ConfigError, match="without calling commit"):
        run_active_learning(**arguments, label_source=Forgetful(truth))


def test_a_network_that_went_astray_is_not_kept(arguments: dict[str, Any]) -> None:
    arguments |= {"embedding_loss_type": "softmax", "embedding_train_num_epochs": 3, "max_labels": 0}
    with pytest.raises(DataError, match="smaller embedding_train_lr"):
        run_active_learning(**arguments | {"embedding_train_lr": 1e30})
    assert run_active_learning(**arguments).ended_because == "max_labels is reached"


def test_a_validation_folder_that_is_gone_does_not_stop_the_run(
    arguments: dict[str, Any], truth: dict[str, str], tmp_path: Path
) -> None:
    copied = shutil.copytree(arguments["validation_data"], tmp_path / "validation")
    run_active_learning(**arguments | {"validation_data": copied}, max_labels=5, label_source=Oracle(truth))
    shutil.rmtree(copied)
    result = run_active_learning(**arguments | {"validation_data": None}, max_labels=10, label_source=Oracle(truth))
    assert [point["train_set_size"] for point in result.validation_history] == [12, 17]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_runs(arguments: dict[str, Any], truth: dict[str, str], strategy: str) -> None:
    result = run_active_learning(
        **arguments, active_learning_strategy=strategy, max_labels=5, label_source=Oracle(truth)
    )
    assert result.labels_given == 5


def test_finetuning_happens_after_the_period(arguments: dict[str, Any], truth: dict[str, str]) -> None:
    arguments |= {"embedding_finetuning_period": 10, "embedding_finetuning_num_epochs": 1}
    weights = Path(arguments["output_dir"]) / "embedding" / "embedding_model_weights.pt"
    seen = []
    for max_labels in (0, 5, 10, 15, 20):
        run_active_learning(**arguments, max_labels=max_labels, label_source=Oracle(truth))
        state = torch.load(weights, weights_only=True)["embedding_model_state_dict"]
        seen.append(float(sum(tensor.double().sum() for tensor in state.values())))
    changed = [before != after for before, after in pairwise(seen)]
    assert changed == [False, True, False, True], "at 10 and 20 answers, not at 5 and 15"


def test_all_bad_settings_are_reported_at_once_before_any_work(arguments: dict[str, Any]) -> None:
    bad = {
        "active_batch": 0,
        "embedding_arch": "resnet",
        "device": "abacus",
        "feat_dim": "many",
        "train_data": "no such",
    }
    with pytest.raises(ConfigError) as error:
        run_active_learning(**arguments | bad)
    assert len(error.value.problems) == len(bad)
    assert all(any(problem.startswith(name) for problem in error.value.problems) for name in bad)
    assert not Path(arguments["output_dir"]).exists()


def test_another_folder_is_ignored_or_refused_on_resume_and_a_moved_one_is_not(
    arguments: dict[str, Any],
    truth: dict[str, str],
    photos: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_active_learning(**arguments, max_labels=5, label_source=Oracle(truth))
    moved = tmp_path / "moved" / "photos"
    moved.parent.mkdir()
    moved.symlink_to(photos / "unlabelled", target_is_directory=True)
    result = run_active_learning(
        **arguments | {"unlabelled_data": str(moved)}, max_labels=10, label_source=Oracle(truth)
    )
    assert result.labels_given == 10
    for index in range(4):
        noise_photo(tmp_path / "other" / "site" / f"other_{index}.jpg", 0, np.random.default_rng(index + 100))
    arguments |= {"unlabelled_data": str(tmp_path / "other"), "max_labels": 15}
    result = run_active_learning(**arguments, label_source=Oracle(truth))
    assert result.labels_given == 15, "as with the folder that the run has"
    ignored = [record for record in caplog.records if record.getMessage().startswith("unlabelled_data=")]
    assert [record.levelname for record in ignored] == ["WARNING"]
    assert f"still in {moved}" in ignored[0].getMessage()
    moved.unlink()
    with pytest.raises(CheckpointError, match="looks like another"):
        run_active_learning(**arguments, label_source=Oracle(truth))


def test_the_log_shows_with_the_documented_recipe_alone(arguments: dict[str, Any], tmp_path: Path) -> None:
    arguments["max_labels"] = 0
    program = (
        "import json, logging, sys\n"
        "logging.getLogger().setLevel(logging.INFO)\n"
        "from camera_trap_al.main_scripts import run_active_learning\n"
        "run_active_learning(**json.loads(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(arguments)], capture_output=True, text=True, check=True
    )
    for line in ("INFO Embedding network, train on 12 photos ...", "INFO Embedding 48 photos: done in"):
        assert line in done.stderr


# Large pools: only some of the unlabelled photos are candidates


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """Counts how often each photo is decoded."""
    counts: Counter[Path] = Counter()

    def counted(path: Path, squeeze: Any) -> Any:
        counts[path] += 1
        return read_photo(path, squeeze)

    monkeypatch.setattr(image_cache, "read_photo", counted)
    return counts


@pytest.mark.parametrize("enough_photos", [20_000, 10], ids=["all are measured", "a sample is measured"])
@pytest.mark.parametrize("candidate_pool", [None, 10], ids=["all are candidates", "ten are candidates"])
def test_each_photo_is_decoded_exactly_once_over_a_whole_run(
    arguments: dict[str, Any],
    truth: dict[str, str],
    photos: Path,
    decodings: Counter[Path],
    monkeypatch: pytest.MonkeyPatch,
    candidate_pool: int | None,
    enough_photos: int,
) -> None:
    """From the trial on the first screen over training, finetuning and three rounds to the prediction of the rest."""
    monkeypatch.setattr(pixel_statistics, "ENOUGH_PHOTOS", enough_photos)
    arguments |= {"candidate_pool": candidate_pool, "max_labels": 15, "embedding_finetuning_period": 10}
    arguments |= {"embedding_finetuning_num_epochs": 1, "balanced_loader_num_samples": 2}
    result = run_active_learning(**arguments, label_source=Oracle(truth))
    assert (result.labels_given, result.rounds) == (15, 3)
    assert decodings == dict.fromkeys(photos.rglob("*.jpg"), 1)
    assert len(decodings) == 48
    run_active_learning(**arguments, label_source=Oracle(truth))
    assert set(decodings.values()) == {1}, "nor is any decoded when the run is called again"


def predicted(folder: Path) -> dict[str, str]:
    """Species by path in predictions.csv."""
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["confidence"]) >= float(row["margin"]) >= 0 for row in rows)
    return {f"{row['RelativePath']}/{row['File']}".replace("\\", "/"): row["Species"] for row in rows}


def test_questions_are_about_candidates_and_the_end_about_all(arguments: dict[str, Any], truth: dict[str, str]) -> None:
    oracle = Oracle(truth)
    run_active_learning(**arguments, candidate_pool=8, max_labels=5, label_source=oracle)
    folder = Path(arguments["output_dir"])
    species = predicted(folder)
    unlabelled = set(truth) - set(stored_labels(folder))
    assert set(species) == unlabelled and len(unlabelled) == 19
    assert set(species.values()) <= set(CLASSES)
    hits = np.mean([species[path] == truth[path] for path in unlabelled])
    assert hits > 0.6, "three hues are easy to tell apart"
    (asked,) = oracle.asked
    lots = RunConfig(seed=7).generator("candidates", 0).random(48)
    pool = np.arange(12, 36)  # training photos are rows 0 to 11, validation photos come last
    assert set(asked) <= set(pool[np.argsort(lots[pool])[:8]].tolist())


@pytest.mark.parametrize(("predict_pool", "n_at_questions", "at_end"), [
    ("end", [8, 8], True), ("rounds", [24, 19], True), ("never", [None, None], False),
])  # fmt: skip
def test_candidates_or_all_are_predicted_before_questions_and_all_at_the_end(
    arguments: dict[str, Any], truth: dict[str, str], predict_pool: str, n_at_questions: list[int | None], at_end: bool
) -> None:
    file = Path(arguments["output_dir"]) / "predictions.csv"

    class Watching(Oracle):
        def request_labels(self, query: Query, commit: Any) -> Answer:
            n_predicted = n_at_questions[len(self.asked)]
            assert file.exists() == (n_predicted is not None)
            if n_predicted is not None:
                species = predicted(file.parent)
                assert len(species) == n_predicted and set(query.paths) <= set(species)
                recognitions = json.loads((file.parent / "recognitions.json").read_text("utf-8"))
                assert {image["file"] for image in recognitions["images"]} == set(species)
            return super().request_labels(query, commit)

    run_active_learning(
        **arguments, candidate_pool=8, predict_pool=predict_pool, max_labels=10, label_source=Watching(truth)
    )
    assert file.exists() == at_end
    if at_end:
        assert len(predicted(file.parent)) == 14


def test_predictions_are_not_made_again_while_nothing_changed(arguments: dict[str, Any], truth: dict[str, str]) -> None:
    arguments |= {"candidate_pool": 8, "max_labels": 5}
    run_active_learning(**arguments, label_source=Oracle(truth))
    file = Path(arguments["output_dir"]) / "predictions.csv"
    before = file.stat().st_ino  # a file written aside is another file
    run_active_learning(**arguments, label_source=Oracle(truth))
    assert file.stat().st_ino == before
    file.write_text("gone", "utf-8")
    run_active_learning(**arguments, label_source=Oracle(truth))
    assert len(predicted(file.parent)) == 19


def test_predictions_that_are_open_in_another_program_are_told_of(
    arguments: dict[str, Any],
    truth: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Windows refuses to replace a file that Excel holds open."""
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if Path(target).name == "predictions.csv":
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    arguments |= {"max_labels": 5}
    with pytest.raises(DataError, match="open in Excel"):
        run_active_learning(**arguments, label_source=Oracle(truth))
    assert "is open in another program" in caplog.text, "before the question it was no reason to stop"
    monkeypatch.undo()
    run_active_learning(**arguments, label_source=Oracle(truth))
    assert len(predicted(Path(arguments["output_dir"]))) == 19


KILLED = """
import json, os, signal, sys
from importlib import import_module
module, owner, name, count = sys.argv[2].split(":")
owner = getattr(import_module(module), owner)
original, calls = getattr(owner, name), []
def mortal(*args, **kwargs):
    calls.append(None)
    if len(calls) > int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(owner, name, mortal)
from camera_trap_al.photos import image_cache
from camera_trap_al.deep_learning import embedding_parts, pixel_statistics
image_cache.CHUNK, embedding_parts.PART_SIZE, pixel_statistics.ENOUGH_PHOTOS = 4, 4, 10
from camera_trap_al.labelling import KnownLabels
from camera_trap_al.main_scripts import run_active_learning
run_active_learning(**json.loads(sys.argv[1]), label_source=KnownLabels.from_csv(sys.argv[3]))
print("ENDED")
"""
CACHE, PARTS = (
    "camera_trap_al.photos.pixel_store:PixelStore",
    "camera_trap_al.deep_learning.embedding_parts:EmbeddingParts",
)
NETWORK = "camera_trap_al.deep_learning.training:Training"


def run_until(when: str, arguments: dict[str, Any], truth_file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED, json.dumps(arguments), when, str(truth_file)]
    return subprocess.run(command, capture_output=True, text=True)


def outcome(folder: Path) -> tuple[dict[str, str], dict[str, str], list[tuple[int, int]]]:
    """Labels, predictions and questions of a run."""
    with sqlite3.connect(folder / "data" / "run.sqlite") as db:
        asked = db.execute("SELECT round, photo_row FROM query_rows ORDER BY round, position").fetchall()
    db.close()
    return stored_labels(folder), predicted(folder), asked


@pytest.fixture(scope="session")
def truth_file(truth: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "truth.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("File", "RelativePath", "Species"))
        writer.writerows((name.rpartition("/")[2], name.rpartition("/")[0], species) for name, species in truth.items())
    return path


SMALL_STEPS = {"candidate_pool": 8, "max_labels": 5, "extract_embedding_batch_size": 4}
NEVER = f"{PARTS}:_write:1000"


@pytest.fixture(scope="session")
def undisturbed(photos: Path, truth_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The outcome of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert "ENDED" in run_until(NEVER, quick_arguments(photos, folder) | SMALL_STEPS, truth_file).stdout
    return outcome(folder / "Active Learning Files")


@pytest.mark.parametrize(
    "moments",
    [
        [f"{CACHE}:record:2", f"{CACHE}:write:3"],  # while photos are decoded
        [f"{NETWORK}:_step:0"],  # in the first training
        [f"{PARTS}:_write:2", f"{PARTS}:_write:1"],  # while candidates are embedded
        [f"{PARTS}:_write:9", f"{PARTS}:_write:1"],  # while the rest of the pool is
    ],
    ids=["decoding", "training", "embedding", "predicting"],
)
def test_a_run_killed_in_extraction_ends_as_one_that_was_not(
    arguments: dict[str, Any], truth_file: Path, undisturbed: Any, moments: list[str]
) -> None:
    arguments |= SMALL_STEPS
    for when in moments:
        assert run_until(when, arguments, truth_file).returncode == -signal.SIGKILL
    ended = run_until(NEVER, arguments, truth_file)
    assert "ENDED" in ended.stdout, ended.stderr
    assert outcome(Path(arguments["output_dir"])) == undisturbed


def bad_photos(folder: Path) -> dict[str, str]:
    """Every kind of photo that cannot be read, by name with a word of the reason."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    noise_photo(folder / "truncated.jpg", 0, rng)
    (folder / "truncated.jpg").write_bytes((folder / "truncated.jpg").read_bytes()[:400])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no photo", "utf-8")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    header = b"\x89PNG\r\n\x1a\n"
    size = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    (folder / "bomb.png").write_bytes(header + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0x35AF061E))
    return {
        "truncated.jpg": "truncated",
        "empty.jpg": "the file is empty",
        "text.jpg": "it is none of jpeg",
        "gone.jpg": "no such file",
        "bomb.png": "more than 178 million pixels",
    }


def odd_photos(folder: Path) -> int:
    """Every kind of photo that has to be converted."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(6).integers(0, 256, (24, 32, 3), np.uint8)
    photo = Image.fromarray(pixels)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("L").save(folder / "grey.jpg")
    photo.quantize(16).save(folder / "palette.png")
    photo.convert("RGBA").save(folder / "transparent.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "sixteen_bits.png")
    photo.save(folder / "moving.webp", save_all=True, append_images=[photo.rotate(90)])
    return 6


@pytest.mark.parametrize("image_cache_mode", ["auto", "off"])
def test_bad_photos_are_listed_odd_ones_converted_and_the_run_goes_on(
    arguments: dict[str, Any],
    truth: dict[str, str],
    photos: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    image_cache_mode: str,
) -> None:
    unlabelled = Path(shutil.copytree(photos / "unlabelled", tmp_path / "unlabelled"))
    reasons, n_odd = bad_photos(unlabelled / "bad"), odd_photos(unlabelled / "odd")
    arguments |= {"unlabelled_data": str(unlabelled), "image_cache": image_cache_mode, "max_labels": 5}
    run_active_learning(**arguments, label_source=Oracle(defaultdict(lambda: CLASSES[0], truth)))
    folder = Path(arguments["output_dir"])
    with (folder / "unreadable_images.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["path"].rpartition("/")[2]: row["reason"] for row in csv.DictReader(file)}
    assert listed.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in listed[name].casefold(), name
    warnings = [record for record in caplog.records if "cannot be read" in record.getMessage()]
    assert len(warnings) == 1 and "5 photos" in warnings[0].getMessage()
    seen = set(predicted(folder)) | set(stored_labels(folder))
    assert len(seen) == 24 + n_odd and not any(path.startswith("bad/") for path in seen)


class Doubter:
    """Answers the first question in two parts, skips one photo and calls another unusable."""

    def __init__(self, truth: dict[str, str]) -> None:
        self.truth = truth
        self.asked: list[tuple[str, ...]] = []

    def request_labels(self, query: Query, commit: Any) -> Answer:
        self.asked.append(query.paths)
        labels = {row: query.classes.index(self.truth[path]) for row, path in zip(query.rows, query.paths, strict=True)}
        rows = query.rows.tolist()
        if len(self.asked) == 1:
            answer = Answer({rows[0]: labels[rows[0]]}, skipped=(rows[1],), is_partial=True)
        elif len(self.asked) == 2:
            answer = Answer({row: labels[row] for row in rows[1:]}, unusable=(rows[0],))
        else:
            answer = Answer(labels)
        commit(answer)
        return answer


def test_the_rest_of_a_part_is_asked_again_skipped_photos_later_and_unusable_ones_never(
    arguments: dict[str, Any], truth: dict[str, str]
) -> None:
    doubter = Doubter(truth)
    result = run_active_learning(**arguments, label_source=doubter, embedding_loss_type="softmax")
    first, rest, *others = doubter.asked
    assert rest == first[2:], "neither the answered nor the skipped photo"
    skipped, unusable = first[1], rest[0]
    later = [number for number, asked in enumerate(others) if skipped in asked]
    assert later == [len(others) - 1], "when no others were left: there are fewer rounds than a skipped photo waits"
    assert not any(unusable in asked for asked in others)
    assert (result.labels_given, result.ended_because) == (23, "everything is labelled")
    folder = Path(arguments["output_dir"])
    with (folder / "unreadable_images.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["path", "reason"], [f"unlabelled_data/{unusable}", "marked as unusable"]]


@pytest.mark.parametrize("loss", ["triplet", "softmax"])
def test_a_new_class_grows_classifier_network_and_outputs(
    arguments: dict[str, Any], truth: dict[str, str], loss: str
) -> None:
    """Nobody told the run of "owl", and a third of the photos are said to show one."""
    arguments |= {"embedding_loss_type": loss, "new_classes": "add"}
    arguments |= {"embedding_finetuning_period": 5, "embedding_finetuning_num_epochs": 1, "finetuning_gate": False}

    def expert(query: Query) -> list[str]:
        return ["owl" if truth[path] == CLASSES[0] else truth[path] for path in query.paths]

    for max_labels in (10, 15):  # the second start goes on with the classes of the first
        run_active_learning(**arguments, label_source=expert, max_labels=max_labels)
    folder = Path(arguments["output_dir"])
    saved = torch.load(folder / "export" / "embedding_model_weights.pt", weights_only=True)
    assert saved["classes"] == [*sorted(CLASSES), "owl"] and saved["num_classes"] == 4
    if loss == "softmax":
        assert saved["embedding_model_state_dict"]["module.classifier.weight"].shape == (4, 8)
    session = onnxruntime.InferenceSession(folder / "export" / "classifier.onnx")
    _, probabilities = session.run(None, {"embeddings": np.zeros((1, 8), np.float32)})
    assert probabilities.shape == (1, 4)
    assert "owl" in set(stored_labels(folder).values())


def test_a_new_class_is_refused_by_default(arguments: dict[str, Any]) -> None:
    with pytest.raises(LabelFileError, match="cannot answer what is asked"):
        run_active_learning(**arguments, label_source=lambda query: ["owl"] * len(query))


@pytest.fixture
def initial_labels(truth: dict[str, str], tmp_path: Path) -> Path:
    """Labels of half of the unlabelled photos, in another spelling, as a spreadsheet keeps them."""
    path = tmp_path / "from last year.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(("Species", "RelativePath", "File"))
        for photo, species in sorted(truth.items())[::2]:
            folder, _, name = photo.rpartition("/")
            writer.writerow((species.upper() if photo.endswith("0.jpg") else species, folder.replace("/", "\\"), name))
    return path


def test_a_run_starts_from_labels_that_are_there_without_a_training_folder(
    arguments: dict[str, Any], truth: dict[str, str], initial_labels: Path
) -> None:
    arguments |= {"train_data": None, "initial_labels": str(initial_labels), "classes": list(CLASSES)}
    oracle = Oracle(truth)
    result = run_active_learning(**arguments, max_labels=5, label_source=oracle)
    assert result.labels_given == 5, "initial labels are no answers"
    assert [point["train_set_size"] for point in result.validation_history] == [12, 17]
    folder = Path(arguments["output_dir"])
    labels = stored_labels(folder)
    assert len(labels) == 17 and labels.items() <= truth.items()
    initial_labels.unlink()  # the run has them
    run_active_learning(**arguments, label_source=oracle)
    assert stored_labels(folder) == truth


def test_labels_of_one_run_begin_another(arguments: dict[str, Any], truth: dict[str, str], tmp_path: Path) -> None:
    run_active_learning(**arguments, max_labels=10, label_source=Oracle(truth))
    first = Path(arguments["output_dir"])
    arguments |= {"train_data": None, "output_dir": str(tmp_path / "second"), "validation_data": None}
    arguments["initial_labels"] = first / "data" / "labels.csv"
    run_active_learning(**arguments, max_labels=0, label_source=Oracle(truth))
    assert stored_labels(tmp_path / "second") == stored_labels(first)


def test_names_in_initial_labels_that_are_no_classes_are_told_before_any_work(
    arguments: dict[str, Any], initial_labels: Path
) -> None:
    arguments |= {"train_data": None, "initial_labels": str(initial_labels), "classes": ["Red_Deer", "Blue Jay"]}
    arguments["validation_data"] = None
    with pytest.raises(LabelFileError, match=r'"green frog" is not a class\.'):
        run_active_learning(**arguments)
    assert not (Path(arguments["output_dir"]) / "embedding" / "embedding_model_weights.pt").exists()


def test_a_program_leaves_with_its_own_status_while_labels_are_needed(
    arguments: dict[str, Any], truth: dict[str, str]
) -> None:
    """As a batch queue runs it: nobody at the keyboard, started again when somebody has labelled."""
    person = Person(arguments | {"label_source": "exit", "max_labels": 5}, truth)
    command = [sys.executable, "-c", PROGRAM, json.dumps(person.arguments)]
    for expected in (3, 3, 0):
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert ended.returncode == expected, ended.stderr
        if expected == 3:
            assert "Labels are needed" in ended.stdout and LOADED not in ended.stdout
            person.save_labels(missing=len(list((person.folder / "new_labels_bin").iterdir())) == 0)
    assert LOADED in ended.stdout and "max_labels is reached" in ended.stdout


def test_photos_that_are_always_skipped_are_asked_about_twice_and_end_the_run(
    arguments: dict[str, Any], truth: dict[str, str]
) -> None:
    asked: list[tuple[str, ...]] = []

    def expert(query: Query) -> list[str]:
        asked.append(query.paths)
        return ["skip" if path.endswith("0.jpg") else truth[path] for path in query.paths]

    result = run_active_learning(**arguments, label_source=expert)
    assert result.ended_because == "only skipped photos are left"
    assert result.labels_given == 24 - 3
    assert set(asked[-1]) == {path for path in truth if path.endswith("0.jpg")}


def test_skipped_photos_make_room_for_other_candidates(arguments: dict[str, Any], truth: dict[str, str]) -> None:
    asked: list[tuple[str, ...]] = []

    def expert(query: Query) -> list[str] | None:
        asked.append(query.paths)
        return None if len(asked) == 4 else ["skip"] * len(query)

    run_active_learning(**arguments, label_source=expert, candidate_pool=5)
    first_three = [path for paths in asked[:3] for path in paths]
    assert len(set(first_three)) == 15, "three times five others"


def test_a_wrong_alias_is_told_before_any_work(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'Reh' stands for 'Red_Dear', which is no class"):
        run_active_learning(**arguments, class_aliases={"Reh": "Red_Dear"})


def test_initial_labels_may_bring_classes_also_those_of_the_validation_folder(
    arguments: dict[str, Any], initial_labels: Path, photos: Path, tmp_path: Path
) -> None:
    """The training folder declares one class and has no photo; both others come with the labels, some respelled."""
    (tmp_path / "train" / "Red_Deer").mkdir(parents=True)
    arguments |= {"train_data": str(tmp_path / "train"), "initial_labels": str(initial_labels), "new_classes": "add"}
    result = run_active_learning(**arguments, max_labels=0)
    folder = Path(arguments["output_dir"])
    saved = torch.load(folder / "export" / "embedding_model_weights.pt", weights_only=True)
    assert sorted(saved["classes"]) == sorted(CLASSES)
    assert [point["train_set_size"] for point in result.validation_history] == [12]
    initial_labels.write_text("nonsense", "utf-8")  # it was read when the run began
    run_active_learning(**arguments, max_labels=0)
