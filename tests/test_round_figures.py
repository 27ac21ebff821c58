"""A run without validation photos, with a tiny network: its audit, what it records, and why it stops."""

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score

from camera_trap_al import run_active_learning
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.pools import Role
from camera_trap_al.query import Answer
from camera_trap_al.round_figures import why_stop
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.rebuild import rebuild
from camera_trap_al.statistics.audit import Audit, wilson_interval

pytestmark = pytest.mark.usefixtures("sixteen_pixels")
HUES = {"deer": 0, "frog": 1, "jay": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes that differ in hue: 2 labelled photos each, and 60 bursts of 3 photos, two in three of deer."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)

    def write(path, name):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 160, (24, 24, 3))
        pixels[..., HUES[name]] += 60
        Image.fromarray(pixels.astype(np.uint8)).save(path)

    for name in HUES:
        for number in range(2):
            write(root / "train" / name / f"{number}.png", name)
    for burst in range(60):
        name = ("deer", "deer", "frog", "deer", "deer", "jay")[burst % 6]
        for number in range(3):
            write(root / "unlabelled" / f"burst {burst:02}" / f"{name} {number}.png", name)
    return root


def arguments_in(folder, photos):
    return {
        "train_data": photos / "train",
        "unlabelled_data": photos / "unlabelled",
        "output_dir": folder / "run",
        "active_batch": 20,
        "audit_fraction": 0.2,
        "embedding_train_num_epochs": 1,
        "embedding_finetuning_period": 70,
        "embedding_finetuning_num_epochs": 1,
        "use_pretrained": False,
        "feat_dim": 8,
        "seed": 3,
        "classifier_params": {"max_iter": 50},
    }


@pytest.fixture
def arguments(photos, tmp_path):
    return arguments_in(tmp_path, photos)


class Expert:
    """Tells the species by the name of the file, and remembers what was asked and advised."""

    def __init__(self, stop_after=99):
        self.stop_after, self.queries = stop_after, []

    def request_labels(self, query, commit):
        if len(self.queries) == self.stop_after:
            return Answer(stop=True)
        self.queries.append(query)
        species = (path.rpartition("/")[2].partition(" ")[0] for path in query.paths)
        labels = {row: query.classes.index(name) for row, name in zip(query.rows.tolist(), species, strict=True)}
        answer = Answer(labels, source="expert")
        commit(answer)
        return answer


def run(arguments, *, stop_after=99, **changes):
    expert = Expert(stop_after)
    return expert, run_active_learning(**arguments | changes, label_source=expert)


@pytest.fixture(scope="module")
def four_rounds(photos, tmp_path_factory):
    """The arguments, expert and result of a run of four rounds."""
    arguments = arguments_in(tmp_path_factory.mktemp("four rounds"), photos)
    return arguments, *run(arguments, stop_after=4)


def catalogue_of(arguments):
    with RunStore.open(RunConfig(output_dir=arguments["output_dir"])) as store:
        return store.catalogue({role: Path() for role in Role})


def audit_of_file(arguments, size):
    file = arguments["output_dir"] / "test_results" / f"train_set_size_{size}" / "audit.json"
    return Audit.from_dict(json.loads(file.read_text(encoding="utf-8")))


def test_each_round_asks_about_photos_of_an_audit_that_is_never_learnt_from(four_rounds):
    arguments, expert, result = four_rounds
    catalogue = catalogue_of(arguments)
    reserved = np.flatnonzero(catalogue.pools.is_audit)
    assert len(reserved) == 36, "a fifth of 180, in whole bursts of 3"
    bursts = [catalogue.paths[row].partition("/")[0] for row in reserved]
    assert sorted(bursts) == sorted(3 * list(dict.fromkeys(bursts)))
    in_order = reserved[np.argsort(catalogue.pools.audit_lots[reserved] % 1)].tolist()
    asked = [row for query in expert.queries for row in query.rows.tolist() if row in reserved]
    assert asked == in_order[:16], "four of each 20, in the order of the lots"
    assert [len(query) for query in expert.queries] == [20] * 4
    assert result.audit.n_answers == 16
    assert catalogue.pools.labelled.tolist() == sorted(set(catalogue.pools.answered) - set(asked) | set(range(6)))
    sizes = [path.name for path in (arguments["output_dir"] / "test_results").iterdir()]
    assert sorted(sizes) == [f"train_set_size_{size}" for size in (22, 38, 54, 70)]
    assert audit_of_file(arguments, 70) == result.audit


