import csv
import json
import logging
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from camera_trap_al.classifier import EmbeddingClassifier
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning import finetuning_gate, pixel_statistics
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.finetuning_gate import GateVerdict
from camera_trap_al.estimators import CLASSIFIERS
from camera_trap_al.exceptions import CheckpointError, ConfigError, DataError, EmptyPoolError
from camera_trap_al.photos import image_cache
from camera_trap_al.photos.images import read_photo
from camera_trap_al.publishing import publish
from camera_trap_al.query import Answer
from camera_trap_al.run_store import RunStore

TRUTH = [0, 1, 2, 0, 1, 2]  # of the unlabelled rows 9 to 14, which come site by site, in alphabetical order
EVERYTHING = ["fit_network", "embed", "fit_classifier"]


class ColourEmbedder(Embedder):
    """An embedding network of the user's own: a photo's features are its mean colours. It keeps what it is told."""

    def __init__(self):
        self.pixel_mean = self.pixel_std = None
        self.stages = []
        self.trained_on = []
        self.weights = 0

    def fit(self, dataset, rows, stage, rng):
        self.stages.append(stage)
        self.trained_on.append(rows.tolist())
        self.weights += stage.num_epochs

    def embed_batches(self, dataset, rows, precision="fp32"):
        images, is_read = dataset.cache.read(rows)
        colours = np.full((len(rows), 3), np.nan, np.float32)
        colours[is_read] = images.mean(axis=(1, 2)) + np.float32(self.weights)
        yield colours

    def digest(self):
        return f"colours {self.weights}"


@pytest.fixture
def new_environment(dataset, small_config):
    """Function that makes an environment without a run, with the colour embedder and a quick classifier."""

    def make(dataset=dataset, **changes):
        config = small_config(**({"classifier": LogisticRegression()} | changes))
        environment = ActiveLearningEnvironment(dataset, config, ColourEmbedder())
        environment.read_photos()
        return environment

    return make


@pytest.fixture
def start(own_photos, tmp_path, small_config):
    """Function that starts or resumes the run of this test, as `run_active_learning` does, up to the first update."""

    def make(**changes):
        folders = {f"{name}_data": own_photos / name for name in ("train", "unlabelled", "validation")}
        quick = {"classifier_params": {"max_iter": 30}, "active_batch": 2, "output_dir": tmp_path / "run"}
        store = RunStore.open(small_config(**(folders | quick | changes)))
        environment = ActiveLearningEnvironment.start(store)
        environment.read_photos(store)
        return environment, store

    return make


def update(environment, store=None):
    """Bring the models up to date and tell which steps that took."""
    steps = []
    for step in environment.stale_models():
        steps.append(step.__name__)
        step()
        if store is not None:
            environment.save(store)
    return steps


def answer(environment, store):
    """Ask about the next photos and give the true labels."""
    query = environment.ask(store)
    given = Answer({int(row): TRUTH[row - 9] for row in query.rows}, source="test")
    store.commit(query, given)
    environment.apply(given)


