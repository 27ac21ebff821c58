import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "pipeline.py"


@pytest.fixture
def data(tmp_path: Path, make_photo: Callable[..., Path]) -> Path:
    """Three photos where the full-size ones of the shared data would be."""
    for seed in range(3):
        make_photo(tmp_path / "camera_trap_fullsize" / f"{seed}.jpg", seed, (640, 480))
    return tmp_path


def run(data: Path, *parts: str) -> list[str]:
    """A process of its own, as a person would start it; the package is that of the checkout."""
    command = [sys.executable, str(BENCHMARK), str(data), "--quick", "--only", *parts]
    path = {"PYTHONPATH": str(BENCHMARK.parents[1]), "PATH": str(Path(sys.executable).parent)}
    answer = subprocess.run(command, capture_output=True, text=True, env=path)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()


def test_every_part_prints_its_lines_with_ratio_bound_and_verdict(data: Path) -> None:
    lines = run(data, "decoding", "loading", "embedding", "losses", "first-question", "start")
    row = re.compile(r"\| .+ \| [\d.]+ (ms|s|min|GB)( a step)? \| .+ \| -?[\d.e+-]+ \| [<>]= [\d.]+ \| (yes|NO) \|")
    found = [line for line in lines if row.fullmatch(line)]
    told = "\n".join(found)
    for what in (
        "first pass over 30 photos",
        "a batch of 4, augmented",
        "what loading adds to a step",
        "embedding 8 cached photos, resnet18, fp32",
        'embedding 8 cached photos, resnet18, "bf16" on a CPU',
        "triplet loss, hardest",
        "triplet loss, random",
        "triplet loss, semi_hard",
        "first question on 60 photos",
        "starting a run on 60 registered photos",
    ):
        assert what in told, lines


@pytest.mark.gpu
def test_on_a_gpu_loading_embedding_and_losses_are_measured_too(data: Path) -> None:
    told = "\n".join(run(data, "loading", "embedding", "losses", "--device", "cuda"))
    for what in ("what loading adds to a step", "bare forward on random tensors, channels last, bf16", "hardest"):
        assert what in told
    assert "on a CPU" not in told


def test_decoders_are_compared_in_time_and_pixels(data: Path) -> None:
    lines = run(data, "decoders")
    rows = [line for line in lines if re.fullmatch(r"\| .+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \| (yes|NO) \|", line)]
    assert len(rows) == 9
    assert "| Pillow, full decode |" in rows[0] and rows[0].endswith("| 0.00 | 0.00 | yes |")
