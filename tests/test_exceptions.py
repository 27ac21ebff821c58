import errno
from pathlib import Path

import pytest

from camera_trap_al import exceptions
from camera_trap_al.exceptions import (
    CameraTrapALError,
    CheckpointError,
    ConfigError,
    DataError,
    DiskFullError,
    EmptyPoolError,
    LabelFault,
    LabelFileError,
    RunFileError,
    WeightsUnavailableError,
    reason_of,
)
from camera_trap_al.files import make_folder

PATH = Path("somewhere")


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("no"),
        DataError("no"),
        LabelFileError("no", []),
        EmptyPoolError("no"),
        CheckpointError("no", PATH),
        WeightsUnavailableError("no", PATH),
    ],
)
def test_every_error_is_caught_as_one_of_the_package_and_says_its_message(error):
    assert isinstance(error, CameraTrapALError)
    assert str(error) == "no"


def test_bad_input_is_also_a_value_error():
    # DESIGN.md 5 names the builtin of each error in brackets.
    are_value_errors = {name for name in exceptions.__all__ if issubclass(getattr(exceptions, name), ValueError)}
    assert are_value_errors == {"ConfigError", "DataError", "LabelFileError"}


def test_a_full_disk_is_also_an_os_error_that_programs_can_tell():
    error = DiskFullError(PATH)
    assert isinstance(error, CameraTrapALError) and isinstance(error, OSError)
    assert (error.errno, error.path, error.filename) == (errno.ENOSPC, PATH, str(PATH))
    assert str(error).startswith(f"{PATH}: cannot be written, since no room is left on the disk. ")


def test_one_config_problem_is_the_message_and_several_are_listed():
    assert ConfigError("a is bad.").problems == ("a is bad.",)
    several = ConfigError(["a is bad.", "b is bad."])
    assert several.problems == ("a is bad.", "b is bad.")
    assert str(several) == "2 settings cannot be used:\n  - a is bad.\n  - b is bad."


def test_errors_carry_what_is_needed_to_act_on_them():
    assert DataError("no", PATH).path == PATH
    assert DataError("several").path is None
    assert CheckpointError("no", PATH).path == PATH
    weights = WeightsUnavailableError("no", PATH, "https://example.org/weights")
    assert (weights.path, weights.url) == (PATH, "https://example.org/weights")


@pytest.mark.parametrize(
    ("row", "file", "shown"),
    [
        (3, "a/1.jpg", "row 3, a/1.jpg: Bad. Mend it."),
        (None, "a/1.jpg", "a/1.jpg: Bad. Mend it."),
        (3, "", "row 3: Bad. Mend it."),
        (None, "", "Bad. Mend it."),
    ],
)
def test_a_label_fault_says_where_it_is_as_far_as_that_is_known(row, file, shown):
    assert str(LabelFault(row, file, "Bad.", "Mend it.")) == shown


def test_a_label_file_error_lists_every_fault():
    faults = [LabelFault(2, "a", "Bad.", "Mend it."), LabelFault(None, "b", "Missing.", "Add it.")]
    error = LabelFileError("Two faults.", faults)
    assert error.faults == tuple(faults)
    assert str(error) == "Two faults.\n  - row 2, a: Bad. Mend it.\n  - b: Missing. Add it."


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(RunFileError, match=r"something of another kind is in its way .* Rename what lies there"):
        make_folder(tmp_path / "out" / "shard")
    with pytest.raises(RunFileError, match="something of another kind is in its way"):
        make_folder(tmp_path / "out")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("\nno kernel.\nTraceback"), "no kernel"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("x" * 300), "x" * 200),
    ],
)
def test_of_what_another_library_says_one_line_is_quoted(error, reason):
    assert reason_of(error) == reason