def test_the_audit_judges_the_model_that_is_exported(four_rounds):
    arguments, _, result = four_rounds
    catalogue = catalogue_of(arguments)
    with (arguments["output_dir"] / "predictions.csv").open(newline="", encoding="utf-8") as file:
        named = {f"{row['RelativePath']}/{row['File']}": row["Species"] for row in csv.DictReader(file)}
    assert not {catalogue.paths[row] for row in catalogue.pools.audit} & set(named), "they have labels"
    waiting = {catalogue.paths[row] for row in catalogue.pools.audit_to_come()}
    assert waiting < set(named), "those that nobody was asked about are predicted with all others"
    prevalence = {found.name: found.n_answers for found in result.audit.prevalence}
    labels = [catalogue.classes[catalogue.pools.targets[row]] for row in catalogue.pools.audit]
    assert prevalence == {name: labels.count(name) for name in set(labels)}


def test_an_audit_of_fifty_answers_has_an_interval(arguments):
    _, result = run(arguments, audit_fraction=0.5, stop_after=6)
    assert result.audit.n_answers == 60 and 15 < result.audit.n_groups < 31
    low, high = result.audit.interval
    alone = wilson_interval(result.audit.accuracy, 60)
    assert low <= alone[0] and high >= alone[1], "photos of a burst are alike"


def test_a_restart_and_a_rebuilt_database_keep_the_audit(arguments):
    run(arguments, stop_after=2)
    before = catalogue_of(arguments)
    run(arguments, stop_after=1)
    assert np.array_equal(catalogue_of(arguments).pools.audit_lots, before.pools.audit_lots, equal_nan=True)
    asked = catalogue_of(arguments).pools.audit.tolist()
    assert len(asked) == 12
    (arguments["output_dir"] / "data" / "run.sqlite").write_bytes(b"damaged")
    rebuild(RunConfig(**arguments))
    rebuilt = catalogue_of(arguments)
    assert [rebuilt.paths[row] for row in rebuilt.pools.audit] == [before.paths[row] for row in asked]
    expert, _ = run(arguments, stop_after=1)
    assert np.array_equal(catalogue_of(arguments).pools.audit_lots, rebuilt.pools.audit_lots, equal_nan=True)
    assert rebuilt.pools.is_audit[expert.queries[0].rows].sum() == 4


