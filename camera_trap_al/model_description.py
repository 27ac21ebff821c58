"""``model.json``: what an exported model is, for people and for the programs that apply it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from camera_trap_al.exceptions import CheckpointError
from camera_trap_al.files import sha256_of, written_aside

__all__ = [
    "CLASSIFIER_FILE",
    "DESCRIPTION_FILE",
    "FORMAT_VERSION",
    "MODEL_FILE",
    "PIXEL_MEAN_FILE",
    "PIXEL_STD_FILE",
    "SCALER_FILE",
    "WEIGHTS_FILE",
    "ModelDescription",
    "schema",
    "unusable",
]

# The files of an export: what it is, all of it in one, and its parts.
DESCRIPTION_FILE = "model.json"
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "embedding_model_weights.pt"
PIXEL_MEAN_FILE, PIXEL_STD_FILE = "dataset_mean.npy", "dataset_std.npy"
SCALER_FILE, CLASSIFIER_FILE = "embedding_scaler.npz", "classifier.onnx"
FORMAT_VERSION = 1
SCHEMA_FILE = "model.schema.json"
INPUT: Mapping[str, Any] = {
    "name": "images",
    "type": "uint8",
    "shape": ["n", 256, 256, 3],
    "content": "photos turned upright, RGB, each squeezed as a whole into the square, with antialiasing",
}
OUTPUT: Mapping[str, Any] = {
    "name": "probabilities",
    "type": "float32",
    "shape": ["n", "number of classes"],
    "content": "probability of each class, in the order of classes; each row sums to 1",
}


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What stands in ``model.json``; ``model.schema.json`` of this package says the same for other programs.

    Attributes
    ----------
    classes
        Class names in the order of the columns of the model's output.
    labelled_classes
        Those of them that had a label; the others always have the probability 0.
    model
        ``sha256`` of ``model.onnx``, and the ``opset`` that it is written in.
    network
        ``architecture``, ``feat_dim`` and ``loss`` of the embedding network; ``digest``, which names its weights and
        what pixels are standardised with; ``sha256`` of ``embedding_model_weights.pt``.
    parts
        SHA-256 of each other file that the model consists of besides ``model.onnx``, by name.
    training
        ``labels`` that the model learnt from, ``labels_per_class`` by name, and ``validation``: the figures of its
        test, None where there are no validation photos.
    calibration
        ``temperature``, where it is from (``source``), and what it brings (`calibration.Calibration`).
    thresholds
        From which confidence on to trust an answer (`calibration.Thresholds`), or why that is not known.
    made_with
        Versions of this package and of what the export depends on, by name.
    input, output
        What the model takes and gives: ``name``, ``type``, ``shape`` and ``content``.
    sequences
        What photos are one sequence: at most ``gap`` seconds apart at one site, which the ``site_level`` of the folders
        tells, or what the ``pattern`` finds in their names; and the ``temperature`` of averaged photos, with its
        ``source`` and what it brings. Empty in a file of an earlier version.
    crops
        If the model learnt from squares around animals: the ``padding`` on each side of a box as a share of it, and the
        ``threshold`` from which on a box counted. Empty if it learnt from whole photos.
    """

    classes: tuple[str, ...]
    labelled_classes: tuple[str, ...]
    model: Mapping[str, Any]
    network: Mapping[str, Any]
    parts: Mapping[str, str]
    training: Mapping[str, Any]
    calibration: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    made_with: Mapping[str, str]
    input: Mapping[str, Any] = field(default_factory=lambda: INPUT)
    output: Mapping[str, Any] = field(default_factory=lambda: OUTPUT)
    sequences: Mapping[str, Any] = field(default_factory=dict)
    crops: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``model.json``, whole or not at all."""
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        text = json.dumps({"format_version": FORMAT_VERSION, **fields}, indent=2, ensure_ascii=False)
        with written_aside(folder / DESCRIPTION_FILE) as path:
            path.write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``model.json``, and see to it that ``model.onnx`` is the file that it describes.

        Parameters
        ----------
        folder
            The folder of an export.

        Raises
        ------
        CheckpointError
            If one of the two is missing, is damaged, belongs to another export, or is of a later version.
        """
        description = cls.read_alone(folder)
        description.check_file(folder / MODEL_FILE, description.model["sha256"])
        return description

    @classmethod
    def read_alone(cls, folder: Path) -> Self:
        """Read ``model.json`` without a look at ``model.onnx``; errors as `read`."""
        path = folder / DESCRIPTION_FILE
        fields = _read_json(path)
        _check(fields, path)
        del fields["format_version"]
        for name in ("classes", "labelled_classes"):
            fields[name] = tuple(fields[name])
        description = cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
        _check_classes(description, path)
        return description

    def check_file(self, path: Path, sha256: str) -> None:
        """See to it that a file of the export is the one that this describes.

        Raises
        ------
        CheckpointError
            If it is missing, cannot be read, or is another one.
        """
        _check_is_there(path)
        with _told(path):
            found = sha256_of(path)
        _check_is_the_one(path, found, sha256)

    def read_file(self, path: Path, sha256: str) -> bytes:
        """Read a file of the export, once: a run that goes on may write it anew at any time; errors as `check_file`."""
        _check_is_there(path)
        with _told(path):
            content = path.read_bytes()
        _check_is_the_one(path, hashlib.sha256(content).hexdigest(), sha256)
        return content

    def read_part(self, folder: Path, name: str) -> bytes:
        """Read one of the `parts`; errors as `check_file`, and if this does not describe it."""
        if name not in self.parts:
            raise unusable(folder / DESCRIPTION_FILE, f"it does not say which file {name} belongs to this export")
        return self.read_file(folder / name, self.parts[name])


