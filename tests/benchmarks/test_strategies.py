import re
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "strategies.py"


def run(*arguments: str) -> str:
    """A process of its own, as a person would start it; the package is that of the checkout."""
    command = [sys.executable, str(BENCHMARK), "--quick", "--threads", "1", *arguments]
    path = {"PYTHONPATH": str(BENCHMARK.parents[1])}
    answer = subprocess.run(command, capture_output=True, text=True, env=path)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_table_has_a_line_with_figures_and_a_verdict_per_strategy() -> None:
    lines = run("--only", "margin", "kcenter", "max_herding").splitlines()
    assert "cores, 1 threads" in lines[0]
    assert lines[1] == "256 features, 20 classes, float32, batch 100, seed 0"
    figure = r"\d+\.\d{3} \(\d+\.\d{3}\)"
    for name, sizes in (
        ("margin", r"10,000 \| 500"),
        ("kcenter", r"10,000 \| 50"),
        ("max_herding", r"500 \| 50"),
    ):
        row = rf"\| {name} \| {sizes} \| {figure} \| {figure} \| \d+\.\d{{3}} \| \d+%, \d+%, \d+% \| (yes|NO) \|"
        assert sum(re.fullmatch(row, line) is not None for line in lines) == 1


def test_a_peer_that_cannot_run_is_named_with_its_last_line_of_error() -> None:
    # This Python has neither of the two; that they agree where they are installed is what the benchmark itself shows.
    lines = run("--peers", "--only", "margin").splitlines()
    assert re.fullmatch(r"\| margin \| .* \| modAL \| ModuleNotFoundError: No module named 'modAL' \| \| \|", lines[-2])
    assert "No module named 'skactiveml'" in lines[-1]
