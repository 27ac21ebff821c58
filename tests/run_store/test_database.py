"""What goes wrong with the database of a run is told in words, and nothing is changed by what fails."""

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from camera_trap_al.exceptions import CheckpointError, DiskFullError, RunFileError
from camera_trap_al.run_store.database import DamagedError, check_whole, transaction


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A thousand numbers, in more than one page."""
    path = tmp_path / "run" / "data" / "run.sqlite"
    path.parent.mkdir(parents=True)
    with transaction(path) as db:
        db.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, told TEXT NOT NULL UNIQUE)")
        db.executemany("INSERT INTO numbers VALUES (?, ?)", [(n, f"number {n} " * 5) for n in range(1000)])
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits five seconds for other programs; no test needs them."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs, timeout=0.05))


def count(database: Path) -> int:
    with closing(sqlite3.connect(database)) as db:
        return int(db.execute("SELECT COUNT(*) FROM numbers").fetchone()[0])


def test_what_a_block_says_is_there_when_it_ends_and_nothing_lies_beside(database: Path) -> None:
    with transaction(database) as db:
        db.execute("DELETE FROM numbers WHERE number >= 10")
    assert count(database) == 10
    assert list(database.parent.iterdir()) == [database]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, CheckpointError("no", Path())])
def test_a_block_that_fails_changes_nothing_and_its_error_stays_what_it_is(
    database: Path, error: BaseException | type[BaseException]
) -> None:
    before = database.read_bytes()
    with pytest.raises(error if isinstance(error, type) else type(error)), transaction(database) as db:
        db.execute("PRAGMA cache_size = 1")  # so that changed pages are in the file already
        db.execute("DELETE FROM numbers")
        raise error
    assert count(database) == 1000
    assert database.read_bytes() == before
    assert list(database.parent.iterdir()) == [database]


def test_a_statement_that_fails_takes_the_ones_before_it_along(database: Path) -> None:
    with pytest.raises(DamagedError), transaction(database) as db:
        db.execute("DELETE FROM numbers WHERE number >= 10")
        db.execute("INSERT INTO numbers VALUES (3, 'three')")
    assert count(database) == 1000


def garbage(database: Path) -> None:
    database.write_bytes(b"This was a database once. " * 1000)


def page_overwritten(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)


def cut_short(database: Path) -> None:
    os.truncate(database, 2 * 4096 + 100)


@pytest.mark.parametrize(
    ("damage", "why"), [(garbage, "file is not a database"), (page_overwritten, "page"), (cut_short, "malformed")]
)
def test_damage_is_found_and_told_with_what_to_do(database: Path, damage, why: str) -> None:
    damage(database)
    with pytest.raises(DamagedError) as caught, transaction(database) as db:
        check_whole(db, database)
    message = str(caught.value)
    assert message.startswith(f"{database}: the run database is damaged (")
    assert why in caught.value.why.casefold() and "\n" not in message
    assert "Put back a copy of it" in message and "rebuild=True" in message and "--rebuild" in message
    assert isinstance(caught.value, CheckpointError) and caught.value.path == database


def test_a_whole_database_is_whole(database: Path) -> None:
    with transaction(database) as db:
        check_whole(db, database)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM photos",  # no such table
        "SELECT path FROM numbers",  # no such column
        "INSERT INTO numbers VALUES (1, 'one')",  # what the run numbers cannot be there yet
        "INSERT INTO numbers VALUES ('one', 'one')",
        "INSERT INTO numbers VALUES (1001, NULL)",
    ],
)
def test_a_database_that_does_not_hold_what_a_run_put_there_is_damaged(database: Path, statement: str) -> None:
    with pytest.raises(DamagedError, match="is damaged"), transaction(database) as db:
        db.execute(statement)


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_database_that_another_program_writes_into_is_told_and_left_alone(
    database: Path, impatient: None, lock: str
) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        with pytest.raises(CheckpointError, match="another program is writing into the run database") as caught:
            with transaction(database):
                raise AssertionError("nobody gets here")
        assert "locked" in str(caught.value) and "Close it and start again." in str(caught.value)
        assert caught.value.path == database and not isinstance(caught.value, DamagedError)
        other.execute("DELETE FROM numbers")
        other.execute("COMMIT")
    with transaction(database):
        pass
    assert count(database) == 0


def test_a_folder_that_is_gone_is_told_by_its_name(database: Path) -> None:
    missing = database.parent / "gone" / "run.sqlite"
    with pytest.raises(RunFileError, match="Look whether the drive is connected, and the folder still there") as caught:
        with transaction(missing):
            pass
    assert (caught.value.path, caught.value.errno) == (missing, errno.ENOENT)


def test_a_folder_in_the_place_of_the_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").mkdir()
    with pytest.raises(RunFileError, match="Is a directory"), transaction(tmp_path / "run.sqlite"):
        pass


def test_a_full_disk_is_told_and_nothing_is_changed(database: Path) -> None:
    with pytest.raises(DiskFullError, match="no room is left") as caught, transaction(database) as db:
        db.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size if that is more
        db.execute("INSERT INTO numbers VALUES (1001, ?)", ("x" * 100_000,))
    assert caught.value.path == database
    assert count(database) == 1000


READ_ONLY = """
import sqlite3, sys
from pathlib import Path
from camera_trap_al.exceptions import RunFileError
from camera_trap_al.run_store.database import transaction
try:
    with transaction(Path(sys.argv[1])) as db:
        db.execute("DELETE FROM numbers")
except RunFileError as error:
    print(error.errno, error)
"""


@pytest.mark.mount
def test_a_disk_that_may_only_be_read_is_told(database: Path) -> None:
    """For root too, whom no permission of a file stops: on a mount that ends with the program."""
    mounted = 'mount --bind -o ro "$0" "$0" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mounted, database.parent, sys.executable, "-c", READ_ONLY, database]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout.startswith(f"{errno.EROFS} {database}: cannot be used, since its drive can only be read")
    assert count(database) == 1000


@pytest.mark.parametrize("refused", ["run.sqlite", "run.probe"])
def test_a_file_that_may_not_be_written_is_told(database: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """SQLite says that the database is readonly, or cannot be opened; the system says why."""
    really_open = Path.open

    def open_unless_refused(self: Path, *args, **kwargs):
        if self.name == refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return really_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_unless_refused)
    with pytest.raises(RunFileError, match=r"not allowed \(Permission denied\). Close the programs that have it open"):
        with transaction(database) as db:
            db.execute("PRAGMA query_only = 1")
            db.execute("DELETE FROM numbers")
    assert count(database) == 1000


def test_what_only_the_database_knows_is_told_in_its_words(database: Path) -> None:
    with pytest.raises(RunFileError, match=r"the database says: attempt to write a readonly database"):
        with transaction(database) as db:
            db.execute("PRAGMA query_only = 1")
            db.execute("DELETE FROM numbers")
    assert list(database.parent.iterdir()) == [database], "what was tried out is gone"
