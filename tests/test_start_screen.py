import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camera_trap_al import start_screen as module
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning import pixel_statistics
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.photos import image_cache
from camera_trap_al.photos.images import read_photo
from camera_trap_al.query import Answer
from camera_trap_al.run_store import RunStore
from camera_trap_al.start_screen import start_screen, synchronised_by


@pytest.fixture
def started(photo_folders, tmp_path):
    """Function that starts or resumes the run of this test and gives it with its run folder."""

    def make(**changes):
        settings = {
            "train_data": photo_folders.train,
            "unlabelled_data": photo_folders.unlabelled,
            "validation_data": photo_folders.validation,
            "output_dir": tmp_path / "run",
            "embedding_arch": "shufflenet_v2_x0_5",
            "feat_dim": 8,
            "use_pretrained": False,
            "embedding_train_num_epochs": 1,
            "seed": 1,
            "device": "cpu",
        }
        store = RunStore.open(RunConfig(**(settings | changes)))
        return ActiveLearningEnvironment.start(store), store

    return make


def screen(started_run):
    environment, store = started_run
    return start_screen(environment, store.folder)


def line_of(text, title):
    (line,) = [line for line in text.splitlines() if line.strip().startswith(title)]
    return line


def test_photos_and_classes_are_counted(started, photo_folders):
    text = screen(started())
    assert f"3 photos in {photo_folders.train}" in line_of(text, "Training")
    assert f"5 photos in {photo_folders.unlabelled}" in line_of(text, "Unlabelled")
    assert f"2 photos in {photo_folders.validation}" in line_of(text, "Validation")
    assert line_of(text, "Classes").split("  ")[-1].strip() == "3: boar 1, deer 2, fox 0"
    assert "passed over" not in text and "WARNING" not in text


def test_files_passed_over_are_counted_by_suffix(started, photo_folders, make_photo):
    for name in ("north/a.txt", "north/b.TXT", "south/a/movie.mp4", "south/no_suffix"):
        (photo_folders.unlabelled / name).write_text("not a photo")
    make_photo(photo_folders.unlabelled / "top.jpg", seed=99)
    line = line_of(screen(started()), "Unlabelled")
    assert line.startswith("  Unlabelled   5 photos")
    for part in ("2 .txt", "1 .mp4", "1 without suffix", "1 photos directly in the folder"):
        assert part in line


def test_device_disk_time_and_run_folder_are_told(started, tmp_path):
    text = screen(started())
    free = shutil.disk_usage(tmp_path).free / 1e9
    assert line_of(text, "Run folder").endswith(str(tmp_path / "run"))
    assert "CPU" in line_of(text, "Device")
    told = re.search(r"\d+ MB needed, ([\d.]+) GB free", line_of(text, "Disk"))
    assert float(told[1]) == pytest.approx(free, abs=1)
    assert re.search(r"first question in about (a second|\d+ (seconds|minutes))", line_of(text, "Time"))


def test_disk_needed_is_that_of_photos_embeddings_and_networks(started):
    environment, _ = started()
    weights = sum(tensor.nbytes for tensor in environment.embedder.net.state_dict().values())
    # Each embedding is put down when it comes, and again in the table. The weights are in embedding/, in two files of
    # export/, and in the one that is being written.
    assert module._bytes_needed(environment) == 10 * (256 * 256 * 3 + 2 * 8 * 4) + 4 * weights


@pytest.mark.parametrize(("predict_pool", "n_others"), [("end", 2), ("never", 0)])
def test_of_a_large_pool_only_the_embeddings_of_the_others_are_kept(started, monkeypatch, predict_pool, n_others):
    monkeypatch.setattr(pixel_statistics, "ENOUGH_PHOTOS", 5)
    settings = {"candidate_pool": 3, "active_batch": 3, "predict_pool": predict_pool}
    environment, store = started(**settings)
    weights = sum(tensor.nbytes for tensor in environment.embedder.net.state_dict().values())
    in_use = 3 + 3 + 2
    expected = in_use * (256 * 256 * 3 + 2 * 8 * 4) + n_others * 8 * 4 + 4 * weights
    assert module._bytes_needed(environment) == expected
    text = screen((environment, store))
    assert "3 of the unlabelled photos, drawn by lot" in line_of(text, "Candidates")
    assert ("for all others in the end" in line_of(text, "Time")) == (predict_pool == "end")


def test_too_little_room_on_the_disk_is_a_warning(started, monkeypatch):
    run = started()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    assert "too little room" in line_of(screen(run), "WARNING")


def test_time_to_the_first_question_is_that_of_training_and_embedding(started, monkeypatch):
    """10 photos to embed, and 3 to train on for 4 epochs, each taking three times as long as embedding: 46 x 2 s."""
    monkeypatch.setattr(EmbeddingTrainer, "seconds_per_photo", lambda self, images: 2.0)
    text = screen(started(embedding_train_num_epochs=4))
    assert "in about 2 minutes, by a trial with 10 photos" in line_of(text, "Time")


def test_what_is_done_already_takes_no_time_on_resume(started):
    environment, store = started()
    environment.read_photos(store)
    for update in environment.stale_models():
        update()
        environment.save(store)
    assert "little to do" in line_of(screen(started()), "Time")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0, "a second"), (1.6, "2 seconds"), (89, "89 seconds"), (600, "10 minutes"), (9000, "2.5 hours")],
)
def test_durations_are_told_roughly(seconds, told):
    assert module._duration(seconds) == told


