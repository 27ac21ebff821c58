import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import camera_trap_al
from camera_trap_al import cli, demo
from camera_trap_al.exceptions import DataError

COMMANDS = ["demo"]


@pytest.fixture
def demo_that(monkeypatch):
    """Function that puts another function in the place of the demo, which takes a minute."""

    def replace(run_demo):
        monkeypatch.setattr(demo, "run_demo", run_demo)

    return replace


def failing_with(error):
    def run_demo(folder, *, seed):
        raise error

    return run_demo


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(command in said for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: camera-trap-al {command}")
    assert "default:" in said  # the options say what they do and are if left out


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"camera_trap_al {camera_trap_al.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["dmeo"], ["demo", "--seed", "one"], ["demo", "--sed", "1"]])
def test_wrong_usage_exits_with_2_and_says_how_it_is_used(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: camera-trap-al")


def test_demo_gets_the_folder_and_the_seed(demo_that, monkeypatch, tmp_path):
    called_with = []
    demo_that(lambda folder, *, seed: called_with.append((folder, seed)))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "--folder", "here", "--seed", "7"]) == 0
    assert cli.main(["demo"]) == 0
    assert called_with == [(tmp_path / "here", 7), (tmp_path / "camera-trap-al-demo", 1)]


def test_arguments_are_those_of_the_command_line_if_none_are_given(demo_that, monkeypatch, tmp_path):
    called_with = []
    demo_that(lambda folder, *, seed: called_with.append(folder))
    monkeypatch.setattr(sys, "argv", ["camera-trap-al", "demo", "--folder", str(tmp_path)])
    assert cli.main() == 0
    assert called_with == [tmp_path]


@pytest.mark.parametrize("error", [DataError("no photo in it"), OSError(28, "No space left on device")])
def test_error_exits_with_1_and_a_message(demo_that, capsys, error):
    demo_that(failing_with(error))
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr() == ("", f"camera-trap-al: {error}\n")


def test_fault_in_the_program_is_not_hidden(demo_that):
    demo_that(failing_with(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo"])


def test_ctrl_c_exits_with_130_and_says_that_the_run_can_go_on(demo_that, capsys):
    demo_that(failing_with(KeyboardInterrupt()))
    assert cli.main(["demo"]) == 130
    assert "goes on where it stopped" in capsys.readouterr().err


def test_installed_command_explains_an_error_without_a_traceback(tmp_path):
    """The real command in a process of its own, on a folder that cannot be one."""
    (tmp_path / "file").write_text("not a folder")
    program = Path(sys.executable).with_name("camera-trap-al")
    command = [program, "demo", "--folder", tmp_path / "file" / "demo"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("camera-trap-al: ") and str(tmp_path / "file") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_template_has_help(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["template", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: camera-trap-al template")
    assert all(option in said for option in ("UNLABELLED_FOLDER", "--train-data", "--classes", "--add", "--column"))


def choices_in(template: Path, column: str = "Species") -> list[str]:
    with closing(sqlite3.connect(template)) as db:
        ((text,),) = db.execute("SELECT List FROM TemplateTable WHERE DataLabel = ?", (column,)).fetchall()
    return json.loads(text)["ChoiceListNonEmpty"]


def test_template_takes_its_classes_from_the_training_folder(capsys, tmp_path, monkeypatch):
    for name in ("fox", "deer", "Backups", ".hidden"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / "note.txt").touch()
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["template", "photos", "--train-data", "train", "--column", "Art"]) == 0
    made = tmp_path / "photos" / "TimelapseTemplate.tdb"
    # The folders that the run takes as classes, sorted: neither those of Timelapse nor hidden ones.
    assert choices_in(made, "Art") == ["deer", "fox", "skip", "unusable"]
    said = capsys.readouterr().out
    assert str(made) in said and "Load template" in said


def test_template_adds_named_classes_and_says_where_the_old_file_is(capsys, tmp_path):
    assert cli.main(["template", str(tmp_path), "--classes", "wolf", "roe deer"]) == 0
    capsys.readouterr()
    assert cli.main(["template", str(tmp_path), "--classes", "lynx", "wolf", "--add"]) == 0
    said = capsys.readouterr().out
    assert choices_in(tmp_path / "TimelapseTemplate.tdb") == ["wolf", "roe deer", "lynx", "skip", "unusable"]
    (backup,) = (tmp_path / "Backups").iterdir()
    assert "lynx" in said and str(backup) in said


def test_template_explains_why_it_leaves_a_template_alone(capsys, tmp_path):
    (tmp_path / "Mine.tdb").touch()
    assert cli.main(["template", str(tmp_path), "--classes", "wolf"]) == 1
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith(f"camera-trap-al: {tmp_path / 'Mine.tdb'}: ") and "--add" in said.err


@pytest.mark.parametrize("arguments", [[], ["--classes"], ["--classes", "fox", "--train-data", "train"]])
def test_template_needs_classes_from_one_place(capsys, tmp_path, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["template", str(tmp_path), *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: camera-trap-al template")
    assert not [*tmp_path.iterdir()]
