import errno
from pathlib import Path

import pytest
import torch

from camera_trap_al.deep_learning.network_file import write_network


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
