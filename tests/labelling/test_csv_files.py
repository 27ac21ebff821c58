import codecs
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_trap_al.exceptions import LabelFault, LabelFileError
from camera_trap_al.interchange.timelapse import split_path
from camera_trap_al.labelling.csv_files import LabelEntry, read_file_content, read_label_file

EXPECTED = (LabelEntry(2, "sité/a/1.jpg", "Roe_Deer"), LabelEntry(3, "2.jpg", "boar"))
TABLE = "File,RelativePath,Species\r\n1.jpg,sité\\a,Roe_Deer\r\n2.jpg,,boar\r\n"


def entries(text: str) -> tuple[LabelEntry, ...]:
    return read_label_file(text.encode()).entries


def the_fault(source: bytes | Path) -> LabelFault:
    with pytest.raises(LabelFileError) as caught:
        read_label_file(source)
    (fault,) = caught.value.faults
    return fault


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
def test_encodings_separators_and_line_ends_of_excel_in_any_language(encoding, separator, line_end):
    content = TABLE.replace(",", separator).replace("\r\n", line_end).encode(encoding)
    assert read_label_file(content).entries == EXPECTED


def test_utf_16_big_endian_is_known_by_its_bom():
    assert read_label_file(codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be")).entries == EXPECTED


def test_columns_are_found_by_name_among_others_in_any_order():
    text = (
        "RootFolder,Species,DateTime,RelativePath,File,Selected\n"
        "pics,Roe_Deer, 2025-01-03 18:01:53,sité\\a,1.jpg,true\n"
        "pics,boar, 2025-01-03 18:02:53,,2.jpg,TRUE\n"
    )
    assert entries(text) == EXPECTED


def test_the_trailing_empty_column_of_timelapse_2_3_is_harmless():
    assert entries("".join(f"{line},\r\n" for line in TABLE.splitlines())) == EXPECTED


def test_short_rows_read_as_empty_cells():
    assert entries("File,RelativePath,Species\n1.jpg,a\n2.jpg\n") == (
        LabelEntry(2, "a/1.jpg", ""),
        LabelEntry(3, "2.jpg", ""),
    )


def test_white_space_around_cells_and_column_names_is_dropped():
    assert entries(' File , RelativePath, Species\n 1.jpg ,"a ", boar \n') == (LabelEntry(2, "a/1.jpg", "boar"),)


def test_rows_are_numbered_as_a_spreadsheet_shows_them():
    text = '\nFile,RelativePath,Species,Note\n1.jpg,a,boar,"two\nlines, ""quoted"""\n\n,,,\n2.jpg,a,boar,\n'
    assert entries(text) == (LabelEntry(3, "a/1.jpg", "boar"), LabelEntry(6, "a/2.jpg", "boar"))


def test_a_quoted_separator_in_the_header_does_not_mislead():
    text = '"a;b;c;d",File,RelativePath,Species\nx,1.jpg,a,boar\n'
    assert entries(text) == (LabelEntry(2, "a/1.jpg", "boar"),)


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/\\"), min_size=1).map(str.strip)
visible = cells.filter(lambda cell: cell not in ("", ".", ".."))


@given(st.lists(st.tuples(visible, visible, visible), min_size=1, max_size=5), st.sampled_from([",", ";", "\t"]))
def test_whatever_python_writes_as_csv_is_read_back(rows, separator):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=separator)
    writer.writerow(("Species", "File", "RelativePath"))
    writer.writerows((species, *split_path(f"{folder}/{name}")) for folder, name, species in rows)
    read = read_label_file(buffer.getvalue().encode()).entries
    assert [(entry.path, entry.species) for entry in read] == [
        (f"{folder}/{name}", kind) for folder, name, kind in rows
    ]


def test_missing_columns_are_named_with_those_that_are_there():
    fault = the_fault(b"File,Folder,species\n1.jpg,a,boar\n")
    assert (fault.row, fault.problem) == (1, "The file has no column RelativePath and no column Species.")
    assert "Its first row says: File, Folder, species." in fault.advice
    assert "single column" not in fault.advice


def test_an_unknown_separator_is_suspected():
    assert "single column" in the_fault(b"File|RelativePath|Species\n1.jpg|a|boar\n").advice


