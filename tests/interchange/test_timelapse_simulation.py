"""The simulated Timelapse against the facts about Timelapse, and the selector CSV against the simulated Timelapse.

The comments name the sections of these facts.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from camera_trap_al.interchange.timelapse import split_path, write_selector_csv
from camera_trap_al.interchange.timelapse_data import read_data_file

VERSIONS = ["2.2", "2.3", "2.4", "2.5", "dev"]

PHOTOS = [
    "top.jpg",
    "site/a/IMG_1.JPG",
    "site/a/IMG_2.JPG",
    "site/b/IMG_1.JPG",
    "With space/IMG 3.Jpg",
    "a, b/c,d.jpg",
    'say "x"/"5".jpg',
    "Forêt d'Ömer/Été ñ 日本.jpg",
    "1/2/3/4/5/6/7/8/9/deep.jpg",
    "a;b/c'd.jpg",
    "#%&/=1.jpg",
]
SELECTED = set(PHOTOS[::2])


@pytest.fixture
def data_file(tmp_path, make_data_file):
    """One photo in the top level, whose name there is in two folders too, one of them twice."""
    records = [
        ("1.jpg", "", "deer", "false"),
        ("1.jpg", "a", "fox", "true"),
        ("2.jpg", "a", None, "false"),
        ("1.jpg", "b", "boar", "false"),
        ("1.jpg", "b", "deer", "FALSE"),
    ]
    return make_data_file(tmp_path / "T.ddb", records)


@pytest.fixture
def import_rows(tmp_path, data_file, timelapse_import):
    """Import a CSV with these lines."""

    def run(*lines: str, version: str = "2.5", encoding: str = "utf-8"):
        path = tmp_path / "in.csv"
        path.write_bytes("".join(f"{line}\r\n" for line in lines).encode(encoding))
        return timelapse_import(path, data_file, version=version)

    return run


def ask(path: Path, sql: str) -> list:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)


def labels(path: Path) -> list[str | None]:
    return [label for (label,) in ask(path, "SELECT Species FROM DataTable ORDER BY Id")]


BEFORE = ["deer", "fox", None, "boar", "deer"]


def test_a_row_changes_the_record_of_its_photo_and_only_columns_that_are_there(data_file, import_rows):
    result = import_rows("RelativePath,File,Species", "a,2.jpg,fox")
    assert result == ([], [], 1, 0)
    assert ask(data_file, "SELECT Species, Selected, DateTime FROM DataTable WHERE Id = 3") == [
        ("fox", "false", "2025-01-03 18:03:53")
    ]
    assert labels(data_file) == ["deer", "fox", "fox", "boar", "deer"]


def test_an_empty_cell_overwrites(data_file, import_rows):
    import_rows("File,RelativePath,Species", "1.jpg,a,")
    assert labels(data_file)[1] == ""


def test_a_flag_is_stored_as_it_is_spelled(data_file, import_rows):
    assert not import_rows("File,RelativePath,Selected", "2.jpg,a,TRUE").errors
    assert ask(data_file, "SELECT Selected FROM DataTable WHERE Id = 3") == [("TRUE",)]


@pytest.mark.parametrize("row", ["2.JPG,a", "2.jpg,A", "2.jpg,a\\", "2.jpg,.\\a", "9.jpg,a"])
def test_rows_of_other_spelling_match_nothing_and_nobody_is_told(data_file, import_rows, row):
    """Section 2.4."""
    assert import_rows("File,RelativePath,Species", f"{row},fox") == ([], [], 0, 1)
    assert labels(data_file) == BEFORE


@pytest.mark.parametrize("version", VERSIONS)
def test_only_from_2_4_on_slashes_are_turned(tmp_path, make_data_file, timelapse_import, version):
    """Section 2.1."""
    path = make_data_file(tmp_path / "T.ddb", [("1.jpg", "a\\b", "", "false")])
    (tmp_path / "in.csv").write_text("File,RelativePath,Species\n1.jpg,a/b,fox\n")
    result = timelapse_import(tmp_path / "in.csv", path, version=version)
    assert result.n_updated == (version not in ("2.2", "2.3"))


def test_without_relative_path_all_photos_of_the_name_are_changed(data_file, import_rows):
    """Section 2.4, the danger."""
    assert import_rows("File,RelativePath,Species", "1.jpg,,fox").n_updated == 4
    assert labels(data_file) == ["fox", "fox", None, "fox", "fox"]


def test_rows_of_the_subfolders_repair_that(data_file, import_rows):
    change(data_file, "DELETE FROM DataTable WHERE Id = 5")
    import_rows("File,RelativePath,Species", "1.jpg,b,boar", "1.jpg,a,deer", "1.jpg,,fox", "2.jpg,a,")
    assert labels(data_file) == ["fox", "deer", "", "boar"]


def test_duplicates_are_written_in_order(data_file, import_rows):
    result = import_rows("File,RelativePath,Species", "1.jpg,b,fox", "2.jpg,a,deer", "1.jpg,b,")
    assert labels(data_file)[3:] == ["fox", ""]
    assert result == ([], [], 3, 0)


def test_duplicates_that_are_not_as_many_as_in_the_data_file_are_warned_about(data_file, import_rows):
    result = import_rows("File,RelativePath,Species", "1.jpg,b,fox", "2.jpg,a,deer", "2.jpg,a,boar", "9.jpg,z,")
    assert labels(data_file) == ["deer", "fox", "deer", "fox", "deer"]
    assert len(result.warnings) == 2
    assert (result.n_updated, result.n_unmatched) == (2, 2)


@pytest.mark.parametrize(
    "lines",
    [
        ("File,Species", "2.jpg,fox"),
        ("RelativePath,Species", "a,fox"),
        ("file,RelativePath,Species", "2.jpg,a,fox"),
        ("File,RelativePath,species", "2.jpg,a,fox"),
        ("File,RelativePath,Species,score", "2.jpg,a,fox,0.5"),
        ("File;RelativePath;Species", "2.jpg;a;fox"),
        ("File,RelativePath,Species",),
        (),
        ("File,RelativePath,Species", "1.jpg,a,fox", "2.jpg,a"),
        ("File,RelativePath,Species", "1.jpg,a,fox", "2.jpg,a,Fox"),
        ("File,RelativePath,Species", "1.jpg,a,fox", "2.jpg,a,badger"),
        ("File,RelativePath,Species,Selected", "1.jpg,a,fox,true", "2.jpg,a,fox,"),
        ("File,RelativePath,Species,Selected", "1.jpg,a,fox,true", "2.jpg,a,fox,1"),
        ("File,RelativePath,Species,DeleteFlag", "1.jpg,a,deer,yes"),
        ("File,RelativePath,,Selected", "1.jpg,a,,true"),  # the blank header moves the next one
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_any_error_ends_the_import_and_nothing_is_written(data_file, import_rows, lines, version):
    """Sections 2.1 to 2.3."""
    before = data_file.read_bytes()
    result = import_rows(*lines, version=version)
    assert result.errors
    assert result.n_updated == 0
    assert data_file.read_bytes() == before


def test_columns_that_are_passed_over(data_file, import_rows):
    lines = ("RootFolder,Folder,ImageQuality,File,RelativePath,Species,", "x,y,z,2.jpg,a,fox,extra")
    assert import_rows(*lines) == ([], [], 1, 0)


def test_cells_without_quotes_are_trimmed_and_a_bom_is_accepted(data_file, import_rows):
    lines = (" File , RelativePath,Species", ' 2.jpg  , a ,  "fox"  ', "")
    assert import_rows(*lines, encoding="utf-8-sig") == ([], [], 1, 0)
    assert labels(data_file)[2] == "fox"
    assert import_rows("File,RelativePath,Species", '2.jpg,a," fox"').errors


def test_quoted_cells_hold_everything(tmp_path, make_data_file, timelapse_import):
    path = make_data_file(
        tmp_path / "T.ddb", [('a,"b".jpg', "x, y", "", "false")], more_controls=[("Note", "Comment", "")]
    )
    (tmp_path / "in.csv").write_bytes(b'File,RelativePath,Comment\r\n"a,""b"".jpg","x, y","one\r\ntwo, ""three"""\r\n')
    assert timelapse_import(tmp_path / "in.csv", path) == ([], [], 1, 0)
    assert ask(path, "SELECT Comment FROM DataTable") == [('one\r\ntwo, "three"',)]


