import pytest
import torch
from torch import nn

from camera_trap_al.deep_learning.batch_norms import BatchNorms


def network(*, has_statistics=True):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    if has_statistics:
        net[1].running_mean.fill_(0.3)
    return net.train()


def statistics(net):
    return [tensor.clone() for tensor in (net[1].running_mean, net[1].running_var)]


def moves(net, norms, n_photos):
    """Whether a batch of so many photos changes the running statistics."""
    before = statistics(net)
    norms.prepare(n_photos)
    net(torch.rand(n_photos, 3, 2, 2))
    return any(not torch.equal(*pair) for pair in zip(before, statistics(net), strict=True))


@pytest.mark.parametrize(("n_photos", "moved"), [(2, False), (31, False), (32, True), (100, True)])
def test_running_statistics_are_frozen_in_batches_under_32_photos(n_photos, moved):
    net = network()
    assert moves(net, BatchNorms(net, "auto"), n_photos) == moved


def test_a_large_batch_after_a_small_one_moves_them_again():
    net = network()
    norms = BatchNorms(net, "auto")
    assert [moves(net, norms, n) for n in (40, 3, 40, 3)] == [True, False, True, False]


@pytest.mark.parametrize("n_photos", [2, 100])
@pytest.mark.parametrize(("setting", "moved"), [(True, False), (False, True)])
def test_the_setting_may_freeze_always_or_never(setting, moved, n_photos):
    net = network()
    assert moves(net, BatchNorms(net, setting), n_photos) == moved


def test_a_network_without_statistics_learns_them_from_what_there_is():
    net = network(has_statistics=False)
    norms = BatchNorms(net, "auto")
    assert moves(net, norms, 5)
    assert moves(net, norms, 5), "also from the second small batch of this training"


def test_a_frozen_layer_normalises_with_its_statistics_and_still_learns():
    net = network()
    BatchNorms(net, "auto").prepare(3)
    images = torch.rand(3, 3, 2, 2)
    inner = net[0](images)
    layer = net[1]
    expected = (inner - layer.running_mean.view(4, 1, 1)) / (layer.running_var.view(4, 1, 1) + layer.eps) ** 0.5
    torch.testing.assert_close(layer(inner), expected)
    net(images).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


def test_a_batch_that_passes_again_is_not_counted_twice():
    net = network()
    norms = BatchNorms(net, "auto")
    norms.prepare(64)
    images = torch.rand(64, 3, 2, 2)
    net(images)
    before = statistics(net)
    with norms.unmoved():
        net(images)
    assert all(torch.equal(*pair) for pair in zip(before, statistics(net), strict=True))
    assert net[1].momentum == 0.1


def test_networks_without_batch_normalisation_are_fine():
    norms = BatchNorms(nn.Linear(2, 2), "auto")
    norms.prepare(3)
