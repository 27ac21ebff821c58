import io
import logging

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning import training
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.training import Training
from camera_trap_al.exceptions import DataError
from camera_trap_al.pools import Role

CLASSES = ("badger", "deer", "fox", "wolf")
CHECKPOINT_KEYS = {  # DESIGN.md 8; another program reads them
    "arch_name",
    "embedding_model_state_dict",
    "feat_dim",
    "num_classes",
    "classes",
    "class_to_idx",
    "optimizer_state_dict",
    "loss_type",
    "loss_func_strategy",
    "loss_func_margin",
}
LOSSES = [("softmax", "random"), ("softmax", "hard_pair"), ("siamese", "hard_pair")] + [
    (loss_type, strategy) for loss_type in ("triplet", "siamese") for strategy in ("hardest", "random", "semi_hard")
]


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def new_trainer(small_config, cpu):
    """Function that makes a trainer of the small network, with changed settings as its arguments say."""

    def make(checkpoint=None, n_classes=4, **changes):
        return EmbeddingTrainer(small_config(**changes), n_classes, cpu, checkpoint)

    return make


def fitted(trainer, dataset, rows, config, seed=0):
    trainer.fit(dataset, np.asarray(rows), config.training, rng(seed))
    return trainer


def through_a_file(checkpoint):
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def mean_distance(embeddings):
    return torch.pdist(torch.from_numpy(embeddings)).mean().item()


def test_training_changes_the_weights_and_summarises_each_epoch(new_trainer, dataset, small_config, caplog):
    config = small_config(embedding_train_num_epochs=2)
    trainer = new_trainer()
    before = {name: weights.clone() for name, weights in trainer.net.state_dict().items()}
    with caplog.at_level(logging.INFO, "camera_trap_al"):
        fitted(trainer, dataset, dataset.pools.labelled, config)
    assert any(not torch.equal(before[name], weights) for name, weights in trainer.net.named_parameters())
    assert len(trainer.history) == 2
    assert all(np.isfinite(epoch.loss) and 0 <= epoch.active_share <= 1 for epoch in trainer.history)
    assert f"train epoch 2/2: loss {trainer.history[1].loss:.4f}" in caplog.text


def test_epoch_summary_is_the_mean_over_its_batches(new_trainer, dataset, small_config, monkeypatch):
    """Nine photos in balanced batches of four are three steps, whose loss and spread the summary averages."""
    steps = []
    real_step = Training._step
    monkeypatch.setattr(Training, "_step", lambda *args: steps.append(real_step(*args)) or steps[-1])
    options = {"balanced_loader_num_classes": 2, "balanced_loader_num_samples": 2}
    config = small_config(embedding_train_loader_type="balanced", **options)
    trainer = fitted(new_trainer(**options), dataset, dataset.pools.labelled, config)
    assert len(steps) == 3
    (epoch,) = trainer.history
    means = np.mean([step.tolist() for step in steps], axis=0)
    np.testing.assert_allclose([epoch.loss, epoch.active_share, epoch.mean_distance], means, rtol=1e-6)


def test_mean_distance_is_that_of_all_pairs():
    embeddings = rng().normal(size=(5, 3)).astype(np.float32)
    pairs = [np.linalg.norm(embeddings[i] - embeddings[j]) for i in range(5) for j in range(i)]
    assert training._mean_distance(torch.from_numpy(embeddings)).item() == pytest.approx(np.mean(pairs))
    assert training._mean_distance(torch.zeros(1, 3)).item() == 0  # one photo has no pair


@pytest.mark.parametrize("arch_name", ["shufflenet_v2_x0_5", "squeezenet1_1"])  # the second draws dropout
def test_same_seed_gives_the_same_weights_to_the_last_bit(new_trainer, dataset, small_config, arch_name):
    rows, config = dataset.pools.labelled, small_config()
    first, second, other = (
        fitted(new_trainer(embedding_arch=arch_name), dataset, rows, config, seed).digest() for seed in (5, 5, 6)
    )
    assert first == second
    assert first != other