@pytest.fixture
def no_work(monkeypatch):
    """Function after which fitting or embedding anything fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a model that was saved is made again")

    def forbid():
        for owner, name in (
            (EmbeddingTrainer, "fit"),
            (EmbeddingTrainer, "embed_batches"),
            (EmbeddingClassifier, "fit"),
        ):
            monkeypatch.setattr(owner, name, refuse)

    return forbid


def test_everything_is_stale_at_first_and_nothing_afterwards(new_environment):
    environment = new_environment()
    assert update(environment) == EVERYTHING
    assert update(environment) == []
    assert [stage.name for stage in environment.embedder.stages] == ["train"]
    assert environment.embedder.trained_on == [list(range(9))]


def test_new_label_outdates_the_classifier_only(new_environment):
    environment = new_environment()
    update(environment)
    embeddings = environment.embeddings
    environment.apply(Answer({9: 0}))
    assert update(environment) == ["fit_classifier"]
    np.testing.assert_array_equal(environment.embeddings, embeddings)
    environment.apply(Answer({9: 1}))  # a correction
    assert update(environment) == ["fit_classifier"]


def test_finetuning_period_outdates_everything_and_its_count_starts_again(new_environment):
    environment = new_environment(
        embedding_finetuning_period=2, embedding_finetuning_num_epochs=7, embedding_finetuning_lr=0.5
    )
    steps = [update(environment)]
    for row in range(9, 14):
        environment.apply(Answer({row: TRUTH[row - 9]}))
        steps.append(update(environment))
    classifier_only = ["fit_classifier"]
    assert steps == [EVERYTHING, classifier_only, EVERYTHING, classifier_only, EVERYTHING, classifier_only]
    stages = environment.embedder.stages
    assert [stage.name for stage in stages] == ["train", "finetuning", "finetuning"]
    assert stages[1] == environment.config.finetuning and stages[1].num_epochs == 7 and stages[1].lr == 0.5
    assert environment.embedder.trained_on[1:] == [[*range(9), 9, 10], [*range(9), 9, 10, 11, 12]]


def test_more_answers_than_the_period_finetune_once(new_environment):
    environment = new_environment(embedding_finetuning_period=2)
    update(environment)
    environment.apply(Answer(dict(zip(range(9, 14), TRUTH, strict=False))))
    assert update(environment) == EVERYTHING
    assert update(environment) == []


def test_network_that_stayed_as_it_was_needs_no_new_embeddings(new_environment):
    environment = new_environment(embedding_finetuning_period=1, embedding_finetuning_num_epochs=0)
    update(environment)
    environment.apply(Answer({9: 0}))
    assert update(environment) == ["fit_network", "fit_classifier"]


def test_every_usable_photo_is_embedded(new_environment):
    environment = new_environment()
    environment.pools.is_set_aside[4] = True
    update(environment)
    assert np.flatnonzero(np.isnan(environment.embeddings).any(axis=1)).tolist() == [4]
    expected = environment.embedder.embed(environment.dataset, np.arange(18))
    np.testing.assert_array_equal(np.delete(environment.embeddings, 4, 0), np.delete(expected, 4, 0))


def test_scaler_knows_labelled_and_candidate_photos_and_never_validation(new_environment, own_photos):
    Image.new("RGB", (32, 24), "white").save(own_photos / "validation" / "fox" / "v.png")
    Image.new("RGB", (32, 24), "black").save(own_photos / "validation" / "deer" / "v.png")
    folders = (own_photos / name for name in ("train", "unlabelled", "validation"))
    environment = new_environment(ExtendedImageFolder.from_folders(*folders))
    update(environment)
    known = environment.embeddings[:15]
    np.testing.assert_array_equal(environment.fitted().scaler.minimum, known.min(axis=0))
    np.testing.assert_array_equal(environment.fitted().scaler.maximum, known.max(axis=0))
    scaled = environment.fitted().scaler.transform(environment.embeddings)
    assert scaled[:15].min() == 0 and scaled[:15].max() == 1
    assert (scaled[16] < 0).all() and (scaled[17] > 1).all()  # the black deer and the white fox


def test_without_normalisation_strategy_and_classifier_see_plain_embeddings(new_environment):
    environment = new_environment(normalize_embedding=False)
    update(environment)
    assert environment.fitted().scaler.identity
    np.testing.assert_array_equal(environment.view().embeddings[:15], environment.embeddings[:15])


def test_probabilities_have_a_column_per_class(new_environment):
    environment = new_environment()
    update(environment)
    rows = np.array([17, 9, 3])
    found = environment.probabilities(rows)
    plain = LogisticRegression(random_state=0).fit(
        environment.fitted().scaler.transform(environment.embeddings[:9]), [0, 0, 0, 0, 1, 1, 1, 2, 2]
    )
    expected = plain.predict_proba(environment.fitted().scaler.transform(environment.embeddings[rows]))
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-6)
    assert (found[:, 3] == 0).all()  # wolf has no label


def test_nothing_is_known_before_the_first_update(new_environment):
    environment = new_environment()
    for use in (environment.fitted, environment.view, lambda: environment.probabilities(np.array([0]))):
        with pytest.raises(DataError, match="stale_models"):
            use()


def test_view_shows_a_strategy_the_scaled_embeddings_and_the_pools(new_environment):
    environment = new_environment()
    update(environment)
    environment.apply(Answer({10: 1}))
    view = environment.view()
    assert view.labelled.tolist() == [*range(9), 10]
    assert view.unlabelled.tolist() == [9, 11, 12, 13, 14]
    assert view.classes == ("badger", "deer", "fox", "wolf")
    scaled = environment.fitted().scaler.transform(environment.embeddings)
    np.testing.assert_array_equal(view.embeddings[:15], scaled[:15])
    assert not view.embeddings[15:].any(), "validation photos are nobody's business"
    np.testing.assert_array_equal(view.probabilities(), environment.probabilities(view.unlabelled))


@pytest.mark.parametrize(("max_labels", "expected"), [(None, 4), (2, 2), (100, 4)])
def test_batch_is_trimmed_to_max_labels(new_environment, max_labels, expected):
    environment = new_environment(active_batch=4, max_labels=max_labels)
    update(environment)
    rows = environment.choose_rows()
    assert len(rows) == expected and set(rows) <= set(range(9, 15))


def test_answers_given_before_count_towards_max_labels(new_environment):
    environment = new_environment(active_batch=4, max_labels=3)
    update(environment)
    environment.apply(Answer({9: 0, 10: 1}))
    assert environment.n_answers == 2
    assert environment.why_finished() is None
    assert len(environment.choose_rows()) == 1
    environment.apply(Answer({11: 2}))
    assert environment.why_finished() == "max_labels is reached"


def test_last_batch_is_what_is_left(new_environment):
    environment = new_environment(active_batch=4)
    update(environment)
    environment.apply(Answer({9: 0, 10: 1, 11: 2, 12: 0}))
    assert sorted(environment.choose_rows()) == [13, 14]
    environment.apply(Answer({13: 1, 14: 2}))
    assert environment.why_finished() == "everything is labelled"
    with pytest.raises(EmptyPoolError):
        environment.choose_rows()


def test_choice_is_decided_by_seed_and_round(new_environment):
    def chosen(seed, round_number):
        environment = new_environment(active_learning_strategy="uniform", active_batch=3, seed=seed)
        update(environment)
        return environment.choose_rows(round_number).tolist()

    assert chosen(1, 1) == chosen(1, 1)
    assert len({tuple(chosen(*pair)) for pair in ((1, 1), (1, 2), (2, 1), (2, 2))}) > 1


def test_answered_photos_that_vanished_still_count_as_answers(new_environment):
    environment = new_environment(max_labels=2)
    environment.apply(Answer({9: 0, 10: 1}))
    environment.pools.is_set_aside[9] = True
    assert environment.n_answers == 2
    assert environment.why_finished() == "max_labels is reached"


def test_evaluation_compares_validation_photos_with_their_folders(new_environment):
    environment = new_environment()
    update(environment)
    report = environment.evaluate()
    predicted = environment.probabilities(np.array([15, 16, 17])).argmax(axis=1)
    assert report.n_images == 3
    assert report.accuracy == pytest.approx(np.mean(predicted == [0, 1, 2]))


def test_without_validation_there_are_no_figures(new_environment, photos):
    unvalidated = new_environment(ExtendedImageFolder.from_folders(photos / "train", photos / "unlabelled"))
    unwanted = new_environment(validate_model=False)
    for environment in (unvalidated, unwanted):
        update(environment)
        assert environment.evaluate() is None


def test_pixel_statistics_are_of_all_data_sets(new_environment):
    environment = new_environment()
    pixels = np.stack([np.moveaxis(image.numpy(), 0, -1) for image, _ in environment.dataset]) / 255
    assert len(pixels) == 18
    np.testing.assert_allclose(environment.embedder.pixel_mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(environment.embedder.pixel_std, pixels.std(axis=(0, 1, 2)), rtol=1e-6)


def test_statistics_pass_over_unreadable_photos(new_environment, own_photos, caplog):
    (own_photos / "unlabelled" / "site1" / "u_deer.png").write_bytes(b"no picture")
    dataset = ExtendedImageFolder.from_folders(own_photos / "train", own_photos / "unlabelled")
    environment = new_environment(dataset)
    assert environment.pools.set_aside.tolist() == [13]
    assert "1 photos cannot be read" in caplog.text
    pixels = np.stack([np.moveaxis(dataset[row][0].numpy(), 0, -1) for row in range(15) if row != 13]) / 255
    np.testing.assert_allclose(environment.embedder.pixel_mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-6)
    update(environment)
    assert 13 not in environment.choose_rows()


def test_no_readable_training_photo_is_a_data_error(new_environment, own_photos):
    for photo in (own_photos / "train").glob("*/*.png"):
        photo.write_bytes(b"no picture")
    dataset = ExtendedImageFolder.from_folders(own_photos / "train", own_photos / "unlabelled")
    with pytest.raises(DataError, match="No labelled photo can be read"):
        new_environment(dataset)


def test_missing_seed_is_drawn(new_environment):
    assert new_environment(seed=None).config.seed is not None


def test_it_can_be_used_without_a_run_as_its_docstring_shows(photos):
    """The docstring's program, with the network that it makes by itself, until nothing is unlabelled."""
    dataset = ExtendedImageFolder.from_folders(photos / "train", photos / "unlabelled")
    config = RunConfig(
        active_batch=4,
        seed=1,
        embedding_arch="shufflenet_v2_x0_5",
        feat_dim=8,
        use_pretrained=False,
        embedding_train_num_epochs=1,
        classifier_params={"max_iter": 10},
        device="cpu",
    )
    env = ActiveLearningEnvironment(dataset, config)
    asked = []
    while not env.why_finished():
        env.read_photos()
        for step in env.stale_models():
            step()
        rows = env.choose_rows()
        asked.append(len(rows))
        dataset.relabel(rows, [TRUTH[row - 9] for row in rows])
    assert asked == [4, 2]
    assert dataset.targets[9:].tolist() == TRUTH
    assert isinstance(env.embedder, EmbeddingTrainer) and env.embeddings.shape == (15, 8)


