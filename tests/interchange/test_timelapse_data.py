import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from camera_trap_al.exceptions import DataError, LabelFileError
from camera_trap_al.interchange import timelapse_data
from camera_trap_al.interchange.timelapse_data import TimelapseRecord, find_data_file, read_data_file

RECORDS = [
    ("IMG_1.JPG", "site\\a", "deer", "true"),
    ("IMG_1.JPG", "", " boar ", "TRUE"),
    ("Été 2.jpg", "Forêt d'Ö\\x", None, "False"),
    ("3.jpg", None, "", None),
    ("4.jpg", "b", "fox", "yes"),
    ("IMG_1.JPG", "site\\a", "fox", "false"),  # duplicated in Timelapse
]
READ = [
    TimelapseRecord("site/a/IMG_1.JPG", "deer", True),
    TimelapseRecord("IMG_1.JPG", "boar", True),
    TimelapseRecord("Forêt d'Ö/x/Été 2.jpg", "", False),
    TimelapseRecord("3.jpg", "", False),
    TimelapseRecord("b/4.jpg", "fox", False),
    TimelapseRecord("site/a/IMG_1.JPG", "fox", False),
]


@pytest.fixture
def data_file(tmp_path, make_data_file):
    return make_data_file(tmp_path / "TimelapseData.ddb", RECORDS)


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def snapshot(path: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}


def advice_for(path: Path, label_column: str = "Species") -> str:
    """Read, expect the refusal, and give what it tells."""
    with pytest.raises(LabelFileError, match="cannot be read") as caught:
        read_data_file(path, label_column)
    assert str(path) in str(caught.value)
    return str(caught.value)


