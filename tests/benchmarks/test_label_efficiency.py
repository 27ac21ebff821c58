import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "label_efficiency.py"


def run(data: Path, results: Path, *arguments: str) -> str:
    """A process of its own, as a person would start it; the package is that of the checkout."""
    command = [sys.executable, str(BENCHMARK), str(data), str(results), "--quick", *arguments]
    path = {"PYTHONPATH": str(BENCHMARK.parents[1]), "PATH": os.environ["PATH"]}
    answer = subprocess.run(command, capture_output=True, text=True, env=path)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.data
def test_the_ladder_compares_everything_with_drawing_at_random_and_goes_on_where_it_was(
    data: Path, tmp_path: Path
) -> None:
    said = run(data, tmp_path)
    line = r"\| .+ \| 0\.\d{3} \| 0\.\d{3} \| [+-]\d\.\d{3} \(.*\): (win|tie|loss) \| (not reached|\d+ \(\d+%\)) \|"
    for title, arms in (
        ("crops: logistic, 2 seeds", {"uniform", "margin", "auto"}),
        ("crops: logistic, balanced, 2 seeds", {"uniform", "margin", "auto"}),
        (
            "crops: against uniform + logistic, 2 seeds",
            {"uniform", *(f"{name} + logistic" for name in ("margin", "auto"))}
            | {f"{name} + logistic, balanced" for name in ("uniform", "margin", "auto")},
        ),
    ):
        table = said.split(f"### {title}\n\n")[1].split("\n\n")[0].splitlines()[2:]
        assert all(re.fullmatch(line, row) for row in table)
        assert {row.split(" | ")[0].removeprefix("| ") for row in table} == arms
    assert (tmp_path / "label_efficiency.png").read_bytes().startswith(b"\x89PNG")
    for file in tmp_path.glob("crops, logistic, [01].csv"):  # what is there is believed
        curves = pd.read_csv(file)
        curves.loc[curves["strategy"] == "margin", "macro_f1"] = 0.777
        curves.to_csv(file, index=False)
    assert "| margin | 0.777 | 0.777 |" in run(data, tmp_path)
