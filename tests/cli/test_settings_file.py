"""Settings in a TOML file, as they are written by hand."""

from inspect import signature
from pathlib import Path

import pytest

from camera_trap_al.cli.settings_file import read_settings_file
from camera_trap_al.exceptions import ConfigError
from camera_trap_al.main_scripts import run_active_learning

SETTINGS = signature(run_active_learning).parameters


def write(folder: Path, text: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_values_come_as_python_has_them_and_paths_from_the_folder_of_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        # what we asked in 2026
        train_data = 'labelled'
        unlabelled_data = '/photos/new'
        active_batch = 50
        embedding_train_lr = 1e-4
        finetuning_gate = false
        candidate_pool = "none"
        classes = ["Deer", "Fox"]
        output_dir = "default"
        label_source = "watch"
        label_column = "Tierart"
        class_aliases = { "Roe deer" = "Deer" }

        [classifier_params]
        hidden_layer_sizes = [100, 50]
        """,
    )
    assert read_settings_file(file, SETTINGS) == {
        "train_data": str(tmp_path / "labelled"),
        "unlabelled_data": str(Path("/photos/new")),
        "active_batch": 50,
        "embedding_train_lr": 1e-4,
        "finetuning_gate": False,
        "candidate_pool": None,
        "classes": ["Deer", "Fox"],
        "output_dir": "default",
        "label_source": "watch",
        "label_column": "Tierart",
        "class_aliases": {"Roe deer": "Deer"},
        "classifier_params": {"hidden_layer_sizes": [100, 50]},
    }


def test_every_name_that_is_none_is_told_with_the_one_that_may_be_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings_file(write(tmp_path, "active-batch = 5\nlables = 3\nstop_when = 'never'"), SETTINGS)
    batch, labels, function = caught.value.problems
    assert batch.endswith("settings.toml: 'active-batch' is no setting. Is 'active_batch' meant?")
    assert "'lables' is no setting" in labels
    assert "'stop_when' is a Python object" in function


@pytest.mark.parametrize(
    "text",
    ["active_batch = ", 'train_data = "D:\\photos"', "active_batch = 5\nactive_batch = 6"],
    ids=["broken off", "a path of Windows in double quotes", "twice"],
)
def test_a_file_that_is_no_toml_is_told_with_how_a_path_is_written(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="single quotes around paths"):
        read_settings_file(write(tmp_path, text), SETTINGS)


def test_a_file_that_is_not_there_or_is_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_settings_file(tmp_path / "nothing.toml", SETTINGS)
    (tmp_path / "old.toml").write_text("classes = ['Rehböck']", encoding="cp1252")
    with pytest.raises(ConfigError, match="Save it as UTF-8"):
        read_settings_file(tmp_path / "old.toml", SETTINGS)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"], ids=["Notepad", "PowerShell"])
def test_a_signature_before_the_text_is_passed_over(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes("active_batch = 5\r\nclasses = ['Rehböck']\r\n".encode(encoding))
    assert read_settings_file(file, SETTINGS) == {"active_batch": 5, "classes": ["Rehböck"]}
