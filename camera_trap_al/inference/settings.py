"""Every setting of `predict`, and its rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.inference.results import RESULTS_FILE
from camera_trap_al.inference.tables import OUTPUT_FILES
from camera_trap_al.model_description import DESCRIPTION_FILE, ModelDescription
from camera_trap_al.photos.folders import RUN_DATABASE
from camera_trap_al.rules import (
    a_file,
    a_pattern,
    answers_yes,
    broken_rules,
    existing_folder,
    new_folder,
    number,
    one_of,
    optional,
    part_of,
    setting,
    share,
    whole,
)

__all__ = ["ENGINES", "PredictionSettings", "output_folder"]

ENGINES = ("onnxruntime", "torch", "ray")


def output_folder(output_dir: str | PathLike[str] | None, shard: tuple[int, int] | None) -> Path | None:
    """Say where results go, absolute: into `output_dir`, or a folder in it for each part of the photos."""
    if output_dir is None:
        return None
    folder = Path(output_dir).expanduser().absolute()
    if shard is None:
        return folder
    part, of = shard
    return folder / f"shard_{part:0{len(str(of))}}_of_{of}"


def folder_for_results(value: Any) -> str | None:
    """Accept the path of a folder that need not be there yet, but not one whose files this package made otherwise."""
    if new_folder(value):
        return new_folder(value)
    for file, what in ((RUN_DATABASE, "a run"), (Path(DESCRIPTION_FILE), "an exported model")):
        if answers_yes((Path(value).expanduser() / file).exists):
            return f"another folder than that of {what}, whose files would be replaced"
    return None


def no_pattern_or_one(value: Any) -> str | None:
    """Accept a regular expression, or "" for none."""
    return None if isinstance(value, str) and value == "" else a_pattern(value)


def _files_of_others(folder: Path | None) -> list[str]:
    """Say which files would be replaced that no earlier call has made: MegaDetector's may be called like ours."""
    if folder is None or answers_yes((folder / RESULTS_FILE).exists):
        return []
    there = [name for name in OUTPUT_FILES if answers_yes((folder / name).exists)]
    if not there:
        return []
    return [
        f"output_dir must be a folder without {there[0]}, which would be replaced: {folder} has one, and no "
        f"{RESULTS_FILE}, so that it is not of an earlier call. Give another folder, or move the file elsewhere."
    ]


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """The arguments of `predict` besides the photos, checked together; `predict` documents them.

    Raises
    ------
    ConfigError
        If any value breaks its rule; the error lists every one that does.
    """

    export_dir: str | PathLike[str] = setting(None, existing_folder)
    output_dir: str | PathLike[str] | None = setting(None, optional(folder_for_results))
    detections: str | PathLike[str] | None = setting(None, optional(a_file))
    detection_threshold: float = setting(0.2, share())
    padding: float = setting(0.1, share())
    engine: str = setting("onnxruntime", one_of(ENGINES))
    device: str | None = setting(None, lambda value: None)  # the engines know what is there
    batch_size: int = setting(32, whole(1))
    num_workers: int = setting(0, whole(0))
    shard: tuple[int, int] | None = setting(None, optional(part_of))
    sequence_gap: float | None = setting(None, optional(number(above=0)))
    sequence_pattern: str | None = setting(None, optional(no_pattern_or_one))
    site_level: int | None = setting(None, optional(whole(1)))

    def __post_init__(self) -> None:
        problems = broken_rules(self)
        if self.engine == "ray" and self.output_dir is None:
            problems.append("output_dir must be given with engine='ray': that is where the parts of the work meet.")
        if not any(problem.startswith(("output_dir", "shard")) for problem in problems):
            problems.extend(_files_of_others(self.output_folder))
        if problems:
            raise ConfigError(problems)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> "PredictionSettings":
        """Take the settings out of the arguments of `predict`."""
        return cls(**{name: arguments[name] for name in cls.__dataclass_fields__})

    @property
    def export_folder(self) -> Path:
        """The folder of the export, absolute."""
        return Path(self.export_dir).expanduser().absolute()

    @property
    def output_folder(self) -> Path | None:
        """Where the results go, absolute; that of the shard, if there is one."""
        return output_folder(self.output_dir, self.shard)

    def made_by(self, description: ModelDescription) -> dict[str, Any]:
        """Name what answers depend on besides the photos and their boxes."""
        return {
            "model": description.model["sha256"],
            "classes": description.classes,
            "padding": self.padding if self.detections else None,
        }
