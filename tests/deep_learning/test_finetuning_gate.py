import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedder import Embedder
from camera_trap_al.deep_learning.finetuning_gate import GateVerdict, compare_networks, finetune, hold_out

STAGE = RunConfig().finetuning


def rng(seed=0):
    return np.random.default_rng(seed)


@given(
    targets=st.lists(st.integers(0, 5), min_size=5, max_size=80),
    group_size=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_whole_groups_are_held_out_and_some_photo_of_each_class_stays(targets, group_size, seed):
    targets = np.array(targets)
    groups = rng(seed).permutation(np.arange(len(targets)) // group_size)
    is_held_out = hold_out(targets, groups, rng(seed))
    n_held_out = np.count_nonzero(is_held_out)
    assert n_held_out <= round(0.2 * len(targets))
    assert (np.bincount(targets[is_held_out], minlength=6) <= np.bincount(targets, minlength=6) / 3).all()
    in_whole_groups = not set(groups[is_held_out]) & set(groups[~is_held_out])
    in_single_photos = hold_out(targets, np.arange(len(targets)), rng(seed))
    assert in_whole_groups or n_held_out == np.count_nonzero(in_single_photos)


def test_of_training_photos_and_answers_alike_a_fifth_is_held_out():
    """10 classes of 500 training photos, each its own group, and 2,000 answers at 100 sites."""
    targets = np.concatenate([np.repeat(np.arange(10), 500), rng().integers(0, 10, 2000)])
    groups = np.concatenate([np.arange(5000), 5000 + np.arange(2000) // 20])
    for seed in range(5):
        is_held_out = hold_out(targets, groups, rng(seed))
        of_class = np.bincount(targets[is_held_out]) / np.bincount(targets)
        assert np.count_nonzero(is_held_out) == pytest.approx(1400, abs=20)
        assert of_class.min() > 0.1 and of_class.max() <= 1 / 3
        assert 0.1 < is_held_out[5000:].mean() < 0.35


def test_a_fifth_is_held_out():
    targets, groups = np.repeat(np.arange(4), 50), np.arange(200) // 5
    for seed in range(20):
        is_held_out = hold_out(targets, groups, rng(seed))
        assert np.count_nonzero(is_held_out) == 40
        assert not set(groups[is_held_out]) & set(groups[~is_held_out])
    assert len({tuple(hold_out(targets, groups, rng(seed))) for seed in range(20)}) == 20, "at random"


def test_single_photos_are_held_out_where_each_class_lies_in_one_folder(caplog):
    targets = np.repeat(np.arange(4), 25)
    with caplog.at_level(logging.INFO):
        is_held_out = hold_out(targets, targets, rng())
    assert np.count_nonzero(is_held_out) == 20
    assert "too few folders" in caplog.text


def embeddings_of(targets, noise, seed):
    """Classes that lie apart, blurred by noise."""
    centres = rng(99).normal(size=(targets.max() + 1, 8))
    return (centres[targets] + noise * rng(seed).normal(size=(len(targets), 8))).astype(np.float32)


def plain_macro_f1(embeddings, targets, is_held_out):
    scaler = StandardScaler().fit(embeddings[~is_held_out])
    probe = LogisticRegression(max_iter=1000).fit(scaler.transform(embeddings[~is_held_out]), targets[~is_held_out])
    predicted = probe.predict(scaler.transform(embeddings[is_held_out]))
    return predicted, f1_score(
        targets[is_held_out], predicted, labels=np.unique(targets[is_held_out]), average="macro", zero_division=0
    )


@pytest.fixture
def labelled():
    """240 photos of 6 classes in 80 folders, of which 16 are held out."""
    targets, groups = rng(1).permutation(np.arange(240) % 6), np.arange(240) // 3
    return targets, groups, np.isin(groups, np.arange(0, 80, 5))


def test_macro_f1_is_that_of_scikit_learn(labelled):
    targets, groups, is_held_out = labelled
    old, new = embeddings_of(targets, 1.0, 1), embeddings_of(targets, 2.0, 2)
    verdict = compare_networks(old, new, targets, groups, is_held_out, rng())
    assert verdict.old_macro_f1 == pytest.approx(plain_macro_f1(old, targets, is_held_out)[1])
    assert verdict.new_macro_f1 == pytest.approx(plain_macro_f1(new, targets, is_held_out)[1])


def test_the_standard_error_is_that_of_a_bootstrap_over_folders(labelled):
    """The reference draws folders one by one, in a loop."""
    targets, groups, is_held_out = labelled
    old, new = embeddings_of(targets, 1.0, 1), embeddings_of(targets, 2.0, 2)
    verdict = compare_networks(old, new, targets, groups, is_held_out, rng())
    truth, folders = targets[is_held_out], groups[is_held_out]
    predicted = [plain_macro_f1(each, targets, is_held_out)[0] for each in (old, new)]
    differences = []
    generator = rng(5)
    for _ in range(1000):
        drawn = generator.choice(np.unique(folders), len(np.unique(folders)))
        photos = np.concatenate([np.flatnonzero(folders == folder) for folder in drawn])
        scores = [
            f1_score(truth[photos], each[photos], labels=np.unique(truth[photos]), average="macro", zero_division=0)
            for each in predicted
        ]
        differences.append(scores[1] - scores[0])
    assert verdict.standard_error == pytest.approx(np.std(differences), rel=0.12)  # of 500 and 1000 draws: 3.9 %


@pytest.mark.parametrize(("new", "passes"), [(0.90, True), (0.79, True), (0.7801, True), (0.7799, False)])
def test_a_network_passes_unless_it_is_worse_by_more_than_one_standard_error(new, passes):
    assert GateVerdict(old_macro_f1=0.8, new_macro_f1=new, standard_error=0.02).passes == passes


def test_one_known_class_is_no_obstacle():
    targets, groups = np.zeros(20, np.int64), np.arange(20)
    verdict = compare_networks(np.ones((20, 2)), np.ones((20, 2)), targets, groups, groups < 4, rng())
    assert verdict.passes and verdict.old_macro_f1 == 1.0


class Noisy(Embedder):
    """A network that gives a photo its mean colours, blurred by a noise that `fit` sets."""

    def __init__(self, noise_after_fit):
        self.noise, self.noise_after_fit, self.trained_on = 0.0, noise_after_fit, None

    def fit(self, dataset, rows, stage, rng):
        self.trained_on, self.noise = rows, self.noise_after_fit

    def embed_batches(self, dataset, rows, precision="fp32"):
        colours = dataset.images(rows).float().mean(dim=(2, 3)).numpy() / 255
        yield colours + self.noise * rng(1).normal(size=colours.shape).astype(np.float32)

    def digest(self):
        return str(self.noise)

    def snapshot(self):
        return self.noise

    def restore(self, snapshot):
        self.noise = snapshot


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """120 photos of three colours in 30 folders of the same class each."""
    folder, generator = tmp_path_factory.mktemp("colours"), rng()
    for number in range(120):
        channel, site = number % 3, number // 12
        pixels = generator.integers(0, 80, (8, 8, 3))
        pixels[..., channel] += 100
        path = folder / "rgb"[channel] / f"site{site}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return ExtendedImageFolder.from_folders(folder, num_workers=1, image_cache="memory")


def finetuned(network, dataset):
    rows = dataset.pools.labelled
    return finetune(network, dataset, rows, STAGE, rng(), network.embed(dataset, rows))


def test_a_network_that_got_worse_is_undone(colours, caplog):
    network = Noisy(noise_after_fit=1.0)
    assert finetuned(network, colours) is None
    assert network.noise == 0.0
    assert "made the network worse and is undone" in caplog.text


def test_a_network_that_is_as_good_replaces_the_old_one(colours, caplog):
    network = Noisy(noise_after_fit=0.001)
    with caplog.at_level(logging.INFO):
        new = finetuned(network, colours)
    assert network.noise == 0.001
    assert "replaces the old one" in caplog.text
    np.testing.assert_array_equal(new, network.embed(colours, colours.pools.labelled))


def test_what_is_held_out_is_not_trained_on(colours):
    network = Noisy(noise_after_fit=0.001)
    finetuned(network, colours)
    folders = colours.groups(np.arange(120))
    held_out = np.setdiff1d(np.arange(120), network.trained_on)
    assert len(held_out) == 24
    assert not set(folders[held_out]) & set(folders[network.trained_on])


def test_a_network_that_stayed_as_it_was_is_not_judged(colours, caplog):
    with caplog.at_level(logging.INFO):
        assert finetuned(Noisy(noise_after_fit=0.0), colours) is None
    assert "macro F1" not in caplog.text


@pytest.mark.parametrize("why", ["few photos", "no way back"])
def test_where_nothing_can_be_judged_all_photos_are_learnt_from(dataset, colours, caplog, monkeypatch, why):
    network = Noisy(noise_after_fit=1.0)
    data = dataset if why == "few photos" else colours
    if why == "no way back":
        monkeypatch.setattr(Noisy, "snapshot", lambda self: None)
    with caplog.at_level(logging.INFO):
        assert finetuned(network, data) is None
    assert network.trained_on.tolist() == data.pools.labelled.tolist()
    assert network.noise == 1.0
    assert "accepted as it comes" in caplog.text
