import re
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "store.py"


def test_every_line_and_its_parts_are_printed_with_time_memory_bounds_and_verdict() -> None:
    path = {"PYTHONPATH": str(BENCHMARK.parents[1]), "PATH": str(Path(sys.executable).parent)}
    command = [sys.executable, str(BENCHMARK), "--photos", "3000"]
    answer = subprocess.run(command, capture_output=True, text=True, env=path)
    lines = answer.stdout.splitlines()
    row = re.compile(r"\| (.+) \| [\d.]+ \| (< \d+|) \| [\d.]+ \| < 2 \| (yes|NO) \|")
    found = [match for line in lines if (match := row.fullmatch(line))]
    assert [(match[1], match[2]) for match in found] == [
        ("the first start", ""),
        ("a later start", "< 15"),
        ("100 labels stored, the median of 5 rounds", "< 1"),
        ("everything written for people", "< 60"),
    ], answer.stderr
    assert answer.returncode == any(match[3] == "NO" for match in found)
    part = re.compile(r"\| - .+ \| [\d.]+ \| \| \| \| \|")
    assert sum(part.fullmatch(line) is not None for line in lines) == 2 + 3 + 5 + 4
