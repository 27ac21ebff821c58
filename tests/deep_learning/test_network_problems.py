import pytest
import torch

from camera_trap_al.deep_learning import network_problems
from camera_trap_al.deep_learning.network_problems import find_network_problems

GOOD = {"embedding_arch": "resnet18", "use_pretrained": True, "pretrained_weights": None, "device": None}


def problems(**changes):
    return find_network_problems(GOOD | changes)


def test_good_settings_have_no_problems():
    assert problems() == []
    assert problems(device="cpu") == []


@pytest.mark.parametrize("name", ["resnet_18", "", 18, None, ["resnet18"], torch.nn.Module])
def test_unknown_architecture_is_named(name):
    (problem,) = problems(embedding_arch=name)
    assert problem.startswith("embedding_arch must be") and repr(name) in problem


def test_near_names_are_offered():
    assert "resnet18" in problems(embedding_arch="resnet_18")[0]


def test_weights_that_want_larger_images_are_refused_only_if_they_are_used():
    too_large = "vit_h_14"  # torchvision's best weights for it want 518 x 518 pixels
    assert "use_pretrained" in problems(embedding_arch=too_large)[0]
    assert problems(embedding_arch=too_large, use_pretrained=False) == []
    assert problems(embedding_arch=too_large, pretrained_weights="own.pth") == []


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", 0, torch.device("cpu")])
def test_device_that_cannot_be_used_is_named(device):
    (problem,) = problems(device=device)
    assert problem.startswith("device") and repr(device) in problem


def test_absent_device_is_not_tried(monkeypatch):
    """The choice of a device warns of an idle GPU; that belongs to the start of the run, once."""
    monkeypatch.setattr(network_problems, "choose_device", lambda name: pytest.fail("a device was chosen"))
    assert problems(device=None) == []


def test_all_problems_are_told_at_once():
    assert len(problems(embedding_arch="resnet", device="gpu")) == 2
