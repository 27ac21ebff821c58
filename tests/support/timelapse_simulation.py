"""What Timelapse does with its data file, with CSV files and with recognitions.

Written from a list of facts alone, which were read in the source of Timelapse 2.2 to 2.5, so that the package is not
tested against itself. Comments, here and in the tests, name the sections of that list: 1 export of a CSV, 2 import of
one, 3 template, 4 data file, 5 files and folders, 6 recognitions, 8 versions. It is no part of this repository. Left
out: Level tables, the columns Date and Time on import, and recognitions of videos.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

DATE_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()

# Sections 3.1 and 4.
SCHEMA = """
CREATE TABLE TemplateTable (Id INTEGER PRIMARY KEY AUTOINCREMENT, ControlOrder INTEGER, SpreadsheetOrder INTEGER,
    Type TEXT, DefaultValue TEXT, Label TEXT, DataLabel TEXT, Tooltip TEXT, Visible TEXT, List TEXT,
    ExportToCSV TEXT DEFAULT 'True', TXTBOXWIDTH TEXT, Copyable TEXT);
CREATE TABLE FolderDataTemplateTable (Id INTEGER PRIMARY KEY AUTOINCREMENT, ControlOrder INTEGER,
    SpreadsheetOrder INTEGER, Level INTEGER, Type TEXT, DefaultValue TEXT, Label TEXT, DataLabel TEXT, Tooltip TEXT,
    Visible TEXT, List TEXT, ExportToCSV TEXT DEFAULT 'True');