def test_resumed_run_loads_all_three_models(start, no_work):
    first, store = start()
    assert update(first, store) == EVERYTHING
    answer(first, store)
    assert update(first, store) == ["fit_classifier"]
    no_work()
    resumed, store = start()
    assert update(resumed, store) == []
    np.testing.assert_array_equal(resumed.embeddings, first.embeddings)
    np.testing.assert_array_equal(resumed.probabilities(np.arange(18)), first.probabilities(np.arange(18)))
    assert resumed.embedder.digest() == first.embedder.digest()
    assert resumed.n_answers == 2
    assert resumed.choose_rows(2).tolist() == first.choose_rows(2).tolist()


def test_run_that_was_killed_between_two_steps_goes_on_with_the_next(start):
    first, store = start()
    next(first.stale_models())()
    first.save(store)
    resumed, store = start()
    assert resumed.embedder.digest() == first.embedder.digest()
    assert update(resumed, store) == ["embed", "fit_classifier"]


def test_run_that_was_killed_in_finetuning_does_not_mix_networks(start):
    """On disk are the finetuned network and, whole and unaltered, what the network before it had made."""
    options = {"embedding_finetuning_period": 2}
    first, store = start(**options)
    update(first, store)
    answer(first, store)
    next(first.stale_models())()
    first.save(store)
    resumed, store = start(**options)
    assert resumed.embedder.digest() == first.embedder.digest()
    assert not resumed.embeddings.size
    with pytest.raises(DataError):
        resumed.fitted()
    assert update(resumed, store) == ["embed", "fit_classifier"]
    expected = resumed.embedder.embed(resumed.dataset, np.arange(18))
    np.testing.assert_array_equal(resumed.embeddings, expected)


