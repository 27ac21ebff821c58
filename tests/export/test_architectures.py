"""The export of real networks, applied as other programs apply it, beside what the run itself computes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.fitted_classifier import FittedClassifier
from camera_trap_al.deep_learning.transforms import channel_statistics
from camera_trap_al.export import export_model

N_FEATURES = 8
# Applies model.onnx in a process where nothing but these two libraries can be imported.
APPLY = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {"numpy", "onnxruntime"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Nothing())
import numpy as np
import onnxruntime

_, model, photos, answer = sys.argv
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
images = np.load(photos)
together, alone = (session.run(["probabilities"], {"images": some})[0] for some in (images, images[:1]))
np.savez(answer, together=together, alone=alone)
"""


def config_of(arch_name, loss_type, **more):
    options = {"feat_dim": N_FEATURES, "use_pretrained": False, "seed": 1, "embedding_loss_type": loss_type}
    quick = {"classifier_params": {"max_iter": 5, "learning_rate_init": 0.002}}  # unsure, so that it tells more
    return RunConfig(embedding_arch=arch_name, **options, **quick, **more)


def new_trainer(config, dataset):
    """A network of random weights whose numbers have the size that they have in a trained one."""
    trainer = EmbeddingTrainer(config, len(dataset.classes), torch.device("cpu"))
    images = dataset.cache.read(np.arange(len(dataset)))[0]
    mean, std = channel_statistics([images])
    trainer.pixel_mean, trainer.pixel_std = mean.astype(np.float32), std.astype(np.float32)
    for module in trainer.net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics become those of the batch
            module.reset_running_stats()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, weights in trainer.net.named_parameters():
            if name.endswith("layer_scale"):  # ConvNeXt's blocks begin with next to no effect
                weights.fill_(0.5)
        if any(isinstance(module, nn.BatchNorm2d) for module in trainer.net.modules()):
            trainer.net.train()(trainer._normalisation().of_bytes(torch.from_numpy(images[:, 16:240, 16:240])))
    return trainer


def fitted_on(trainer, config, dataset):
    """Scaler and classifier, fitted on photos of all classes but the last, and the embeddings of all photos."""
    embeddings = trainer.embed(dataset, np.arange(len(dataset)))
    assert (embeddings.std(axis=0) > 1e-3 * np.abs(embeddings).mean()).all(), "or all photos look the same to it"
    rows, lineage = dataset.pools.labelled, {"network": trainer.digest()}
    known, targets = embeddings[rows], dataset.targets[rows]
    fitted = FittedClassifier.fit(config, known, targets, embeddings[:0], len(dataset.classes), lineage)
    return fitted, embeddings


def calibrated(probabilities, temperature):
    """The definition: each probability to the power of 1 / temperature, and each row made to sum to 1."""
    powers = probabilities.astype(np.float64) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def export(folder, trainer, fitted, classes, temperature=1.0):
    calibration = {"temperature": temperature, "source": "audit", "n_photos": 9, "note": ""}
    export_model(folder, trainer, fitted, classes, labels_per_class=dict.fromkeys(classes, 1), calibration=calibration)


def assert_siamese_is_triplet(arch_name, dataset, digest_of_triplet):
    """With a siamese loss, what is exported is what is exported with a triplet loss: the names and values are the same.

    It would take time to apply it once more.
    """
    trainer = new_trainer(config_of(arch_name, "siamese"), dataset)
    assert trainer.digest() == digest_of_triplet
    saved = trainer.checkpoint(dataset.classes)
    assert saved["loss_type"] == "siamese"
    assert all(name.startswith("module.inner_model.") for name in saved["embedding_model_state_dict"])


# --- model.onnx

ARCHITECTURES = [
    *("resnet18", "mobilenet_v2", "densenet121", "vgg11", "alexnet", "inception_v3", "efficientnet_b0"),
    *("convnext_tiny", "vit_b_16"),
]


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Camera-trap photos: three of each of four species, one of them without a label, and a class that has no photo."""
    data = Path(os.environ["CAMERA_TRAP_AL_DATA"]) / "camera_trap_crops"
    folder = tmp_path_factory.mktemp("crops")
    for species in ("Agouti", "Ocelot", "Red_Fox", "Wild_Boar"):
        photos = sorted((data / "train" / species).glob("*.*"))
        for index, photo in enumerate(photos[:3]):
            part = folder / "train" / species if index < 2 else folder / "unlabelled" / "site"
            part.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, part / f"{species}_{index}{photo.suffix}")
    (folder / "train" / "Wolf").mkdir()
    return folder


@pytest.fixture(scope="module")
def crop_dataset(crops):
    return ExtendedImageFolder.from_folders(crops / "train", crops / "unlabelled", num_workers=1)


def probabilities_of_model(folder, images):
    """What model.onnx answers to photos, in a process of its own without anything of this one's."""
    np.save(folder / "photos.npy", images)
    command = [sys.executable, "-c", APPLY, folder / "model.onnx", folder / "photos.npy", folder / "answer.npz"]
    subprocess.run(command, check=True)
    with np.load(folder / "answer.npz") as answer:
        return answer["together"], answer["alone"]