def test_seed_of_the_run_decides_the_new_layers(new_trainer):
    for loss_type in ("triplet", "softmax"):
        options = {"embedding_loss_type": loss_type}
        assert new_trainer(seed=1, **options).digest() == new_trainer(seed=1, **options).digest()
        assert new_trainer(seed=1, **options).digest() != new_trainer(seed=2, **options).digest()


def test_global_generators_are_left_as_they_were(new_trainer, dataset, small_config, monkeypatch):
    def seed_every_gpu(seed):
        raise AssertionError("the generators of all GPUs were seeded, and nothing puts them back")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seed_every_gpu)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    trainer = fitted(
        new_trainer(embedding_arch="squeezenet1_1", embedding_loss_type="softmax"),
        dataset,
        dataset.pools.labelled,
        small_config(),
    )
    trainer.embed(dataset, np.arange(2))
    assert torch.equal(torch.get_rng_state(), torch_before)
    for now, before in zip(np.random.get_state(), numpy_before, strict=True):  # noqa: NPY002
        assert np.array_equal(now, before)


def test_training_does_not_depend_on_the_global_generators(new_trainer, dataset, small_config):
    digests = set()
    for global_seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(global_seed)
            trainer = new_trainer(embedding_arch="squeezenet1_1")
            digests.add(fitted(trainer, dataset, dataset.pools.labelled, small_config()).digest())
    assert len(digests) == 1


@pytest.mark.parametrize(("loss_type", "strategy"), LOSSES)
def test_every_loss_and_strategy_trains(new_trainer, dataset, small_config, loss_type, strategy):
    changes = {"embedding_loss_type": loss_type, "embedding_loss_data_strategy": strategy}
    trainer = new_trainer(**changes)
    before = trainer.digest()
    fitted(trainer, dataset, dataset.pools.labelled, small_config(**changes))
    assert trainer.digest() != before
    assert np.isfinite(trainer.embed(dataset, np.arange(18))).all()


@pytest.mark.parametrize("loader_type", ["single", "balanced"])
@pytest.mark.parametrize("loss", [("softmax", "random"), ("triplet", "hardest"), ("siamese", "hard_pair")])
@pytest.mark.parametrize("rows", [[0, 1, 2], [4]], ids=["one class", "one photo"])
def test_one_class_and_one_photo_can_be_trained_on(new_trainer, dataset, small_config, rows, loss, loader_type):
    changes = {
        "embedding_loss_type": loss[0],
        "embedding_loss_data_strategy": loss[1],
        "balanced_loader_num_samples": 1,
        "embedding_train_loader_type": loader_type,
    }
    trainer = fitted(new_trainer(**changes), dataset, rows, small_config(**changes))
    assert np.isfinite(trainer.history[0].loss)
    assert np.isfinite(trainer.embed(dataset, np.arange(3))).all()


@pytest.mark.parametrize("rows", [[], [0, 9]], ids=["no photo", "a photo without label"])
def test_training_needs_labelled_photos(new_trainer, dataset, small_config, rows):
    with pytest.raises(DataError, match="labelled photos"):
        fitted(new_trainer(), dataset, np.array(rows, np.int64), small_config())


def test_no_epochs_leave_the_network_as_it_is(new_trainer, dataset, small_config):
    trainer = new_trainer()
    before = trainer.digest()
    fitted(trainer, dataset, dataset.pools.labelled, small_config(embedding_train_num_epochs=0))
    assert trainer.digest() == before
    assert trainer.history == ()


def test_each_training_has_a_new_optimizer_with_its_own_rates(new_trainer, dataset, small_config, monkeypatch):
    made = []

    class CountedAdam(torch.optim.Adam):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(torch.optim, "Adam", CountedAdam)
    config = small_config(
        embedding_train_lr=0.25,
        embedding_train_weight_decay=0.5,
        embedding_finetuning_lr=0.125,
        embedding_finetuning_weight_decay=0.75,
    )
    trainer = new_trainer()
    for stage in (config.training, config.finetuning):
        trainer.fit(dataset, dataset.pools.labelled, stage, rng())
    assert [(adam.defaults["lr"], adam.defaults["weight_decay"]) for adam in made] == [(0.25, 0.5), (0.125, 0.75)]
    assert made[0] is not made[1]
    assert next(iter(made[1].state.values()))["step"] == 1  # one balanced batch: it counts from the start