def test_finetuning_count_survives_a_restart(start):
    environment, store = start(embedding_finetuning_period=4)
    update(environment, store)
    answer(environment, store)
    assert update(environment, store) == ["fit_classifier"]
    environment, store = start(embedding_finetuning_period=4)
    answer(environment, store)
    assert update(environment, store) == EVERYTHING
    environment, store = start(embedding_finetuning_period=4)
    answer(environment, store)
    assert update(environment, store) == ["fit_classifier"]


@pytest.mark.parametrize(
    ("swapped", "made_again"),
    [
        ("embedding/embedding.npy", ["embed", "fit_classifier"]),
        ("classifier/classifier.npz", ["fit_classifier"]),
        ("embedding/embedding_model_weights.pt", EVERYTHING),
    ],
)
def test_older_file_put_in_the_place_of_a_newer_one_is_not_used(start, tmp_path, caplog, swapped, made_again):
    options = {"embedding_finetuning_period": 2}
    environment, store = start(**options)
    update(environment, store)
    older = shutil.copy(store.folder / swapped, tmp_path / "older")
    answer(environment, store)
    assert update(environment, store) == EVERYTHING
    shutil.copy(older, store.folder / swapped)
    caplog.clear()
    resumed, store = start(**options)
    assert any(record.levelno == logging.WARNING and swapped in record.getMessage() for record in caplog.records)
    assert update(resumed, store) == made_again
    if swapped != "embedding/embedding_model_weights.pt":
        np.testing.assert_array_equal(resumed.embeddings, environment.embeddings)
        np.testing.assert_array_equal(resumed.probabilities(np.arange(18)), environment.probabilities(np.arange(18)))


@pytest.mark.parametrize("name", ["embedding/embedding.npy", "classifier/classifier.npz"])
def test_missing_file_is_made_again(start, name):
    environment, store = start()
    update(environment, store)
    (store.folder / name).unlink()
    resumed, store = start()
    assert "fit_network" not in update(resumed, store)
    np.testing.assert_array_equal(resumed.probabilities(np.arange(18)), environment.probabilities(np.arange(18)))


def test_only_new_photos_are_embedded_on_resume(start, own_photos, monkeypatch):
    first, store = start()
    update(first, store)
    Image.new("RGB", (20, 20), "green").save(own_photos / "unlabelled" / "site0" / "a_new_one.png")
    embedded = []
    real_embed = EmbeddingTrainer.embed_batches

    def watched_embed(self, dataset, rows, precision):
        embedded.append(rows.tolist())
        return real_embed(self, dataset, rows, precision)

    monkeypatch.setattr(EmbeddingTrainer, "embed_batches", watched_embed)
    resumed, store = start()
    assert update(resumed, store) == ["embed", "fit_classifier"]
    assert embedded == [[18]]
    assert 18 in resumed.pools.unlabelled
    np.testing.assert_array_equal(resumed.embeddings[:18], first.embeddings)
    again, store = start()
    assert update(again, store) == []


def test_pixel_statistics_stay_as_they_were_at_the_first_start(start, own_photos):
    first, store = start()
    update(first, store)
    for name in ("train/deer/bright.png", "unlabelled/site0/snow.png"):
        Image.new("RGB", (20, 20), "white").save(own_photos / name)
    resumed, _ = start()
    assert len(resumed.dataset) == 20
    np.testing.assert_array_equal(resumed.embedder.pixel_mean, first.embedder.pixel_mean)
    np.testing.assert_array_equal(resumed.embedder.pixel_std, first.embedder.pixel_std)


