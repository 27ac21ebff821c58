import logging
import re

import numpy as np
import pytest
import torch
from torch import nn

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning import precision as module
from camera_trap_al.deep_learning.data_loader import ExtendedImageFolder
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.precision import autocast, choose_precision, worst_cosine

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def unasked():
    raise AssertionError("a trial was made that nobody needs")


@pytest.fixture
def gpu_has_bf16(monkeypatch):
    monkeypatch.setattr(module.torch.cuda, "is_bf16_supported", lambda including_emulation: True)


def test_auto_is_fp32_on_a_cpu():
    assert choose_precision("auto", CPU, unasked) == "fp32"


@pytest.mark.parametrize("device", [CPU, GPU])
def test_fp32_is_fp32_everywhere(device):
    assert choose_precision("fp32", device, unasked) == "fp32"


@pytest.mark.parametrize(("cosine", "chosen"), [(0.9990, "bf16"), (1.0, "bf16"), (0.9989, "fp32"), (0.5, "fp32")])
def test_auto_on_a_gpu_is_bf16_if_no_embedding_turns_by_much(gpu_has_bf16, caplog, cosine, chosen):
    caplog.set_level(logging.INFO)
    assert choose_precision("auto", GPU, lambda: cosine) == chosen
    assert f"{cosine:.4f}" in caplog.text


def test_auto_on_a_gpu_without_bf16_is_fp32(monkeypatch):
    monkeypatch.setattr(module.torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_precision("auto", GPU, unasked) == "fp32"


@pytest.mark.parametrize(("device", "cosine", "warns"), [(CPU, 0.9999, True), (GPU, 0.97, True), (GPU, 0.9995, False)])
def test_bf16_that_was_asked_for_is_used_and_warned_of(gpu_has_bf16, caplog, device, cosine, warns):
    assert choose_precision("bf16", device, lambda: cosine) == "bf16"
    assert (f"{cosine:.4f}" in caplog.text) == warns


def test_the_worst_cosine_is_that_of_the_photo_that_turns_most():
    some = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    others = np.array([[2, 0], [1, 0], [1, 0]], np.float32)
    assert worst_cosine(some, others) == pytest.approx(2**-0.5)
    assert worst_cosine(some[:0], others[:0]) == 1.0


def test_convolutions_are_computed_in_bf16_only_within_autocast():
    net, image = nn.Conv2d(3, 2, 1), torch.rand(1, 3, 4, 4)
    with autocast(CPU, "bf16"):
        assert net(image).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert net(image).dtype == torch.float32


@pytest.mark.data
def test_bf16_with_real_weights_on_a_cpu_is_warned_of_with_the_cosine_that_it_has(data, tmp_path, caplog):
    """The worst photo's cosine is 0.94 to 0.98, by CPU and decoder (measured); with random weights it shows nothing."""
    config = RunConfig(
        embedding_arch="mobilenet_v2",
        pretrained_weights=data / "weights" / "mobilenet_v2_imagenet.pth",
        precision="bf16",
        seed=1,
    )
    dataset = ExtendedImageFolder.from_folders(data / "camera_trap_crops" / "train", cache_dir=tmp_path)
    trainer = EmbeddingTrainer(config, len(dataset.classes), CPU)
    trainer.pixel_mean, trainer.pixel_std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    rows = dataset.pools.labelled
    assert trainer.scoring_precision(dataset, rows) == "bf16"
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    told = float(re.search(r"a cosine of ([0-9.]+) between", warning.getMessage())[1])
    exact, quick = (trainer.embed(dataset, rows, precision) for precision in ("fp32", "bf16"))
    assert told >= worst_cosine(exact, quick) - 1e-4, "a sample is not worse than all"
    assert 0.9 < told < 0.999