def test_a_doubled_column_is_refused():
    assert the_fault(b"File,RelativePath,Species,Species\n").problem == "The file has several columns Species."


def test_our_own_predictions_are_refused_with_the_reason():
    fault = the_fault(b"File,RelativePath,Species,confidence\n1.jpg,a,boar,0.9\n")
    assert 'column "confidence"' in fault.problem
    assert "must not become labels" in fault.advice


@pytest.mark.parametrize("content", [b"PK\x03\x04\x14\0\x06\0", TABLE.encode("utf-16-le"), b"\xff\xfeF", b"\x81\x8d"])
def test_what_is_no_text_is_refused(content):
    assert the_fault(content).problem == "The file is not plain text."


@pytest.mark.parametrize("content", [b"", b"\r\n\r\n", codecs.BOM_UTF8])
def test_an_empty_file_is_refused(content):
    assert the_fault(content).advice.startswith("It is empty")


def test_an_unclosed_quotation_mark_is_found_instead_of_swallowing_the_rest():
    fault = the_fault(b'File,RelativePath,Species\n1.jpg,a,boar\n2.jpg,a,"boar\n3.jpg,a,boar\n')
    assert fault.row == 3
    assert "quotation mark" in fault.advice


def test_a_header_that_never_ends_is_refused():
    assert the_fault(b'"' + b"x" * 200_000).row == 1


def test_a_vanished_file_is_a_fault(tmp_path):
    assert "cannot be read" in the_fault(tmp_path / "gone.csv").problem


def test_a_file_that_is_being_written_is_a_fault(tmp_path, monkeypatch):
    path = tmp_path / "labels.csv"
    path.write_text(TABLE, encoding="utf-8")
    read_bytes = Path.read_bytes

    def read_while_somebody_writes(self: Path) -> bytes:
        content = read_bytes(self)
        with self.open("ab") as file:
            file.write(b"3.jpg,,boar\r\n")
        return content

    monkeypatch.setattr(Path, "read_bytes", read_while_somebody_writes)
    with pytest.raises(LabelFileError, match="changed while it was read"):
        read_file_content(path)


def test_a_column_correct_marks_labels_that_replace_earlier_ones():
    """Excel writes TRUE in the language of its user."""
    words = ["true", "TRUE", "1", "WAHR", "VRAI", "false", "0", ""]
    rows = "".join(f"{number}.jpg,a,boar,{word}\n" for number, word in enumerate(words))
    read = entries("File,RelativePath,Species,Correct\n" + rows)
    assert [entry.is_correction for entry in read] == [True] * 5 + [False] * 3


def test_the_labels_may_be_in_a_column_of_another_name():
    content = b"File,RelativePath,Species,Art\n1.jpg,a,wrong,boar\n"
    assert read_label_file(content, label_column="Art").entries == (LabelEntry(2, "a/1.jpg", "boar"),)
    with pytest.raises(LabelFileError, match="no column Taxon"):
        read_label_file(content, label_column="Taxon")


@pytest.mark.parametrize("trailing", ["", ","])
def test_cells_that_timelapse_leaves_out_at_the_left_are_put_back(trailing):
    """Facts 1.4: a folder that lies higher than its levels has a row without their cells; 2.3 adds a comma (1.2)."""
    text = (
        f"Site,Deployment,RootFolder,File,RelativePath,DateTime,Species,Selected{trailing}\n"
        f"s1,d1,pics,1.jpg,s1\\d1, 2025-01-03 18:01:53,Roe_Deer,true{trailing}\n"
        f"s1,pics,2.JPG,s1, 2025-01-03 18:01:53,boar,true{trailing}\n"
        f"pics,3.jpg,, 2025-01-03 18:01:53,empty,true{trailing}\n"
    )
    assert [entry[1:3] for entry in entries(text)] == [
        ("s1/d1/1.jpg", "Roe_Deer"),
        ("s1/2.JPG", "boar"),
        ("3.jpg", "empty"),
    ]


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_a_first_line_that_names_the_separator_is_obeyed_and_not_counted(line_end):
    """Some programs write it for Excel, which does not show it."""
    text = f"sep=;{line_end}File;RelativePath;Species{line_end}1,5.jpg;a;boar{line_end}"
    assert entries(text) == (LabelEntry(2, "a/1,5.jpg", "boar"),)
