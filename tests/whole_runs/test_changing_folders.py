"""Folders that move, lose photos and grow while a run lasts: see format_1/make.py for the photos and settings."""

import csv
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camera_trap_al import run_active_learning
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.photos import image_cache
from camera_trap_al.query import Answer

pytestmark = pytest.mark.usefixtures("sixteen_pixels")


@pytest.fixture
def arguments(format_1: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    format_1["write_photos"](tmp_path / "photos")
    chosen: dict[str, Any] = format_1["arguments"](tmp_path / "photos", tmp_path / "run")
    return chosen | {"embedding_finetuning_period": 1000, "predict_pool": "never"}


@pytest.fixture
def add_photo(format_1: dict[str, Any], tmp_path: Path) -> Callable[..., None]:
    """Adds a photo of a class: add_photo("unlabelled/site 7/fox_8.ppm", "fox")."""

    def add(path: str, species: str) -> None:
        format_1["_write_photo"](tmp_path / "photos", path, species)

    return add


class Work:
    """Which photos were decoded, embedded and trained on since the last look."""

    def __init__(self) -> None:
        self.decoded: list[str] = []
        self.embedded: list[int] = []
        self.trainings: list[str] = []

    def forget(self) -> None:
        self.__init__()  # type: ignore[misc]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    done = Work()
    read_photo, embed, fit = image_cache.read_photo, EmbeddingTrainer.embed_batches, EmbeddingTrainer.fit

    def reading(path: Path, squeeze: Any) -> Any:
        done.decoded.append(path.name)
        return read_photo(path, squeeze)

    def embedding(self: Any, dataset: Any, rows: Any, precision: Any = "fp32") -> Any:
        done.embedded += rows.tolist()
        return embed(self, dataset, rows, precision)

    def fitting(self: Any, dataset: Any, rows: Any, stage: Any, rng: Any) -> Any:
        done.trainings.append(stage.name)
        return fit(self, dataset, rows, stage, rng)

    monkeypatch.setattr(image_cache, "read_photo", reading)
    monkeypatch.setattr(EmbeddingTrainer, "embed_batches", embedding)
    monkeypatch.setattr(EmbeddingTrainer, "fit", fitting)
    yield done


class Leaving:
    """Somebody who answers some rounds and leaves at the next question."""

    def __init__(self, truth_of: Callable[[str], str], rounds: int = 0) -> None:
        self._truth_of = truth_of
        self._rounds = rounds
        self.asked: list[tuple[str, ...]] = []

    def request_labels(self, query: Any, commit: Callable[[Answer], None]) -> Answer:
        self.asked.append(query.paths)
        if len(self.asked) > self._rounds:
            return Answer(stop=True)
        ids = (query.classes.index(self._truth_of(path)) for path in query.paths)
        answer = Answer(dict(zip(query.rows.tolist(), ids, strict=True)), source="somebody")
        commit(answer)
        return answer


@pytest.fixture
def ask(arguments: dict[str, Any], format_1: dict[str, Any]) -> Callable[..., list[tuple[str, ...]]]:
    """Starts the run, answers some rounds and leaves; gives the questions."""

    def start(rounds: int = 0, **changes: Any) -> list[tuple[str, ...]]:
        person = Leaving(format_1["truth_of"], rounds)
        run_active_learning(**(arguments | changes), label_source=person)
        return person.asked

    return start


def rows_of(run: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(run / "data" / "run.sqlite")) as db:
        return db.execute(statement).fetchall()


PHOTOS = "SELECT photo_row, role, path FROM photos ORDER BY photo_row"


def test_everything_may_move_at_once_and_nothing_is_done_again(
    ask: Callable[..., Any], arguments: dict[str, Any], tmp_path: Path, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = ask()
    work.forget()
    elsewhere = tmp_path / "drive E" / "Säugetiere 2026"
    elsewhere.mkdir(parents=True)
    moved = {}
    for name in ("train_data", "unlabelled_data", "validation_data", "output_dir"):
        moved[name] = str(elsewhere / f"moved {name}")
        shutil.move(arguments[name], moved[name])
    caplog.set_level("INFO")
    assert ask(**moved) == [first]
    assert (work.decoded, work.embedded, work.trainings) == ([], [], [])
    assert f"unlabelled_data is in {moved['unlabelled_data']} now" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_photos_that_vanish_are_counted_and_set_aside_and_come_back(
    ask: Callable[..., Any], arguments: dict[str, Any], tmp_path: Path, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    ask(rounds=1)
    site = Path(arguments["unlabelled_data"]) / "site 1"
    gone = {path.name for path in site.glob("fox_*")}
    assert gone
    (tmp_path / "card").mkdir()
    for name in gone:
        shutil.move(site / name, tmp_path / "card" / name)
    ask()
    assert f"{len(gone)} photos of {arguments['unlabelled_data']} are not there any more" in caplog.text
    with (tmp_path / "run" / "unreadable_images.csv").open(newline="", encoding="utf-8") as file:
        listed = {(row["path"].rpartition("/")[2], row["reason"]) for row in csv.DictReader(file)}
    assert listed == {(name, "not there") for name in gone}
    work.forget()
    for name in gone:
        shutil.move(tmp_path / "card" / name, site / name)
    ask()
    assert (work.decoded, work.trainings) == ([], []), "what was decoded of them is still good"
    assert rows_of(tmp_path / "run", "SELECT COUNT(*) FROM photos WHERE set_aside IS NOT NULL") == [(0,)]


def test_photos_added_anywhere_are_taken_in_at_the_next_start_and_only_they_cost_work(
    ask: Callable[..., Any], add_photo: Callable[..., None], tmp_path: Path, work: Work
) -> None:
    ask(rounds=1)
    before, classes = rows_of(tmp_path / "run", PHOTOS), rows_of(tmp_path / "run", "SELECT * FROM classes")
    work.forget()
    add_photo("unlabelled/a site/badger_9.ppm", "badger")
    add_photo("train/aardvark/t0.ppm", "fox")
    add_photo("train/fox/a0.ppm", "fox")
    add_photo("validation/fox/a1.ppm", "fox")
    (question,) = ask()
    after = rows_of(tmp_path / "run", PHOTOS)
    assert after[: len(before)] == before, "old photos keep their rows"
    new_rows = {"aardvark/t0.ppm": 0, "fox/a0.ppm": 0, "a site/badger_9.ppm": 1, "fox/a1.ppm": 2}
    assert {path: role for _, role, path in after[len(before) :]} == new_rows
    assert rows_of(tmp_path / "run", "SELECT * FROM classes") == [*classes, (len(classes), "aardvark")]
    assert sorted(work.decoded) == ["a0.ppm", "a1.ppm", "badger_9.ppm", "t0.ppm"]
    assert sorted(work.embedded) == [row for row, _, _ in after[len(before) :]]
    assert work.trainings == []
    assert ask() == [question], "the open question stays"


def test_photos_are_taken_in_between_two_starts_when_the_expert_asks_for_it(
    arguments: dict[str, Any],
    add_photo: Callable[..., None],
    work: Work,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    requests: list[list[dict[str, str]]] = []

    def typed(prompt: str = "") -> str:
        with (tmp_path / "run" / "timelapse_selector.csv").open(newline="", encoding="utf-8") as file:
            requests.append(list(csv.DictReader(file)))
        if len(requests) == 1:
            work.forget()
            add_photo("unlabelled/site 7/fox_7.ppm", "fox")
            return "n"
        return "q"

    monkeypatch.setattr("builtins.input", typed)
    run_active_learning(**arguments)
    first, second = requests
    assert "Looking for photos that were added" in capsys.readouterr().out
    selected = [{row["File"] for row in request if row["Selected"] == "true"} for request in requests]
    assert selected[0] == selected[1], "the same question"
    assert {row["File"] for row in second} - {row["File"] for row in first} == {"fox_7.ppm"}
    assert (work.decoded, len(work.embedded), work.trainings) == (["fox_7.ppm"], 1, [])


def drift_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "refit='pixel_stats'" in record.getMessage()]


def exported_mean(run: Path) -> list[float]:
    mean: list[float] = np.load(run / "export" / "dataset_mean.npy").tolist()
    return mean


def test_pixel_statistics_stay_and_growth_beyond_a_fifth_is_told_once(
    ask: Callable[..., Any], add_photo: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask()
    frozen = exported_mean(tmp_path / "run")
    for number in range(4):  # 28 photos are no more than 1.2 times 24
        add_photo(f"unlabelled/site 7/fox_{number}.ppm", "fox")
    ask()
    assert drift_warnings(caplog) == []
    add_photo("unlabelled/site 7/fox_4.ppm", "fox")
    ask()
    ask()
    (warning,) = drift_warnings(caplog)
    assert "The run has 29 photos now and had 24" in warning
    assert "(" + ", ".join(f"{value:.3f}" for value in frozen) + ")" in warning
    assert exported_mean(tmp_path / "run") == frozen
    for number in range(10, 16):
        add_photo(f"unlabelled/site 7/fox_{number}.ppm", "fox")
    ask()
    assert len(drift_warnings(caplog)) == 2, "a fifth more than when it was told last"


def test_refitting_pixel_statistics_finetunes_the_network_and_embeds_all_photos_again(
    ask: Callable[..., Any], add_photo: Callable[..., None], tmp_path: Path, work: Work
) -> None:
    ask(rounds=1)
    frozen = exported_mean(tmp_path / "run")
    work.forget()
    for number in range(8):
        add_photo(f"unlabelled/site 7/fox_{number}.ppm", "fox")
    ask(refit="pixel_stats")
    measured = exported_mean(tmp_path / "run")
    assert measured != frozen
    assert work.trainings == ["finetuning"]
    assert sorted(set(work.embedded)) == list(range(32))
    work.forget()
    ask()
    assert exported_mean(tmp_path / "run") == measured
    assert (work.decoded, work.embedded, work.trainings) == ([], [], [])
    (Path(tmp_path, "photos", "unlabelled", "site 7", "fox_0.ppm")).unlink()
    ask(refit="pixel_stats")
    assert work.trainings == [], "no photo has come since"


def test_a_refit_with_no_epochs_embeds_all_photos_again_all_the_same(
    ask: Callable[..., Any], add_photo: Callable[..., None], work: Work
) -> None:
    ask()
    work.forget()
    add_photo("unlabelled/site 7/fox_0.ppm", "fox")
    ask(refit="pixel_stats", embedding_finetuning_num_epochs=0)
    assert sorted(set(work.embedded)) == list(range(25))
