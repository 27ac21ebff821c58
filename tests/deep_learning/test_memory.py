import gc

import psutil
import torch
from torch import nn

from camera_trap_al.deep_learning import memory
from camera_trap_al.deep_learning.memory import bytes_per_photo, memory_of, photos_at_once


def network() -> nn.Module:
    """Keeps for its backward pass: the image for the convolution, and the result of the ReLU for both others."""
    return nn.Sequential(nn.Conv2d(3, 5, kernel_size=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 224 * 224, 2))


def test_what_a_network_keeps_of_a_photo_is_counted_once():
    image, after_relu = 3 * 224 * 224 * 4, 5 * 224 * 224 * 4
    assert bytes_per_photo(network(), torch.zeros(4, 3, 224, 224)) == image + after_relu


def test_the_trial_changes_nothing():
    net = nn.Sequential(nn.Conv2d(3, 4, kernel_size=1), nn.BatchNorm2d(4), nn.Dropout())
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.random.get_rng_state()
    bytes_per_photo(net, torch.ones(2, 3, 224, 224))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_trial_leaves_nothing_in_memory():
    net, images = network(), torch.zeros(2, 3, 224, 224)

    def n_tensors() -> int:
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    before = n_tensors()
    bytes_per_photo(net, images)
    assert n_tensors() == before


def test_the_memory_is_all_that_the_computer_has():
    assert memory_of(torch.device("cpu")) == psutil.virtual_memory().total


def test_half_of_the_memory_may_be_used_and_never_fewer_than_16_photos(monkeypatch):
    images = torch.zeros(2, 3, 224, 224)
    each = bytes_per_photo(network(), images)
    for total, at_once in ((200 * each, 100), (201 * each, 100), (10 * each, 16)):
        monkeypatch.setattr(memory, "memory_of", lambda device, total=total: total)
        assert photos_at_once(network(), images) == at_once
