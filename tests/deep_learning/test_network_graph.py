import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from camera_trap_al import run_active_learning
from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning import network_graph as network_graph_module
from camera_trap_al.deep_learning.embedding_trainer import EmbeddingTrainer
from camera_trap_al.deep_learning.network_graph import (
    GRAPH_FILE,
    PhotoNetwork,
    keep_network_graph,
    network_graph,
)
from camera_trap_al.deep_learning.transforms import Normalisation, crop_centre
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.run_store import RunStore

pytestmark = pytest.mark.usefixtures("sixteen_pixels")


def new_network(seed=1, loss_type="triplet", feat_dim=8):
    options = {"feat_dim": feat_dim, "use_pretrained": False, "embedding_loss_type": loss_type}
    trainer = EmbeddingTrainer(RunConfig(seed=seed, **options), 4, torch.device("cpu"))
    trainer.pixel_mean, trainer.pixel_std = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5, 0.6], np.float32)
    return PhotoNetwork(trainer)


def photos(n):
    return np.random.default_rng(n).integers(0, 256, (n, 256, 256, 3), np.uint8)


def applied(graph, network, images):
    """Embeddings by onnxruntime, which is given the weights one by one beside the photos."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    weights = network.weights()
    asked_for = [each.name for each in session.get_inputs() if each.name != "images"]
    (embeddings,) = session.run(None, {"images": images} | {name: weights[name] for name in asked_for})
    return embeddings


@pytest.fixture
def store(tmp_path):
    with RunStore.open(RunConfig(output_dir=tmp_path / "run", seed=1)) as opened:
        yield opened


@pytest.fixture
def traced(monkeypatch):
    """The networks that are traced from now on; what the process knows from before does not count."""
    found = []
    trace = network_graph_module._trace
    monkeypatch.setattr(network_graph_module, "_graphs", {})
    monkeypatch.setattr(network_graph_module, "_trace", lambda network: found.append(network) or trace(network))
    return found


@pytest.mark.parametrize("loss_type", ["triplet", "softmax"])
def test_photo_network_embeds_the_centre_of_photos_as_the_trainer_does(loss_type):
    network, images = new_network(loss_type=loss_type), photos(3)
    with torch.no_grad():
        embeddings = network.eval()(torch.from_numpy(images))
        normalise = Normalisation(np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5, 0.6], np.float32))
        expected = network.network(normalise.of_bytes(torch.from_numpy(crop_centre(images))))
    np.testing.assert_array_equal(embeddings, expected)


@pytest.mark.parametrize("loss_type", ["triplet", "softmax"])
@pytest.mark.parametrize("n_photos", [0, 1, 2, 5])
def test_graph_embeds_as_the_network_does(loss_type, n_photos):
    network, images = new_network(loss_type=loss_type), photos(n_photos)
    embeddings = applied(network_graph(network), network, images)
    assert embeddings.shape == (n_photos, 8) and embeddings.dtype == np.float32
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images)) if n_photos else np.zeros((0, 8))
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_graph_of_one_network_serves_another_with_other_weights_and_pixel_statistics(traced):
    first, second = new_network(seed=1), new_network(seed=2)
    second.pixel_scale.mul_(1.5)
    second.pixel_shift.add_(0.3)
    second.network.inner_model.bn.running_mean.add_(0.2)
    second.network.inner_model.bn.running_var.mul_(3)
    graph = network_graph(first)
    assert network_graph(second) == graph and len(traced) == 1
    with torch.no_grad():
        expected = second.eval()(torch.from_numpy(photos(2)))
    np.testing.assert_allclose(applied(graph, second, photos(2)), expected, atol=1e-5)


def test_graph_is_that_of_the_embedding_whatever_the_loss(traced):
    assert len({network_graph(new_network(loss_type=loss)) for loss in ("softmax", "triplet", "siamese")}) == 1
    assert len(traced) == 1


def test_networks_of_other_shapes_have_graphs_of_their_own(traced):
    assert network_graph(new_network(feat_dim=8)) != network_graph(new_network(feat_dim=9))
    assert len(traced) == 2


def test_graph_is_a_valid_model_without_weights_that_names_no_folder_of_this_computer():
    network = new_network()
    graph = network_graph(network)
    model = onnx.ModelProto.FromString(graph)
    onnx.checker.check_model(model, full_check=True)
    open_inputs = {each.name for each in model.graph.input}
    unused = {name for name in network.weights() if name.endswith("num_batches_tracked")}
    assert open_inputs == (network.weights().keys() - unused) | {"images"}
    assert all(numpy_helper.to_array(each).size < 10 for each in model.graph.initializer)
    assert b".py" not in graph  # the exporter notes source files and lines


@pytest.mark.parametrize("is_training", [True, False])
def test_network_stays_as_it_is(is_training, traced):
    network = new_network().train(is_training)
    network.network.inner_model.conv.requires_grad_(False)
    before = {name: (id(each), each.requires_grad, each.device) for name, each in network.named_parameters()}
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    network_graph(network)
    assert traced == [network]
    assert before == {name: (id(each), each.requires_grad, each.device) for name, each in network.named_parameters()}
    assert all(module.training is is_training for module in network.modules())
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


@pytest.mark.gpu
def test_network_on_a_gpu_is_exported_from_there():
    network = new_network()
    expected = applied(network_graph(network), network, photos(2))
    network.cuda()
    np.testing.assert_array_equal(applied(network_graph(network), network, photos(2)), expected)
    assert all(each.device.type == "cuda" for each in network.parameters())


def test_tracing_says_nothing_but_that_it_starts_and_ends(traced, capfd, caplog):
    with caplog.at_level(logging.INFO):
        network_graph(new_network())
    assert capfd.readouterr() == ("", "")
    start, end = (record.getMessage() for record in caplog.records)
    assert start.endswith("...") and "done in" in end


class Reads(nn.Module):
    """A network whose way depends on what it sees."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1000)

    def forward(self, images):
        features = self.fc(images.mean(dim=(2, 3)))
        return features if images.max() > 1 else -features