@pytest.mark.parametrize("version", VERSIONS)
def test_dates(data_file, import_rows, version):
    """Section 2.5."""
    assert not import_rows("File,RelativePath,DateTime", "2.jpg,a, 2024-02-03T04:05:06", version=version).errors
    date = ("2024-02-03 04:05:06",)
    assert ask(data_file, "SELECT DateTime FROM DataTable WHERE Id = 3") == [date]
    broken = import_rows("File,RelativePath,DateTime", "2.jpg,a,3/2/2024 4:05", version=version)
    assert bool(broken.errors) == (version == "dev")
    assert ask(data_file, "SELECT DateTime FROM DataTable WHERE Id = 3") == [date]


def test_labels_that_the_template_lacks_are_refused(tmp_path, data_file, timelapse_import):
    (tmp_path / "in.csv").write_text("File,RelativePath,Selected\n2.jpg,a,true\n")
    known = ("File", "RelativePath", "Species")
    assert timelapse_import(tmp_path / "in.csv", data_file, template_labels=known).errors
    assert not timelapse_import(tmp_path / "in.csv", data_file).errors


def test_an_export_is_written_as_timelapse_does(tmp_path, data_file, timelapse_export):
    """Sections 1.1 to 1.3."""
    root = data_file.parent.name
    path = timelapse_export(data_file, tmp_path / "out.csv")
    assert path.read_bytes().decode().split("\r\n") == [
        "RootFolder,File,RelativePath,DateTime,Species,Selected",
        f"{root},1.jpg,, 2025-01-03 18:01:53,deer,false",
        f"{root},1.jpg,a, 2025-01-03 18:02:53,fox,true",
        f"{root},2.jpg,a, 2025-01-03 18:03:53,,false",
        f"{root},1.jpg,b, 2025-01-03 18:04:53,boar,false",
        f"{root},1.jpg,b, 2025-01-03 18:05:53,deer,FALSE",
        "",
    ]


