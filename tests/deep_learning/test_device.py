import logging
import os
import sys

import pytest
import torch

from camera_trap_al.deep_learning import device as device_module
from camera_trap_al.deep_learning.device import choose_device, describe_device, gpu_advice, repeatable
from camera_trap_al.exceptions import ConfigError


@pytest.fixture
def no_cuda(tmp_path, monkeypatch):
    """A computer whose torch cannot use CUDA, with no graphics driver and an empty PATH; gives the folder on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device_module, "NVIDIA_DRIVER_GPUS", tmp_path / "proc")
    return programs


def install_nvidia_smi(folder, answer, status=0):
    if os.name == "nt":
        (folder / "nvidia-smi.bat").write_text(f"@echo off\r\necho {answer}\r\nexit /b {status}\r\n")
        return
    program = folder / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint({answer!r})\nraise SystemExit({status})\n")
    program.chmod(0o755)


GPU_LINE = "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-0)"


def test_without_a_gpu_the_cpu_is_taken_in_silence(no_cuda, caplog):
    assert choose_device(None) == torch.device("cpu")
    assert gpu_advice() is None and not caplog.records


@pytest.mark.parametrize("cuda_of_torch, remedy", [(None, "build for the CPU"), ("13.2", "update the driver")])
def test_an_idle_gpu_is_pointed_out_with_the_command_that_helps(no_cuda, monkeypatch, caplog, cuda_of_torch, remedy):
    install_nvidia_smi(no_cuda, GPU_LINE)
    monkeypatch.setattr(torch.version, "cuda", cuda_of_torch)
    with caplog.at_level(logging.WARNING):
        assert choose_device(None) == torch.device("cpu")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.getMessage() == gpu_advice()
    assert "pip install" in gpu_advice() and "download.pytorch.org/whl/cu" in gpu_advice() and remedy in gpu_advice()


def test_a_gpu_known_to_the_driver_is_enough(no_cuda, tmp_path):
    (tmp_path / "proc").mkdir()
    assert gpu_advice() is None
    (tmp_path / "proc" / "0000:01:00.0").mkdir()
    assert "pip install" in gpu_advice()


@pytest.mark.parametrize("answer, status", [("No devices were found", 0), (GPU_LINE, 9)])
def test_nvidia_smi_that_lists_nothing_or_fails_means_no_gpu(no_cuda, answer, status):
    install_nvidia_smi(no_cuda, answer, status)
    assert gpu_advice() is None


def test_nvidia_smi_that_cannot_be_run_means_no_gpu(no_cuda):
    program = no_cuda / ("nvidia-smi.exe" if os.name == "nt" else "nvidia-smi")
    program.write_bytes(b"\x00\x01 no program")
    program.chmod(0o755)
    assert gpu_advice() is None


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_gpu_that_somebody_hid_is_not_pointed_out(no_cuda, monkeypatch, value):
    install_nvidia_smi(no_cuda, GPU_LINE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpu_advice() is None


def test_cuda_that_is_promised_and_fails_leaves_the_cpu_and_a_warning(no_cuda, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device_module, "_fault_of", lambda device: "no kernel image is available")
    assert choose_device(None) == torch.device("cpu")
    assert "no kernel image is available" in caplog.text


def test_a_named_device_is_taken(no_cuda):
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "meta", "xpu:7"])
def test_a_named_device_that_does_not_work_is_refused_with_the_way_out(no_cuda, name):
    with pytest.raises(ConfigError, match=f"device='{name}' cannot be used here .*Set device=None"):
        choose_device(name)


def test_refusing_cuda_says_how_to_get_it(no_cuda):
    install_nvidia_smi(no_cuda, GPU_LINE)
    with pytest.raises(ConfigError, match="pip install"):
        choose_device("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_a_name_that_is_no_device_is_refused(name):
    with pytest.raises(ConfigError, match=f"device must be 'cpu', 'cuda'.* got '{name}'"):
        choose_device(name)


def test_devices_are_described_for_people(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert describe_device(torch.device("cpu")) == "CPU, 2 threads"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert describe_device(torch.device("cpu")) == "CPU, 1 thread"
    assert describe_device(torch.device("mps")) == "mps device"


@pytest.mark.gpu
def test_cuda_is_taken_when_it_works():
    assert choose_device(None).type == "cuda" and gpu_advice() is None
    assert describe_device(choose_device(None)) == torch.cuda.get_device_name(0)


def test_on_the_cpu_nothing_is_changed_to_be_repeatable():
    with repeatable(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
@pytest.mark.parametrize("was", [False, True])
def test_on_a_gpu_numbers_are_added_in_one_order_within_the_block_alone(was):
    torch.use_deterministic_algorithms(was, warn_only=was)
    try:
        with repeatable(torch.device("cuda")):
            assert torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled() == was
    finally:
        torch.use_deterministic_algorithms(False)