def plain_embeddings(net, photos, mean, std):
    """What the documentation says: centre crop of 224, pixels between 0 and 1, standardised, evaluation mode."""
    pixels = photos[:, :, 16:240, 16:240].double() / 255
    standardised = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        return net.eval()(standardised.float()).numpy()


@pytest.mark.parametrize("loss_type", ["triplet", "softmax"])
@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_embeddings_equal_a_plain_forward_whatever_the_batch_size(new_trainer, dataset, batch_size, loss_type):
    trainer = new_trainer(extract_embedding_batch_size=batch_size, embedding_loss_type=loss_type)
    mean, std = [0.4, 0.3, 0.2], [0.2, 0.25, 0.3]
    trainer.pixel_mean, trainer.pixel_std = np.array(mean, np.float32), np.array(std, np.float32)
    rows = np.array([16, 3, 12, 0, 1, 2, 9, 17])
    found = trainer.embed(dataset, rows)
    net = trainer.net.embedding if loss_type == "softmax" else trainer.net
    assert found.dtype == np.float32 and found.shape == (8, 8)
    np.testing.assert_allclose(found, plain_embeddings(net, dataset.images(rows), mean, std), atol=1e-5)


def test_no_rows_have_no_embeddings(new_trainer, dataset):
    assert new_trainer().embed(dataset, np.zeros(0, np.int64)).shape == (0, 8)


def test_embedding_changes_nothing(new_trainer, dataset):
    trainer = new_trainer()
    before = trainer.digest()  # running means of batch normalisation included
    trainer.embed(dataset, np.arange(18))
    assert trainer.digest() == before


def test_trial_embedding_takes_some_time(new_trainer, dataset):
    assert 0 < new_trainer().seconds_per_photo(dataset.cache.images(np.arange(2))) < 60


