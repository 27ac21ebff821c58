"""A run on drives that are full, read-only, out of reach or gone for a while, which are real ones wherever they can."""

import builtins
import csv
import ctypes
import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import camera_trap_al
from camera_trap_al import evaluation, exceptions, publishing, run_report
from camera_trap_al.deep_learning import embedding_parts, network_file, networks, pixel_statistics
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.exceptions import (
    CameraTrapALError,
    DataError,
    DiskFullError,
    RunFileError,
)
from camera_trap_al.main_scripts import run_active_learning
from camera_trap_al.photos import image_cache, images
from camera_trap_al.photos.pixel_store import PixelStore
from camera_trap_al.run_store import RunStore

pytestmark = pytest.mark.usefixtures("sixteen_pixels", "in_little_time")
LOADED = "Labels were loaded successfully"
GOES_ON = "start again with the same settings: it goes on where it was, and nothing is lost."
BIN = "new_labels_bin"
SUPPORT = Path(__file__).parents[1] / "support"


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


class Drive:
    """A small drive that can be filled, made read-only, taken away and connected again."""

    def __init__(self, scratch: Path, size: str = "64m") -> None:
        self.path, self._kept = scratch / "drive", scratch / "kept"
        for folder in (self.path, self._kept):
            folder.mkdir()
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", self._kept)
        self.connect()

    def connect(self) -> None:
        mount("--bind", self._kept, self.path)

    def drop(self) -> None:
        subprocess.run(["umount", "-l", self.path], check=True)

    def fill(self) -> None:
        with (self.path / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def make_room(self) -> None:
        (self.path / "ballast").unlink(missing_ok=True)
        mount("-o", "remount,size=64m", self._kept)

    def lock(self) -> None:
        mount("-o", "remount,bind,ro", self.path)

    def unlock(self) -> None:
        mount("-o", "remount,bind,rw", self.path)

    def end(self) -> None:
        for folder in (self.path, self._kept):
            if folder.is_mount():
                subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def new_drive(tmp_path: Path) -> Iterator[Callable[..., Drive]]:
    drives: list[Drive] = []

    def new(size: str = "64m") -> Drive:
        scratch = tmp_path / f"drive {len(drives)}"
        scratch.mkdir()
        drives.append(Drive(scratch, size))
        return drives[-1]

    try:
        yield new
    finally:
        for drive in drives:
            drive.end()


@pytest.fixture
def drive(new_drive: Callable[..., Drive]) -> Drive:
    return new_drive()


@pytest.fixture(scope="module")
def in_little_time() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several cost more than they bring
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_draw", lambda report, path: path.write_bytes(b"drawn"))
        patch.setattr(run_report, "render", lambda data: "the page")
        yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def photos(format_1: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    format_1["write_photos"](folder)
    return folder


@pytest.fixture(scope="module")
def settings(format_1: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Settings of two rounds of three photos."""

    def settings(photos: Path, run: Path, **others: Any) -> dict[str, Any]:
        quick = {"classifier_params": {"hidden_layer_sizes": (16,), "max_iter": 5}, "max_labels": 6}
        return format_1["arguments"](photos, run) | quick | others

    return settings


class Person:
    """Labels and presses Enter, but for what is done at some prompts instead.

    Parameters
    ----------
    run
        The run folder.
    truth_of
        Gives the class of a photo.
    instead
        What is done at the first prompts, and returns what is typed.
    """

    def __init__(self, run: Path, truth_of: Callable[[str], str], *instead: Callable[[], str]) -> None:
        self._run, self._truth_of, self._instead = run, truth_of, list(instead)
        self.asked: list[list[str]] = []

    def __call__(self, prompt: str = "") -> str:
        return self._instead.pop(0)() if self._instead else self.label()

    def label(self) -> str:
        with (self._run / "timelapse_selector.csv").open(newline="", encoding="utf-8") as file:
            asked = [row for row in csv.DictReader(file) if row["Selected"] == "true"]
        self.asked.append([f"{row['RelativePath']}/{row['File']}" for row in asked])
        with (self._run / BIN / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("File", "RelativePath", "Species"))
            writer.writerows((row["File"], row["RelativePath"], self._truth_of(row["File"])) for row in asked)
        return ""


@pytest.fixture
def person(format_1: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Person]:
    """Puts a person at the prompt of the run in a folder."""

    def person(run: Path, *instead: Callable[[], str]) -> Person:
        someone = Person(run, format_1["truth_of"], *instead)
        monkeypatch.setattr(builtins, "input", someone)
        return someone

    return person


def outcome(run: Path) -> dict[str, Any]:
    """What was asked, answered, measured and predicted."""
    statements = {
        "asked": "SELECT round, photo_row FROM query_rows ORDER BY round, position",
        "said": "SELECT round, photo_row, kind, new_class FROM label_events ORDER BY event",
        "photos": "SELECT * FROM photos ORDER BY photo_row",
        "evaluations": "SELECT * FROM evaluations ORDER BY train_set_size",
        "pixels": "SELECT value FROM settings WHERE name = 'frozen.pixel_statistics'",
    }
    with closing(sqlite3.connect(run / "data" / "run.sqlite")) as db:
        found = {name: db.execute(statement).fetchall() for name, statement in statements.items()}
    # A photo that is embedded in another batch has an embedding that differs in its last digits.
    found["evaluations"] = [
        (size, json.loads(figures, parse_float=lambda text: round(float(text), 6)))
        for size, figures in found["evaluations"]
    ]
    return found | {file: (run / file).read_text("utf-8") for file in ("data/labels.csv", "predictions.csv")}


def n_answered(run: Path) -> int:
    if not (run / "data" / "run.sqlite").exists():
        return 0
    with closing(sqlite3.connect(run / "data" / "run.sqlite")) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'queries'").fetchone():
            return 0
        return int(db.execute("SELECT COUNT(*) FROM queries WHERE answered_at IS NOT NULL").fetchone()[0])


Settings = Callable[..., dict[str, Any]]
Persons = Callable[..., Person]


@pytest.fixture(scope="module")
def undisturbed(
    photos: Path, settings: Settings, format_1: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "input", Person(run, format_1["truth_of"]))
        run_active_learning(**settings(photos, run))
    return outcome(run)


def happens_at(patch: pytest.MonkeyPatch, where: Any, name: str, event: Callable[[], object], *, call: int = 1) -> None:
    """Let something happen just before a function is called for the first time, or later."""
    real = getattr(where, name)
    n_calls = iter(range(1, 1_000_000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(n_calls) == call:
            event()
        return real(*args, **kwargs)

    patch.setattr(where, name, wrapped)


def leftovers(run: Path) -> list[Path]:
    return [*run.rglob("*.new.*"), *run.rglob("*.probe")]


# Disk full


@pytest.fixture
def stopped_by_a_full_disk(photos, settings, person, capsys) -> Callable[[Path], DiskFullError]:
    """Starts a run that a full disk stops, with nothing left over and nothing lost; gives what it says."""

    def start(run: Path) -> DiskFullError:
        person(run)
        with pytest.raises(DiskFullError, match="Make room there and start again") as caught:
            run_active_learning(**settings(photos, run))
        assert not leftovers(run)
        assert n_answered(run) == capsys.readouterr().out.count(LOADED), "what was reported as loaded is stored"
        return caught.value

    return start


@pytest.mark.mount
@pytest.mark.parametrize(
    ("where", "name", "at_fault"),
    [
        (RunStore, "open", "run"),
        (ActiveLearningEnvironment, "start", "run/data/run.sqlite"),
        (EmbeddingTrainer, "fit", "run/embedding/embedding_model_weights.pt"),
        (ActiveLearningEnvironment, "embed", "run/embedding/parts/part_000000.npz"),
        (publishing, "export_model", "run/export/dataset_mean.npy"),
        (RunStore, "commit", "run/data/run.sqlite"),
        (ActiveLearningEnvironment, "apply", "run/embedding/embedding_model_weights.pt"),
        (publishing, "_publish_candidates", "run/predictions.csv"),
    ],
    ids=["open", "start", "train", "embed", "export", "commit", "finetune", "predict"],
)
def test_a_disk_that_fills_up_stops_the_run_and_it_goes_on_when_there_is_room(
    drive, photos, settings, person, undisturbed, monkeypatch, stopped_by_a_full_disk, where, name, at_fault
):
    run = drive.path / "run"
    with monkeypatch.context() as patch:
        happens_at(patch, where, name, drive.fill)
        full = stopped_by_a_full_disk(run)
    message = f"{drive.path / at_fault}: cannot be written, since no room is left on the disk. Make room there and "
    assert str(full) == message + GOES_ON
    drive.make_room()
    person(run)
    run_active_learning(**settings(photos, run))
    assert outcome(run) == undisturbed


@pytest.mark.mount
@pytest.mark.parametrize("size", ["24k", "100k", "200k"])
def test_a_disk_that_is_too_small_stops_the_run_and_it_goes_on_when_there_is_room(
    new_drive, photos, settings, person, undisturbed, stopped_by_a_full_disk, size
):
    drive = new_drive(size)
    run = drive.path / "run"
    assert stopped_by_a_full_disk(run).path.is_relative_to(run)
    drive.make_room()
    person(run)
    run_active_learning(**settings(photos, run))
    assert outcome(run) == undisturbed


@pytest.mark.mount
def test_a_disk_that_fills_up_while_photos_are_decoded_is_told_and_photos_are_decoded_again(
    drive, photos, settings, person, undisturbed, monkeypatch, caplog
):
    run = drive.path / "run"
    person(run)
    happens_at(monkeypatch, PixelStore, "write", drive.fill, call=5)
    happens_at(monkeypatch, PixelStore, "close", drive.make_room)
    run_active_learning(**settings(photos, run))
    assert "Decoded photos cannot be kept any more (No space left on device)" in caplog.text
    assert outcome(run) == undisturbed


@pytest.mark.mount
def test_the_command_tells_a_full_disk_in_one_message(new_drive, photos):
    run = new_drive("8k").path / "run"
    folders = ["--train-data", photos / "train", "--unlabelled-data", photos / "unlabelled", "--output-dir", run]
    program = "import sys; from camera_trap_al.cli import main; sys.exit(main())"
    ended = python(program, "run", *folders, "--no-use-pretrained", "--device", "cpu")
    assert ended.returncode == 1
    (line,) = (line for line in ended.stderr.splitlines() if "camera-trap-al" in line)
    assert line.startswith(f"camera-trap-al: {run}") and "no room is left on the disk" in line
    assert "Traceback" not in ended.stderr


def python(program: str, *words: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(Path(camera_trap_al.__file__).parents[1])} | options.pop("also", {})
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", **options
    )


# Read-only


@pytest.mark.mount
def test_a_read_only_drive_is_told_before_anything_begins(drive, photos, settings, person, undisturbed):
    run = drive.path / "run"
    person(run)
    drive.lock()
    with pytest.raises(RunFileError) as caught:
        run_active_learning(**settings(photos, run))
    assert str(caught.value) == (
        f"{run}: cannot be used, since its drive can only be read (Read-only file system). See to it that the drive "
        f"can be written to, such as by the lock of a memory card or by connecting it again, and {GOES_ON}"
    )
    drive.unlock()
    run_active_learning(**settings(photos, run))
    assert outcome(run) == undisturbed
    drive.lock()
    with pytest.raises(RunFileError, match=rf"^{run}: .* can only be read"):
        run_active_learning(**settings(photos, run))


@pytest.mark.mount
def test_a_drive_that_becomes_read_only_at_the_prompt_is_told_and_the_question_stays(
    drive, photos, settings, person, undisturbed, capsys
):
    run = drive.path / "run"

    def label_and_lock() -> str:
        first.label()
        drive.lock()
        return ""

    first = person(run, label_and_lock)
    with pytest.raises(RunFileError, match=r"run\.sqlite: .* its drive can only be read"):
        run_active_learning(**settings(photos, run))
    assert LOADED not in capsys.readouterr().out
    drive.unlock()
    second = person(run)
    run_active_learning(**settings(photos, run))
    assert second.asked[0] == first.asked[0]
    assert outcome(run) == undisturbed


# No permission

WITH_LITTLE_PERMISSION = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import sixteen_pixels
from camera_trap_al.main_scripts import run_active_learning
sixteen_pixels.put_in_place()
for arguments in json.loads(sys.argv[2]):
    try:
        run_active_learning(**arguments, label_source="exit")
    except (Exception, SystemExit) as error:
        print("TOLD", type(error).__name__, error, flush=True)
"""
OVERRIDE, READ_SEARCH = 1, 2  # what lets root read and write everything, among Linux's capabilities
DROP_CAPABILITY = 24  # of the system call prctl


def as_ordinary_user() -> None:
    if os.geteuid() == 0:
        for capability in (OVERRIDE, READ_SEARCH):
            ctypes.CDLL(None).prctl(DROP_CAPABILITY, capability, 0, 0, 0)


@pytest.mark.mount
def test_what_may_not_be_written_or_read_is_told(photos, settings, tmp_path):
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    hidden = tmp_path / "hidden"
    shutil.copytree(photos, hidden)
    one = own / "unlabelled" / "site 0" / "fox_0.ppm"
    (tmp_path / "not mine").mkdir()
    (tmp_path / "begun" / "data").mkdir(parents=True)
    forbidden = [tmp_path / "not mine", tmp_path / "begun" / "data", hidden / "unlabelled", one]
    for path, mode in zip(forbidden, (0o555, 0o555, 0, 0), strict=True):
        path.chmod(mode)
    calls = [
        settings(photos, tmp_path / "not mine" / "run"),
        settings(photos, tmp_path / "begun"),
        settings(hidden, tmp_path / "run of hidden"),
        settings(own, tmp_path / "run"),
    ]
    ended = python(WITH_LITTLE_PERMISSION, SUPPORT, json.dumps(calls), preexec_fn=as_ordinary_user)
    for path in forbidden:
        path.chmod(0o755)
    told = [line.removeprefix("TOLD ") for line in ended.stdout.splitlines() if line.startswith("TOLD ")]
    assert len(told) == len(calls), ended.stderr
    run = tmp_path / "not mine" / "run"
    assert told[0] == (
        f"CheckpointError {run}: the run folder cannot be made (Permission denied: {run}). Choose an output_dir that "
        "you may write to."
    )
    assert told[1].startswith(f"CheckpointError {tmp_path / 'begun'}: the run folder cannot be made (Permission denied")
    assert told[2] == (
        f"DataError {hidden / 'unlabelled'}: the folder cannot be read (Permission denied). Look whether its drive is "
        "connected, and whether you may read it, and start again with the same settings."
    )
    assert told[3].startswith("LabelsNeeded")
    with (tmp_path / "run" / "unreadable_images.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file))[1:] == [
            [f"unlabelled_data/{one.relative_to(own / 'unlabelled')}", "cannot be read as a photo: Permission denied."]
        ]


# Long paths


@pytest.mark.parametrize(
    ("below", "told"),
    [
        ("x" * 256, r'the name "x{256}" is longer than the 255 bytes that a drive takes\. Move the run folder'),
        ("é" * 130, r'the name "é{130}" is longer than the 255 bytes'),
        (
            "/".join(["y" * 200] * 19 + ["z" * 120]),
            r"its path is 4\d\d\d characters long, more than this computer takes",
        ),
        ("/".join(["y" * 200] * 22), r"its path is 4\d\d\d characters long, more than this computer takes"),
    ],
    ids=["a long name", "a name of many bytes", "too long for a file", "too long for a folder"],
)
@pytest.mark.mount
def test_a_run_folder_with_too_long_a_path_is_told_before_anything_begins(drive, photos, settings, below, told):
    with pytest.raises(RunFileError, match=told) as caught:
        run_active_learning(**settings(photos, drive.path / below))
    assert caught.value.is_too_long
    assert 'such as "C:\\run", and give that as output_dir' in str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL])
def test_a_long_path_that_windows_does_not_find_is_told_as_too_long(monkeypatch, number):
    long = Path("/", "x" * 200, "y" * 100)
    monkeypatch.setattr(exceptions, "os", SimpleNamespace(name="nt", fsencode=os.fsencode))
    error = RunFileError(long, OSError(number, "The system cannot find the path specified"))
    assert "its path is 302 characters long, more than this computer takes. Move the run folder" in str(error)
    assert "is not allowed" in str(RunFileError(long, PermissionError(errno.EACCES, "Access is denied")))
    assert "too long" not in str(RunFileError(Path("/x"), OSError(number, "The system cannot find the path specified")))


def test_a_photo_with_too_long_a_path_for_windows_says_so(monkeypatch, tmp_path):
    long = tmp_path.joinpath("x" * 200, "y" * 100, "1.jpg")
    monkeypatch.setattr(exceptions, "os", SimpleNamespace(name="nt"))
    with pytest.raises(DataError) as caught:
        images.read_photo(long)
    assert str(caught.value) == (
        f"{long}: cannot be read as a photo: its path has {len(str(long))} characters, and Windows opens up to 259 "
        "unless long paths are switched on."
    )


# A name that is not ASCII

WITH_TINY_NETWORK = """
import sys
sys.path.insert(0, sys.argv[1])
import sixteen_pixels
from camera_trap_al.cli import main
sixteen_pixels.put_in_place()
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("also", [{}, {"PYTHONUTF8": "0", "LC_ALL": "C"}], ids=["as it is", "in the locale C"])
def test_a_run_below_folders_in_any_script_ends_as_any_other(format_1, settings, tmp_path, also):
    home = tmp_path / "Jürgen Müller" / "Документы" / "写真 ❄"
    home.mkdir(parents=True)
    format_1["write_photos"](home)
    (home / "validation").rename(home / "проверка")
    weights = home / "Gewichte é.pth"
    torch.save(networks._torchvision_model("resnet18", init_weights=True).state_dict(), weights)  # the tiny one
    truth = home / "метки.csv"
    with truth.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("File", "RelativePath", "Species"))
        for photo in sorted((home / "unlabelled").rglob("*.ppm")):
            writer.writerow((photo.name, photo.parent.name, format_1["truth_of"](photo.name)))
    run = home / "прогон"
    words: list[str | Path] = ["--train-data", home / "train", "--unlabelled-data", home / "unlabelled"]
    words += ["--validation-data", home / "проверка", "--output-dir", run, "--pretrained-weights", weights]
    words += ["--label-source", truth, "--active-batch", "3", "--max-labels", "3", "--feat-dim", "8", "--seed", "1"]
    words += ["--embedding-train-num-epochs", "1", "--device", "cpu", "--classifier-params", '{"max_iter": 5}']
    ended = python(WITH_TINY_NETWORK, SUPPORT, "run", *words, also=also)
    assert ended.returncode == 0, ended.stderr
    assert n_answered(run) == 1
    assert (run / "export" / "classifier.onnx").exists()
    assert len((run / "predictions.csv").read_text("utf-8").splitlines()) == 1 + 9
    assert (run / "unreadable_images.csv").read_text("utf-8").splitlines() == ["path,reason"]


# A drive that is gone for a while


@pytest.fixture
def photo_drive(drive: Drive, photos: Path) -> Drive:
    shutil.copytree(photos, drive.path, dirs_exist_ok=True)
    return drive


AWAY = [
    ("auto", image_cache, "read_photo", 5),
    ("off", pixel_statistics, "measure_pixels", 1),
    ("off", EmbeddingTrainer, "fit", 1),
    ("off", ActiveLearningEnvironment, "fit_network", 2),
    ("off", ActiveLearningEnvironment, "embed", 1),
    ("off", ActiveLearningEnvironment, "predict_pool", 1),
]
AWAY_IDS = ["decode", "measure", "train", "finetune", "embed", "predict"]
FEW = {"candidate_pool": 3}  # so that others are read only when all are predicted


@pytest.fixture(scope="module")
def undisturbed_with_few(
    photos: Path, settings: Settings, format_1: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "input", Person(run, format_1["truth_of"]))
        run_active_learning(**settings(photos, run, **FEW))
    return outcome(run)


@pytest.mark.mount
@pytest.mark.parametrize(("cache", "where", "name", "call"), AWAY, ids=AWAY_IDS)
def test_a_photo_drive_that_is_gone_is_told_and_the_run_goes_on_when_it_is_back(
    photo_drive, settings, person, undisturbed_with_few, monkeypatch, tmp_path, cache, where, name, call
):
    run = tmp_path / "run"
    chosen = settings(photo_drive.path, run, image_cache=cache, **FEW)
    person(run)
    with monkeypatch.context() as patch:
        happens_at(patch, where, name, photo_drive.drop, call=call)
        with pytest.raises(
            DataError, match=r"the folder cannot be reached any more\. Connect its drive or network and"
        ):
            run_active_learning(**chosen)
    photo_drive.connect()
    run_active_learning(**chosen)
    assert outcome(run) == undisturbed_with_few


@pytest.mark.mount
@pytest.mark.parametrize(("cache", "where", "name", "call"), AWAY, ids=AWAY_IDS)
def test_photos_of_a_drive_that_is_back_at_once_are_read_again(
    photo_drive, settings, person, undisturbed_with_few, monkeypatch, tmp_path, caplog, cache, where, name, call
):
    run = tmp_path / "run"
    chosen = settings(photo_drive.path, run, image_cache=cache, **FEW)
    person(run)
    with monkeypatch.context() as patch:

        def drop() -> None:
            photo_drive.drop()
            happens_at(patch, image_cache, "read_photo", photo_drive.connect, call=5)

        happens_at(patch, where, name, drop, call=call)
        if name in ("fit", "fit_network"):  # cannot be taken back
            with pytest.raises(
                DataError, match=r"Training the network: photos that could not be read .*: \d\. It is ba"
            ):
                run_active_learning(**chosen)
        else:
            run_active_learning(**chosen)
    assert "Photos that could not be read for a while and can be now: " in caplog.text
    assert "set aside" not in caplog.text
    run_active_learning(**chosen)
    assert outcome(run) == undisturbed_with_few


@pytest.mark.mount
def test_the_empty_folder_that_stands_for_a_drive_is_not_a_folder_of_vanished_photos(
    drive, photos, settings, person, undisturbed, monkeypatch, tmp_path
):
    shutil.copytree(photos / "unlabelled", drive.path, dirs_exist_ok=True)
    run = tmp_path / "run"
    chosen = settings(photos, run, unlabelled_data=str(drive.path))
    person(run)
    with monkeypatch.context() as patch:
        happens_at(patch, image_cache, "read_photo", drive.drop, call=12)
        with pytest.raises(DataError, match="cannot be reached any more"):
            run_active_learning(**chosen)
    with pytest.raises(CameraTrapALError, match=str(drive.path)):
        run_active_learning(**chosen)
    drive.connect()
    run_active_learning(**chosen)
    assert outcome(run) == undisturbed


@pytest.mark.mount
def test_a_run_whose_own_drive_is_gone_at_the_prompt_waits_for_it(drive, photos, settings, person, undisturbed, capsys):
    run = drive.path / "run"

    def drop() -> str:
        drive.drop()
        return ""

    def connect_and_label() -> str:
        told = capsys.readouterr().out
        assert f"The labels bin cannot be read: No such file or directory ({run / BIN})" in told
        assert "Look whether the folder can be reached, then try again." in told
        assert not list(drive.path.iterdir()), "nothing is put where the drive is missing"
        drive.connect()
        return someone.label()

    someone = person(run, drop, connect_and_label)
    run_active_learning(**settings(photos, run))
    assert outcome(run) == undisturbed


@pytest.mark.mount
def test_a_run_whose_own_drive_is_gone_stops_and_asks_the_same_when_it_is_back(
    drive, photos, settings, person, undisturbed, monkeypatch, capsys
):
    run = drive.path / "run"
    first = person(run)
    with monkeypatch.context() as patch:
        happens_at(patch, RunStore, "commit", drive.drop)
        with pytest.raises(RunFileError) as caught:
            run_active_learning(**settings(photos, run))
    assert str(caught.value) == (
        f"{run / 'data' / 'run.sqlite'}: cannot be used, since its drive does not answer as it should (No such file or "
        f"directory). Look whether the drive is connected, and the folder still there under this name, and {GOES_ON}"
    )
    assert LOADED not in capsys.readouterr().out
    assert not list(drive.path.iterdir()), "nothing is put where the drive is missing"
    drive.connect()
    second = person(run)
    run_active_learning(**settings(photos, run))
    assert second.asked[0] == first.asked[0]
    assert outcome(run) == undisturbed


@pytest.mark.parametrize(
    ("where", "name", "file"),
    [
        (network_file.torch, "load", "embedding/embedding_model_weights.pt"),
        (embedding_parts.np, "load", "embedding/photos.npz"),
    ],
)
def test_a_file_that_cannot_be_read_for_a_while_is_told_and_kept(
    photos, settings, person, undisturbed, monkeypatch, tmp_path, where, name, file
):
    run = tmp_path / "run"
    person(run, lambda: "q")
    run_active_learning(**settings(photos, run))
    before = {path: path.read_bytes() for path in (run / "embedding").rglob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fails)
        with pytest.raises(RunFileError, match=r"does not answer as it should \(Input/output error\)\. Look") as caught:
            run_active_learning(**settings(photos, run))
    assert caught.value.path == run / file
    assert {path: path.read_bytes() for path in (run / "embedding").rglob("*.*")} == before
    person(run)
    run_active_learning(**settings(photos, run))
    assert outcome(run) == undisturbed


def fails(*_: Any, **__: Any) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_embeddings_that_cannot_be_read_for_a_while_are_not_removed(tmp_path, monkeypatch):
    part = tmp_path / "part_000000.npz"
    part.write_bytes(b"hours of work")
    monkeypatch.setattr(embedding_parts.np, "load", fails)
    with pytest.raises(RunFileError, match=r"part_000000\.npz: .*Input/output error"):
        embedding_parts.EmbeddingParts(tmp_path, "a network", 3)
    assert part.exists()
