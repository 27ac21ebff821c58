"""The template that tells Timelapse which species an expert can choose from."""

import json
import logging
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from camera_trap_al.exceptions import ConfigError, DataError
from camera_trap_al.files import prepared_aside
from camera_trap_al.interchange.timelapse import SELECTED
from camera_trap_al.query import SKIP, UNUSABLE

__all__ = ["TEMPLATE_FILE", "TemplateChange", "write_template"]

logger = logging.getLogger(__name__)

TEMPLATE_FILE = "TimelapseTemplate.tdb"  # so named, Timelapse calls its data file TimelapseData.ddb
TEMPLATE_SUFFIX = ".tdb"
CHOICES = "ChoiceListNonEmpty"
LOCK_WAIT_S = 2.0

NO_TEXT_OF_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# A string, or a comma behind the last item: Timelapse often writes that, and Python refuses it.
STRING_OR_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])')

SCHEMA = """
CREATE TABLE TemplateTable (Id INTEGER PRIMARY KEY AUTOINCREMENT, ControlOrder INTEGER, SpreadsheetOrder INTEGER,
    Type TEXT, DefaultValue TEXT, Label TEXT, DataLabel TEXT, Tooltip TEXT, Visible TEXT, List TEXT,
    ExportToCSV TEXT DEFAULT 'True', TXTBOXWIDTH TEXT, Copyable TEXT);
CREATE TABLE FolderDataTemplateTable (Id INTEGER PRIMARY KEY AUTOINCREMENT, ControlOrder INTEGER,
    SpreadsheetOrder INTEGER, Level INTEGER, Type TEXT, DefaultValue TEXT, Label TEXT, DataLabel TEXT, Tooltip TEXT,
    Visible TEXT, List TEXT, ExportToCSV TEXT DEFAULT 'True');
CREATE TABLE FolderDataInfo (Id INTEGER PRIMARY KEY AUTOINCREMENT, Level INTEGER, Guid TEXT, Alias TEXT);
CREATE TABLE TemplateInfo (VersionCompatabily TEXT, BackwardsCompatibility TEXT DEFAULT '', Standard TEXT DEFAULT '');
INSERT INTO TemplateInfo VALUES ('2.3.3.0', '2.3.0.0', '');
"""  # VersionCompatabily is how Timelapse spells it; with these versions every Timelapse from 2.3 on opens the file

# Timelapse writes a control's name into its SQL without quotes, and skips some names when it imports a CSV.
DATA_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
RESERVED_LABELS = frozenset(
    """
    file relativepath datetime deleteflag selected folder rootfolder imagequality utcoffset date time id
    abort action add after all alter always analyze and as asc attach autoincrement before begin between by cascade
    case cast check collate column commit conflict constraint create cross current current_date current_time
    current_timestamp database default deferrable deferred delete desc detach distinct do drop each else end escape
    except exclude exclusive exists explain fail filter first following for foreign from full generated glob group
    groups having if ignore immediate in index indexed initially inner insert instead intersect into is isnull join key
    last left like limit match materialized natural no not nothing notnull null nulls of offset on or order others outer
    over partition plan pragma preceding primary query raise range recursive references regexp reindex release rename
    replace restrict returning right rollback row rows savepoint select set table temp temporary then ties to
    transaction trigger unbounded union unique update using vacuum values view virtual when where window with without
    """.split()
)


@dataclass(frozen=True)
class TemplateChange:
    """What was done to a template.

    Attributes
    ----------
    path
        The template.
    added
        The choices that it did not have before, ``skip`` and ``unusable`` included; none if it was left as it was.
    backup
        Copy of the template as it was before; None if it is new or was left as it was.
    is_new
        Whether there was no template before.
    """

    path: Path
    added: tuple[str, ...]
    backup: Path | None
    is_new: bool

    def __str__(self) -> str:
        """Tell the user, with what to do next."""
        load = "File > Load template, images..."
        if self.is_new:
            choices = f"a choice list of {len(self.added)} names ({SKIP} and {UNUSABLE} are two of them)"
            return f"Made {self.path}: {choices} and a flag {SELECTED}.\nNext: in Timelapse, open it with {load}"
        if not self.added:
            return f"{self.path} has all of these classes already. Nothing was changed."
        return (
            f"Added to {self.path}: {', '.join(self.added)}.\nThe file as it was before: {self.backup}\n"
            f"Next: in Timelapse, close the image set if it is open, and open it again with {load}"
        )


