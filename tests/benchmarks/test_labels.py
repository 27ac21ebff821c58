import re
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "labels.py"


def test_every_line_is_printed_with_time_memory_bounds_and_verdict() -> None:
    path = {"PYTHONPATH": str(BENCHMARK.parents[1]), "PATH": str(Path(sys.executable).parent)}
    command = [sys.executable, str(BENCHMARK), "--photos", "3000"]
    answer = subprocess.run(command, capture_output=True, text=True, env=path)
    assert answer.returncode == 0, answer.stderr
    row = re.compile(r"\| .+ \| [\d.]+ \| < \d+ \| [\d.]+ \| < 2 \| (yes|NO) \|")
    assert len([line for line in answer.stdout.splitlines() if row.fullmatch(line)]) == 3, answer.stdout
