import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "predict.py"


@pytest.mark.data
def test_every_figure_is_printed_with_its_bound_and_verdict() -> None:
    options = ["--arch", "shufflenet_v2_x0_5", "--repeats", "1", "--copies", "2", "--many", "200"]
    answer = subprocess.run([sys.executable, BENCHMARK, *options], capture_output=True, text=True)
    bounded = re.findall(r"^\| (.+) \| [\d.]+ \| [<>]= [\d.]+ \| (yes|NO) \|$", answer.stdout, re.MULTILINE)
    assert [name for name, _ in bounded] == [
        "both, of 1/(1/decoding + 1/computing)",
        "with a sleeper 0.5 times as fast as decoding, of the slower",
        "with a sleeper 1 times as fast as decoding, of the slower",
        "with a sleeper 2 times as fast as decoding, of the slower",
        "onnxruntime : plain eager torch",
        "ratio of these",
    ], answer.stderr
    assert answer.returncode == any(verdict == "NO" for _, verdict in bounded)