CREATE TABLE FolderDataInfo (Id INTEGER PRIMARY KEY AUTOINCREMENT, Level INTEGER, Guid TEXT, Alias TEXT);
CREATE TABLE MarkersTable (Id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE ImageSetTable (Id INTEGER PRIMARY KEY AUTOINCREMENT, RootFolder TEXT, Log TEXT, Row TEXT,
    VersionCompatabily TEXT, BackwardsCompatibility TEXT, SortTerms TEXT, SearchTerms TEXT, QuickPasteTerms TEXT,
    BBDisplayThreshold REAL, Standard TEXT DEFAULT '');
"""
INDEXES = """
CREATE INDEX IndexRelativePath ON DataTable (RelativePath);
CREATE INDEX IndexFile ON DataTable (File);
CREATE INDEX IndexRelativePathFile ON DataTable (RelativePath, File);
CREATE INDEX IndexRelativePathDateTimeFile ON DataTable (RelativePath, DateTime, File);
"""

Record = tuple[str, str | None, str | None, str | None]


def make_data_file(
    path: Path,
    records: Sequence[Record],
    label_column: str = "Species",
    choices: Sequence[str] = ("deer", "boar", "fox", "skip", "unusable"),
    *,
    more_controls: Sequence[tuple[str, str, str]] = (),
    folder_levels: Sequence[str] = (),
) -> Path:
    r"""Make a ``.ddb`` whose records are (File, RelativePath, label, text of the flag Selected), in this order.

    RelativePath is as Timelapse writes it, such as ``site\a``. The photos were taken a minute apart. `more_controls`
    are (Type, DataLabel, default value); `folder_levels` are the names of folder levels, from the top.
    """
    items = json.dumps({"IncludeEmptyChoice": True, "ChoiceListNonEmpty": list(choices)})
    controls = [
        ("File", "File", "", "", "true"),
        ("RelativePath", "RelativePath", "", "", "true"),
        ("DateTime", "DateTime", "2025-01-01 12:00:00", "", "true"),
        ("DeleteFlag", "DeleteFlag", "false", "", "false"),
        ("FixedChoice", label_column, "", items, "true"),
        ("Flag", "Selected", "false", "", "true"),
        *((kind, label, default, "", "true") for kind, label, default in more_controls),
    ]
    first = datetime(2025, 1, 3, 18, 1, 53)
    rows = [
        (file, folder, f"{first + timedelta(minutes=n):{DATE_FORMATS[0]}}", label, selected)
        for n, (file, folder, label, selected) in enumerate(records)
    ]
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
        db.executemany(
            "INSERT INTO TemplateTable (ControlOrder, SpreadsheetOrder, Type, DataLabel, DefaultValue, List, "
            "ExportToCSV, Label, Visible) VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?3, 'true')",
            [(order, *control) for order, control in enumerate(controls, 1)],
        )
        db.executemany("INSERT INTO FolderDataInfo (Level, Alias) VALUES (?, ?)", enumerate(folder_levels, 1))
        db.execute("INSERT INTO ImageSetTable (RootFolder) VALUES (?)", (path.parent.name,))
        columns = (
            f"\"{label}\" {'DATETIME' if kind == 'DateTime' else 'TEXT'} DEFAULT '{default}'"
            for kind, label, default, *_ in controls
        )
        db.execute(f"CREATE TABLE DataTable (Id INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(columns)})")
        db.executemany(
            f'INSERT INTO DataTable (File, RelativePath, DateTime, "{label_column}", Selected) VALUES (?, ?, ?, ?, ?)',
            rows,
        )
        db.executescript(INDEXES)
        db.commit()
    return path


def export_csv(
    data_file: Path,
    csv_path: Path,
    version: str = "2.5",
    *,
    folder_levels: Sequence[str] = (),
    root_folder: bool = True,
    datetime_style: str = "space",
    space_before_dates: bool = True,
    selected_only: bool = False,
    decimal_comma: bool = False,
) -> Path:
    """Do what File > Export data to CSV does (section 1).

    `folder_levels` are aliases, "" for one without; `datetime_style` is "space", "T" or "columns"; `selected_only`
    exports while the photos with the flag Selected are shown; `decimal_comma` is said by Windows' settings.
    """
    with closing(sqlite3.connect(data_file)) as db:
        db.row_factory = sqlite3.Row
        exported = "SELECT DataLabel FROM TemplateTable WHERE lower(ExportToCSV) = 'true' ORDER BY SpreadsheetOrder"
        labels = [label for (label,) in db.execute(exported)]
        where = "WHERE lower(Selected) = 'true'" if selected_only else ""
        records = db.execute(f"SELECT * FROM DataTable {where} ORDER BY RelativePath, DateTime").fetchall()
    if version == "2.2":
        labels.insert(2, "Folder")  # section 8: then it had no RootFolder
    elif root_folder:
        labels.insert(0, "RootFolder")
    levels = [alias or f"Level-{level}" for level, alias in enumerate(folder_levels, 1)]
    dated = {"DateTime": ["Date", "Time"] if datetime_style == "columns" else ["DateTime"]}
    lines = [levels + [cell for label in labels for cell in dated.get(label, [label])]]
    for record in records:
        line = _level_cells(record["RelativePath"] or "", len(levels))
        for label in labels:
            if label in ("RootFolder", "Folder"):
                line.append(data_file.parent.name)
            elif label == "DateTime":
                line += [" " * space_before_dates + text for text in _dates(record[label], datetime_style)]
            else:
                line.append(record[label] or "")
        lines.append(line)
    separator = ";" if version == "2.2" and decimal_comma else ","
    end = separator * (version in ("2.2", "2.3")) + "\r\n"  # section 1.2: an empty last column then
    text = "".join(separator.join(map(_quoted, line)) + end for line in lines)
    csv_path.write_bytes(text.encode("utf-8-sig" if version == "dev" else "utf-8"))  # since it names its encoding
    return csv_path


def _level_cells(relative_path: str, n_levels: int) -> list[str]:
    """Give the cells of the folder levels: none at all where the path has not that many parts (section 1.4)."""
    parts = relative_path.split("\\") if relative_path else []
    paths = ["\\".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return ["", *paths[: n_levels - 1]] if n_levels else []


def _dates(text: str, style: str) -> list[str]:
    date = datetime.strptime(text, DATE_FORMATS[0])
    if style == "columns":
        return [f"{date.day:02}-{MONTHS[date.month - 1]}-{date.year}", f"{date:%H:%M:%S}"]
    return [f"{date:{DATE_FORMATS[style == 'T']}}"]


def _quoted(cell: str) -> str:
    return '"{}"'.format(cell.replace('"', '""')) if re.search('[",\r\n]', cell) else cell


class ImportResult(NamedTuple):
    """What an import did: nothing at all if there are errors.

    `n_updated` counts changed records of the data file, `n_unmatched` rows of the CSV of whose photo there is none.
    """

    errors: list[str]
    warnings: list[str]
    n_updated: int
    n_unmatched: int


def import_csv(
    csv_path: Path, data_file: Path, template_labels: Sequence[str] | None = None, version: str = "2.5"
) -> ImportResult:
    """Do what File > Import data from CSV does (section 2); `template_labels` are those of the data file if None."""
    with closing(sqlite3.connect(data_file)) as db:
        found = db.execute("SELECT DataLabel, Type, List FROM TemplateTable ORDER BY SpreadsheetOrder").fetchall()
        controls = {
            label: (kind, json.loads(items)["ChoiceListNonEmpty"] if items else [])
            for label, kind, items in found
            if template_labels is None or label in template_labels
        }
        levels = [alias for (alias,) in db.execute("SELECT Alias FROM FolderDataInfo ORDER BY Level")]
        table = _parse(csv_path.read_bytes().decode("utf-8-sig", errors="replace"))
        if version not in ("2.2", "2.3"):
            table = _without_columns(table, levels)
        headers, errors = _headers(table, controls, version)
        rows = [] if errors else [dict(zip(headers, row, strict=False)) for row in table[1:]]
        if version not in ("2.2", "2.3"):  # section 2.1
            rows = [row | {"RelativePath": row.get("RelativePath", "").replace("/", "\\")} for row in rows]
        errors += _wrong_cells(rows, controls, version)
        if errors:
            return ImportResult(errors, [], 0, 0)
        result = _update(db, rows, [label for label in headers if label in controls])
        db.commit()
    return result


CELL = re.compile(r'\s*"((?:[^"]|"")*)"[^,\r\n]*|([^,\r\n]*)')


def _parse(text: str) -> list[list[str]]:
    """Part a CSV at commas only; a cell without quotes loses the spaces at its ends, a blank line does not count."""
    rows: list[list[str]] = [[]]
    at = 0
    while True:
        cell = CELL.match(text, at)
        assert cell is not None
        rows[-1].append(cell[2].strip() if cell[1] is None else cell[1].replace('""', '"'))
        at = cell.end()
        if at == len(text):
            return [row for row in rows if row != [""]]
        if text[at] != ",":
            rows.append([])
        at += 2 if text.startswith("\r\n", at) else 1


def _without_columns(table: list[list[str]], names: Sequence[str]) -> list[list[str]]:
    gone = {table[0].index(name) for name in names if table and name in table[0]}
    return [[cell for n, cell in enumerate(row) if n not in gone] for row in table]


def _headers(table: list[list[str]], controls: dict[str, Any], version: str) -> tuple[list[str], list[str]]:
    """Give the headers, to be matched with cells by position, and what is wrong (sections 2.1 and 2.2).

    2.5.0.3 to 2.5.0.6 say all the same that the import was successful.
    """
    if len(table) < 2:
        return [], ["The file does not contain any data."]
    headers = [header for header in dict.fromkeys(table[0]) if header]
    errors = [f"missing column: {name}" for name in ("File", "RelativePath") if name not in headers]
    allowed = {*controls, "RootFolder", "Folder", "ImageQuality", "Date", "Time"}
    unknown = [header for header in headers if header not in allowed]
    if unknown:
        errors.append(f"These column headings do not match any of the template's DataLabels: {unknown}")
    if any(len(row) < len(headers) for row in table):
        errors.append("The file could not be opened. It is likely open in another program.")
    if version == "dev" and {"Date", "Time"} & set(headers):
        errors.append("Date and Time make the check fail.")
    return headers, errors


def _is_date(text: str) -> bool:
    return _date(text) is not None


def _date(text: str) -> str | None:
    for form in DATE_FORMATS:
        try:
            return f"{datetime.strptime(text, form):{DATE_FORMATS[0]}}"
        except ValueError:
            pass
    return None


def _is_whole_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text) is not None


# Section 2.3; what is blank is accepted by all but flags. Types that are not named accept everything.
CHECKS: dict[str, Callable[[str, Sequence[str]], bool]] = {
    "FixedChoice": lambda text, items: text in items,
    "MultiChoice": lambda text, items: all(item in items for item in text.split(",")),
    "Counter": lambda text, _: _is_whole_number(text),
    "IntegerAny": lambda text, _: _is_whole_number(text),
    "IntegerPositive": lambda text, _: _is_whole_number(text) and int(text) >= 0,
    "AlphaNumeric": lambda text, _: re.fullmatch("[A-Za-z0-9_-]+", text) is not None,
}


def _wrong_cells(rows: Sequence[dict[str, str]], controls: dict[str, Any], version: str) -> list[str]:
    def is_right(label: str, text: str) -> bool:
        kind, items = controls.get(label, ("", []))
        if kind in ("Flag", "DeleteFlag"):
            return text.strip().lower() in ("true", "false")
        if kind == "DateTime":
            return version != "dev" or _is_date(text)  # section 2.5
        return not text.strip() or kind not in CHECKS or CHECKS[kind](text, items)

    return [
        f"Row {number}, {label}: {text!r} is not accepted."
        for number, row in enumerate(rows, 1)
        for label, text in row.items()
        if not is_right(label, text)
    ]


def _update(db: sqlite3.Connection, rows: Sequence[dict[str, str]], labels: Sequence[str]) -> ImportResult:
    """Section 2.4: what is there several times is written at once, all the rest afterwards."""
    in_order = sorted(rows, key=lambda row: (row["RelativePath"], row["File"]))
    twice = "SELECT RelativePath, File FROM DataTable GROUP BY RelativePath, File HAVING count(*) > 1"
    duplicated = {(folder or "", file) for folder, file in db.execute(twice)}
    warnings: list[str] = []
    singles: list[dict[str, str]] = []
    n_updated = n_unmatched = 0
    for (folder, file), group in groupby(in_order, key=lambda row: (row["RelativePath"], row["File"])):
        alike = list(group)
        # The very last row is not compared with the data file, and so written to all records of its photo.
        if len(alike) == 1 and ((folder, file) not in duplicated or alike[0] is in_order[-1]):
            singles += alike
            continue
        there = "SELECT Id FROM DataTable WHERE RelativePath = ? AND File = ? ORDER BY Id"
        ids = [record for (record,) in db.execute(there, (folder, file))]
        if len(ids) != len(alike):
            warnings.append(f"duplicate entry mismatch for {folder}\\{file}: {len(ids)} and {len(alike)}")
        n_unmatched += max(0, len(alike) - len(ids))
        n_updated += sum(_set(db, row, labels, "Id = ?", [record]) for row, record in zip(alike, ids, strict=False))
    for row in singles:
        blank = not row["RelativePath"].strip()  # the DANGER: then all photos of this name are meant
        values = [row["File"]] if blank else [row["File"], row["RelativePath"]]
        n = _set(db, row, labels, "File = ?" if blank else "File = ? AND RelativePath = ?", values)
        n_updated += n
        n_unmatched += n == 0
    return ImportResult([], warnings, n_updated, n_unmatched)


def _set(db: sqlite3.Connection, row: dict[str, str], labels: Sequence[str], where: str, values: list[Any]) -> int:
    """Write a row to the records that fit; give how many these are."""
    new = {label: row[label] for label in labels if label not in ("File", "RelativePath", "DateTime")}
    if _is_date(row.get("DateTime", "")):
        new["DateTime"] = str(_date(row["DateTime"]))
    if not new:
        return int(db.execute(f"SELECT count(*) FROM DataTable WHERE {where}", values).fetchone()[0])
    assignments = ", ".join(f'"{label}" = ?' for label in new)
    return db.execute(f"UPDATE DataTable SET {assignments} WHERE {where}", [*new.values(), *values]).rowcount


RECOGNITION_TABLES = """
CREATE TABLE IF NOT EXISTS DetectionCategories (category STRING PRIMARY KEY, label STRING);
CREATE TABLE IF NOT EXISTS ClassificationCategories (classification STRING PRIMARY KEY, label STRING);
CREATE TABLE IF NOT EXISTS Detections (detectionID INTEGER PRIMARY KEY, category STRING, conf FLOAT, bbox STRING,
    classification STRING, classification_conf FLOAT, Id INTEGER);
"""  # section 6.4
LEAST_CONFIDENCE = 0.03


class RecognitionImport(NamedTuple):
    """What an import of recognitions did: nothing at all if there is an error.

    `n_unmatched` counts entries of photos that the data file has not.
    """

    error: str
    warnings: list[str]
    n_unmatched: int


def import_recognitions(json_path: Path, data_file: Path) -> RecognitionImport:
    """Do what Recognitions > Import recognition data does (section 6.1)."""
    try:
        content = json.loads(json_path.read_text(encoding="utf-8"))
        if content.get("info") is None:
            return RecognitionImport("cancelled", [], 0)
        warnings = _compatibility(content)
        images = _trimmed(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return RecognitionImport(f"The file could not be read: {error!r}", [], 0)
    with closing(sqlite3.connect(data_file)) as db:
        ids = _ids_by_path(db)
        folder = json_path.parent.relative_to(data_file.parent).as_posix()
        images = [(_key(file if folder == "." else f"{folder}/{file}"), detections) for file, detections in images]
        if {folder for folder, _ in ids}.isdisjoint(folder for (folder, _), _ in images):
            return RecognitionImport("No folder of the file is in the image set.", [], len(images))
        db.executescript(RECOGNITION_TABLES)
        if db.execute("SELECT count(*) FROM Detections").fetchone()[0] and any(each is None for _, each in images):
            return RecognitionImport("Null where a list of detections should be.", [], 0)
        kinds = [
            _merged_labels(db, "DetectionCategories", "category", {"0": "Empty"} | content["detection_categories"]),
            _merged_labels(
                db, "ClassificationCategories", "classification", content.get("classification_categories") or {}
            ),
        ]
        n_unmatched = 0
        for key, detections in images:
            for record in ids.get(key, []):
                _store_recognitions(db, record, key[1], detections, *kinds)
            n_unmatched += key not in ids
        db.commit()
    return RecognitionImport("", warnings, n_unmatched)


def _compatibility(content: dict[str, Any]) -> list[str]:
    """The file of another program, or labels that are there twice; labels are compared with their case."""
    categories, classes = content["detection_categories"], content.get("classification_categories") or {}
    warnings = []
    if classes and classes[min(classes)] in categories.values():
        warnings.append("AddaxAI: only partially compatible")
    if any(len(set(each.values())) < len(each) for each in (categories, classes)):
        warnings.append("duplicate labels")
    return warnings


def _trimmed(content: dict[str, Any]) -> list[tuple[str, list[tuple[Any, ...]] | None]]:
    """Give of each photo the detections that are kept, with the one classification that is kept."""
    info = content["info"]
    detector, classifier = info.get("detector_metadata"), info.get("classifier_metadata")
    least_detection = max(LEAST_CONFIDENCE, (detector or {}).get("conservative_detection_threshold", 0.0) / 2.5)
    default = 0.0 if classifier is None else 0.5
    least_class = max(LEAST_CONFIDENCE, (classifier or {}).get("typical_classification_threshold", default) / 2.5)
    images = []
    for image in content["images"]:
        kept = []
        written = image.get("detections", [])
        for detection in written or []:
            classifications = [pair for pair in detection.get("classifications", []) if pair[1] >= least_class]
            if not all(isinstance(class_id, str) for class_id, _ in classifications):
                raise TypeError("a class id is no string")
            best = max(classifications, key=lambda pair: pair[1], default=(None, None))
            if detection["conf"] >= least_detection:
                box = ", ".join(str(round(share, 3)) for share in detection["bbox"])  # and grown by some 0.002
                kept.append((detection["category"], round(detection["conf"], 3), box, *best))
        images.append((image["file"], None if written is None else kept))
    return images


def _key(path: str) -> tuple[str, str]:
    """RelativePath and File as they are compared: without case, whichever separator is used."""
    folder, _, file = path.replace("/", "\\").rpartition("\\")
    return folder.casefold(), file.casefold()


def _ids_by_path(db: sqlite3.Connection) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for record, folder, file in db.execute("SELECT Id, RelativePath, File FROM DataTable"):
        found.setdefault(((folder or "").casefold(), file.casefold()), []).append(record)
    return found


def _merged_labels(db: sqlite3.Connection, table: str, column: str, labels: dict[str, str]) -> dict[str, str]:
    """Give the number that each number of a file has in the data file, where equal labels share one."""
    known = {label: str(number) for number, label in db.execute(f"SELECT {column}, label FROM {table}")}
    numbers = {}
    for number, label in labels.items():
        if label not in known:
            is_free = number not in known.values()
            known[label] = number if is_free else str(max(map(int, (*known.values(), *labels))) + 1)
            db.execute(f"INSERT INTO {table} VALUES (?, ?)", (known[label], label))
        numbers[number] = known[label]
    return numbers


def _store_recognitions(
    db: sqlite3.Connection,
    record: int,
    file: str,
    detections: list[tuple[Any, ...]] | None,
    categories: dict[str, str],
    classes: dict[str, str],
) -> None:
    if detections is None:
        return
    if detections and not file.endswith((".jpg", ".jpeg")):
        return  # taken for a video, whose detections need a frame rate (section 6.3)
    db.execute("DELETE FROM Detections WHERE Id = ?", (record,))
    for category, conf, box, class_id, class_conf in detections or [("0", 0.0, "", None, None)]:
        db.execute(
            "INSERT INTO Detections (category, conf, bbox, classification, classification_conf, Id)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (categories[category], conf, box, classes[class_id] if class_id else None, class_conf, record),
        )


def shown_recognitions(data_file: Path) -> dict[tuple[str, str], list[str]]:
    """Give what Timelapse writes beside the boxes of each photo, by RelativePath and File (section 6.2)."""
    query = """
        SELECT RelativePath, File, DetectionCategories.label, conf, ClassificationCategories.label, classification_conf
        FROM Detections JOIN DataTable USING (Id) LEFT JOIN DetectionCategories USING (category)
        LEFT JOIN ClassificationCategories USING (classification) ORDER BY detectionID
    """
    shown: dict[tuple[str, str], list[str]] = {}
    with closing(sqlite3.connect(data_file)) as db:
        for folder, file, category, conf, name, class_conf in db.execute(query):
            text = f"{category} {conf:.2f}" if name is None else f"{name} {class_conf:.2f}({conf:.2f})"
            shown.setdefault((folder or "", file), []).append(text)
    return shown
