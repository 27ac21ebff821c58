import numpy as np
import pytest
import torch

from camera_trap_al.deep_learning.batches import training_batches
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.training import EpochSummary, late_distance


@pytest.fixture
def new_training(dataset, small_config):
    """Function that makes a training of the small network, with batches of four photos to run it on."""

    def make(device="cpu", **changes):
        trainer = EmbeddingTrainer(small_config(**changes), 4, torch.device(device))
        rows, rng = dataset.pools.labelled, np.random.default_rng(0)
        training = trainer._new_training(dataset, rows, trainer._config.training, seed=1)
        return training, list(training_batches(dataset, [[0, 1, 4, 5], [2, 3, 7, 8]], rng, trainer.device))

    return make


def test_an_epoch_is_summed_up_for_people():
    assert str(EpochSummary(0.51234, 0.25, 3.21987)) == "loss 0.5123, active 25 %, mean distance 3.220"


def test_nothing_has_collapsed_before_the_first_epoch(new_training):
    training, _ = new_training()
    assert not training.has_collapsed and training.history == []


@pytest.mark.parametrize(("late", "collapsed"), [(0.099, True), (0.101, False), (5.0, False), (float("nan"), False)])
def test_a_collapse_is_less_than_a_tenth_of_the_distance_at_the_start(new_training, late, collapsed):
    training, _ = new_training()
    training.first_distance, training.late_distance = 1.0, late
    assert training.has_collapsed == collapsed


@pytest.mark.parametrize(
    ("distances", "n_photos", "expected"),
    [
        ([3.0], [10], 3.0),
        ([9.0, 9.0, 2.0, 4.0], [10, 10, 10, 10], (9 + 2 + 4) / 3),  # from the batch before the middle on
        ([9.0, 5.0, 1.0], [10, 10, 10], 3.0),
        ([2.0, 0.0], [126, 2], 2 * 126 / 128),  # two photos of one burst at the end say nothing
    ],
)
def test_the_late_distance_is_that_of_the_second_half(distances, n_photos, expected):
    assert late_distance(torch.tensor(distances), n_photos) == pytest.approx(expected)


def test_the_first_distance_is_that_of_the_first_batch_before_any_step(new_training, dataset):
    training, batches = new_training()
    with torch.no_grad():
        images = batches[0].augmentation.apply(batches[0].images, training._normalise)
        training._net.train()
        expected = torch.pdist(training._net(images)).mean().item()
    training, batches = new_training()
    training.run_epoch(batches, dataset.targets)
    training.run_epoch(batches, dataset.targets)
    assert training.first_distance == pytest.approx(expected, rel=1e-4)
    assert len(training.history) == 2


def test_an_epoch_without_batches_leaves_everything_as_it_was(new_training, dataset):
    training, _ = new_training()
    training.run_epoch([], dataset.targets)
    assert training.history == [] and not training.has_collapsed


def test_the_optimisers_moments_are_given_on_the_cpu(new_training, dataset):
    training, batches = new_training()
    training.run_epoch(batches, dataset.targets)
    state = training.optimizer_state()
    assert {tensor.device.type for of_one in state["state"].values() for tensor in of_one.values()} == {"cpu"}
    assert state["param_groups"][0]["lr"] == pytest.approx(0.001)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("strategy", ["hardest", "random", "semi_hard"])
def test_no_step_waits_for_the_gpu(new_training, dataset, strategy):
    training, batches = new_training("cuda", embedding_loss_data_strategy=strategy)
    training.run_epoch(batches, dataset.targets)  # the first step measures how much memory is needed
    torch.cuda.set_sync_debug_mode("error")
    try:
        training._step(batches[0], dataset.targets[batches[0].rows])
    finally:
        torch.cuda.set_sync_debug_mode("default")