def test_only_the_newest_version_exports_with_a_bom(tmp_path, data_file, timelapse_export):
    content = [timelapse_export(data_file, tmp_path / "out.csv", version).read_bytes() for version in ("2.5", "dev")]
    assert content[1] == b"\xef\xbb\xbf" + content[0]


@pytest.mark.parametrize(
    ("options", "header", "row"),
    [
        ({"root_folder": False}, "File,RelativePath,DateTime", "1.jpg,a, 2025-01-03 18:02:53"),
        ({"version": "2.3"}, "RootFolder,File,RelativePath,DateTime", "ROOT,1.jpg,a, 2025-01-03 18:02:53"),
        ({"version": "2.2"}, "File,RelativePath,Folder,DateTime", "1.jpg,a,ROOT, 2025-01-03 18:02:53"),
        (
            {"version": "2.2", "decimal_comma": True},
            "File;RelativePath;Folder;DateTime",
            "1.jpg;a;ROOT; 2025-01-03 18:02:53",
        ),
        (
            {"datetime_style": "T", "root_folder": False, "space_before_dates": False},
            "File,RelativePath,DateTime",
            "1.jpg,a,2025-01-03T18:02:53",
        ),
        (
            {"datetime_style": "columns", "root_folder": False},
            "File,RelativePath,Date,Time",
            "1.jpg,a, 03-Jan-2025, 18:02:53",
        ),
    ],
)
def test_export_options(tmp_path, data_file, timelapse_export, options, header, row):
    path = timelapse_export(data_file, tmp_path / "out.csv", selected_only=True, **options)
    separator = ";" if options.get("decimal_comma") else ","
    end = separator * (options.get("version") in ("2.2", "2.3"))
    row = row.replace("ROOT", data_file.parent.name)
    assert path.read_bytes().decode().split("\r\n") == [
        f"{header}{separator}Species{separator}Selected{end}",
        f"{row}{separator}fox{separator}true{end}",
        "",
    ]


def test_cells_are_quoted_only_where_need_be(tmp_path, make_data_file, timelapse_export):
    data_file = make_data_file(
        tmp_path / "T.ddb",
        [(" a b.jpg", 'x, "y"', "", "true")],
        more_controls=[("Note", "Comment", "one\ntwo")],
    )
    change(data_file, "UPDATE DataTable SET Species = NULL")
    text = timelapse_export(data_file, tmp_path / "out.csv", root_folder=False).read_bytes().decode()
    assert text.endswith('\r\n a b.jpg,"x, ""y""", 2025-01-03 18:01:53,,true,"one\ntwo"\r\n')