def test_a_damaged_database_whose_settings_can_be_read_is_rebuilt_with_its_audit(arguments):
    run(arguments, stop_after=2)
    before = catalogue_of(arguments)
    database = arguments["output_dir"] / "data" / "run.sqlite"
    with closing(sqlite3.connect(database)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'label_events'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    content = bytearray(database.read_bytes())
    content[(page - 1) * size : page * size] = b"x" * size
    database.write_bytes(content)
    _, result = run(arguments, rebuild=True, stop_after=1)
    rebuilt = catalogue_of(arguments)
    assert {rebuilt.paths[row] for row in np.flatnonzero(rebuilt.pools.is_audit)} == {
        before.paths[row] for row in np.flatnonzero(before.pools.is_audit)
    }
    assert result.audit.n_answers == 12


def test_a_run_that_began_without_an_audit_goes_on_without(arguments):
    run(arguments, audit_fraction=0.0, stop_after=1)
    _, result = run(arguments, audit_fraction=0.2, stop_after=1)
    assert result.audit is None and not catalogue_of(arguments).pools.is_audit.any()


@pytest.mark.parametrize(("with_validation", "share"), [(False, 0.05), (True, 0.0)])
def test_by_default_a_twentieth_is_for_the_audit_unless_there_are_validation_photos(with_validation, share, photos):
    validation = photos / "train" if with_validation else None
    assert RunConfig(validation_data=validation).audit_share == share
    assert RunConfig(validation_data=validation, audit_fraction=0.2).audit_share == 0.2


def test_photos_that_are_added_later_give_their_share_to_the_audit(arguments, photos, tmp_path, make_photo):
    unlabelled = tmp_path / "unlabelled"
    for path in sorted((photos / "unlabelled").rglob("*.png")):
        copy = unlabelled / path.relative_to(photos / "unlabelled")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    run(arguments, unlabelled_data=unlabelled, stop_after=1)
    before = catalogue_of(arguments).pools.audit_lots
    for number in range(40):
        make_photo(unlabelled / f"new {number}" / "deer 0.jpg", number)
    run(arguments, unlabelled_data=unlabelled, stop_after=1)
    after = catalogue_of(arguments).pools.audit_lots
    assert np.array_equal(after[: len(before)], before, equal_nan=True), "the old ones stay as they were"
    assert np.count_nonzero(~np.isnan(after[len(before) :])) == 8
    run(arguments, unlabelled_data=unlabelled, stop_after=1)
    assert np.array_equal(catalogue_of(arguments).pools.audit_lots, after, equal_nan=True)


def test_everything_can_be_labelled_the_audit_too(arguments):
    expert, result = run(arguments, active_batch=90)
    assert result.ended_because == "everything is labelled"
    assert result.labels_given == sum(len(query) for query in expert.queries) == 180
    assert result.audit.n_answers == 36


def test_every_round_is_recorded(four_rounds):
    arguments, expert, _ = four_rounds
    with RunStore.open(RunConfig(output_dir=arguments["output_dir"])) as store:
        history, asked, stop_set = store.round_history(), store.asked_photos(), store.recall("stop_set")
    assert [figures["n_answers"] for figures in history] == [0, 20, 40, 60, 80]
    assert [figures["train_set_size"] for figures in history] == [6, 22, 38, 54, 70]
    assert [figures["n_rounds"] for figures in history] == [0, 1, 2, 3, 4]
    assert [figures["measured_on"] for figures in history] == [None, *["audit"] * 4]
    assert [figures["audit"] and figures["audit"]["n_answers"] for figures in history] == [None, 4, 8, 12, 16]
    assert history[0]["agreement"] is None
    assert all(-1 <= figures["agreement"] <= 1 for figures in history[1:])
    assert {"embedding photos", "training the network", "training the classifier"} <= set(history[0]["seconds"])
    assert all(seconds > 0 for figures in history for seconds in figures["seconds"].values())
    assert sum(history[-1]["labels_per_class"].values()) == 70
    assert stop_set["n_answers"] == 80 and len(stop_set["guesses"]) == 144, "all but the audit"
    assert {photo.label for photo in asked[80:]} == {None} and len(asked) == 100, "the last ones are still asked"
    asked = asked[:80]
    assert [photo.row for photo in asked] == [row for query in expert.queries for row in query.rows.tolist()]
    assert all((photo.score is None) == bool(photo.is_audit) == (photo.guess is None) for photo in asked)
    assert all(photo.label == photo.path.partition("/")[2].partition(" ")[0] for photo in asked)
    margins = [photo.score for photo in asked if photo.round == 2 and not photo.is_audit]
    assert margins == sorted(margins, reverse=True) and -1 <= margins[-1] <= margins[0] <= 0, "least margin first"
    assert all(1 / 3 <= photo.confidence <= 1 for photo in asked if not photo.is_audit)


def test_agreement_is_that_of_the_models_before_and_after_a_round_also_over_a_restart(arguments):
    def stop_set():
        with RunStore.open(RunConfig(output_dir=arguments["output_dir"])) as store:
            return store.recall("stop_set")["guesses"], store.round_history()

    arguments |= {"classifier_params": {"max_iter": 300, "learning_rate_init": 0.01}}  # which tells classes apart
    run(arguments, stop_after=1)
    before, _ = stop_set()
    run(arguments, stop_after=0)  # a start at which nothing is labelled
    run(arguments, stop_after=1)
    after, history = stop_set()
    assert before.keys() == after.keys()
    expected = cohen_kappa_score([before[row] for row in before], [after[row] for row in before])
    assert history[-1]["agreement"] == pytest.approx(expected) and history[-1]["agreement"] < 1
    run(arguments, stop_after=0)
    assert stop_set()[1][-1]["agreement"] == history[-1]["agreement"]


def test_the_advice_comes_with_the_question(arguments):
    expert, _ = run(arguments, stop_after=2)
    assert [query.advice.partition(":")[0] for query in expert.queries] == ["Advice", "Advice"]
    assert "Accuracy" in expert.queries[1].advice and "\n" not in expert.queries[1].advice


def test_stop_when_is_given_how_the_run_stands_and_ends_it(arguments):
    seen = []

    def stop(progress):
        seen.append(progress)
        return "two rounds are enough" if progress.n_rounds == 2 else False

    _, result = run(arguments, stop_when=stop)
    assert result.ended_because == "two rounds are enough"
    assert [progress.n_answers for progress in seen] == [0, 20, 40]
    assert [sum(progress.labels_per_class.values()) for progress in seen] == [6, 22, 38]
    assert seen[2].measured_on == "audit" and seen[2].accuracy == result.audit.accuracy
    _, again = run(arguments, stop_when=lambda progress: True)
    assert again.ended_because == "stop_when says so" and again.labels_given == 40


def test_the_share_stays_what_it_was_when_the_run_began(arguments, make_photo, tmp_path):
    validation = make_photo(tmp_path / "validation" / "deer" / "1.jpg").parents[1]
    default = arguments | {"audit_fraction": None}
    run(default, stop_after=1)
    expert, _ = run(default | {"validation_data": validation}, stop_after=1)
    assert catalogue_of(arguments).pools.is_audit[expert.queries[0].rows].sum() == 1, "a twentieth of 20"


def test_what_a_start_that_failed_has_reserved_binds_nobody(arguments):
    with pytest.raises(ConfigError):
        run(arguments, embedding_arch="no network", stop_after=1)
    store = RunStore.open(RunConfig(**arguments))
    with store:
        ActiveLearningEnvironment.start(store)
    assert (arguments["output_dir"] / "data/label_archive/accepted/audit.csv").exists()
    run(arguments, audit_fraction=0.0, stop_after=1)
    assert not (arguments["output_dir"] / "data/label_archive/accepted/audit.csv").exists()


def test_skipping_a_photo_of_the_audit_does_not_end_a_run_of_single_photos(arguments):
    class Skips(Expert):
        def request_labels(self, query, commit):
            if catalogue.pools.is_audit[query.rows].all():
                self.queries.append(query)
                answer = Answer(skipped=tuple(query.rows.tolist()), source="expert")
                commit(answer)
                return answer
            return super().request_labels(query, commit)

    few = arguments | {"audit_fraction": 0.5, "active_batch": 1}
    run(few, stop_after=0)
    catalogue, expert = catalogue_of(arguments), Skips(30)
    result = run_active_learning(**few, label_source=expert)
    assert result.ended_because == "the expert stopped" and len(expert.queries) == 30


def test_target_accuracy_ends_the_run_when_the_interval_is_above_it(arguments):
    _, result = run(arguments, audit_fraction=0.5, target_accuracy=0.3)
    assert result.ended_because == "target_accuracy is reached"
    assert result.audit.n_answers == 50, "the first at which there is an interval"
    assert result.audit.interval[0] >= 0.3


@pytest.mark.parametrize(
    ("said", "why"), [(True, "stop_when says so"), ("enough", "enough"), (False, None), (None, None), ("", None)]
)
def test_what_stop_when_says(said, why):
    config = RunConfig(stop_when=lambda progress: said)
    assert why_stop(SimpleNamespace(reaches=lambda accuracy: True), config) == why


def test_a_stop_when_that_is_no_function_is_refused():
    with pytest.raises(ConfigError, match=r"stop_when must be a function"):
        RunConfig(stop_when="90 %")