def _check_is_the_one(path: Path, found: str, sha256: str) -> None:
    if found != sha256:
        raise unusable(
            path,
            f"this is not the file that {DESCRIPTION_FILE} beside it describes: a run has written the export anew in "
            "the meantime (then do the same again), one of the two is damaged, or they are from different exports",
        )


def unusable(path: Path, why: str) -> CheckpointError:
    """Give the error that says why a file of an export cannot be used, and what to do."""
    advice = "Copy the export folder again, or start the run again, which makes it anew."
    return CheckpointError(f"{path}: {why}. {advice}", path)


def schema() -> dict[str, Any]:
    """Give the JSON schema (draft 2020-12) of ``model.json``."""
    text = files("camera_trap_al").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")
    return dict(json.loads(text))


def _read_json(path: Path) -> Any:
    _check_is_there(path)
    try:
        with _told(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise unusable(path, f"the file is damaged ({error})") from error


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path}: the file cannot be read ({error.strerror or error}). Look whether its drive is connected, and "
            "whether you may read it.",
            path,
        ) from error


def _check_is_there(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such file. The folder of an exported model is wanted, which is the folder export of "
            f"a run and holds {DESCRIPTION_FILE} and {MODEL_FILE}. A folder that an earlier version exported gets "
            "them when its run is started again.",
            path,
        )


def _check(fields: Any, path: Path) -> None:
    from jsonschema import Draft202012Validator

    version = fields.get("format_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: it has the format {version}, and this version of camera_trap_al knows formats up to "
            f"{FORMAT_VERSION}. Install the newest one: pip install --upgrade camera_trap_al",
            path,
        )
    problem = next(Draft202012Validator(schema()).iter_errors(fields), None)
    if problem is not None:
        where = "".join(f" {part}" for part in problem.absolute_path)
        found = f"at{where or ' the top'}: {problem.message[:200]}"
        raise unusable(path, f"this does not describe an exported model ({found})")


def _check_classes(description: ModelDescription, path: Path) -> None:
    unknown = sorted(set(description.labelled_classes) - set(description.classes))
    if unknown:
        raise unusable(path, f"its labelled_classes name {unknown[0]!r}, which is none of its classes")