def test_rows_above_the_folder_levels_are_short(tmp_path, make_data_file, timelapse_export):
    """Section 1.4."""
    records = [("1.jpg", "", "", "true"), ("2.jpg", "a", "", "true"), ("3.jpg", "a\\b\\c", "", "true")]
    data_file = make_data_file(tmp_path / "T.ddb", records)
    path = timelapse_export(data_file, tmp_path / "out.csv", folder_levels=("Project", "", "Camera"), root_folder=False)
    assert path.read_bytes().decode().split("\r\n") == [
        "Project,Level-2,Camera,File,RelativePath,DateTime,Species,Selected",
        ",1.jpg,, 2025-01-03 18:01:53,,true",
        ",a,2.jpg,a, 2025-01-03 18:02:53,,true",
        ",a,a\\b,3.jpg,a\\b\\c, 2025-01-03 18:03:53,,true",
        "",
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_export_can_be_imported_again(tmp_path, make_data_file, timelapse_export, timelapse_import, version):
    levels = ("Project", "Station")
    records = [("1.jpg", "a", "deer", "true"), ("2.jpg", "a\\b, c", "", "false")]
    data_file = make_data_file(tmp_path / "T.ddb", records, folder_levels=levels)
    path = timelapse_export(data_file, tmp_path / "out.csv", version=version)
    before = read_data_file(data_file)
    assert timelapse_import(path, data_file, version=version) == ([], [], 2, 0)
    assert read_data_file(data_file) == before
    with_levels = timelapse_export(data_file, tmp_path / "out.csv", version=version, folder_levels=levels)
    result = timelapse_import(with_levels, data_file, version=version)
    assert bool(result.errors) == (version in ("2.2", "2.3"))  # section 2.2: these did not pass over the levels


def as_records(photos: list[str], flag: str) -> list[tuple[str, str, str, str]]:
    return [(*split_path(photo), "deer", flag) for photo in photos]


@pytest.mark.parametrize("flag", ["false", "true"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_selector_selects_just_the_photos_asked_about(tmp_path, make_data_file, timelapse_import, version, flag):
    data_file = make_data_file(tmp_path / "T.ddb", as_records(PHOTOS, flag))
    dates = ask(data_file, "SELECT DateTime, Species FROM DataTable")
    write_selector_csv(tmp_path / "selector.csv", PHOTOS, SELECTED)
    result = timelapse_import(tmp_path / "selector.csv", data_file, version=version)
    assert result == ([], [], len(PHOTOS), 0)
    assert {record.path for record in read_data_file(data_file) if record.is_selected} == SELECTED
    assert ask(data_file, "SELECT DateTime, Species FROM DataTable") == dates


@pytest.mark.parametrize("version", VERSIONS)
def test_photos_that_timelapse_never_loads_do_no_harm(tmp_path, make_data_file, timelapse_import, version):
    data_file = make_data_file(tmp_path / "T.ddb", as_records(PHOTOS, "false"))
    write_selector_csv(tmp_path / "selector.csv", [*PHOTOS, "site/a/x.png"], {*SELECTED, "site/a/x.png"})
    result = timelapse_import(tmp_path / "selector.csv", data_file, version=version)
    assert result == ([], [], len(PHOTOS), 1)
    assert {record.path for record in read_data_file(data_file) if record.is_selected} == SELECTED


@pytest.mark.parametrize("version", VERSIONS)
def test_a_name_that_is_also_in_a_subfolder_is_safe_in_a_full_selector_only(
    tmp_path, make_data_file, timelapse_import, version
):
    photos = ["1.jpg", "a/1.jpg", "b/1.jpg"]
    for listed, selected in ((photos, {"1.jpg"}), (["1.jpg"], set(photos))):
        data_file = make_data_file(tmp_path / f"{len(listed)}.ddb", as_records(photos, "false"))
        write_selector_csv(tmp_path / "selector.csv", listed, {"1.jpg"})
        assert not timelapse_import(tmp_path / "selector.csv", data_file, version=version).errors
        assert {record.path for record in read_data_file(data_file) if record.is_selected} == selected


def test_of_duplicated_records_only_the_first_is_selected(tmp_path, make_data_file, timelapse_import):
    """Section 2.4: one row for two records. The last row of a file is not checked for duplicates."""
    photos = ["a/1.jpg", "a/1.jpg", "a/2.jpg", "b/3.jpg", "b/3.jpg"]
    data_file = make_data_file(tmp_path / "T.ddb", as_records(photos, "false"))
    write_selector_csv(tmp_path / "selector.csv", ["a/1.jpg", "a/2.jpg", "b/3.jpg"], {"a/1.jpg", "b/3.jpg"})
    assert len(timelapse_import(tmp_path / "selector.csv", data_file).warnings) == 1
    assert [record.is_selected for record in read_data_file(data_file)] == [True, False, False, True, True]
