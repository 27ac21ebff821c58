"""The template against what Timelapse demands: the comments name the sections of the facts about it."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.interchange import timelapse_template
from camera_trap_al.interchange.timelapse_template import TEMPLATE_FILE, write_template

CLASSES = ["deer", "Chevêche d'Athéna", "fox"]

# Section 3.2, item 5.
KNOWN_TYPES = set(
    "File RelativePath DateTime DeleteFlag Note MultiLine AlphaNumeric Counter IntegerAny IntegerPositive DecimalAny "
    "DecimalPositive FixedChoice MultiChoice Flag DateTime_ Date_ Time_".split()
)

TEMPLATE_COLUMNS = (  # section 3.1
    "Id ControlOrder SpreadsheetOrder Type DefaultValue Label DataLabel Tooltip Visible List ExportToCSV TXTBOXWIDTH "
    "Copyable"
).split()

# Section 3.4: as the standards generator of Timelapse writes it, which strict JSON is not.
REAL_LIST = '{"IncludeEmptyChoice":false, "ChoiceListNonEmpty":[ "deer" , "odd ,] name", "fox", ]}'


def ask(path: Path, sql: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql, values).fetchall()


def change(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql, values)


def list_of(path: Path, label: str = "Species") -> str:
    return ask(path, "SELECT List FROM TemplateTable WHERE DataLabel = ?", label)[0][0]


def choices(path: Path, label: str = "Species") -> list[str]:
    """Read a list as strictly as JSON is meant to be."""
    return json.loads(list_of(path, label))["ChoiceListNonEmpty"]


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def foreign_template(folder: Path, text: str, *, name: str = TEMPLATE_FILE, since_2_3: bool = True) -> Path:
    """A template as an ecologist has it: other controls, columns in another order and one more, an index."""
    path = folder / name
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"CREATE TABLE TemplateTable (Id INTEGER PRIMARY KEY, {', '.join(TEMPLATE_COLUMNS[:0:-1])}, Note)")
        db.execute("CREATE INDEX Odd ON TemplateTable (DataLabel)")
        controls = [
            ("File", "File", ""),
            ("RelativePath", "RelativePath", None),
            ("FixedChoice", "Light", '{"IncludeEmptyChoice":true,"ChoiceListNonEmpty":["dark" , ]}'),
            ("FixedChoice", "Species", text),
            ("Note", "Species2", "Renard\nroux"),
            ("Flag", "Selected", ""),
        ]
        db.executemany("INSERT INTO TemplateTable (Type, DataLabel, List, Note) VALUES (?, ?, ?, 'mine')", controls)
        if since_2_3:
            db.execute("CREATE TABLE TemplateInfo (VersionCompatabily TEXT)")
    return path


@pytest.fixture
def template(tmp_path):
    return write_template(tmp_path, CLASSES).path


# A new template


def test_a_new_template_lies_alone_in_the_folder_under_the_name_that_timelapse_prefers(tmp_path):
    made = write_template(str(tmp_path), CLASSES)
    assert files_in(tmp_path) == ["TimelapseTemplate.tdb"]  # section 3.6
    assert made.path == tmp_path / "TimelapseTemplate.tdb"
    assert made.added == (*CLASSES, "skip", "unusable")
    assert made.is_new and made.backup is None


def test_timelapse_would_open_it(template):
    # Section 3.2, items 2, 3 and 5.
    assert ask(template, "PRAGMA quick_check") == [("ok",)]
    assert ask(template, "SELECT count(*) FROM TemplateTable WHERE Type = 'File'") == [(1,)]
    assert ask(template, "SELECT VersionCompatabily, BackwardsCompatibility, Standard FROM TemplateInfo") == [
        ("2.3.3.0", "2.3.0.0", "")  # section 3.3
    ]
    types = {row[0] for row in ask(template, "SELECT Type FROM TemplateTable")}
    assert types <= KNOWN_TYPES and "UtcOffset" not in types


def test_it_has_the_settings_of_a_database_of_timelapse(template):
    # The head of section 3.
    pragmas = ("encoding", "journal_mode", "user_version", "application_id")
    assert [ask(template, f"PRAGMA {name}")[0][0] for name in pragmas] == ["UTF-8", "delete", 0, 0]


def test_its_tables_have_the_columns_of_timelapse_in_their_order(template):
    # Section 3.1: name, type, default and primary key of each column.
    integers = {"Id", "ControlOrder", "SpreadsheetOrder", "Level"}
    folder_columns = [name for name in TEMPLATE_COLUMNS if name not in ("TXTBOXWIDTH", "Copyable")]
    folder_columns.insert(folder_columns.index("SpreadsheetOrder") + 1, "Level")
    expected = {
        "TemplateTable": TEMPLATE_COLUMNS,
        "FolderDataTemplateTable": folder_columns,
        "FolderDataInfo": ["Id", "Level", "Guid", "Alias"],
        "TemplateInfo": ["VersionCompatabily", "BackwardsCompatibility", "Standard"],
    }
    defaults = {"ExportToCSV": "'True'", "BackwardsCompatibility": "''", "Standard": "''"}
    tables = ask(template, "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    assert {name for name, _ in tables} == set(expected)
    for table, sql in tables:
        found = [row[1:3] + row[4:] for row in ask(template, f"PRAGMA table_info({table})")]
        assert found == [
            (name, "INTEGER" if name in integers else "TEXT", defaults.get(name), int(name == "Id"))
            for name in expected[table]
        ]
        assert ("Id INTEGER PRIMARY KEY AUTOINCREMENT" in sql) == ("Id" in expected[table])


def test_its_rows_are_those_that_timelapse_writes(template):
    year = datetime.now().year
    listed = '{"IncludeEmptyChoice":true,"ChoiceListNonEmpty":["deer","Chevêche d\'Athéna","fox","skip","unusable"]}'
    columns = ", ".join(name for name in TEMPLATE_COLUMNS if name != "Tooltip")  # free text
    assert ask(template, f"SELECT {columns} FROM TemplateTable ORDER BY Id") == [  # section 3.3, the list as in 3.4
        (1, 1, 1, "File", "", "File", "File", "true", "", "true", "100", "false"),
        (2, 2, 2, "RelativePath", "", "RelativePath", "RelativePath", "true", "", "true", "100", "false"),
        (3, 3, 3, "DateTime", f"{year}-01-01 12:00:00", "DateTime", "DateTime", "true", "", "true", "160", "false"),
        (4, 4, 4, "DeleteFlag", "false", "Delete?", "DeleteFlag", "true", "", "false", "20", "false"),
        (5, 5, 5, "FixedChoice", "", "Species", "Species", "true", listed, "true", "100", "true"),
        (6, 6, 6, "Flag", "false", "Selected", "Selected", "true", "", "true", "20", "true"),
    ]
    assert all(tooltip for (tooltip,) in ask(template, "SELECT Tooltip FROM TemplateTable"))
    # Section 3.1: Timelapse casts the orders to long and every other cell to string.
    kinds = ask(template, "SELECT DISTINCT typeof(ControlOrder), typeof(SpreadsheetOrder) FROM TemplateTable")
    assert kinds == [("integer", "integer")]


def test_it_has_no_folder_levels(template):
    # Section 3.1: these two are empty if there are none.
    assert not ask(template, "SELECT * FROM FolderDataTemplateTable") + ask(template, "SELECT * FROM FolderDataInfo")


def test_the_choice_list_can_have_another_name(tmp_path):
    path = write_template(tmp_path, CLASSES, label_column="Art_2").path
    assert choices(path, "Art_2") == [*CLASSES, "skip", "unusable"]
    assert ask(path, "SELECT Label FROM TemplateTable WHERE DataLabel = 'Art_2'") == [("Art_2",)]


def test_names_of_folders_may_have_spaces_accents_and_signs(tmp_path):
    folder = tmp_path / "Fotos Été 100% #1?"
    folder.mkdir()
    write_template(folder, ["deer"])
    added = write_template(folder, ["fox"], add_classes=True)
    assert choices(folder / TEMPLATE_FILE) == ["deer", "fox", "skip", "unusable"]
    assert added.backup is not None and added.backup.parent == folder / "Backups"


def test_what_a_killed_start_left_is_no_template_and_is_replaced(tmp_path, monkeypatch):
    def killed(self: Path, target: Path) -> Path:
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(Path, "replace", killed)
        write_template(tmp_path, CLASSES)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]  # section 3.2: Timelapse opens .tdb files
    assert write_template(tmp_path, CLASSES).is_new
    assert files_in(tmp_path) == [TEMPLATE_FILE]


def test_a_folder_that_cannot_be_read_is_named_and_not_made(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: the folder cannot be read \(No such file"):
        write_template(tmp_path / "nowhere", CLASSES)
    assert not files_in(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_data_error(tmp_path, monkeypatch):
    def refuse(self: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(DataError, match=r"TimelapseTemplate\.tdb cannot be written: Permission denied"):
        write_template(tmp_path, CLASSES)
    assert not files_in(tmp_path)


# Names


@pytest.mark.parametrize(
    ("name", "problem"),
    [  # section 3.4, and the two words that label files use
        ("", "is empty"),
        (" deer", "has a space at an end"),
        ("deer ", "has a space at an end"),
        ("roe\ndeer", "has a line break"),
        ("roe\u2028deer", "has a line break"),
        ("deer\udcff", "something else that is no letter"),
        ("skip", "means something else"),
        ("Unusable", "means something else"),
    ],
)
def test_a_class_that_timelapse_or_a_label_file_cannot_hold_is_refused(tmp_path, name, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        write_template(tmp_path, ["deer", name])
    assert len(caught.value.problems) == 1 and repr(name) in str(caught.value)
    assert not files_in(tmp_path)


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        write_template(tmp_path, ["deer", "fox", "deer", " SKIP", "skip"], label_column="my species")
    assert [re.sub(" .*", "", problem) for problem in caught.value.problems] == ["classes:"] * 3 + ["label_column:"]
    assert "'deer' is there 2 times" in caught.value.problems[0]


def test_a_template_without_classes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least one"):
        write_template(tmp_path, [])
    assert not files_in(tmp_path)


@pytest.mark.parametrize(
    "label",  # section 3.5: the form, the words named there, and unique whatever the case; section 2.2: skipped columns
    [
        *"id row date Time DateTime query left right group ORDER index set match select where".split(),
        *("", "2nd", "_a", "roe deer", "Espèce", "a-b", "Species\n"),
        *("file", "RELATIVEPATH", "deleteflag", "selected", "Folder", "RootFolder", "ImageQuality"),
    ],
)
def test_a_data_label_that_timelapse_cannot_use_is_refused(tmp_path, label):
    with pytest.raises(ConfigError, match=r"^label_column: .*'Species'"):
        write_template(tmp_path, CLASSES, label_column=label)
    assert not files_in(tmp_path)


@pytest.mark.parametrize("label", ["Species", "Label"])  # section 3.5
def test_a_data_label_that_timelapse_can_use_is_accepted(tmp_path, label):
    assert choices(write_template(tmp_path, CLASSES, label_column=label).path, label)


texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1).filter(
    lambda name: name == name.strip() and name.casefold() not in ("skip", "unusable")
)


@settings(max_examples=30)  # each waits for the disk
@given(st.lists(texts, min_size=2, max_size=5, unique=True))
def test_odd_class_names_survive_in_their_order(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("photos")
    path = write_template(folder, names[:1]).path
    write_template(folder, names, add_classes=True)
    assert choices(path) == [*names, "skip", "unusable"]


# A template that is there


@pytest.mark.parametrize("name", ["TimelapseTemplate.tdb", "timelapsetemplate.TDB", "Mine.tdb"])
def test_a_template_is_never_overwritten(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"anything")
    with pytest.raises(DataError, match=rf"{re.escape(name)}: a template is there already.*add_classes=True.*--add"):
        write_template(tmp_path, CLASSES)
    assert path.read_bytes() == b"anything"
    assert files_in(tmp_path) == [name]


def test_a_folder_or_a_file_further_down_is_no_template(tmp_path):
    (tmp_path / "photos.tdb").mkdir()
    (tmp_path / "photos.tdb" / "Mine.tdb").touch()
    assert write_template(tmp_path, CLASSES).is_new


def test_classes_are_added_before_the_two_words_after_a_backup(template, tmp_path):
    old = template.read_bytes()
    start = datetime.now().replace(microsecond=0)
    added = write_template(tmp_path, ["wolf", "deer", "lynx"], add_classes=True)
    assert (added.path, added.added, added.is_new) == (template, ("wolf", "lynx"), False)
    assert choices(template) == [*CLASSES, "wolf", "lynx", "skip", "unusable"]
    assert added.backup is not None and added.backup.read_bytes() == old
    assert files_in(tmp_path) == sorted(["Backups", str(added.backup.relative_to(tmp_path)), TEMPLATE_FILE])
    # Section 5.1: Backups/<stem>.<yyyy-MM-dd.HH-mm-ss><ext>
    time = re.fullmatch(r"TimelapseTemplate\.(\d{4}-\d\d-\d\d\.\d\d-\d\d-\d\d)\.tdb", added.backup.name)
    assert time is not None and start <= datetime.strptime(time[1], "%Y-%m-%d.%H-%M-%S") <= datetime.now()


def test_names_are_compared_exactly(template, tmp_path):
    assert write_template(tmp_path, ["Deer", "fox"], add_classes=True).added == ("Deer",)


def test_if_nothing_is_missing_nothing_is_touched(template, tmp_path):
    old, changed_at = template.read_bytes(), template.stat().st_mtime_ns
    same = write_template(tmp_path, CLASSES[::-1], add_classes=True)
    assert (same.added, same.backup, same.is_new) == ((), None, False)
    assert (template.read_bytes(), template.stat().st_mtime_ns) == (old, changed_at)
    assert files_in(tmp_path) == [TEMPLATE_FILE]


def test_adding_without_a_template_makes_one(tmp_path):
    assert write_template(tmp_path, CLASSES, add_classes=True).is_new


def test_a_backup_is_never_overwritten(template, tmp_path):
    backups = [write_template(tmp_path, [name], add_classes=True).backup for name in ("a", "b", "c")]
    assert len(set(backups)) == 3  # all within one second
    assert [choices(path)[3:-2] for path in backups] == [[], ["a"], ["a", "b"]]


def test_the_backup_is_named_after_the_template(tmp_path):
    path = foreign_template(tmp_path, REAL_LIST, name="My photos.v2.TDB")
    added = write_template(tmp_path, ["wolf"], add_classes=True)
    assert added.path == path
    assert added.backup is not None and re.fullmatch(r"My photos\.v2\.[\d.-]{19}\.TDB", added.backup.name)


def test_nothing_else_in_a_foreign_template_changes(tmp_path):
    path = foreign_template(tmp_path, REAL_LIST)
    dump = "SELECT * FROM TemplateTable ORDER BY Id"
    before, tables = ask(path, dump), ask(path, "SELECT * FROM sqlite_master")
    write_template(tmp_path, ["wolf"], add_classes=True)
    differing = [
        (old, new)
        for old_row, new_row in zip(before, ask(path, dump), strict=True)
        for old, new in zip(old_row, new_row, strict=True)
        if old != new
    ]
    assert differing == [(REAL_LIST, list_of(path))]
    assert ask(path, "SELECT * FROM sqlite_master") == tables


def test_a_list_with_a_trailing_comma_is_read_and_mended(tmp_path):
    with pytest.raises(json.JSONDecodeError):
        json.loads(REAL_LIST)
    path = foreign_template(tmp_path, REAL_LIST)
    assert write_template(tmp_path, ["wolf"], add_classes=True).added == ("wolf", "skip", "unusable")
    # The user's choice about an empty item stays, strings stay what they are, and the comma is gone.
    assert list_of(path) == (
        '{"IncludeEmptyChoice":false,"ChoiceListNonEmpty":["deer","odd ,] name","fox","wolf","skip","unusable"]}'
    )


def test_keys_that_a_later_timelapse_may_have_stay(tmp_path):
    path = foreign_template(tmp_path, '{"Colours": {"deer": "#f00"}, "ChoiceListNonEmpty": ["deer"], "Other": null}')
    write_template(tmp_path, ["deer"], add_classes=True)
    assert json.loads(list_of(path)) == {
        "Colours": {"deer": "#f00"},
        "ChoiceListNonEmpty": ["deer", "skip", "unusable"],
        "Other": None,
    }


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["fox", "skip", "unusable"], ["fox", "wolf", "skip", "unusable"]),
        (["skip", "unusable", "fox"], ["skip", "unusable", "fox", "wolf"]),
        (["unusable", "skip"], ["unusable", "skip", "wolf"]),
        (["fox", "unusable"], ["fox", "unusable", "wolf", "skip"]),
        ([], ["wolf", "skip", "unusable"]),
    ],
)
def test_the_order_that_the_user_gave_the_list_stays(tmp_path, items, expected):
    path = foreign_template(tmp_path, json.dumps({"IncludeEmptyChoice": True, "ChoiceListNonEmpty": items}))
    write_template(tmp_path, ["wolf"], add_classes=True)
    assert choices(path) == expected


@pytest.mark.parametrize("text", ["", None])
def test_an_empty_list_is_filled(tmp_path, text):
    path = foreign_template(tmp_path, text)
    write_template(tmp_path, ["wolf"], add_classes=True)
    # Section 3.4: an empty list is an empty cell.
    assert list_of(path) == '{"IncludeEmptyChoice":true,"ChoiceListNonEmpty":["wolf","skip","unusable"]}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Light|Dark|Unknown", "Light|Dark|Unknown|wolf|skip|unusable"),  # the real list of section 3.4
        ("Light|skip|unusable", "Light|wolf|skip|unusable"),
        ("", "wolf|skip|unusable"),
    ],
)
def test_a_template_from_before_2_3_keeps_its_kind_of_list(tmp_path, text, expected):
    path = foreign_template(tmp_path, text, since_2_3=False)
    write_template(tmp_path, ["wolf"], add_classes=True)
    assert list_of(path) == expected


def test_a_list_parted_by_bars_cannot_hold_a_bar(tmp_path):
    path = foreign_template(tmp_path, "Light|Dark", since_2_3=False)
    old = path.read_bytes()
    with pytest.raises(ConfigError, match=r"^classes: 'a\|b' cannot be added.*Rename"):
        write_template(tmp_path, ["wolf", "a|b"], add_classes=True)
    assert path.read_bytes() == old
    assert files_in(tmp_path) == [TEMPLATE_FILE]


def test_a_missing_flag_is_told_since_timelapse_would_refuse_the_selection(tmp_path, caplog):
    path = foreign_template(tmp_path, REAL_LIST)
    write_template(tmp_path, ["wolf"], add_classes=True)
    assert not caplog.messages
    change(path, "DELETE FROM TemplateTable WHERE DataLabel = 'Selected'")
    write_template(tmp_path, ["lynx"], add_classes=True)
    assert "no flag Selected" in caplog.text  # section 2.2: a column without a control stops the whole import


# Of several templates


def test_of_several_templates_the_one_with_the_name_counts(tmp_path):
    other = foreign_template(tmp_path, REAL_LIST, name="A.tdb")
    path = foreign_template(tmp_path, REAL_LIST, name="timelapseTemplate.tdb")
    old = other.read_bytes()
    assert write_template(tmp_path, ["wolf"], add_classes=True).path == path
    assert other.read_bytes() == old


def test_several_templates_without_the_name_are_listed(tmp_path):
    for name in ("A.tdb", "B.TDB"):
        foreign_template(tmp_path, REAL_LIST, name=name)
    with pytest.raises(DataError, match=r"several templates.*TimelapseTemplate\.tdb: A\.tdb, B\.TDB\. Leave the one"):
        write_template(tmp_path, ["wolf"], add_classes=True)
    assert files_in(tmp_path) == ["A.tdb", "B.TDB"]


# What cannot be changed stays as it is


def refused(folder: Path, match: str, **arguments: str) -> None:
    path = folder / TEMPLATE_FILE
    old = path.read_bytes()
    with pytest.raises(DataError, match=match) as caught:
        write_template(folder, ["wolf"], add_classes=True, **arguments)
    assert caught.value.path == path
    assert path.read_bytes() == old
    assert "Backups" not in files_in(folder)


@pytest.mark.parametrize("label", ["Art", "species", "Species2", "File"])
def test_a_control_that_is_no_choice_list_is_refused_with_the_lists_there_are(tmp_path, label):
    foreign_template(tmp_path, REAL_LIST)
    refused(tmp_path, rf"FixedChoice\) .*'{label}'.* are: 'Light', 'Species'\..*--column", label_column=label)


@pytest.mark.parametrize(
    "text", ["a|b", "[]", '"deer"', '{"ChoiceListNonEmpty": "deer"}', '{"ChoiceListNonEmpty": [1]}', '{"Cho', "{,,}"]
)
def test_a_list_that_cannot_be_read_is_not_replaced(tmp_path, text):
    foreign_template(tmp_path, text)
    refused(tmp_path, r"list of choices cannot be read.*Template Editor")


@pytest.mark.parametrize("content", [b"", b"File,Species\r\n" * 100])
def test_a_file_that_is_no_database_is_refused(tmp_path, content):
    (tmp_path / TEMPLATE_FILE).write_bytes(content)
    refused(tmp_path, r"no Timelapse template, or a damaged one\. Put back a copy from Backups")


def test_another_database_is_refused(tmp_path):
    change(tmp_path / TEMPLATE_FILE, "CREATE TABLE Photos (File TEXT)")
    refused(tmp_path, r"no Timelapse template.*no such table: TemplateTable")


def test_a_damaged_template_is_refused(tmp_path):
    path = foreign_template(tmp_path, REAL_LIST)
    (page,) = ask(path, "SELECT rootpage FROM sqlite_master WHERE name = 'Odd'")[0]
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 + 8 : page * 4096] = bytes(4096 - 8)  # the index, which reading the list does not need
    path.write_bytes(content)
    # What the list is read from is intact.
    assert ask(path, "SELECT List FROM TemplateTable NOT INDEXED WHERE DataLabel = 'Species'") == [(REAL_LIST,)]
    refused(tmp_path, r"no Timelapse template, or a damaged one")


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_template_in_use_is_refused(tmp_path, monkeypatch, lock):
    monkeypatch.setattr(timelapse_template, "LOCK_WAIT_S", 0.0)
    path = foreign_template(tmp_path, REAL_LIST)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        refused(tmp_path, r"another program, such as Timelapse.*Close it there.*locked")


def test_a_template_that_another_program_reads_at_the_last_moment_is_refused_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(timelapse_template, "LOCK_WAIT_S", 0.0)
    path = foreign_template(tmp_path, REAL_LIST)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM TemplateTable").fetchone()
        with pytest.raises(DataError, match="another program"):
            write_template(tmp_path, ["wolf"], add_classes=True)
    assert list_of(path) == REAL_LIST


def test_a_read_only_template_is_refused(tmp_path, monkeypatch):
    foreign_template(tmp_path, REAL_LIST)
    connect = sqlite3.connect
    # A file that this user may not write looks so to SQLite, whoever runs the test.
    monkeypatch.setattr(sqlite3, "connect", lambda path, **rest: connect(f"{path.as_uri()}?mode=ro", uri=True, **rest))
    refused(tmp_path, r"cannot be changed\. Look whether file and folder may be written.*readonly")


def test_without_a_backup_nothing_is_changed(tmp_path):
    path = foreign_template(tmp_path, REAL_LIST)
    (tmp_path / "Backups").write_text("a file, where the folder should be")
    old = path.read_bytes()
    with pytest.raises(DataError, match=r"Backups.* cannot be written"):
        write_template(tmp_path, ["wolf"], add_classes=True)
    assert path.read_bytes() == old


KILLED_WHEN_THE_BACKUP_IS_RENAMED = """
import os, sys
from pathlib import Path
from camera_trap_al.interchange.timelapse_template import write_template
Path.replace = lambda self, target: os._exit(9)
write_template(sys.argv[1], ["wolf"], add_classes=True)
"""


def test_a_kill_leaves_the_old_template_and_the_next_start_does_its_work(tmp_path):
    path = foreign_template(tmp_path, REAL_LIST)
    old = path.read_bytes()
    assert subprocess.run([sys.executable, "-c", KILLED_WHEN_THE_BACKUP_IS_RENAMED, tmp_path]).returncode == 9
    assert path.read_bytes() == old
    added = write_template(tmp_path, ["wolf"], add_classes=True)
    assert added.backup is not None and added.backup.read_bytes() == old
    assert choices(path) == ["deer", "odd ,] name", "fox", "wolf", "skip", "unusable"]


KILLED_HALFWAY_THROUGH_A_CHANGE = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")  # pages go to the file before the end, as in a kill during the last step
db.execute("BEGIN")
db.execute("UPDATE TemplateTable SET List = 'half', Note = zeroblob(99999)")
os._exit(9)
"""


def test_what_a_crash_of_another_program_left_is_undone_and_not_backed_up(tmp_path):
    path = foreign_template(tmp_path, REAL_LIST)
    old = path.read_bytes()
    subprocess.run([sys.executable, "-c", KILLED_HALFWAY_THROUGH_A_CHANGE, path])
    assert path.read_bytes() != old and path.with_name(f"{TEMPLATE_FILE}-journal").exists()
    added = write_template(tmp_path, ["wolf"], add_classes=True)
    assert added.backup is not None and added.backup.read_bytes() == old
    assert choices(path) == ["deer", "odd ,] name", "fox", "wolf", "skip", "unusable"]
    assert ask(path, "PRAGMA quick_check") == [("ok",)]


# What the user reads


def test_what_was_done_is_told_with_the_next_step(tmp_path):
    made = str(write_template(tmp_path, ["deer"]))
    assert str(tmp_path / TEMPLATE_FILE) in made and "3 names" in made and "Load template" in made
    change_made = write_template(tmp_path, ["wolf", "lynx"], add_classes=True)
    added = str(change_made)
    assert "wolf, lynx" in added and str(change_made.backup) in added and "Load template" in added
    assert "Nothing was changed" in str(write_template(tmp_path, ["wolf"], add_classes=True))
