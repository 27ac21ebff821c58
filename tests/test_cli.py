import subprocess
import sys
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