def write_template(
    folder: Path | str, classes: Sequence[str], *, add_classes: bool = False, label_column: str = "Species"
) -> TemplateChange:
    """Make a Timelapse template for the photos of `folder`, or add classes to the one that is there.

    A new template has a choice list of the classes, ``skip`` and ``unusable``, and a flag ``Selected``. Of a template
    that is there, only this list is changed, in one step, after a copy of the file was put into ``Backups``.

    Parameters
    ----------
    folder
        The unlabelled folder; the template lies directly in it.
    classes
        Class names in the order in which Timelapse shows them.
    add_classes
        Add what is missing to a template that is there; without it, such a template is an error.
    label_column
        Name of the choice list and of the column in the CSV that Timelapse exports.

    Raises
    ------
    ConfigError
        If a class or `label_column` has a name that Timelapse cannot use.
    DataError
        If there is a template and `add_classes` is not set, or that template cannot be changed, or the folder cannot be
        read or written.
    """
    folder = Path(folder)
    templates = _templates_in(folder)
    if templates and not add_classes:
        raise DataError(
            f"{templates[0]}: a template is there already, and it is never overwritten. To add the classes that it "
            "lacks, use add_classes=True (--add on a command line).",
            templates[0],
        )
    problems = [*_class_problems(classes), *(() if templates else _label_problems(label_column))]
    if problems:
        raise ConfigError(problems)
    choices = (*classes, SKIP, UNUSABLE)
    if templates:
        return _add_choices(_the_one(templates), choices, label_column)
    return _make(folder / TEMPLATE_FILE, choices, label_column)


def _templates_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.casefold() == TEMPLATE_SUFFIX and path.is_file())
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror}).", folder) from error


def _the_one(templates: Sequence[Path]) -> Path:
    named = [path for path in templates if path.name.casefold() == TEMPLATE_FILE.casefold()]
    candidates = templates if len(templates) == 1 else named
    if len(candidates) != 1:
        raise DataError(
            f"{templates[0].parent}: there are several templates, and none or more than one is called {TEMPLATE_FILE}: "
            f"{', '.join(path.name for path in templates)}. Leave the one that you use and move the others elsewhere."
        )
    return candidates[0]


def _class_problems(classes: Sequence[str]) -> Iterator[str]:
    if not classes:
        yield "classes: there is no class; a template needs at least one (the training folder has one folder for each)."
    for name, count in Counter(classes).items():
        if count > 1:
            yield f"classes: {name!r} is there {count} times; name each class once."
        if not name or name != name.strip():
            yield f"classes: {name!r} is empty or has a space at an end, which Timelapse cannot hold; rename the class."
        if NO_TEXT_OF_ONE_LINE.search(name):
            yield f"classes: {name!r} has a line break or something else that is no letter; rename the class."
        if name.casefold() in (SKIP, UNUSABLE):
            yield f"classes: {name!r} means something else in label files and is always listed; rename the class."


def _label_problems(label_column: str) -> Iterator[str]:
    if not DATA_LABEL.fullmatch(label_column):
        yield (
            f"label_column: {label_column!r} must begin with a letter from A to Z and go on with such letters, digits "
            "or _, such as 'Species'."
        )
    elif label_column.casefold() in RESERVED_LABELS:
        yield f"label_column: Timelapse keeps the name {label_column!r} for itself; take another, such as 'Species'."


def _make(path: Path, choices: Sequence[str], label_column: str) -> TemplateChange:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        db.executemany(
            f"INSERT INTO TemplateTable VALUES ({', '.join('?' * 13)})",
            [(order, order, order, *control) for order, control in enumerate(_controls(choices, label_column), 1)],
        )
        db.commit()
        content = db.serialize()
    _write(path, content)
    return TemplateChange(path, tuple(choices), None, is_new=True)


def _controls(choices: Sequence[str], label_column: str) -> list[tuple[str, ...]]:
    """Type, default, label, data label, tooltip, visible, list, exported, width, copied from photo to photo."""
    date = f"{datetime.now().year}-01-01 12:00:00"
    listed = _as_json({"IncludeEmptyChoice": True, CHOICES: list(choices)})
    species = "What the photo shows; skip: ask me later; unusable: nobody could tell"
    return [
        ("File", "", "File", "File", "The file name", "true", "", "true", "100", "false"),
        ("RelativePath", "", "RelativePath", "RelativePath", "Folder of the file", "true", "", "true", "100", "false"),
        ("DateTime", date, "DateTime", "DateTime", "Date and time taken", "true", "", "true", "160", "false"),
        ("DeleteFlag", "false", "Delete?", "DeleteFlag", "Mark to delete later", "true", "", "false", "20", "false"),
        ("FixedChoice", "", label_column, label_column, species, "true", listed, "true", "100", "true"),
        ("Flag", "false", SELECTED, SELECTED, "Please label this photo", "true", "", "true", "20", "true"),
    ]