@pytest.mark.data
@pytest.mark.parametrize("arch_name", ARCHITECTURES)
def test_model_answers_real_photos_as_the_run_does_whatever_the_loss(arch_name, crop_dataset, tmp_path):
    rows, digests = np.array([0, 2, 4]), {}
    images = crop_dataset.cache.read(rows)[0]
    for loss_type, temperature in (("softmax", 0.5), ("triplet", 3.0)):
        config = config_of(arch_name, loss_type)
        trainer = new_trainer(config, crop_dataset)
        digests[loss_type] = trainer.digest()
        fitted, embeddings = fitted_on(trainer, config, crop_dataset)
        export(tmp_path, trainer, fitted, crop_dataset.classes, temperature)
        together, alone = probabilities_of_model(tmp_path, images)
        expected = calibrated(fitted.probabilities(embeddings[rows]), temperature)
        np.testing.assert_allclose(together, expected, rtol=0, atol=1e-4)
        np.testing.assert_allclose(alone, expected[:1], rtol=0, atol=1e-4)
        assert (
            expected.std(axis=0).max() > 0.01 and expected.max(axis=1).min() < 0.99
        )  # otherwise the test shows little
        assert not together[:, crop_dataset.classes.index("Wolf")].any()
    assert_siamese_is_triplet(arch_name, crop_dataset, digests["triplet"])


# --- the four files of the Animal Classifier Pipeline

FINAL_LAYERS = {
    "resnet18": "fc",
    "inception_v3": "fc",
    "densenet121": "classifier",
    "vgg11": "classifier.6",
    "alexnet": "classifier.6",
}


@pytest.fixture(scope="module")
def square_photos(tmp_path_factory):
    """Photos of 256 x 256 pixels, which every program resizes alike: by leaving them as they are."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("squares")
    for species in ("badger", "deer", "fox"):
        for index in range(4):
            part = folder / "train" / species if index < 3 else folder / "unlabelled" / "site"
            part.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 130, (32, 32, 3)) + rng.integers(0, 120, 3)
            pixels = coarse.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
            Image.fromarray(pixels).save(part / f"{species}_{index}.png")
    (folder / "train" / "wolf").mkdir()
    return folder


class TheirEmbedding(nn.Module):
    """Other programs' network: torchvision's, its last linear layer replaced."""

    def __init__(self, arch_name, feat_dim):
        super().__init__()
        options = {"init_weights": False} if arch_name in ("inception_v3", "vgg11") else {}
        self.inner_model = models.get_model(arch_name, weights=None, **options)
        final_layer = FINAL_LAYERS[arch_name]
        inputs = self.inner_model.get_submodule(final_layer).in_features
        self.inner_model.set_submodule(final_layer, nn.Linear(inputs, feat_dim))

    def forward(self, images):
        return self.inner_model(images)


class TheirSoftmax(nn.Module):
    def __init__(self, embedding, feat_dim, n_classes):
        super().__init__()
        self.embedding = embedding
        self.classifier = nn.Linear(feat_dim, n_classes)


def their_answer(folder, paths):
    """Class names of photos, from the four files and the scaler, by torchvision and onnxruntime (DESIGN.md 8)."""
    saved = torch.load(folder / "embedding_model_weights.pt", weights_only=True)
    net = embedding = TheirEmbedding(saved["arch_name"], saved["feat_dim"])
    if saved["loss_type"] == "softmax":
        net = TheirSoftmax(embedding, saved["feat_dim"], saved["num_classes"])
    nn.DataParallel(net).load_state_dict(saved["embedding_model_state_dict"], strict=True)
    mean, std = (np.load(folder / f"dataset_{name}.npy") for name in ("mean", "std"))
    prepare = transforms.Compose(
        [
            transforms.Resize((256, 256)),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean.tolist(), std.tolist()),
        ]
    )
    images = torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        embeddings = embedding.eval()(images).numpy()
    with np.load(folder / "embedding_scaler.npz") as scaler:
        scaled = (embeddings - scaler["minimum"]) / (scaler["maximum"] - scaler["minimum"])
    session = onnxruntime.InferenceSession(folder / "classifier.onnx", providers=["CPUExecutionProvider"])
    indices, probabilities = session.run(None, {session.get_inputs()[0].name: scaled.astype(np.float32)})
    return [saved["classes"][index] for index in indices], probabilities


@pytest.mark.parametrize("arch_name", FINAL_LAYERS)
def test_another_program_answers_as_the_run_does_whatever_the_loss(arch_name, square_photos, tmp_path):
    folders = (square_photos / name for name in ("train", "unlabelled"))
    dataset = ExtendedImageFolder.from_folders(*folders, num_workers=1)
    paths = [path for path, _ in dataset.samples]
    digests = {}
    for loss_type in ("softmax", "triplet"):
        config = config_of(arch_name, loss_type)
        trainer = new_trainer(config, dataset)
        digests[loss_type] = trainer.digest()
        fitted, embeddings = fitted_on(trainer, config, dataset)
        export(tmp_path, trainer, fitted, dataset.classes)
        names, probabilities = their_answer(tmp_path, paths)
        expected = fitted.probabilities(embeddings)
        assert names == [dataset.classes[class_id] for class_id in expected.argmax(axis=1)]
        np.testing.assert_allclose(probabilities, expected[:, :3], atol=1e-4)  # the wolf has no photo
        assert len(set(names)) > 1
    assert_siamese_is_triplet(arch_name, dataset, digests["triplet"])
