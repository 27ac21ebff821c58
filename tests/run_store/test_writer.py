"""One program at a time works on a run, and what is left of one that ended otherwise keeps nobody out."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from camera_trap_al import main_scripts
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError, DataError
from camera_trap_al.run_store import RunStore, writer
from camera_trap_al.run_store.writer import WRITER_FILE

PROMPT = "Press enter when you have placed the labels in the labels bin"
SMALL = "from sixteen_pixels import put_in_place; put_in_place()"
RUN = f"""
import json, sys
{SMALL}
from camera_trap_al.main_scripts import run_active_learning
print("RESULT", run_active_learning(**json.loads(sys.argv[1])).ended_because, flush=True)
"""
TRY = """
import sys
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.run_store.rebuild import open_run
for more in ({}, {"use_checkpoints": False}, {"rebuild": True}):
    try:
        open_run(RunConfig(output_dir=sys.argv[1], **more))
    except CheckpointError as error:
        print(error)
"""
HOLD = """
import sys
from camera_trap_al.config import RunConfig
from camera_trap_al.run_store import RunStore
with RunStore.open(RunConfig(output_dir=sys.argv[1])):
    print("open", flush=True)
    sys.stdin.read()
"""
RACE = """
import os, sys
from pathlib import Path
from camera_trap_al.config import RunConfig
from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.run_store import RunStore
print("ready", flush=True)
for line in sys.stdin:
    try:
        store = RunStore.open(RunConfig(output_dir=line.strip()))
    except CheckpointError as error:
        print(f"refused: {error}", flush=True)
    else:
        print(f"open {os.getpid()}", flush=True)
        sys.stdin.readline()
        store.close()
        print("closed", flush=True)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    here = Path(__file__).parents[1]
    path = os.pathsep.join([str(here.parent), str(here / "support")])
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def listen_for(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if text in line:
            return "".join(said)
    raise AssertionError(f"the program ended without saying {text!r}; it said:\n{''.join(said)}")


def tell(process: subprocess.Popen[str], text: str = "") -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts programs; none of them outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str) -> subprocess.Popen[str]:
        processes.append(start(*arguments))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def arguments(format_1: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Arguments of a run that takes a second."""
    format_1["write_photos"](tmp_path / "photos")
    return format_1["arguments"](tmp_path / "photos", tmp_path / "run")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(output_dir=tmp_path / "run")


def enter(folder: Path, **other: Any) -> Path:
    """Leave the entry of this process, changed as told, as another one would have left its own."""
    file = folder / WRITER_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(writer._this_process(folder) | other), "utf-8")
    return file


def is_free(config: RunConfig) -> bool:
    try:
        RunStore.open(config).close()
    except CheckpointError as error:
        assert "another program works on this run" in str(error)
        return False
    return True


def test_a_second_program_is_told_who_works_on_the_run_and_the_first_goes_on(
    arguments: dict[str, Any], started: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = Path(arguments["output_dir"])
    first = started(RUN, json.dumps(arguments))
    listen_for(first, PROMPT)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    said, _ = started(TRY, str(folder)).communicate()
    for message in (messages := said.splitlines()):
        assert f"process {first.pid} of {writer._user()} on the computer {platform.node()}, since 20" in message
        assert "type q where it asks for labels, or press Ctrl-C there. Or choose another output_dir." in message
    assert len(messages) == 3
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    tell(first, "q")
    listen_for(first, "RESULT the expert stopped")
    assert first.wait() == 0
    assert not (folder / WRITER_FILE).exists()


def test_a_program_that_was_killed_keeps_nobody_out_not_even_as_a_zombie(
    config: RunConfig, started: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = started(HOLD, str(config.run_dir))
    listen_for(holder, "open")
    assert not is_free(config)
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
    assert psutil.Process(holder.pid).status() == psutil.STATUS_ZOMBIE
    assert (config.run_dir / WRITER_FILE).exists()
    assert is_free(config)
    shutil.copytree(config.run_dir, config.run_dir.with_name("as it was"))
    enter(config.run_dir, process=holder.pid)
    holder.wait()
    assert is_free(config)


def test_another_program_with_the_number_of_one_that_ended_keeps_nobody_out(
    config: RunConfig, started: Callable[..., subprocess.Popen[str]]
) -> None:
    RunStore.open(config).close()
    alive = started(HOLD, str(config.run_dir.with_name("elsewhere")))
    began = psutil.Process(alive.pid).create_time()
    enter(config.run_dir, process=alive.pid, began=began)
    assert not is_free(config)
    enter(config.run_dir, process=alive.pid, began=began - 3600)
    assert is_free(config)


def test_a_run_that_another_computer_works_on_is_free_when_its_file_is_deleted(config: RunConfig) -> None:
    RunStore.open(config).close()
    file = enter(
        config.run_dir, computer="FIELD-LAPTOP", address=1, user="anna", process=4321, since="2026-05-01 09:30"
    )
    with pytest.raises(CheckpointError, match=r"process 4321 of anna on the computer FIELD-LAPTOP") as caught:
        RunStore.open(config)
    assert caught.value.path == file
    assert "since 2026-05-01 09:30. If no program on FIELD-LAPTOP works on it any more" in str(caught.value)
    assert f"delete the file {file} and start again" in str(caught.value)
    file.unlink()
    assert is_free(config)


def test_copies_and_a_renamed_folder_are_free_while_a_program_waits(
    config: RunConfig, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    holder = started(HOLD, str(config.run_dir))
    listen_for(holder, "open")
    shutil.copytree(config.run_dir, tmp_path / "copy")
    assert is_free(RunConfig(output_dir=tmp_path / "copy"))
    assert not is_free(config)
    (tmp_path / "link").symlink_to(config.run_dir)
    assert not is_free(RunConfig(output_dir=tmp_path / "link")), "the same folder under another name"
    config.run_dir.rename(tmp_path / "renamed")
    assert is_free(RunConfig(output_dir=tmp_path / "renamed"))


def test_one_program_may_open_a_run_again(config: RunConfig) -> None:
    first = RunStore.open(config)
    with RunStore.open(config) as second:
        assert second.n_rounds() == first.n_rounds() == 0
        assert (config.run_dir / WRITER_FILE).exists()
    assert not (config.run_dir / WRITER_FILE).exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 200,
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"computer": "elsewhere"}',
        *(
            json.dumps(
                {"user": "x", "since": "x", "folder": folder, "computer": platform.node(), "address": 1} | numbers
            ).encode()
            for folder, numbers in [
                ("/", {"process": None, "began": 1.0}),
                ("/", {"process": "1", "began": 1.0}),
                ("/", {"process": 1.5, "began": 1.0}),
                ("/", {"process": -1, "began": 1.0}),
                ("/", {"process": 10**30, "began": 1.0}),
                ("/", {"process": 1, "began": [1.0]}),
                ("/", {"process": 1, "began": float("nan")}),
                ("\0", {"process": os.getppid(), "began": psutil.Process(os.getppid()).create_time()}),
                (1, {"process": os.getppid(), "began": psutil.Process(os.getppid()).create_time()}),
            ]
        ),
    ],
)
def test_a_file_that_no_program_of_this_package_wrote_says_nothing(config: RunConfig, content: bytes) -> None:
    RunStore.open(config).close()
    (config.run_dir / WRITER_FILE).write_bytes(content)
    assert is_free(config)


def test_the_entry_says_who_works_on_the_run_and_since_when(config: RunConfig) -> None:
    with RunStore.open(config):
        entry = json.loads((config.run_dir / WRITER_FILE).read_text("utf-8"))
    assert (entry["process"], entry["computer"]) == (os.getpid(), platform.node())
    assert (entry["user"], entry["folder"]) == (writer._user(), str(config.run_dir))
    assert abs((datetime.now() - datetime.fromisoformat(entry["since"])).total_seconds()) < 180


def test_an_account_without_a_name_is_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(writer.getpass, "getuser", nobody)
    assert writer._user() == "an unknown user"


def test_leaving_a_run_that_another_works_on_changes_nothing(config: RunConfig) -> None:
    store = RunStore.open(config)
    file = enter(config.run_dir, computer="elsewhere", address=1)
    store.close()
    assert file.exists()
    file.unlink()
    store.close()  # as often as one likes


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, SystemExit(3), DataError("no")])
def test_however_a_run_ends_the_next_program_may_begin(
    arguments: dict[str, Any], sixteen_pixels: None, error: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(arguments["output_dir"], WRITER_FILE)
    there: list[bool] = []

    def source(query: Any) -> None:
        there.append(file.exists())
        if error is not None:
            raise error

    if error is None:
        main_scripts.run_active_learning(**arguments, label_source=source)
    else:
        with pytest.raises(error if isinstance(error, type) else type(error)):
            main_scripts.run_active_learning(**arguments, label_source=source)
    assert there == [True]
    assert not file.exists()


def test_a_start_that_fails_leaves_the_run_free(config: RunConfig) -> None:
    RunStore.open(config).close()
    (config.run_dir / "data" / "run.sqlite").write_bytes(b"garbage " * 1000)
    with pytest.raises(CheckpointError, match="is damaged"):
        RunStore.open(config)
    assert not (config.run_dir / WRITER_FILE).exists()


def test_of_programs_that_start_together_exactly_one_gets_the_run(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    racers = [started(RACE) for _ in range(6)]
    for racer in racers:
        listen_for(racer, "ready")
    for heat in range(10):
        folder = tmp_path / f"run {heat // 2}"  # a new one, then one that is there
        for racer in racers:
            tell(racer, str(folder))
        said = [racer.stdout.readline() for racer in racers if racer.stdout is not None]
        winners = [racer for racer, line in zip(racers, said, strict=True) if line.startswith("open")]
        assert len(winners) == 1, said
        (winner,) = winners
        refused = [line for line in said if not line.startswith("open")]
        assert all(f"process {winner.pid} of" in line for line in refused), said
        tell(winner)
        listen_for(winner, "closed")
        assert not (folder / WRITER_FILE).exists()