def _add_choices(path: Path, choices: Sequence[str], label_column: str) -> TemplateChange:
    with _transaction(path) as db:
        control_id, text = _choice_list(db, path, label_column)
        text, added = _extended(text, choices, path, has_json=_is_since_2_3(db))
        backup = None
        if added:
            before = db.serialize()  # opening and closing the file here would end SQLite's lock on it, on Linux
            db.execute("UPDATE TemplateTable SET List = ? WHERE Id = ?", (text, control_id))
            backup = _free_backup(path)
            _write(backup, before)
    return TemplateChange(path, added, backup, is_new=False)


@contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Change the database whole or not at all.

    A transaction, not a changed copy that is renamed: it heeds the lock of another program, and after a crash the
    journal beside the file belongs to this very file; SQLite would play it back into any other that had its name.
    """
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)) as db:  # rolls back at an error
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check finds damage")
            yield db
            db.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: sqlite3.DatabaseError) -> DataError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the other bits tell variants of one error
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        what = "another program, such as Timelapse or its Template Editor, is using it. Close it there and try again."
    elif code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        what = "it is no Timelapse template, or a damaged one. Put back a copy from Backups, or move it elsewhere."
    else:
        what = "it cannot be changed. Look whether file and folder may be written to and the disk has room."
    return DataError(f"{path}: {what} (SQLite says: {error})", path)


def _choice_list(db: sqlite3.Connection, path: Path, label_column: str) -> tuple[int, str]:
    """Find the choice list called `label_column`: its Id and what its cell List says."""
    controls = db.execute("SELECT Id, Type, DataLabel, List FROM TemplateTable ORDER BY Id").fetchall()
    if not any((kind, label) == ("Flag", SELECTED) for _, kind, label, _ in controls):
        message = "%s has no flag %s: Timelapse will not import the list of selected photos. Add it in Template Editor."
        logger.warning(message, path, SELECTED)
    lists = {label: (control_id, text or "") for control_id, kind, label, text in controls if kind == "FixedChoice"}
    if label_column not in lists:
        raise DataError(
            f"{path}: it has no choice list (FixedChoice) with the data label {label_column!r}; its choice lists are: "
            f"{', '.join(map(repr, lists)) or 'none'}. Name one of these as label_column (--column on a command line), "
            "or add this one in Timelapse's Template Editor.",
            path,
        )
    return lists[label_column]


def _is_since_2_3(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'TemplateInfo'").fetchone())


def _extended(text: str, choices: Sequence[str], path: Path, *, has_json: bool) -> tuple[str, tuple[str, ...]]:
    """Add to a list what it lacks, before ``skip`` and ``unusable`` if these end it; give both."""
    fields = _read_json(text, path) if has_json else {CHOICES: text.split("|") if text else []}
    items = fields[CHOICES]
    missing = tuple(name for name in choices if name not in items)
    with_bar = [] if has_json else [name for name in missing if "|" in name]
    if with_bar:
        rule = "cannot be added, since a template from before Timelapse 2.3 parts the names by |. Rename the class."
        raise ConfigError([f"classes: {name!r} {rule}" for name in with_bar])
    place = len(items) - 2 if items[-2:] == [SKIP, UNUSABLE] else len(items)
    items[place:place] = missing
    return (_as_json(fields) if has_json else "|".join(items)), missing


def _read_json(text: str, path: Path) -> dict[str, Any]:
    strict = STRING_OR_TRAILING_COMMA.sub(lambda match: match[1] or "", text or '{"IncludeEmptyChoice":true}')
    fields: dict[str, Any] = {}
    items = None
    with suppress(ValueError, TypeError):  # TypeError: JSON, but no object
        fields.update(**json.loads(strict))
        items = fields.setdefault(CHOICES, [])
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        advice = "Open the template in Timelapse's Template Editor, look through the list and save it."
        raise DataError(f"{path}: the list of choices cannot be read: {text[:200]!r}. {advice}", path)
    return fields


def _as_json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _free_backup(path: Path) -> Path:
    """Name a backup as Timelapse does, by the first second from now on that has none."""
    time = datetime.now()
    while (backup := path.parent / "Backups" / f"{path.stem}.{time:%Y-%m-%d.%H-%M-%S}{path.suffix}").exists():
        time += timedelta(seconds=1)
    return backup


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with prepared_aside(path.with_name(f"{path.name}.part")) as prepared:  # to Timelapse, any .tdb is a template
            prepared.write_bytes(content)
        prepared.replace(path)
    except OSError as error:
        advice = "Look whether the folder may be written to and the disk has room."
        raise DataError(f"{path} cannot be written: {error.strerror or error}. {advice}", path) from error