def test_network_that_cannot_be_exported_is_told_with_a_way_out(monkeypatch):
    monkeypatch.setattr("camera_trap_al.deep_learning.networks._torchvision_model", lambda *args: Reads())
    with pytest.raises(ConfigError, match=r"embedding_arch='resnet18'.*cannot export.*Choose another") as error:
        network_graph(new_network())
    assert "\n" not in str(error.value).strip()


# --- kept by a run


def test_run_keeps_the_graph_so_that_the_next_process_need_not_trace(store, traced):
    graph = keep_network_graph(new_network(), store)
    assert (store.folder / GRAPH_FILE).read_bytes() == graph
    network_graph_module._graphs.clear()  # as in the next process
    assert network_graph(new_network(seed=2), store) == graph == keep_network_graph(new_network(seed=2), store)
    assert len(traced) == 1


def test_looking_for_a_graph_leaves_nothing_in_the_run(store, traced):
    network_graph(new_network(), store)
    assert not (store.folder / GRAPH_FILE).exists() and not store.has_begun()


def test_a_run_traces_once_in_its_life_before_it_learns(traced, format_1, tmp_path, monkeypatch):
    """Over finetunings and a stop; each process begins without knowing any graph."""
    format_1["write_photos"](tmp_path / "photos")
    arguments = format_1["arguments"](tmp_path / "photos", tmp_path / "run")
    known_when_training = []
    fit = EmbeddingTrainer.fit
    monkeypatch.setattr(EmbeddingTrainer, "fit", lambda *args: known_when_training.append(len(traced)) or fit(*args))
    with pytest.raises(KeyboardInterrupt):
        run_active_learning(**arguments, label_source=format_1["Expert"](rounds=1))
    network_graph_module._graphs.clear()
    run_active_learning(**arguments, label_source=format_1["Expert"](), max_labels=6)
    assert len(traced) == 1 and len(known_when_training) >= 3 and set(known_when_training) == {1}


def test_a_run_whose_network_cannot_be_exported_says_so_before_it_learns(format_1, tmp_path, monkeypatch):
    monkeypatch.setattr("camera_trap_al.deep_learning.networks._torchvision_model", lambda *args: Reads())
    monkeypatch.setattr(EmbeddingTrainer, "fit", lambda *args: pytest.fail("trained"))
    format_1["write_photos"](tmp_path / "photos")
    with pytest.raises(ConfigError, match="cannot export"):
        run_active_learning(
            **format_1["arguments"](tmp_path / "photos", tmp_path / "run"), label_source=format_1["Expert"]()
        )


@pytest.mark.parametrize("change", ["gone", "damaged", "of another version", "of another network"])
def test_graph_that_is_not_the_one_is_made_again(store, traced, change, monkeypatch):
    graph = keep_network_graph(new_network(), store)
    network_graph_module._graphs.clear()
    if change == "gone":
        (store.folder / GRAPH_FILE).unlink()
    elif change == "damaged":
        (store.folder / GRAPH_FILE).write_bytes(graph[:-1])
    elif change == "of another version":
        monkeypatch.setattr(torch, "__version__", "3.0")
    else:
        keep_network_graph(new_network(feat_dim=9), store)
        network_graph_module._graphs.clear()
        traced.pop()
    again = keep_network_graph(new_network(), store)
    assert again == graph or change == "of another version"  # which stands in it
    assert len(traced) == 2
    assert (store.folder / GRAPH_FILE).read_bytes() == again


@pytest.mark.parametrize("planted", [b"", b"no model", b"\x80\x04N.", "other weights", "no photos"])
def test_planted_graph_whose_checksum_fits_is_made_again(store, traced, planted, monkeypatch):
    graph = network_graph(new_network())
    if isinstance(planted, str):
        model = onnx.ModelProto.FromString(graph)
        taken = next(each for each in model.graph.input if (each.name == "images") == (planted == "no photos"))
        taken.name = "other"
        planted = model.SerializeToString()
    network_graph_module._graphs.clear()
    monkeypatch.setattr(network_graph_module, "_trace", lambda network: planted)
    keep_network_graph(new_network(), store)
    network_graph_module._graphs.clear()
    monkeypatch.setattr(network_graph_module, "_trace", lambda network: graph)
    assert keep_network_graph(new_network(), store) == graph
    assert (store.folder / GRAPH_FILE).read_bytes() == graph
