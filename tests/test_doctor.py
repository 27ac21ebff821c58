"""What is said of a computer; what cannot be had here is put in its place."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from camera_trap_al import cli, doctor
from camera_trap_al.doctor import Finding, examine
from camera_trap_al.photos.images import IMAGE_BYTES


def found(folder: Path, arch_name: str = "resnet18") -> dict[str, Finding]:
    return {finding.title: finding for finding in examine(folder, arch_name)}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch looks for the weights of mobilenet_v2; the file is not there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v2-7ebf99e0.pth"


def test_this_computer_is_described(tmp_path: Path) -> None:
    findings = found(tmp_path)
    assert torch.__version__.partition("+")[0] in findings["Libraries"].text
    assert str(tmp_path) in findings["Disk"].text
    assert findings["Writing"] == Finding("Writing", "files and a database can be written there")
    assert list(tmp_path.iterdir()) == [], "nothing is left there"


def test_weights_are_in_place_or_it_is_said_where_they_come_from(tmp_path: Path, weights: Path) -> None:
    missing = found(tmp_path, "mobilenet_v2")["Weights"]
    assert str(weights) in missing.advice and "https://download.pytorch.org/models/" in missing.advice
    assert not missing.is_fault, "they are downloaded"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    assert found(tmp_path, "mobilenet_v2")["Weights"] == Finding("Weights", f"of mobilenet_v2 are in place: {weights}")


def test_a_network_that_there_is_not_is_a_fault(tmp_path: Path) -> None:
    assert found(tmp_path, "resnet19")["Weights"].is_fault


def test_a_folder_that_nothing_can_be_written_into_is_a_fault(tmp_path: Path) -> None:
    findings = found(tmp_path / "not there")
    assert findings["Disk"].is_fault and findings["Writing"].is_fault
    assert "Choose another folder" in findings["Writing"].advice


def test_little_room_and_memory_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int
        total: int = 8_000_000_000
        available: int = 1_000_000_000

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: Usage(IMAGE_BYTES))
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: Usage(0))
    findings = found(tmp_path)
    assert "image_cache='off'" in findings["Disk"].advice and not findings["Disk"].is_fault
    assert findings["Memory"] == Finding(
        "Memory", "8.0 GB, 1.0 GB of it free", "Close other programs: a run needs about 4 GB."
    )


def test_the_gpu_of_a_mac_is_named_with_how_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert found(tmp_path)["Device"].text.endswith("is used with device='mps' (--device mps)")


def test_the_advice_for_an_idle_gpu_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "gpu_advice", lambda: "To use the GPU, run: pip install ...")
    assert found(tmp_path)["Device"].advice == "To use the GPU, run: pip install ..."


def test_the_command_says_it_line_by_line_and_exits_with_1_if_no_run_can_go_on(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[Any]
) -> None:
    words = ["doctor", "--embedding-arch", "mobilenet_v2", "--folder"]
    assert cli.main([*words, str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Weights    of mobilenet_v2 are not there yet\n       to do The first run downloads them." in said
    assert said.endswith("A run can begin.\n")
    assert cli.main([*words, str(tmp_path / "not there")]) == 1
    said, error = capsys.readouterr()
    assert said.count("FAULT") == 2 and "see the 2 lines with FAULT" in error