def test_at_most_32_photos_are_decoded_for_it(started, photo_folders, make_photo, monkeypatch):
    for number in range(60):
        make_photo(photo_folders.unlabelled / "north" / f"more_{number}.jpg", seed=100 + number)
    decoded = []
    monkeypatch.setattr(image_cache, "read_photo", lambda path, way: decoded.append(path) or read_photo(path, way))
    run = started()
    screen(run)
    assert len(decoded) == 32
    assert len({path.parent.parent for path in decoded}) > 1  # from the whole range, not the first ones
    environment, store = run
    environment.read_photos(store)
    assert len(decoded) == len(set(decoded)) == 70, "the trial's photos are kept"


def test_photos_that_cannot_be_read_do_not_stop_it(started, photo_folders):
    for photo in photo_folders.train.parent.rglob("*.jpg"):
        photo.write_bytes(f"no picture {photo.name}".encode())
    assert "first question soon" in screen(started())


def test_some_unreadable_photos_do_not_stop_it(started, photo_folders):
    (photo_folders.unlabelled / "north" / "4.jpg").write_bytes(b"")
    assert "first question in about" in screen(started())


def test_run_with_all_photos_set_aside_does_not_stop_it(started):
    environment, store = started()
    environment.pools.is_set_aside[:] = True
    assert "first question soon" in screen((environment, store))


def test_resumed_run_tells_what_is_done(started):
    environment, store = started()
    query = store.ask(environment.pools.unlabelled[:2])
    store.commit(query, Answer({int(row): 0 for row in query.rows}))
    text = screen(started())
    assert "2 answers so far, 3 photos to go" in line_of(text, "Labels")
    assert "boar 3, deer 2, fox 0" in line_of(text, "Classes")


def test_many_classes_are_not_all_listed(started, photo_folders):
    for number in range(40):
        (photo_folders.train / f"species{number:02d}").mkdir()
    line = line_of(screen(started()), "Classes")
    assert " 43: " in line and line.endswith("and 13 more")
    assert line.count(",") == 29


def test_run_folder_in_a_synchronised_folder_is_warned_of(started, tmp_path):
    text = screen(started(output_dir=tmp_path / "OneDrive - Forest Institute" / "run"))
    (warning,) = [line for line in text.splitlines() if "WARNING" in line]
    assert "OneDrive" in warning and "output_dir" in warning


@pytest.mark.parametrize("name", ["train", "unlabelled", "validation"])
def test_run_folder_inside_the_photos_is_warned_of(started, photo_folders, name):
    root = getattr(photo_folders, name)
    text = screen(started(output_dir=root / "run"))
    (warning,) = [line for line in text.splitlines() if "WARNING" in line]
    assert f"{name}_data" in warning and str(root) in warning


@pytest.mark.parametrize(
    ("folder", "program"),
    [
        ("/home/ann/Dropbox/run", "Dropbox"),
        ("/home/ann/dropbox (Lab)/run", "Dropbox"),
        ("/Users/ann/Library/CloudStorage/GoogleDrive-ann@lab.org/My Drive/run", "Google Drive"),
        ("/Users/ann/Library/Mobile Documents/com~apple~CloudDocs/run", "iCloud"),
        ("/Users/ann/Library/CloudStorage/Box-Box/run", "Box"),
        ("/home/ann/photos/run", None),
        ("/home/ann/boxes/run", None),
    ],
)
def test_synchronised_folders_are_told_by_their_names(folder, program):
    assert synchronised_by(Path(folder)) == program


def test_users_own_network_and_no_run_are_described_as_well(photo_folders, tmp_path):
    class Own:
        pixel_mean = pixel_std = None
        is_always_exact = True

    dataset = ExtendedImageFolder.from_folders(photo_folders.train)
    text = start_screen(ActiveLearningEnvironment(dataset, RunConfig(seed=1), Own()), tmp_path)
    assert "that of your model" in line_of(text, "Device")
    assert "boar 1, deer 2, fox 0" in text


def test_grey_and_tiny_photos_are_fine_for_the_trial(started, photo_folders):
    Image.new("L", (1, 1)).save(photo_folders.unlabelled / "north" / "tiny.png")
    assert "first question in about" in screen(started())


def test_skipped_photos_do_not_make_it_a_drawn_pool(started):
    environment, store = started()
    row = int(environment.pools.unlabelled[0])
    store.commit(store.ask(np.array([row])), Answer(skipped=(row,)))
    environment, store = started()
    assert row not in environment.candidates
    assert "Candidates" not in screen((environment, store))


def test_photos_with_initial_labels_are_counted(started, photo_folders, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("File,RelativePath,Species\n4.jpg,north,deer\n5.jpg,north,fox\n", "utf-8")
    text = screen(started(initial_labels=labels))
    assert "2 of the unlabelled photos have a label from initial_labels" in line_of(text, "Known")


def test_a_single_class_is_a_risk(started, photo_folders):
    assert "one class only" not in screen(started())
    for folder in (photo_folders.train / "fox", photo_folders.train / "boar"):
        shutil.rmtree(folder)
    assert "WARNING: there is one class only" in screen(started(validation_data=None, use_checkpoints=False))
