"""What README.md says is what the code does."""

import inspect
import logging
import re
import runpy
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import camera_trap_al
from camera_trap_al import run_active_learning
from camera_trap_al.active_learning_methods import STRATEGIES
from camera_trap_al.cli.commands import _parser
from camera_trap_al.config import RunConfig

README = Path(__file__).parents[1] / "README.md"


TABLES = runpy.run_path(str(README.parent / "docs" / "readme_tables.py"))


def test_its_tables_are_those_that_the_code_makes() -> None:
    text = README.read_text(encoding="utf-8")
    assert TABLES["with_tables"](text) == text, "python docs/readme_tables.py makes them anew"


def test_every_setting_has_a_full_line() -> None:
    lines = TABLES["table_of_settings"]().splitlines()[2:]
    assert len(lines) == len(inspect.signature(run_active_learning).parameters)
    for line in lines:
        name, kind, default, unit, on_resume, what = (
            cell.strip(" `") for cell in re.split(r"(?<!\\)\|", line.strip("|"))
        )
        assert kind and what and on_resume in ("kept", "not read", "each start", "may change")
        assert default or name in ("train_data", "unlabelled_data")
        assert "object" not in kind or name in ("active_learning_strategy", "classifier", "label_source")
        assert unit == TABLES["UNITS"].get(name, "")


def test_every_strategy_has_a_full_line() -> None:
    for name, line in zip(STRATEGIES, TABLES["table_of_strategies"]().splitlines()[2:], strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0].startswith(f"`{name}`")
        assert len(cells) == 5
        assert all(cells[1:]) or (name == "uniform" and not cells[2])  # drawing at random has no paper
        assert "[" not in cells[1], "the paper has a column of its own"


def test_the_table_marks_the_default() -> None:
    defaults = {field.name: field.default for field in fields(RunConfig)}
    assert f"| `{defaults['active_learning_strategy']}` (default) |" in TABLES["table_of_strategies"]()


def test_the_command_that_it_shows_can_be_typed() -> None:
    section = README.read_text(encoding="utf-8").partition("### From the command line")[2].partition("###")[0]
    (command,) = re.findall(r"^camera-trap-al (run .*)", section, re.MULTILINE)
    options = shlex.split(" ".join(re.findall(r"`(--[^`]+)`", section)))
    chosen = _parser(["run"]).parse_args([*command.split(), *options])
    assert chosen.finetuning_gate is False and chosen.classes == ["Deer", "Fox"]


PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=lambda block: block.splitlines()[0])
def test_python_that_it_shows_runs(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*given: Any, **settings: Any) -> None:
        inspect.signature(run_active_learning).bind(*given, **settings)

    level = logging.getLogger().level
    monkeypatch.setattr(camera_trap_al, "run_active_learning", run)  # its folders are those of somebody else
    try:
        exec(compile(block, "README.md", "exec"), {})
    finally:
        logging.getLogger().setLevel(level)