def test_new_class_folder_gets_a_column_and_old_classes_keep_theirs(start, own_photos):
    changes = {"embedding_loss_type": "softmax"}
    first, store = start(**changes)
    update(first, store)
    (own_photos / "train" / "aardvark").mkdir()
    resumed, store = start(**changes)
    assert resumed.dataset.classes == ("badger", "deer", "fox", "wolf", "aardvark")
    assert update(resumed, store) == ["fit_classifier"]
    np.testing.assert_array_equal(resumed.embeddings, first.embeddings)
    assert resumed.probabilities(np.arange(2)).shape == (2, 5)
    assert resumed.embedder.net.classifier.weight.shape == (5, 8)


@pytest.mark.parametrize(
    "changes",
    [
        {"classifier_params": {"max_iter": 31}},
        {"normalize_embedding": False},
        {"class_weight": "balanced"},
        {"classifier": "logistic"},
        {"classifier": "mlp_fast"},
    ],
    ids=str,
)
def test_changed_classifier_settings_outdate_the_classifier_only(start, changes):
    environment, store = start()
    update(environment, store)
    resumed, store = start(**changes)
    assert update(resumed, store) == ["fit_classifier"]


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_classifier_with_a_name_is_loaded_as_it_was(start, classifier, class_weight):
    options = {"classifier": classifier, "class_weight": class_weight}
    first, store = start(**options)
    update(first, store)
    resumed, store = start(**options)
    assert update(resumed, store) == []
    np.testing.assert_array_equal(resumed.probabilities(np.arange(18)), first.probabilities(np.arange(18)))
    assert resumed.fitted().classifier.class_weight == class_weight


def test_own_estimator_is_fitted_again_on_resume_and_gives_the_same(start):
    options = {"classifier": LogisticRegression(), "classifier_params": None}
    first, store = start(**options)
    update(first, store)
    resumed, store = start(**options)
    assert update(resumed, store) == ["fit_classifier"]
    np.testing.assert_array_equal(resumed.probabilities(np.arange(18)), first.probabilities(np.arange(18)))


