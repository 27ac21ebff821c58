"""Paths as the database of a run knows them; that photos are registered is tested in test_store.py."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unicodedata import normalize

import pytest

from camera_trap_al.photos.folders import FolderScan
from camera_trap_al.pools import Role
from camera_trap_al.run_store import photo_table, query_table, schema

LETTERS = "Säugetiere/Šakal №1/Ё é.jpg"  # NFD takes more letters for it than NFC


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(photo_table.SCHEMA + query_table.SCHEMA)
        connection.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        yield connection


def scan(*paths: str) -> FolderScan:
    return FolderScan(Path("/photos"), tuple(sorted(paths)), (), {}, 0)


def photos(db: sqlite3.Connection) -> list[tuple[int, str, str | None]]:
    return db.execute("SELECT photo_row, path, set_aside FROM photos ORDER BY photo_row").fetchall()


def register(db: sqlite3.Connection, *paths: str) -> None:
    photo_table.register(db, {Role.UNLABELLED: scan(*paths)})


@pytest.mark.parametrize(("before", "after"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_photo_whose_accents_another_computer_writes_otherwise_is_the_same_photo(
    db: sqlite3.Connection, before: str, after: str
) -> None:
    assert normalize("NFC", LETTERS) != normalize("NFD", LETTERS)
    register(db, normalize(before, LETTERS), "a/1.jpg")
    rows = {normalize("NFC", path): row for row, path, _ in photos(db)}
    assert photo_table.fits(db, Role.UNLABELLED, scan(normalize(after, LETTERS)))
    register(db, normalize(after, LETTERS), "a/1.jpg")
    assert {normalize("NFC", path): row for row, path, _ in photos(db)} == rows
    assert {path: why for _, path, why in photos(db)} == {normalize(after, LETTERS): None, "a/1.jpg": None}


def test_photos_that_differ_in_such_spelling_alone_are_two_photos(db: sqlite3.Connection) -> None:
    both = [normalize(form, LETTERS) for form in ("NFC", "NFD")]
    register(db, *both)
    register(db, *both)
    assert [path for _, path, _ in photos(db)] == sorted(both)


@pytest.mark.parametrize(
    ("n_there", "fits"), [(0, False), (1, False), (2, True), (4, True)]
)  # of four: most are missing below two
def test_a_folder_fits_that_holds_half_of_the_photos(db: sqlite3.Connection, n_there: int, fits: bool) -> None:
    paths = [f"a/{number}.jpg" for number in range(4)]
    register(db, *paths)
    assert photo_table.fits(db, Role.UNLABELLED, scan(*paths[:n_there], "b/other.jpg")) == fits
    assert photo_table.fits(db, Role.VALIDATION, scan("a/anything.jpg")), "of which nothing is known yet"


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../a.jpg",
        "a/../b.jpg",
        "a/..",
        "/a.jpg",
        "",
        "C:/a.jpg",
        "C:a.jpg",
        "a\\..\\b.jpg",
        "\\\\host\\a.jpg",
        "a\0",
    ],
)
def test_a_path_out_of_its_folder_is_told_on_any_system(path: str) -> None:
    assert photo_table.leaves_its_folder(path)


@pytest.mark.parametrize("path", ["a/b.jpg", "a/..b/c.jpg", "a/b...jpg", "2026:01:02/a.jpg", "a\\b/c.jpg", "é/ü.jpg"])
def test_other_paths_are_fine(path: str) -> None:
    assert not photo_table.leaves_its_folder(path)


def test_the_format_is_the_one_that_these_tables_belong_to() -> None:
    assert photo_table.SCHEMA in schema.SCHEMA