OTHER_PROGRAM = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    db.execute(statement).fetchall()
print("done", flush=True)
sys.stdin.read()
os._exit(9)
"""


@contextmanager
def other_program(path: Path, *statements: str):
    """Run statements in another process, which dies at the end without closing the file."""
    command = [sys.executable, "-c", OTHER_PROGRAM, str(path), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "done\n"
        yield process
        process.stdin.close()
        process.wait()


def test_every_record_is_read_in_the_order_of_ids(data_file):
    assert read_data_file(data_file) == READ


def test_reading_changes_nothing(data_file):
    before = snapshot(data_file)
    read_data_file(data_file)
    assert snapshot(data_file) == before


@pytest.mark.parametrize("name", ["a b", "50%", "%41", "a#b", "a?mode=rwc", "é'ñ", 'x"y'])
def test_odd_folders_are_no_obstacle(tmp_path, make_data_file, name):
    if os.name == "nt" and set(name) & set('?"'):
        pytest.skip("Windows has no such names")
    (tmp_path / name).mkdir()
    path = make_data_file(tmp_path / name / "T.ddb", RECORDS)
    assert read_data_file(path) == READ
    assert [*path.parent.iterdir()] == [path]


def test_a_relative_path_is_no_obstacle(data_file, monkeypatch):
    monkeypatch.chdir(data_file.parent)
    assert read_data_file(Path(data_file.name)) == READ


def test_windows_paths_are_written_as_sqlite_takes_them():
    """sqlite.org/uri.html: three slashes before a drive; no host, so four before a server."""
    address = timelapse_data._address
    assert address(PureWindowsPath("C:\\My photos\\T.ddb")) == "file:///C%3A/My%20photos/T.ddb?mode=ro"
    assert address(PureWindowsPath("\\\\server\\share\\T.ddb")) == "file:////server/share/T.ddb?mode=ro"
    assert address(PurePosixPath("/data/T.ddb")) == "file:///data/T.ddb?mode=ro"


@pytest.mark.skipif(os.name == "nt", reason="there, two slashes begin the name of a server")
def test_sqlite_takes_two_slashes_for_a_path(data_file):
    address = timelapse_data._address(PureWindowsPath("\\\\" + str(data_file)[1:].replace("/", "\\")))
    assert address.startswith("file:////")
    with closing(sqlite3.connect(address, uri=True)) as db:
        assert db.execute("SELECT count(*) FROM DataTable").fetchone() == (len(RECORDS),)


def test_column_names_match_exactly_or_else_whatever_their_case(tmp_path, make_data_file):
    path = make_data_file(tmp_path / "T.ddb", RECORDS, label_column="Espèce")
    assert read_data_file(path, "ESPÈCE") == READ
    change(path, 'ALTER TABLE DataTable ADD COLUMN "ESPÈCE" TEXT', "UPDATE DataTable SET \"ESPÈCE\" = 'exact'")
    assert {record.label for record in read_data_file(path, "ESPÈCE")} == {"exact"}
    assert read_data_file(path, "espèce") == READ


def test_a_label_column_with_a_quote_is_only_a_name(data_file):
    change(data_file, 'ALTER TABLE DataTable RENAME COLUMN Species TO "a""b"')
    assert read_data_file(data_file, 'a"b') == READ


def test_values_that_are_no_text_are_read_as_text(data_file):
    change(data_file, "UPDATE DataTable SET Species = x'64656572' WHERE Id = 1")
    assert read_data_file(data_file) == READ


def test_another_program_may_read(data_file):
    with other_program(data_file, "BEGIN", "SELECT * FROM DataTable"):
        assert read_data_file(data_file) == READ


def test_while_another_program_prepares_a_change_the_old_content_is_read(data_file):
    with other_program(data_file, "BEGIN IMMEDIATE", "UPDATE DataTable SET Species = 'new'"):
        assert read_data_file(data_file) == READ


def test_a_file_that_is_being_written_is_waited_for_and_then_refused(data_file, monkeypatch):
    monkeypatch.setattr(timelapse_data, "LOCK_WAIT_S", 0.05)
    with other_program(data_file, "BEGIN EXCLUSIVE"):
        assert "is writing to it" in advice_for(data_file)
    assert read_data_file(data_file) == READ


def test_a_lock_that_ends_in_time_is_no_error(data_file):
    with other_program(data_file, "BEGIN EXCLUSIVE") as process:
        end = threading.Timer(0.3, process.stdin.close)
        end.start()
        assert read_data_file(data_file) == READ
        assert end.finished.is_set()  # not read before
        end.join()


SPILLED = ("PRAGMA cache_size = 2", "BEGIN", "UPDATE DataTable SET Species = Species || hex(zeroblob(3000))")


def test_a_save_that_was_interrupted_is_left_for_timelapse_to_undo(tmp_path, make_data_file):
    """With a journal to be played back, SQLite refuses to read a file that it may not write."""
    records = [(f"{n}.jpg", "", "deer", "true") for n in range(500)]
    path = make_data_file(tmp_path / "T.ddb", records)
    content = path.read_bytes()
    with other_program(path, *SPILLED):
        pass
    before = snapshot(path)
    assert sorted(before) == ["T.ddb", "T.ddb-journal"]
    assert before["T.ddb"][0] != content
    assert "Open the image set in Timelapse and close it again" in advice_for(path)
    assert snapshot(path) == before
    change(path, "SELECT * FROM DataTable")  # as Timelapse does
    assert [record.label for record in read_data_file(path)] == ["deer"] * 500


@pytest.fixture
def wal_file(data_file):
    """As a merge or a tidying up in Timelapse 2.4 or 2.5 leaves it."""
    change(data_file, "PRAGMA journal_mode = WAL")
    assert [*data_file.parent.iterdir()] == [data_file]
    return data_file


def test_a_file_in_the_format_wal_is_read_without_a_trace(wal_file):
    before = snapshot(wal_file)
    assert read_data_file(wal_file) == READ
    assert snapshot(wal_file) == before


def test_what_waits_in_the_wal_is_read_too(wal_file):
    with other_program(wal_file, "PRAGMA wal_autocheckpoint = 0", "UPDATE DataTable SET Species = 'new'"):
        content = wal_file.read_bytes()
        assert {record.label for record in read_data_file(wal_file)} == {"new"}
    assert {record.label for record in read_data_file(wal_file)} == {"new"}  # also after a crash
    assert wal_file.read_bytes() == content


def test_a_change_while_it_was_read_without_locks_makes_it_read_again(wal_file, monkeypatch):
    query = timelapse_data._query
    addresses = []

    def query_and_save(address, *arguments):
        addresses.append(address)
        rows = query(address, *arguments)
        if len(addresses) == 1:
            change(wal_file, "UPDATE DataTable SET Species = 'new'")
            os.utime(wal_file, ns=(10**18, 10**18))
        return rows

    monkeypatch.setattr(timelapse_data, "_query", query_and_save)
    assert {record.label for record in read_data_file(wal_file)} == {"new"}
    assert len(addresses) == 2


def test_a_file_that_never_rests_is_refused(wal_file, monkeypatch):
    times = iter(range(10**9, 10**9 + 100))

    def query(*arguments):
        os.utime(wal_file, (next(times),) * 2)
        raise sqlite3.DatabaseError("torn")

    monkeypatch.setattr(timelapse_data, "_query", query)
    assert "is writing to it" in advice_for(wal_file)


def test_a_missing_label_column_is_told_with_the_choice_lists_there_are(tmp_path, make_data_file):
    path = make_data_file(tmp_path / "T.ddb", RECORDS, "Animal", more_controls=[("Note", "Comment", "")])
    told = advice_for(path)
    assert "It has no control 'Species', only: Animal. Name one of these as label_column" in told


def test_without_a_template_all_controls_of_the_user_are_told(tmp_path, make_data_file):
    path = make_data_file(tmp_path / "T.ddb", RECORDS, "Animal", more_controls=[("Note", "Comment", "")])
    change(path, "DROP TABLE TemplateTable")
    assert "only: Animal, Selected, Comment." in advice_for(path)


def test_a_missing_flag_is_told(data_file):
    change(data_file, "ALTER TABLE DataTable RENAME COLUMN Selected TO Chosen")
    change(data_file, "UPDATE TemplateTable SET DataLabel = 'Chosen' WHERE Type = 'Flag'")
    assert "It has no flag Selected, only: Chosen. Add such a flag in Timelapse's Template Editor" in advice_for(
        data_file
    )


def test_every_missing_column_is_told_at_once(data_file):
    change(data_file, "ALTER TABLE DataTable RENAME COLUMN Selected TO Chosen")
    with pytest.raises(LabelFileError) as caught:
        read_data_file(data_file, "Animal")
    assert [(fault.row, fault.file) for fault in caught.value.faults] == [(None, "")] * 2


@pytest.mark.parametrize("content", [b"", b"File,RelativePath\r\n" * 100])
def test_what_is_no_data_file_is_refused(tmp_path, content):
    path = tmp_path / "T.ddb"
    path.write_bytes(content)
    assert "Backups" in advice_for(path)
    assert path.read_bytes() == content


def test_another_database_is_refused(tmp_path):
    path = tmp_path / "T.ddb"
    change(path, "CREATE TABLE DataTable (a)")
    assert "It lacks the table DataTable with the columns File and RelativePath." in advice_for(path)


def test_a_damaged_file_is_refused(tmp_path, make_data_file, wal_file):
    path = make_data_file(tmp_path / "T.ddb", [(f"{n}.jpg", "a" * 200, "deer", "true") for n in range(500)])
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    assert "damaged" in advice_for(path)
    path.write_bytes(content[: len(content) // 2])
    assert "damaged" in advice_for(path)
    content = wal_file.read_bytes()
    wal_file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    assert "damaged" in advice_for(wal_file)


def test_a_file_that_is_gone_is_told(tmp_path):
    told = advice_for(tmp_path / "T.ddb")
    assert "It cannot be opened. (No such file or directory.) Look whether the file is still there" in told
    assert not [*tmp_path.iterdir()]


def test_a_file_that_vanishes_at_the_last_moment_is_told(data_file, monkeypatch):
    monkeypatch.setattr(timelapse_data, "_is_wal", lambda path: path.unlink())
    assert "It cannot be opened. (SQLite says: unable to open database file.) Look" in advice_for(data_file)


def test_a_file_that_may_not_be_read_is_told(data_file, monkeypatch):
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert "It cannot be opened. (Permission denied.) Look" in advice_for(data_file)


def test_a_folder_is_no_data_file(tmp_path):
    assert "It cannot be opened" in advice_for(tmp_path)


def test_the_data_file_of_a_folder_is_found_whatever_the_case_of_its_suffix(tmp_path):
    for name in ("TimelapseTemplate.tdb", "._Data.ddb", ".ddb", "sub/Other.ddb", "Backups.ddb/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "Mine.DDB").touch()
    assert find_data_file(tmp_path) == tmp_path / "Mine.DDB"


def test_a_folder_without_data_file_tells_who_makes_it(tmp_path):
    with pytest.raises(DataError, match="Timelapse makes it when the images of this folder are opened") as caught:
        find_data_file(tmp_path)
    assert caught.value.path == tmp_path


def test_of_several_data_files_one_must_be_named(tmp_path):
    for name in ("b.ddb", "a.ddb"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"several .*: a\.ddb, b\.ddb\. Name the one to read"):
        find_data_file(tmp_path)


def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        find_data_file(tmp_path / "gone")
