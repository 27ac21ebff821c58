"""The program that measures what it costs to find bursts."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "sequences.py"


@pytest.mark.data
def test_it_groups_photos_and_compares_reading_times_with_decoding(data: Path) -> None:
    command = [sys.executable, PROGRAM, data, "--photos", "5000"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(told) == 3
    assert told[0].startswith("grouping 5,000 photos by time: ")
    assert all(line.endswith(" bursts") for line in told[:2])
    assert told[2].startswith("reading the times of 30 photos: ")
