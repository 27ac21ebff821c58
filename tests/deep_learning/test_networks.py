import os
import shutil
import urllib.request
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.regnet import BlockParams

from camera_trap_al.deep_learning.networks import (
    EmbeddingNet,
    SoftmaxNet,
    architecture_names,
    build_embedding_net,
    check_architecture,
    n_parameters,
)
from camera_trap_al.exceptions import ConfigError, WeightsUnavailableError

FEAT_DIM = 5


@pytest.fixture
def shapes_only(monkeypatch):
    """Networks without numbers: torch's meta device tells shapes alone, so even the largest is built in no time."""
    plan = BlockParams.from_init_params.__func__

    def plan_with_numbers(cls, *args, **kwargs):
        with torch.device("cpu"):  # regnet computes the widths of its layers with tensors and then reads them
            return plan(cls, *args, **kwargs)

    monkeypatch.setattr(BlockParams, "from_init_params", classmethod(plan_with_numbers))
    with torch.device("meta"), torch.no_grad():
        yield


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """An empty cache of downloaded weights, and a proxy that nobody answers at: no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    return tmp_path / "torch"


def build(arch_name="resnet18", *, use_pretrained=False, pretrained_weights=None, seed=0):
    return build_embedding_net(
        arch_name, FEAT_DIM, use_pretrained=use_pretrained, pretrained_weights=pretrained_weights, seed=seed
    )


def torchvision_model(arch_name):
    options = {"init_weights": False} if arch_name in ("googlenet", "inception_v3") else {}
    return models.get_model(arch_name, weights=None, **options)


def torchvision_state(arch_name):
    torch.manual_seed(3)
    return torchvision_model(arch_name).state_dict()


def saved(state, path):
    torch.save(state, path)
    return path


@pytest.mark.parametrize("arch_name", architecture_names())
def test_every_architecture_gives_feat_dim_features(arch_name, shapes_only):
    net = EmbeddingNet(arch_name, FEAT_DIM)
    # Training is the mode in which architectures differ in what they return and what sizes they take.
    assert net.train()(torch.empty(2, 3, 224, 224)).shape == (2, FEAT_DIM)


@pytest.mark.parametrize(
    "arch_name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "googlenet", "inception_v3", "regnet_x_400mf"]
)
def test_images_get_embeddings_of_their_own_in_both_modes_and_a_gradient(arch_name):
    net = build(arch_name)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    embeddings = net.train()(images)
    assert embeddings.shape == (2, FEAT_DIM) and embeddings.dtype == torch.float32
    assert not torch.equal(*embeddings)
    embeddings.square().sum().backward()
    first_layer = next(net.parameters())
    assert first_layer.grad is not None and first_layer.grad.abs().sum() > 0
    with torch.no_grad():
        assert net.eval()(images).shape == (2, FEAT_DIM)


@pytest.mark.parametrize("arch_name", ["vit_b_32", "maxvit_t"])
def test_transformers_do_not_start_with_a_final_layer_of_zeros(arch_name):
    net = EmbeddingNet(arch_name, FEAT_DIM)
    assert net.inner_model.get_submodule(net.final_layer).weight.abs().min() > 0


@pytest.mark.parametrize(
    "arch_name, final_layer",
    [
        ("resnet18", "fc"),
        ("inception_v3", "fc"),
        ("googlenet", "fc"),
        ("densenet121", "classifier"),
        ("vgg11", "classifier.6"),
        ("alexnet", "classifier.6"),
        ("maxvit_t", "classifier.5"),
    ],
)
def test_another_program_can_load_the_state_dict_strictly(arch_name, final_layer, shapes_only):
    # As the Animal Classifier Pipeline does: torchvision's model, last linear layer replaced, auxiliary heads kept.
    theirs = torchvision_model(arch_name)
    inputs = theirs.get_submodule(final_layer).in_features
    theirs.set_submodule(final_layer, nn.Linear(inputs, FEAT_DIM))
    state = EmbeddingNet(arch_name, FEAT_DIM).state_dict()
    assert all(name.startswith("inner_model.") for name in state)
    theirs.load_state_dict({name.removeprefix("inner_model."): value for name, value in state.items()}, strict=True)


def test_auxiliary_heads_are_kept_and_never_trained():
    net = EmbeddingNet("inception_v3", FEAT_DIM, init_weights=False)
    auxiliary = {name: value for name, value in net.named_parameters() if "AuxLogits" in name}
    assert auxiliary and not any(value.requires_grad for value in auxiliary.values())
    assert net.inner_model.AuxLogits.fc.out_features == 1000
    assert not net.inner_model.transform_input


def test_feat_dim_below_one_is_refused():
    with pytest.raises(ConfigError, match="feat_dim must be at least 1; got 0"):
        EmbeddingNet("resnet18", 0)


def test_softmax_net_classifies_the_positive_part_of_the_embedding():
    net = SoftmaxNet(build("squeezenet1_1"), n_classes=3, seed=1).eval()
    embeddings = torch.tensor([[-1.0, 2.0, 0.0, -3.0, 4.0]])
    expected = torch.tensor([[0.0, 2.0, 0.0, 0.0, 4.0]]) @ net.classifier.weight.T + net.classifier.bias
    assert torch.allclose(net.logits(embeddings), expected)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(images), net.logits(net.embedding(images)))
    names = set(net.state_dict())
    assert {"classifier.weight", "classifier.bias"} < names
    assert all(name.startswith(("embedding.inner_model.", "classifier.")) for name in names)


def test_seed_decides_the_layers_and_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    one, same, other = (build("squeezenet1_1", seed=seed).state_dict() for seed in (1, 1, 2))
    heads = [SoftmaxNet(EmbeddingNetStub(), 2, seed=seed).classifier.weight for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["inner_model.classifier.1.weight"], other["inner_model.classifier.1.weight"])
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


class EmbeddingNetStub(nn.Module):
    feat_dim = FEAT_DIM


def test_unknown_architecture_is_refused_with_near_names():
    problem = check_architecture("resnet-18", use_pretrained=False)
    assert "embedding_arch" in problem and "'resnet-18'" in problem and "resnet18" in problem
    assert "mobilenet_v2" in check_architecture("MobileNetV2", use_pretrained=False)
    assert all(name in check_architecture("?", use_pretrained=False) for name in architecture_names())
    with pytest.raises(ConfigError, match="Did you mean resnet18"):
        EmbeddingNet("resnet-18", FEAT_DIM)


def test_builders_of_other_tasks_are_not_architectures():
    assert check_architecture("fasterrcnn_resnet50_fpn", use_pretrained=False) is not None
    assert check_architecture("quantized_resnet18", use_pretrained=False) is not None


def test_weights_that_want_larger_images_are_refused_and_only_then():
    refused = {name for name in architecture_names() if check_architecture(name, use_pretrained=True)}
    # torchvision's tables of its weights: min_size is 518 for the one and 256 for the others
    assert refused == {"vit_h_14", "swin_v2_b", "swin_v2_s", "swin_v2_t"}
    problem = check_architecture("vit_h_14", use_pretrained=True)
    assert "518 x 518" in problem and "224" in problem and "vit_h_14_lc_swag" in problem
    assert not any(check_architecture(name, use_pretrained=False) for name in refused)


@pytest.mark.parametrize("arch_name", ["resnet18", "mnasnet0_5", "densenet121", "inception_v3", "googlenet"])
def test_local_weights_fill_every_layer_but_the_last(arch_name, tmp_path):
    state = torchvision_state(arch_name)
    net = build(arch_name, pretrained_weights=saved(state, tmp_path / "weights.pth"), use_pretrained=True)
    mine = net.inner_model.state_dict()
    final = f"{net.final_layer}."
    assert all(torch.equal(mine[name], state[name]) for name in state if not name.startswith(final))
    assert mine[f"{final}weight"].shape[0] == FEAT_DIM


def test_last_layer_depends_on_the_seed_and_not_on_the_file(tmp_path):
    path = saved(torchvision_state("squeezenet1_1"), tmp_path / "weights.pth")
    nets = [build("squeezenet1_1", pretrained_weights=path, seed=seed) for seed in (1, 1, 2)]
    one, same, other = (net.inner_model.classifier[1].weight for net in nets)
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_weights_saved_from_several_gpus_are_loaded(tmp_path):
    state = OrderedDict((f"module.{name}", value) for name, value in torchvision_state("squeezenet1_1").items())
    net = build("squeezenet1_1", pretrained_weights=saved(state, tmp_path / "weights.pth"))
    assert torch.equal(net.inner_model.features[0].weight, state["module.features.0.weight"])


def test_weights_of_a_finetuned_network_with_few_classes_are_loaded(tmp_path):
    state = torchvision_state("googlenet")
    for name in ("fc", "aux1.fc2"):
        state[f"{name}.weight"], state[f"{name}.bias"] = state[f"{name}.weight"][:4], state[f"{name}.bias"][:4]
    state = {name: value for name, value in state.items() if not name.startswith("aux2")}
    net = build("googlenet", pretrained_weights=saved(state, tmp_path / "weights.pth"))
    assert torch.equal(net.inner_model.conv1.conv.weight, state["conv1.conv.weight"])


def test_older_names_in_densenet_files_are_understood(tmp_path):
    state = torchvision_state("densenet121")
    older = OrderedDict()
    for name, value in state.items():
        for part in ("norm1", "conv1", "norm2", "conv2"):
            if "denselayer" in name:
                name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        older[name] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    net = build("densenet121", pretrained_weights=saved(older, tmp_path / "weights.pth"))
    last = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(net.inner_model.get_parameter(last), state[last])


def test_missing_weights_file_is_named(tmp_path):
    with pytest.raises(WeightsUnavailableError, match="pretrained_weights: there is no file") as caught:
        build(pretrained_weights=tmp_path / "absent.pth")
    assert caught.value.path == tmp_path / "absent.pth"


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut off"])
def test_file_that_is_no_weights_file_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsUnavailableError, match="cannot be read as a file of weights") as caught:
        build(pretrained_weights=path)
    assert "weights_only" not in str(caught.value), "torch's advice to load what it is safer not to"


def test_file_that_would_run_code_is_refused(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    with pytest.raises(WeightsUnavailableError, match="cannot be read as a file of weights"):
        build(pretrained_weights=saved({"fc.weight": Malicious()}, tmp_path / "weights.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content, description",
    [({"state_dict": {}, "epoch": 3}, "a dict with the keys 'state_dict', 'epoch'"), (torch.ones(2), "a Tensor")],
)
def test_file_without_a_state_dict_is_refused(tmp_path, content, description):
    with pytest.raises(WeightsUnavailableError, match=f"is not a state dict .* but {description}"):
        build(pretrained_weights=saved(content, tmp_path / "weights.pth"))


def test_weights_of_another_architecture_are_refused_with_what_does_not_fit(tmp_path):
    path = saved(torchvision_state("resnet18"), tmp_path / "weights.pth")
    with pytest.raises(WeightsUnavailableError) as caught:
        build("resnet34", pretrained_weights=path)
    message = str(caught.value)
    assert "resnet34" in message and "Missing key" in message and "layer1.2.conv1.weight" in message
    assert len(message) < 2000


def test_weights_of_another_width_are_refused_with_the_sizes(tmp_path):
    path = saved(torchvision_state("shufflenet_v2_x0_5"), tmp_path / "weights.pth")
    with pytest.raises(WeightsUnavailableError) as caught:
        build("shufflenet_v2_x1_0", pretrained_weights=path)
    assert "size mismatch" in str(caught.value) and "more lines like these" in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_without_network_the_error_says_which_file_from_where_and_where_to_put_it(torch_home):
    with pytest.raises(WeightsUnavailableError) as caught:
        build("mobilenet_v2", use_pretrained=True)
    place = torch_home / "hub" / "checkpoints" / "mobilenet_v2-7ebf99e0.pth"
    url = "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth"
    assert caught.value.path == place and caught.value.url == url
    message = str(caught.value)
    assert all(
        part in message for part in (str(place), url, "mobilenet_v2", "pretrained_weights", "use_pretrained=False")
    )


def test_file_put_into_torchs_cache_is_used_without_network(torch_home):
    weights = models.MobileNet_V3_Small_Weights.DEFAULT
    place = torch_home / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    place.parent.mkdir(parents=True)
    state = torchvision_state("mobilenet_v3_small")
    torch.save(state, place)
    net = build("mobilenet_v3_small", use_pretrained=True)
    assert torch.equal(net.inner_model.features[0][0].weight, state["features.0.0.weight"])


def test_damaged_file_in_torchs_cache_is_named(torch_home):
    place = torch_home / "hub" / "checkpoints" / models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half a downl")
    with pytest.raises(WeightsUnavailableError, match="delete it") as caught:
        build("resnet18", use_pretrained=True)
    assert caught.value.path == place


@pytest.mark.data
def test_imagenet_weights_are_the_same_through_both_ways_in(torch_home):
    path = Path(os.environ["CAMERA_TRAP_AL_DATA"]) / "weights" / "mobilenet_v2_imagenet.pth"
    place = torch_home / "hub" / "checkpoints" / models.MobileNet_V2_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    place.parent.mkdir(parents=True)
    shutil.copy(path, place)
    direct, cached = build("mobilenet_v2", pretrained_weights=path), build("mobilenet_v2", use_pretrained=True)
    state = torch.load(path, weights_only=True)
    assert all(
        torch.equal(net.state_dict()[f"inner_model.{name}"], value)
        for net in (direct, cached)
        for name, value in state.items()
        if not name.startswith("classifier.1.")
    )


@pytest.mark.parametrize("arch_name", architecture_names())
def test_number_of_weights_is_told_without_building_them(arch_name, shapes_only):
    named = torchvision_model(arch_name).named_parameters()
    # torchvision leaves the auxiliary heads of googlenet out.
    weights = sum(value.numel() for name, value in named if not name.startswith("aux"))
    assert n_parameters(arch_name) == pytest.approx(weights, rel=0.01)
