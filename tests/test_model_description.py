import json
from dataclasses import asdict

import jsonschema
import pytest

from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.files import sha256_of
from camera_trap_al.model_description import DESCRIPTION_FILE, MODEL_FILE, ModelDescription, schema

NONE = {"accept": None, "review": None}
NO_THRESHOLDS = {
    **{"wanted_error": 0.05, "source": "nothing", "n_photos": 0, "everywhere": NONE, "of_class": {}},
    "why_none": "no photos",
}

SEQUENCES = {
    **{"gap": 60.0, "pattern": None, "site_level": 2, "temperature": 0.8, "source": "validation", "n_sequences": 75},
    **{"ece_before": 0.1, "ece_after": 0.05},
}


def described(model_file, **changes):
    fields = {
        "classes": ("fox", "badger"),
        "labelled_classes": ("fox",),
        "model": {"sha256": sha256_of(model_file), "opset": 18},
        "network": {"architecture": "resnet18", "feat_dim": 256, "loss": "triplet", "sha256": "0" * 64},
        "parts": {},
        "training": {"labels": 3, "labels_per_class": {"fox": 3}, "validation": None},
        "calibration": {"temperature": 1.0, "source": "nothing", "n_photos": 0, "note": "no photos"},
        "thresholds": NO_THRESHOLDS,
        "made_with": {"camera_trap_al": "1"},
        "sequences": SEQUENCES,
    }
    return ModelDescription(**(fields | changes))


@pytest.fixture
def export(tmp_path):
    (tmp_path / MODEL_FILE).write_bytes(b"a model")
    described(tmp_path / MODEL_FILE).write(tmp_path)
    return tmp_path


def change(export, **changes):
    file = export / DESCRIPTION_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_what_was_written_is_read(export):
    assert asdict(ModelDescription.read(export)) == asdict(described(export / MODEL_FILE))


def test_a_file_of_an_earlier_version_knows_nothing_of_sequences(export):
    file = export / DESCRIPTION_FILE
    fields = json.loads(file.read_text())
    del fields["sequences"]
    file.write_text(json.dumps(fields))
    assert ModelDescription.read(export).sequences == {}


def test_what_is_written_keeps_to_the_schema_and_names_its_version(export):
    written = json.loads((export / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(written, schema())
    assert written["format_version"] == 1


def test_class_names_in_any_script_stay_legible(tmp_path):
    (tmp_path / MODEL_FILE).write_bytes(b"a model")
    described(tmp_path / MODEL_FILE, classes=("лиса",), labelled_classes=("лиса",)).write(tmp_path)
    assert "лиса" in (tmp_path / DESCRIPTION_FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", [DESCRIPTION_FILE, MODEL_FILE])
def test_a_missing_file_is_told_with_what_folder_is_wanted(export, missing):
    (export / missing).unlink()
    with pytest.raises(CheckpointError, match=r"no such file.*folder export of a run") as error:
        ModelDescription.read(export)
    assert error.value.path == export / missing


def test_a_model_of_another_export_is_told(export):
    (export / MODEL_FILE).write_bytes(b"another model")
    with pytest.raises(CheckpointError, match="different exports"):
        ModelDescription.read(export)


def test_a_later_version_is_told_with_the_way_out(export):
    change(export, format_version=2)
    with pytest.raises(CheckpointError, match=r"format 2.*pip install --upgrade"):
        ModelDescription.read(export)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[]", b"null", b'"text"', b"{}"], ids=repr)
def test_a_file_of_something_else_is_told(export, content):
    (export / DESCRIPTION_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=DESCRIPTION_FILE):
        ModelDescription.read(export)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": []},
        {"classes": ["fox", "fox"]},
        {"classes": "fox"},
        {"classes": ["badger"]},  # fox has labels
        {"format_version": "1"},
        {"format_version": 0},
        {"model": {"opset": 18}},
        {"network": {"architecture": "resnet18", "feat_dim": 0, "loss": "triplet"}},
        {"calibration": {"temperature": 0, "source": "nothing", "n_photos": 0, "note": ""}},
        {"calibration": {"temperature": 1, "source": "a guess", "n_photos": 0, "note": ""}},
        {"sequences": SEQUENCES | {"temperature": 0}},
        {"sequences": SEQUENCES | {"gap": "a minute"}},
        {"thresholds": {"why_none": "no photos"}},
        {"thresholds": NO_THRESHOLDS | {"of_class": {"fox": {"accept": 0.9, "review": None}}}},
    ],
    ids=repr,
)
def test_content_that_cannot_be_is_told(export, changes):
    change(export, **changes)
    with pytest.raises(CheckpointError, match=DESCRIPTION_FILE):
        ModelDescription.read(export)


def test_fields_of_a_later_minor_version_are_passed_over(export):
    change(export, colour="blue")
    assert ModelDescription.read(export).classes == ("fox", "badger")


def test_a_folder_in_the_place_of_a_file_is_told(export):
    (export / DESCRIPTION_FILE).unlink()
    (export / DESCRIPTION_FILE).mkdir()
    with pytest.raises(CheckpointError):
        ModelDescription.read(export)