def test_unreadable_photo_is_set_aside_and_the_run_goes_on(start, own_photos):
    (own_photos / "unlabelled" / "site0" / "u_deer.png").write_bytes(b"no picture")  # row 10
    (own_photos / "validation" / "fox" / "v.png").write_bytes(b"")  # row 17
    environment, store = start()
    assert environment.pools.set_aside.tolist() == [10, 17]
    with (store.folder / "unreadable_images.csv").open(newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert [row["path"] for row in listed] == ["unlabelled_data/site0/u_deer.png", "validation_data/fox/v.png"]
    assert all(row["reason"] for row in listed)
    assert update(environment, store) == EVERYTHING
    assert environment.evaluate().n_images == 2
    while not environment.why_finished():
        answer(environment, store)
        update(environment, store)
    assert environment.n_answers == 5
    resumed, store = start()
    assert resumed.pools.set_aside.tolist() == [10, 17]
    assert update(resumed, store) == []


def test_only_what_changed_is_saved(start):
    environment, store = start()
    update(environment, store)
    names = ("embedding/embedding_model_weights.pt", "embedding/embedding.npy", "classifier/classifier.npz")
    before = {name: (store.folder / name).stat().st_ino for name in names}  # a file written aside is another file
    environment.save(store)
    assert {name: (store.folder / name).stat().st_ino for name in names} == before
    answer(environment, store)
    update(environment, store)
    after = {name: (store.folder / name).stat().st_ino for name in names}
    assert [name for name in names if after[name] != before[name]] == ["classifier/classifier.npz"]


def test_same_seed_gives_the_same_run_to_the_last_bit(start, tmp_path):
    results = []
    for name in ("one", "two"):
        environment, store = start(output_dir=tmp_path / name, embedding_finetuning_period=2)
        update(environment, store)
        answer(environment, store)
        update(environment, store)
        results.append((environment.embedder.digest(), environment.probabilities(np.arange(18)).tolist()))
    assert results[0] == results[1]


def test_unlabelled_paths_are_all_of_that_folder_labelled_ones_too(start, new_environment):
    environment, store = start()
    update(environment, store)
    answer(environment, store)
    photos_of_a_site = ("u_badger.png", "u_deer.png", "u_fox.png")
    assert environment.unlabelled_paths == tuple(f"site{n}/{name}" for n in (0, 1) for name in photos_of_a_site)
    assert new_environment().unlabelled_paths == ()


def test_run_needs_training_photos(small_config, tmp_path):
    store = RunStore.open(small_config(output_dir=tmp_path / "run"))
    with pytest.raises(DataError, match="train_data"):
        ActiveLearningEnvironment.start(store)


def test_classifier_that_cannot_be_fitted_says_so(new_environment):
    environment = new_environment(classifier=LogisticRegression(C=-1.0))
    with pytest.raises(ConfigError, match="LogisticRegression"):
        update(environment)


def test_a_photo_replaced_under_its_name_is_embedded_again_and_no_other(start, own_photos):
    first, store = start()
    update(first, store)
    row = list(first.dataset.catalogue.paths).index("site0/u_deer.png")
    Image.new("RGB", (30, 30), "navy").save(own_photos / "unlabelled" / "site0" / "u_deer.png")
    resumed, store = start()
    assert resumed.rows_to_embed().tolist() == [row]
    assert update(resumed, store) == ["embed", "fit_classifier"]
    changed = (resumed.embeddings != first.embeddings).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [row]


def test_a_classifier_of_another_networks_embeddings_is_refused(start):
    environment, store = start()
    update(environment, store)
    environment._embedded.network = "another"
    environment.embed()
    with pytest.raises(CheckpointError, match="another network"):
        environment.probabilities(np.array([0]))


@pytest.fixture
def decodings(monkeypatch):
    """Counts how often each photo is decoded from now on."""
    counts = Counter()

    def counted(path, squeeze):
        counts[path.parent.name + "/" + path.name] += 1
        return read_photo(path, squeeze)

    monkeypatch.setattr(image_cache, "read_photo", counted)
    return counts


@pytest.fixture
def many_photos(monkeypatch):
    """Let 18 photos be too many to look at all of them for the pixel statistics."""
    monkeypatch.setattr(pixel_statistics, "ENOUGH_PHOTOS", 10)


def names_of(environment, rows):
    return {"/".join(environment.dataset.catalogue.path(int(row)).parts[-2:]) for row in rows}


def test_of_a_large_pool_only_candidates_are_decoded_embedded_and_shown(start, many_photos, decodings):
    environment, store = start(candidate_pool=3)
    candidates = environment.candidates
    assert len(candidates) == 3 and set(candidates) < set(environment.pools.unlabelled)
    assert update(environment, store) == EVERYTHING
    in_use = [*environment.pools.labelled, *candidates, *environment.pools.validation]
    assert decodings == dict.fromkeys(names_of(environment, in_use), 1)
    assert np.flatnonzero(np.isfinite(environment.embeddings).all(axis=1)).tolist() == sorted(in_use)
    assert environment.view().unlabelled.tolist() == candidates.tolist()
    known = environment.embeddings[np.concatenate([environment.pools.labelled, candidates])]
    np.testing.assert_array_equal(environment.fitted().scaler.minimum, known.min(axis=0))


def test_candidates_are_topped_up_as_answers_use_them_up(start, many_photos, decodings):
    environment, store = start(candidate_pool=3)
    update(environment, store)
    asked_of = [set(environment.candidates)]
    while not environment.why_finished():
        answer(environment, store)
        environment.read_photos(store)
        update(environment, store)
        asked_of.append(set(environment.candidates))
    assert [len(rows) for rows in asked_of] == [3, 3, 2, 0]
    assert [len(after - before) for before, after in pairwise(asked_of)] == [2, 1, 0]
    assert set(decodings.values()) == {1}, "no photo was decoded twice"
    assert len(decodings) == 18


def test_candidates_are_decided_by_the_seed_and_are_the_same_after_a_restart(start, tmp_path):
    environment, store = start(candidate_pool=3)
    update(environment, store)
    answer(environment, store)
    again, _ = start(candidate_pool=3)
    assert again.candidates.tolist() == environment.candidates.tolist()
    others = {tuple(start(candidate_pool=3, seed=n, output_dir=tmp_path / f"{n}")[0].candidates) for n in range(8)}
    assert len(others) > 1


def test_other_photos_that_come_later_change_no_lot(start, own_photos):
    environment, store = start(candidate_pool=3)
    update(environment, store)
    Image.new("RGB", (20, 20), "green").save(own_photos / "unlabelled" / "site0" / "a_new_one.png")
    again, _ = start(candidate_pool=3)
    assert len(again.pools.unlabelled) == 7
    assert set(again.candidates) - {18} <= set(environment.candidates)


def test_unreadable_candidates_are_replaced_in_one_go(start, own_photos, caplog):
    environment, _ = start(candidate_pool=3)
    spoilt = environment.candidates[:2]
    for row in spoilt:
        environment.dataset.catalogue.path(int(row)).write_bytes(b"no picture")
    shutil.rmtree(own_photos.parent / "run")
    environment, store = start(candidate_pool=3)
    assert len(environment.candidates) == 3 and not set(environment.candidates) & set(spoilt)
    assert "2 photos cannot be read" in caplog.text
    assert update(environment, store) == EVERYTHING


def test_statistics_of_many_photos_are_those_of_a_sample_that_is_decoded_anyway(start, decodings, monkeypatch):
    monkeypatch.setattr(pixel_statistics, "ENOUGH_PHOTOS", 10)
    environment, _ = start(candidate_pool=3)
    lots = environment.questions.lots
    sample = np.argsort(lots)[:3]
    pixels = environment.dataset.cache.images(sample).reshape(-1, 3) / 255
    np.testing.assert_allclose(environment.embedder.pixel_mean, pixels.mean(axis=0), rtol=1e-5)
    assert set(decodings.values()) == {1}
    assert len(decodings) == 9 + 3 + 3


def test_statistics_of_few_photos_are_those_of_all_also_if_they_are_no_candidates(start, decodings):
    environment, store = start(candidate_pool=3)
    pixels = environment.dataset.cache.images(np.arange(18)).reshape(-1, 3) / 255
    np.testing.assert_allclose(environment.embedder.pixel_mean, pixels.mean(axis=0), rtol=1e-5)
    update(environment, store)
    environment.predict_pool()
    assert len(decodings) == 18 and set(decodings.values()) == {1}


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_photo_that_vanishes_while_the_run_goes_on_is_set_aside(start, own_photos, many_photos, mode):
    environment, store = start(image_cache=mode, candidate_pool=5)
    (left_out,) = set(environment.pools.unlabelled) - set(environment.candidates)
    vanished = environment.dataset.catalogue.path(int(left_out))
    vanished.unlink()
    (own_photos / "train" / "deer" / "t1.png").unlink()  # row 5
    update(environment, store)
    environment.predict_pool()
    environment.save(store)
    gone = {int(left_out)} if mode == "auto" else {int(left_out), 5}  # else it is in the cache
    assert set(environment.pools.set_aside) == gone
    listed = (store.folder / "unreadable_images.csv").read_text("utf-8")
    assert vanished.name in listed
    answer(environment, store)
    assert update(environment, store)[-1] == "fit_classifier"


def test_the_pool_is_predicted_whole_and_each_photo_decoded_once(start, many_photos, decodings):
    environment, store = start(candidate_pool=3)
    update(environment, store)
    predictions = environment.predict_pool()
    assert predictions.rows.tolist() == environment.pools.unlabelled.tolist()
    assert decodings == dict.fromkeys(names_of(environment, range(18)), 1)
    whole, store_of_whole = start(output_dir=store.folder.parent / "whole", candidate_pool=None)
    whole._embedded.network, whole.embedder = environment._embedded.network, environment.embedder
    exact = environment.calibrated.probabilities(environment.embedder.embed(whole.dataset, predictions.rows))
    np.testing.assert_allclose(predictions.confidence, exact.max(axis=1), atol=1e-5)
    assert predictions.first.tolist() == exact.argmax(axis=1).tolist()
    assert store_of_whole.folder != store.folder


@pytest.mark.parametrize("candidate_pool", [None, 4])
def test_sequences_are_judged_by_their_photos_and_published_with_how_they_are_found(start, candidate_pool):
    """Unlabelled rows 9 to 14 are two bursts, the photo 13 is in none."""
    environment, store = start(candidate_pool=candidate_pool, sequence_gap=20, site_level=1)
    update(environment, store)
    environment.save(store)
    publish(environment, store)
    assert columns_of(store)[-1] == "decision", "nothing is known of sequences"
    sequences = np.full(len(environment.dataset), -1)
    sequences[9:15] = [0, 0, 0, 7, -1, 7]
    environment.dataset.catalogue = replace(environment.dataset.catalogue, sequences=sequences)
    rows = environment.candidates
    publish(environment, store)
    assert columns_of(store)[-3:] == ["sequence", "sequence_species", "sequence_confidence"]
    found = environment.predict_candidates()
    assert found.rows.tolist() == rows.tolist()
    probabilities = environment.calibrated.probabilities(environment.embeddings[rows])
    for row, number, confidence in zip(rows, found.of_sequences.numbers, found.of_sequences.confidence, strict=True):
        assert number == sequences[row]
        burst = probabilities[sequences[rows] == number] if number >= 0 else probabilities[rows == row]
        mean = np.exp(np.log(np.maximum(burst, 2.0**-23)).mean(axis=0)) * (burst > 0).any(axis=0)
        assert confidence == pytest.approx((mean / mean.sum()).max(), abs=1e-5)
    whole = environment.predict_pool()
    assert whole.of_sequences.numbers.tolist() == sequences[whole.rows].tolist()
    described = json.loads((store.folder / "export" / "model.json").read_text())["sequences"]
    assert described == {
        **{"gap": 20.0, "pattern": None, "site_level": 1, "temperature": 1.0, "source": "nothing", "n_sequences": 0},
        **{"ece_before": None, "ece_after": None},
    }


def columns_of(store):
    return (store.folder / "predictions.csv").read_text("utf-8").splitlines()[0].split(",")


def test_what_was_predicted_once_is_not_embedded_again_with_new_labels(start, no_work, monkeypatch):
    environment, store = start(candidate_pool=4)
    update(environment, store)
    environment.predict_pool()
    answer(environment, store)
    environment.read_photos(store)
    update(environment, store)
    resumed, _ = start(candidate_pool=4)
    no_work()
    assert resumed.predict_pool().rows.tolist() == environment.pools.unlabelled.tolist()


def test_candidates_in_bf16_are_embedded_again_when_they_are_labelled(start, monkeypatch):
    embedded = []
    embed = EmbeddingTrainer.embed_batches

    def watched(self, dataset, rows, precision="fp32"):
        embedded.append((precision, sorted(rows.tolist())))
        return embed(self, dataset, rows, precision)

    monkeypatch.setattr(EmbeddingTrainer, "embed_batches", watched)
    environment, store = start(precision="bf16")
    update(environment, store)
    assert embedded == [("fp32", [*range(9), 15, 16, 17]), ("bf16", [*range(9, 15)])]
    embedded.clear()
    query = environment.ask(store)
    answer(environment, store)
    update(environment, store)
    assert embedded == [("fp32", sorted(query.rows.tolist()))]
    embedded.clear()
    predictions = environment.predict_pool()
    assert embedded == [("fp32", predictions.rows.tolist())]
    in_fp32, _ = start(precision="fp32")
    assert in_fp32.rows_to_embed().tolist() == environment.pools.unlabelled.tolist()


class ColourEmbedderWithAWayBack(ColourEmbedder):
    def snapshot(self):
        return self.weights

    def restore(self, snapshot):
        self.weights = snapshot


@pytest.fixture
def judged(dataset, small_config, monkeypatch):
    """Function that makes an environment whose gate judges finetunings, after each answer, as it is told."""

    def make(*verdicts, **changes):
        monkeypatch.setattr(finetuning_gate, "FEWEST_HELD_OUT", 1)
        to_come = iter(verdicts)
        monkeypatch.setattr(finetuning_gate, "compare_networks", lambda *args: next(to_come))
        config = small_config(classifier=LogisticRegression(), embedding_finetuning_period=1, **changes)
        environment = ActiveLearningEnvironment(dataset, config, ColourEmbedderWithAWayBack())
        environment.read_photos()
        return environment

    return make


def test_a_finetuning_that_makes_it_worse_changes_nothing(judged, caplog):
    worse, better = GateVerdict(0.8, 0.5, 0.1), GateVerdict(0.8, 0.9, 0.1)
    environment = judged(worse, better)
    update(environment)
    embeddings, weights = environment.embeddings, environment.embedder.weights
    environment.apply(Answer({9: 0}))
    assert update(environment) == ["fit_network", "fit_classifier"]
    assert "is undone" in caplog.text
    np.testing.assert_array_equal(environment.embeddings, embeddings)
    assert environment.embedder.weights == weights
    assert update(environment) == [], "it is not tried again before the next period is over"
    environment.apply(Answer({10: 1}))
    assert update(environment) == EVERYTHING, "this one passes"
    assert environment.embedder.weights > weights
    expected = environment.embedder.embed(environment.dataset, np.arange(18))
    np.testing.assert_array_equal(environment.embeddings, expected)


def test_without_the_gate_a_finetuned_network_is_taken_as_it_is(judged):
    environment = judged(finetuning_gate=False)
    update(environment)
    environment.apply(Answer({9: 0}))
    assert update(environment) == EVERYTHING
    assert environment.embedder.trained_on[1] == [*range(9), 9]


def test_unmeasured_validation_photos_are_not_embedded(new_environment):
    environment = new_environment(validate_model=False)
    update(environment)
    assert np.flatnonzero(np.isnan(environment.embeddings).any(axis=1)).tolist() == [15, 16, 17]


def test_a_bf16_run_that_goes_on_with_auto_on_a_cpu_embeds_its_candidates_again(start):
    environment, store = start(precision="bf16")
    update(environment, store)
    resumed, _ = start(precision="auto")
    assert resumed.rows_to_embed().tolist() == environment.pools.unlabelled.tolist()


def test_a_network_that_embeds_nothing_is_an_error_and_no_endless_loop(new_environment, monkeypatch):
    environment = new_environment()
    monkeypatch.setattr(environment._embedded, "make", lambda rows, precision: None)
    with pytest.raises(DataError, match="none of 18 photos"):
        update(environment)


def test_training_photos_that_all_vanish_are_told_of(start, own_photos, monkeypatch):
    environment, store = start(image_cache="off")
    for photo in (own_photos / "train").glob("*/*.png"):
        photo.unlink()
    with pytest.raises(DataError, match="No labelled photo can be read"):
        update(environment, store)


def test_a_drive_that_goes_while_the_run_goes_on_costs_nothing(start, own_photos, tmp_path):
    environment, store = start(image_cache="off")
    update(environment, store)
    answer(environment, store)
    gone = (own_photos / "unlabelled").rename(tmp_path / "gone")
    environment._embedded.network = "as after a training"  # so that everything is to be embedded again
    with pytest.raises(DataError, match="cannot be reached any more"):
        update(environment, store)
    assert not len(environment.pools.set_aside)
    gone.rename(own_photos / "unlabelled")
    resumed, store = start(image_cache="off")
    assert resumed.n_answers == 2 and not len(resumed.pools.set_aside)
    assert update(resumed, store) == ["fit_classifier"]