def test_softmax_trains_a_linear_layer_on_the_positive_part_of_the_embedding(new_trainer, dataset):
    trainer = new_trainer(embedding_loss_type="softmax")
    rows = np.arange(3)
    embeddings = torch.from_numpy(trainer.embed(dataset, rows))
    head = trainer.net.classifier
    expected = embeddings.clamp(min=0) @ head.weight.T + head.bias
    mean, std = torch.tensor(0.5), torch.tensor(0.25)  # the trainer's own before it is told others
    images = (dataset.images(rows)[:, :, 16:240, 16:240] / 255 - mean) / std
    assert head.weight.shape == (4, 8)
    with torch.no_grad():
        torch.testing.assert_close(trainer.net.eval()(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss_type", ["triplet", "softmax"])
def test_checkpoint_is_what_other_programs_read(new_trainer, dataset, small_config, loss_type):
    changes = {"embedding_loss_type": loss_type, "embedding_loss_margin": 0.5}
    trainer = fitted(new_trainer(**changes), dataset, dataset.pools.labelled, small_config(**changes))
    checkpoint = through_a_file(trainer.checkpoint(CLASSES))
    state = checkpoint.pop("embedding_model_state_dict")
    optimizer_state = checkpoint.pop("optimizer_state_dict")
    assert checkpoint.keys() | {"embedding_model_state_dict", "optimizer_state_dict"} == CHECKPOINT_KEYS
    assert checkpoint == {
        "arch_name": "shufflenet_v2_x0_5",
        "feat_dim": 8,
        "num_classes": 4,
        "classes": list(CLASSES),
        "class_to_idx": {"badger": 0, "deer": 1, "fox": 2, "wolf": 3},
        "loss_type": loss_type,
        "loss_func_strategy": "random",
        "loss_func_margin": 0.5,
    }
    prefix = "module.embedding.inner_model." if loss_type == "softmax" else "module.inner_model."
    names = {f"{prefix}{name}" for name in models.shufflenet_v2_x0_5().state_dict()}
    head = {"module.classifier.weight", "module.classifier.bias"} if loss_type == "softmax" else set()
    assert state.keys() == names | head
    assert optimizer_state.keys() == {"state", "param_groups"} and optimizer_state["state"]


def other_programs_model(arch_name, feat_dim, loss_type):
    """The model as the Animal Classifier Pipeline builds it, from torchvision alone (DESIGN.md 8)."""
    options = {"init_weights": False} if arch_name in ("inception_v3", "vgg11") else {}
    backbone = models.get_model(arch_name, weights=None, **options)
    if arch_name in ("vgg11", "alexnet"):
        backbone.classifier[6] = nn.Linear(4096, feat_dim)
    elif arch_name == "densenet121":
        backbone.classifier = nn.Linear(backbone.classifier.in_features, feat_dim)
    else:
        backbone.fc = nn.Linear(backbone.fc.in_features, feat_dim)

    class Embedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner_model = backbone

        def forward(self, images):
            return self.inner_model(images)

    class Softmax(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = Embedding()
            self.classifier = nn.Linear(feat_dim, len(CLASSES))

        def forward(self, images):
            return self.classifier(torch.relu(self.embedding(images)))

    return nn.DataParallel(Softmax() if loss_type == "softmax" else Embedding())


@pytest.mark.parametrize("arch_name", ["resnet18", "densenet121", "vgg11", "alexnet", "inception_v3"])
def test_checkpoint_loads_strictly_into_a_model_built_from_torchvision_alone(new_trainer, dataset, arch_name):
    for loss_type in ("triplet", "softmax"):
        trainer = new_trainer(embedding_arch=arch_name, embedding_loss_type=loss_type)
        theirs = other_programs_model(arch_name, 8, loss_type)
        theirs.load_state_dict(trainer.checkpoint(CLASSES)["embedding_model_state_dict"], strict=True)
        images = dataset.images([0, 9])[:, :, 16:240, 16:240] / 255
        with torch.no_grad():
            expected = theirs.eval()(images)
            torch.testing.assert_close(trainer.net.eval()(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arch_name", ["shufflenet_v2_x0_5", "mnasnet0_5", "squeezenet1_1", "mobilenet_v3_small"])
@pytest.mark.parametrize("loss_type", ["triplet", "softmax"])
def test_trainer_goes_on_from_a_checkpoint(new_trainer, dataset, small_config, arch_name, loss_type):
    changes = {"embedding_arch": arch_name, "embedding_loss_type": loss_type}
    trainer = fitted(new_trainer(**changes), dataset, dataset.pools.labelled, small_config(**changes))
    again = new_trainer(through_a_file(trainer.checkpoint(CLASSES)), **(changes | {"seed": 2}))
    assert again.digest() == trainer.digest()
    np.testing.assert_array_equal(again.embed(dataset, np.arange(5)), trainer.embed(dataset, np.arange(5)))
    for one in (trainer, again):
        fitted(one, dataset, dataset.pools.labelled, small_config(**changes), seed=3)
    assert again.digest() == trainer.digest()


def test_checkpoint_needs_no_pretrained_weights(new_trainer, tmp_path, monkeypatch):
    """A run that began with downloaded weights goes on where there is no network, and without the weights file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: pytest.fail("asked for weights"))
    checkpoint = new_trainer().checkpoint(CLASSES)
    assert new_trainer(checkpoint, use_pretrained=True).digest() == new_trainer().digest()


def test_new_classes_keep_what_the_head_knows_of_the_old_ones(new_trainer, dataset, small_config):
    changes = {"embedding_loss_type": "softmax"}
    trainer = fitted(new_trainer(n_classes=3, **changes), dataset, dataset.pools.labelled, small_config(**changes))
    grown = new_trainer(trainer.checkpoint(CLASSES[:3]), n_classes=5, **changes)
    assert grown.net.classifier.weight.shape == (5, 8)
    assert torch.equal(grown.net.classifier.weight[:3], trainer.net.classifier.weight)
    assert torch.equal(grown.net.classifier.bias[:3], trainer.net.classifier.bias)
    np.testing.assert_array_equal(grown.embed(dataset, np.arange(4)), trainer.embed(dataset, np.arange(4)))
    fitted(grown, dataset, dataset.pools.labelled, small_config(**changes))  # the new rows are trained like the others


def shrinking(trainer):
    """Make a network fail: whatever it learns, its last layer comes out 20 times smaller at each step."""
    final = trainer.net.get_submodule(f"inner_model.{trainer.net.final_layer}")
    step = torch.optim.Adam.step

    def shrinking_step(self, *args, **kwargs):
        step(self, *args, **kwargs)
        with torch.no_grad():
            final.weight *= 0.05
            final.bias *= 0.05

    return shrinking_step


def test_a_collapse_is_undone_and_the_run_goes_on(new_trainer, dataset, small_config, monkeypatch, caplog):
    trainer = new_trainer()
    rows, config = dataset.pools.labelled, small_config(embedding_train_num_epochs=5)
    fitted(trainer, dataset, rows, small_config())  # something to go back to, with an optimiser's state
    before, state = trainer.digest(), trainer.optimizer_state
    monkeypatch.setattr(torch.optim.Adam, "step", shrinking(trainer))
    fitted(trainer, dataset, rows, config)
    assert trainer.digest() == before
    assert trainer.optimizer_state is state
    assert len(trainer.history) == 2, "the second epoch sees what the first did, and is the last"
    assert trainer.history[1].mean_distance < 0.1 * trainer.history[0].mean_distance
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "fell into one point" in warning and "embedding_train_lr" in warning
    monkeypatch.undo()
    fitted(trainer, dataset, rows, small_config())
    assert trainer.digest() != before


def test_statistics_of_a_trained_network_are_frozen_in_small_batches(new_trainer, dataset, small_config):
    """Nine photos are one batch, of fewer than 32: the first training learns statistics, the second keeps them."""

    def statistics(trainer):
        return {name: tensor.clone() for name, tensor in trainer.net.state_dict().items() if "running" in name}

    trainer, rows = new_trainer(), dataset.pools.labelled
    fresh = statistics(trainer)
    fitted(trainer, dataset, rows, small_config())
    learnt = statistics(trainer)
    assert any(not torch.equal(fresh[name], learnt[name]) for name in fresh)
    weights = trainer.digest()
    fitted(trainer, dataset, rows, small_config())
    assert trainer.digest() != weights
    assert all(torch.equal(learnt[name], tensor) for name, tensor in statistics(trainer).items())


def test_unreadable_photos_have_no_embedding_and_do_not_stop_a_training(new_trainer, own_photos, small_config):
    (own_photos / "train" / "deer" / "t1.png").write_bytes(b"no picture")  # row 5
    dataset = ExtendedImageFolder.from_folders(own_photos / "train")
    trainer = fitted(new_trainer(), dataset, dataset.pools.labelled, small_config())
    embeddings = trainer.embed(dataset, np.arange(9))
    assert np.flatnonzero(np.isnan(embeddings).any(axis=1)).tolist() == [5]
    assert np.isnan(embeddings[5]).all()
    others = np.delete(np.arange(9), 5)
    np.testing.assert_allclose(embeddings[others], trainer.embed(dataset, others), atol=1e-5)


def test_a_training_without_a_readable_photo_changes_nothing(new_trainer, own_photos, small_config):
    for photo in (own_photos / "train").glob("*/*.png"):
        photo.write_bytes(b"no picture")
    dataset = ExtendedImageFolder.from_folders(own_photos / "train")
    trainer = new_trainer()
    before = trainer.digest()
    fitted(trainer, dataset, dataset.pools.labelled, small_config())
    assert trainer.digest() == before and trainer.history == ()


def test_a_snapshot_brings_everything_back(new_trainer, dataset, small_config):
    trainer = fitted(new_trainer(), dataset, dataset.pools.labelled, small_config())
    snapshot, digest, state = trainer.snapshot(), trainer.digest(), trainer.optimizer_state
    fitted(trainer, dataset, dataset.pools.labelled, small_config(), seed=1)
    assert trainer.digest() != digest
    trainer.restore(snapshot)
    assert trainer.digest() == digest and trainer.optimizer_state is state


def test_bf16_serves_training_and_candidates_and_fp32_all_else(new_trainer, dataset, small_config, monkeypatch):
    computed = []
    forward = torch.nn.Linear.forward

    def watched(self, features):
        result = forward(self, features)
        computed.append(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.Linear, "forward", watched)
    trainer = new_trainer(precision="bf16")
    exact = trainer.embed(dataset, np.arange(3))
    assert set(computed) == {torch.float32}
    computed.clear()
    quick = trainer.embed(dataset, np.arange(3), "bf16")
    assert set(computed) == {torch.bfloat16}
    assert quick.dtype == np.float32
    np.testing.assert_allclose(quick, exact, atol=0.05)
    assert not np.array_equal(quick, exact)
    computed.clear()
    fitted(trainer, dataset, dataset.pools.labelled, small_config())
    assert set(computed) == {torch.float32, torch.bfloat16}, "float32 from the trial of how much memory is needed"
    assert np.isfinite(trainer.embed(dataset, np.arange(18))).all()


def test_new_classes_get_fresh_outputs_beside_those_that_are_there(new_trainer, dataset, small_config):
    trainer = fitted(new_trainer(embedding_loss_type="softmax"), dataset, dataset.pools.labelled, small_config())
    before = {name: tensor.clone() for name, tensor in trainer.net.state_dict().items()}
    trainer.set_n_classes(6)
    after = trainer.net.state_dict()
    assert after["classifier.weight"].shape == (6, 8) and after["classifier.bias"].shape == (6,)
    for name, tensor in before.items():
        assert torch.equal(after[name][: len(tensor)] if name.startswith("classifier") else after[name], tensor)
    fitted(trainer, dataset, dataset.pools.labelled, small_config())
    assert np.isfinite(trainer.embed(dataset, np.arange(3))).all()


def test_without_outputs_per_class_new_classes_change_nothing(new_trainer):
    trainer = new_trainer()
    before = trainer.digest()
    trainer.set_n_classes(6)
    assert trainer.digest() == before


def test_each_network_is_warned_of_bf16_once(new_trainer, dataset, small_config, caplog):
    trainer = new_trainer(precision="bf16")
    for n_warnings in (1, 2):
        fitted(trainer, dataset, dataset.pools.labelled, small_config())
        for _ in range(2):
            assert trainer.scoring_precision(dataset, np.arange(3)) == "bf16"
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) == n_warnings


@pytest.mark.gpu
def test_on_a_gpu_fp32_embeddings_are_those_of_the_cpu(dataset, small_config, cpu):
    """Validation, predictions and export agree to 1e-4, wherever they are computed."""
    config = small_config(embedding_arch="resnet18")
    on_gpu, on_cpu = (EmbeddingTrainer(config, 4, device) for device in (torch.device("cuda"), cpu))
    rows = np.arange(18)
    np.testing.assert_allclose(on_gpu.embed(dataset, rows), on_cpu.embed(dataset, rows), atol=1e-4)


def test_digest_is_that_of_the_weights(new_trainer):
    trainer = new_trainer()
    before = trainer.digest()
    assert new_trainer().digest() == before
    with torch.no_grad():
        next(trainer.net.parameters())[0] += 1e-3
    assert trainer.digest() != before


@pytest.mark.gpu
def test_checkpoint_of_a_gpu_opens_without_one(dataset, small_config):
    config = small_config()
    trainer = EmbeddingTrainer(config, 4, torch.device("cuda"))
    checkpoint = fitted(trainer, dataset, dataset.pools.labelled, config).checkpoint(CLASSES)
    moments = [tensor for of_one in checkpoint["optimizer_state_dict"]["state"].values() for tensor in of_one.values()]
    assert {tensor.device.type for tensor in [*moments, *checkpoint["embedding_model_state_dict"].values()]} == {"cpu"}


@pytest.mark.parametrize("strategy", ["hardest", "random", "semi_hard"])
def test_embeddings_do_not_collapse_in_an_epoch(new_trainer, dataset, small_config, strategy):
    changes = {"embedding_loss_data_strategy": strategy, "embedding_train_loader_type": "balanced"}
    changes |= {"balanced_loader_num_classes": 2, "balanced_loader_num_samples": 2, "embedding_train_lr": 0.0001}
    trainer = new_trainer(**changes)
    before = mean_distance(trainer.embed(dataset, np.arange(18)))
    fitted(trainer, dataset, dataset.pools.labelled, small_config(**changes))
    assert mean_distance(trainer.embed(dataset, np.arange(18))) > before / 2


@pytest.mark.data
def test_embeddings_of_camera_trap_photos_do_not_collapse_in_an_epoch(data, cpu, tmp_path):
    config = RunConfig(
        embedding_arch="mobilenet_v2",
        pretrained_weights=data / "weights" / "mobilenet_v2_imagenet.pth",
        embedding_train_num_epochs=1,
        seed=1,
    )
    dataset = ExtendedImageFolder.from_folders(data / "camera_trap_crops" / "train", cache_dir=tmp_path)
    rows = np.flatnonzero(dataset.pools.roles == Role.TRAIN)
    trainer = EmbeddingTrainer(config, len(dataset.classes), cpu)
    trainer.pixel_mean, trainer.pixel_std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    before = mean_distance(trainer.embed(dataset, rows))
    trainer.fit(dataset, rows, config.training, rng())
    after = mean_distance(trainer.embed(dataset, rows))
    assert len(rows) == 115
    assert after > before / 2


def test_a_batch_too_large_for_the_memory_is_learnt_in_parts_with_the_same_result(
    new_trainer, dataset, small_config, monkeypatch, caplog
):
    """Without batch normalisation and dropout, which look at each part by itself, nothing may differ but rounding.

    With plain gradient steps: those of Adam are as large for a gradient that is nothing but rounding.
    """
    config = small_config(embedding_arch="squeezenet1_1", embedding_train_lr=0.1)
    monkeypatch.setattr(torch.optim, "Adam", lambda weights, lr, weight_decay: torch.optim.SGD(weights, lr=lr))

    def weights_after_training(at_once):
        monkeypatch.setattr(training, "photos_at_once", lambda net, images: at_once)
        trainer = new_trainer(embedding_arch="squeezenet1_1")
        for module in trainer.net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        before = trainer.digest()
        fitted(trainer, dataset, dataset.pools.labelled, config)
        assert trainer.digest() != before
        return trainer.net.state_dict()

    with caplog.at_level(logging.INFO):
        whole = weights_after_training(1000)
        assert "too large for the memory" not in caplog.text
        in_parts = weights_after_training(4)  # 9 photos: parts of 3
    assert "A batch of 9 photos is too large for the memory: 3 parts" in caplog.text
    for name, weights in whole.items():
        torch.testing.assert_close(in_parts[name], weights, rtol=1e-4, atol=1e-5)


def test_parts_with_batch_normalisation_and_dropout_are_repeatable(new_trainer, dataset, small_config, monkeypatch):
    monkeypatch.setattr(training, "photos_at_once", lambda net, images: 4)
    config = small_config(embedding_arch="mobilenet_v3_small")
    first, second = (
        fitted(new_trainer(embedding_arch="mobilenet_v3_small"), dataset, dataset.pools.labelled, config)
        for _ in range(2)
    )
    assert first.digest() == second.digest()
