import errno
from pathlib import Path

import pytest
import torch

from camera_trap_al.config import RunConfig
from camera_trap_al.deep_learning.network_file import NETWORK_FILE, network_artefact, read_network, write_network
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.artefact import Artefact


def test_a_written_network_is_what_torch_loads(tmp_path):
    weights = {"module.inner_model.weight": torch.arange(6.0).reshape(2, 3)}
    write_network({"arch_name": "resnet18", "embedding_model_state_dict": weights}, tmp_path / "a.pt")
    read = torch.load(tmp_path / "a.pt", weights_only=True)
    assert read["arch_name"] == "resnet18"
    torch.testing.assert_close(read["embedding_model_state_dict"], weights, rtol=0, atol=0)


def test_a_full_disk_is_an_os_error_that_says_so():
    with pytest.raises(OSError, match="No space left") as caught:
        write_network({"weights": torch.zeros(100_000)}, Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC


@pytest.fixture
def store(tmp_path):
    """A run that saved a network."""
    store = RunStore.open(RunConfig(output_dir=tmp_path / "run", seed=1))
    store.save([network_artefact(lambda: {"arch_name": "resnet18"}, {"digest": "net"})])
    return store


def test_a_saved_network_comes_back_with_what_it_was_made_from(store):
    assert read_network(store) == ({"digest": "net"}, {"arch_name": "resnet18"})


def test_a_saved_file_that_is_no_network_counts_as_missing(store, caplog):
    store.save([Artefact(NETWORK_FILE, {"digest": "net"}, lambda path: path.write_text("no network"))])
    assert read_network(store) == (None, None)
    assert [message.partition(".pt ")[2] for message in caplog.messages] == [
        "is missing or not the file that was saved; it is made again."
    ]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the drive failed"), MemoryError()])
def test_a_network_is_not_made_again_because_the_computer_failed(store, monkeypatch, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error)):
        read_network(store)
