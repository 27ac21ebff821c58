import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "classifiers.py"
FIGURES = r"[\d.]+ \| [\d.]+ \| [\d.]+ \| -?[\d.]+"
NAMES = ["bare MLPClassifier", "mlp", "mlp_fast", "logistic"]


def run(**environment: str) -> tuple[int, str]:
    """A process of its own, as a person would start it; the package is that of the checkout."""
    environment |= {"PYTHONPATH": str(BENCHMARK.parents[1]), "PATH": str(Path(sys.executable).parent)}
    answer = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick"], capture_output=True, text=True, env=environment
    )
    assert not [line for line in answer.stderr.splitlines() if "Traceback" in line], answer.stderr
    return answer.returncode, answer.stdout


def lines_of(table: str) -> list[re.Match[str]]:
    found = [re.fullmatch(rf"\| (.+) \| {FIGURES} \| (.*) \| (yes|NO|) \|", line) for line in table.splitlines()]
    return [line for line in found if line is not None]


def test_every_classifier_has_a_line_with_figures_and_those_that_must_hold_something_a_verdict() -> None:
    returncode, said = run()
    assert "one BLAS thread" in said.splitlines()[0] and "made features, 200 labels, 2 seeds, 1 of them bare" in said
    lines = lines_of(said)
    assert [(line[1], line[2]) for line in lines] == [
        *zip(NAMES, ["<= 1.1 times", "", ">= 8 times, <= 0.5 points", ""], strict=True)
    ]
    assert [bool(line[3]) for line in lines] == [True, False, True, False]
    assert returncode == any(line[3] == "NO" for line in lines)


@pytest.mark.data
def test_features_of_real_photos_are_classified_too(data: Path) -> None:
    _, said = run(CAMERA_TRAP_AL_DATA=str(data))
    _, *tables = said.split("\n\n| classifier")
    assert [[line[1] for line in lines_of(table)] for table in tables] == [NAMES] * 3
    assert not any(line[2] or line[3] for table in tables[1:] for line in lines_of(table))
