"""Whenever a process dies, the next one ends where an undisturbed run does.

Small runs are killed at a change that they make to a file of the run folder: each write, a write half done, each
rename, fsync, unlink and commit of the database (see faults/kill_at.c). The next process goes on to the end, which must
be that of a run that nobody disturbed: the same labels, pools, questions, model, figures and files. ``make faults``
tries every change; otherwise some of each kind are tried.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FAULTS = Path(__file__).parents[1] / "faults"
TRIES_ALL = os.environ.get("FAULTS") == "all"
OF_A_KIND = 1  # of each kind of change to each file, otherwise
SCENES = ("season", "growing")

pytestmark = pytest.mark.cc


class Runs:
    """The program that runs a scene once for each point that it is told."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def at(self, number: int, half: int = 0) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{number} {half}\n")
        self._process.stdin.flush()
        report: dict[str, Any] = json.loads(self._process.stdout.readline())
        return report


@pytest.fixture(scope="module")
def kill_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that kills, made from its source."""
    library = tmp_path_factory.mktemp("library") / "kill_at.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, FAULTS / "kill_at.c", "-ldl"], check=True)
    return library


@contextmanager
def runs_of(scene: str, folder: Path, kill_at: Path) -> Iterator[Runs]:
    folder.mkdir()
    command = [sys.executable, str(FAULTS / "runs.py"), scene, str(folder)]
    environment = {**os.environ, "LD_PRELOAD": str(kill_at)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Runs(process)


def points(changes: list[str]) -> list[tuple[int, int]]:
    """Number of each change that is tried, and whether half of it is done: all, or some drawn of each kind."""
    of_kind: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for number, change in enumerate(changes, start=1):
        what, _, file = change.partition(" ")
        for half in (0, 1) if what == "write" else (0,):
            of_kind[what, Path(file).name].append((number, half))
    if TRIES_ALL:
        return sorted(point for every in of_kind.values() for point in every)
    rng = np.random.default_rng(0)
    drawn = (rng.permutation(every)[:OF_A_KIND].tolist() for every in of_kind.values())
    return [(number, half) for some in drawn for number, half in some]


@pytest.mark.parametrize("scene", SCENES)
def test_a_kill_at_any_change_of_a_file_does_not_change_the_end(scene: str, tmp_path: Path, kill_at: Path) -> None:
    with ExitStack() as open_programs:
        folders = [tmp_path / f"core {number}" for number in range(os.cpu_count() or 1)]
        programs = [open_programs.enter_context(runs_of(scene, folder, kill_at)) for folder in folders]
        undisturbed, *again = (program.at(0) for program in (*programs, programs[0]))
        assert undisturbed["status"] == 0, undisturbed["log"]
        for other in again:
            assert other["end"] == undisturbed["end"], "a run of one seed has one end, wherever it lies"
            assert other["changes"] == undisturbed["changes"]
        kinds = {change.partition(" ")[0] for change in undisturbed["changes"]}
        assert kinds >= {"write", "fsync", "rename", "commit"}, "or the hook misses something"
        tried = points(undisturbed["changes"])

        def failures_of(program: Runs, some: list[tuple[int, int]]) -> list[str]:
            return [failure for point in some for failure in wrong_with(program.at(*point), undisturbed, point)]

        shares = [tried[number :: len(programs)] for number in range(len(programs))]
        with ThreadPoolExecutor(len(programs)) as threads:
            failures = [each for some in threads.map(failures_of, programs, shares) for each in some]
    print(f"{scene}: {len(tried)} kills at {len(undisturbed['changes'])} changes of files")
    assert not failures, f"{len(failures)} of {len(tried)} kills:\n" + "\n".join(failures[:20])


def wrong_with(report: dict[str, Any], undisturbed: dict[str, Any], point: tuple[int, int]) -> Iterator[str]:
    number, half = point
    where = f"killed {'half way through' if half else 'before'} {undisturbed['changes'][number - 1]} ({number})"
    if report["status"] != -9:
        yield f"{where}: not killed: {report['log']}"
    elif report["resumed"] != 0:
        yield f"{where}: cannot go on: {report['log'][-2000:]}"
    else:
        end, expected = report["end"], undisturbed["end"]
        differing = [name for name in {*end, *expected} if end.get(name) != expected.get(name)]
        if differing:
            yield f"{where}: differs in {', '.join(sorted(differing))}"
