import logging
import subprocess
import sys
from inspect import Parameter, signature
from pathlib import Path

import pandas as pd
import pytest

from camera_trap_al import cli, predict
from camera_trap_al.cli import predict as cli_predict


@pytest.fixture(autouse=True)
def what_is_logged_elsewhere():
    """The command shows more of the log, for as long as its process lives; other tests are in the same one."""
    logger = logging.getLogger("camera_trap_al")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def settings_of(monkeypatch):
    """Function that gives what `predict` is called with by a command."""

    def called_with(*words):
        calls = []

        def recorded(*arguments, **settings):
            calls.append((arguments, settings))
            return pd.DataFrame({"Species": ["fox", "deer", "fox"]})

        monkeypatch.setattr(cli_predict, "predict", recorded)
        assert cli.main(["predict", *words]) == 0
        return calls[0]

    return called_with


def test_every_setting_has_an_option_and_its_default(settings_of):
    _, given = settings_of("export", "photos")
    expected = {
        name: setting.default
        for name, setting in signature(predict).parameters.items()
        if setting.kind is Parameter.KEYWORD_ONLY
    }
    assert given == expected | {"output_dir": "Predictions"}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--output-dir", "out"], "output_dir", "out"),
        (["--detections", "md.json"], "detections", "md.json"),
        (["--detection-threshold", "0.5"], "detection_threshold", 0.5),
        (["--padding", "0"], "padding", 0.0),
        (["--engine", "torch"], "engine", "torch"),
        (["--batch-size", "8"], "batch_size", 8),
        (["--shard", "3/10"], "shard", (3, 10)),
    ],
)
def test_a_setting_arrives_as_it_was_typed(settings_of, words, name, value):
    assert settings_of("export", "photos", *words)[1][name] == value


def test_one_file_or_several_paths_are_a_list_and_anything_else_a_folder(settings_of, tmp_path):
    assert settings_of("export", str(tmp_path))[0] == ("export", str(tmp_path))
    assert settings_of("export", "not there")[0] == ("export", "not there")
    (tmp_path / "a.jpg").touch()
    assert settings_of("export", str(tmp_path / "a.jpg"))[0] == ("export", [str(tmp_path / "a.jpg")])
    assert settings_of("export", "a.jpg", "b.jpg")[0] == ("export", ["a.jpg", "b.jpg"])


def test_help_describes_every_option(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(
        word in said for word in ("EXPORT_FOLDER", "PHOTOS", "--detections", "--shard", "(default: Predictions)")
    )
    assert "``" not in said and "`" not in said


@pytest.mark.parametrize("words", [["--shard", "3"], ["--shard", "a/b"], ["--batch-size", "many"], []])
def test_what_cannot_be_read_is_wrong_usage(capsys, words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", "export", *words] if words else ["predict", "export"])
    assert ended.value.code == 2
    assert "usage: camera-trap-al predict" in capsys.readouterr().err


def test_bad_settings_are_told_by_the_names_that_were_typed(capsys, tmp_path):
    assert cli.main(["predict", str(tmp_path), str(tmp_path), "--batch-size", "0", "--shard", "3/2"]) == 1
    said = capsys.readouterr().err
    assert "--batch-size must be" in said and "--shard must be" in said and "batch_size" not in said


@pytest.fixture
def tiny_export(tmp_path, colour_model):
    return colour_model["write_model"](tmp_path / "export"), colour_model["write_photos"](tmp_path / "photos")


def test_the_installed_command_names_photos_and_says_where_the_results_are(tmp_path, tiny_export):
    export, photos = tiny_export
    command = [Path(sys.executable).with_name("camera-trap-al"), "predict", export, photos, "--output-dir", "out"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert lines[:3] == [["Species", "Photos"], ["blue", "3"], ["red", "2"]]
    assert str(tmp_path / "out") in ended.stdout
    assert len((tmp_path / "out" / "predictions.csv").read_text("utf-8").splitlines()) == 7
    assert "Classifying 6 of 6 photos" in ended.stderr


def test_it_says_what_is_wrong_with_a_folder_that_is_no_export(tmp_path, tiny_export):
    _, photos = tiny_export
    command = [Path(sys.executable).with_name("camera-trap-al"), "predict", photos, photos]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "model.json" in ended.stderr and "Traceback" not in ended.stderr
