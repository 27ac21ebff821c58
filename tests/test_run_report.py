"""Real runs of a tiny network that write report.html."""

import base64
import re
import shutil
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camera_trap_al import run_active_learning, run_report
from camera_trap_al.run_report import REPORT_FILE, gather

pytestmark = pytest.mark.usefixtures("sixteen_pixels")

HUES = {"boar": (200, 60, 40), "deer & <doe>": (40, 180, 60), "$fox$": (50, 60, 200)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noisy photos of three colours: 4 of each to learn from, 10 unlabelled, 4 for validation."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, hue in HUES.items():
        for index in range(18):
            part = "train" if index < 4 else "validation" if index < 8 else "unlabelled"
            folder = root / part / (f"site {index % 2}" if part == "unlabelled" else name)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(rng.normal(hue, 60, (24, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{list(HUES).index(name)}_{index}.jpg", quality=95)
    return root


@pytest.fixture
def run(photos, tmp_path):
    """Runs with validation photos unless told otherwise; gives the run folder."""

    def start(**changes):
        arguments = {
            "train_data": photos / "train",
            "unlabelled_data": photos / "unlabelled",
            "validation_data": photos / "validation",
            "output_dir": tmp_path / "run",
            "active_batch": 5,
            "max_labels": 10,
            "use_pretrained": False,
            "embedding_train_num_epochs": 1,
            "feat_dim": 8,
            "seed": 3,
            "classifier_params": {"max_iter": 50},
            "label_source": lambda query: [list(HUES)[int(Path(path).name[0])] for path in query.paths],
        }
        run_active_learning(**arguments | changes)
        return tmp_path / "run"

    return start


@pytest.fixture
def gathered(monkeypatch):
    """What was gathered for each page, with the environment it came from."""
    found = []

    def keep(env, *others):
        found.append((env, gather(env, *others)))
        return found[-1][1]

    monkeypatch.setattr(run_report, "gather", keep)
    return found


def images_of(page):
    coded = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page)
    return [(kind, Image.open(BytesIO(base64.b64decode(content)))) for kind, content in coded]


def test_a_run_leaves_a_page_with_what_was_asked_and_what_was_found(run, gathered, caplog):
    folder = run()
    page = (folder / REPORT_FILE).read_text("utf-8")
    assert not [record for record in caplog.records if record.name == run_report.__name__]  # a warning
    assert len(gathered) == 3, "before each of two questions, and at the end"
    assert gathered[0][1].asked == () and gathered[0][1].asked_round is None
    _, data = gathered[-1]
    assert (data.run, data.n_answers, data.n_rounds, data.n_unlabelled) == ("run", 10, 2, 20)
    assert [point["train_set_size"] for point in data.rounds] == [12, 17, 22]
    assert data.measured_on == "validation" and data.evaluation is not None and data.confusion_image is not None
    assert (data.asked_round, data.n_asked, len(data.asked)) == (2, 5, 5)
    assert (data.n_named, data.n_named_rightly) == (5, sum(photo.guess == photo.label for photo in data.asked))
    scores = [photo.score for photo in data.asked]
    assert scores == sorted(scores, reverse=True), "the strategy asked about the highest score first"
    for photo in data.asked:
        assert photo.label == list(HUES)[int(Path(photo.path).name[0])]
        assert photo.guess in HUES and 0 < photo.confidence <= 1
        assert escape(photo.path) in page
    assert sum(data.labels_per_class.values()) == 22
    assert sum(data.predicted_per_class.values()) == 20
    assert all(escape(name) in page for name in HUES) and "<doe>" not in page


def test_thumbnails_are_the_photos_themselves(run, gathered, photos):
    page = (run() / REPORT_FILE).read_text("utf-8")
    _, data = gathered[-1]
    shown = [photo for photo in data.asked if photo.thumbnail is not None]
    assert len(shown) == len(data.asked)
    for photo in shown:
        with Image.open(BytesIO(photo.thumbnail)) as small, Image.open(photos / "unlabelled" / photo.path) as whole:
            assert small.size == (128, 96)
            colours = [np.asarray(image).mean(axis=(0, 1)) for image in (small, whole)]
        np.testing.assert_allclose(*colours, atol=6)
    kinds = [kind for kind, image in images_of(page) if image.size[0] > 0]
    assert kinds.count("jpeg") == sum(len(some) for some in (data.asked, data.doubtful, data.suspects))
    assert kinds.count("png") == 5  # curve, confusion matrix, balance, map, times


def test_doubtful_photos_are_those_with_the_smallest_margin(run, gathered):
    run(max_labels=5)
    env, data = gathered[-1]
    probabilities = np.sort(env.calibrated.probabilities(env.embeddings[env.candidates]), axis=1)
    margins = probabilities[:, -1] - probabilities[:, -2]
    paths = [env.dataset.catalogue.paths[row] for row in env.candidates]
    least = [paths[at] for at in np.argsort(margins, kind="stable")[: run_report.MOST_SHOWN]]
    assert [photo.path for photo in data.doubtful] == least
    assert data.doubtful[0].confidence == pytest.approx(probabilities[margins.argmin(), -1])


def test_the_map_shows_labels_and_what_the_model_thinks(run, gathered):
    run(max_labels=5)
    env, data = gathered[-1]
    found = data.embedding_map
    assert (len(found.points), found.n_photos, int(found.is_labelled.sum())) == (17 + 25, 42, 17)
    labels = found.class_ids[found.is_labelled]
    np.testing.assert_array_equal(np.sort(labels), np.sort(env.dataset.targets[env.pools.labelled]))


def test_without_validation_photos_the_audit_measures(run, gathered):
    page = (run(validation_data=None, audit_fraction=0.3) / REPORT_FILE).read_text("utf-8")
    _, data = gathered[-1]
    assert data.measured_on == "audit" and data.evaluation is None
    assert sum(share for share, _ in data.prevalence.values()) == pytest.approx(1)
    assert any(photo.is_audit for photo in data.asked)
    assert "accuracy on audit photos" in page


def test_photos_that_are_not_kept_decoded_are_not_decoded_for_the_page(run, gathered):
    page = (run(image_cache="off", max_labels=5) / REPORT_FILE).read_text("utf-8")
    assert all(photo.thumbnail is None for photo in gathered[-1][1].asked)
    assert "not shown" in page


def test_everything_labelled_leaves_a_page_without_doubts(run, gathered):
    page = (run(max_labels=None, active_batch=30) / REPORT_FILE).read_text("utf-8")
    _, data = gathered[-1]
    assert data.doubtful == () and data.n_unlabelled == 0 and not data.predicted_per_class
    assert "There is no photo without a label" in page


def test_the_last_round_is_that_of_the_present_model_also_when_photos_are_gone(run, gathered, photos, tmp_path):
    train = shutil.copytree(photos / "train", tmp_path / "train")
    run(max_labels=4, active_batch=2, train_data=train)
    for name in HUES:
        (train / name / f"{list(HUES).index(name)}_0.jpg").unlink()
        (train / name / f"{list(HUES).index(name)}_1.jpg").unlink()
    run(max_labels=6, active_batch=2, train_data=train)  # two more labels, and six photos fewer
    rounds = gathered[-1][1].rounds
    assert [(point["n_answers"], point["train_set_size"]) for point in rounds] == [(0, 12), (2, 14), (4, 10), (6, 12)]


def test_labels_that_are_judged_are_drawn_from_all_where_there_are_many(run, gathered, monkeypatch):
    monkeypatch.setattr(run_report, "MOST_JUDGED", 13)
    run(max_labels=5)
    assert gathered[-1][1].suspects_note.startswith("13 of 13 labelled photos were judged")
    assert gathered[-1][1].suspects_note.endswith(" They were drawn from 17.")


def test_rounds_of_an_older_version_are_in_the_curve(run, gathered, monkeypatch):
    history = [{"train_set_size": 4, "accuracy": 0.5, "macro_f1": 0.4}]
    monkeypatch.setattr(run_report.RunStore, "validation_history", lambda self: history)
    of_this_version = run_report.RunStore.round_history
    monkeypatch.setattr(run_report.RunStore, "round_history", lambda self: of_this_version(self)[1:])
    run(max_labels=5)
    assert [point["train_set_size"] for point in gathered[-1][1].rounds] == [4, 17]


def test_a_page_that_another_program_holds_open_stays_as_it_was(run, monkeypatch, caplog):
    """Windows refuses to replace a file that is open in some programs."""
    replace = Path.replace

    def refuse(self, target):
        if Path(target).name == REPORT_FILE:
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    folder = run(max_labels=5)
    before = (folder / REPORT_FILE).read_bytes()
    monkeypatch.setattr(Path, "replace", refuse)
    run(max_labels=10)
    assert (folder / REPORT_FILE).read_bytes() == before
    assert f"{folder / REPORT_FILE} is open in another program and stays as it was" in caplog.text
    assert not list(folder.glob("*.new.*"))


def test_whatever_goes_wrong_with_the_page_the_run_goes_on(run, monkeypatch, caplog):
    def fail(data):
        raise RuntimeError("no such colour")

    monkeypatch.setattr(run_report, "render", fail)
    folder = run(max_labels=5)
    assert not (folder / REPORT_FILE).exists()
    assert "report.html could not be made and stays as it was. The run is not affected." in caplog.text
    assert "no such colour" in caplog.text
    assert (folder / "export" / "model.json").exists()


def test_a_file_name_that_is_no_text_does_not_stop_the_page(run, monkeypatch):
    monkeypatch.setattr(run_report, "render", lambda data: "caf\udce9.jpg")
    assert (run(max_labels=5) / REPORT_FILE).read_bytes() == b"caf?.jpg"
