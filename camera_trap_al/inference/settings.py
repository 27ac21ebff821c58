"""Every setting of `predict`, and its rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.model_description import ModelDescription
from camera_trap_al.rules import (
    a_file,
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

__all__ = ["ENGINES", "PredictionSettings"]

ENGINES = ("onnxruntime", "torch", "ray")


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """The arguments of `predict` besides the photos, checked together; `predict` documents them.

    Raises
    ------
    ConfigError
        If any value breaks its rule; the error lists every one that does.
    """

    export_dir: str | PathLike[str] = setting("export", existing_folder)
    output_dir: str | PathLike[str] | None = setting(None, optional(new_folder))
    detections: str | PathLike[str] | None = setting(None, optional(a_file))
    detection_threshold: float = setting(0.2, share())
    padding: float = setting(0.1, number())
    engine: str = setting("onnxruntime", one_of(ENGINES))
    device: str | None = setting(None, lambda value: None)  # the engines know what is there
    batch_size: int = setting(32, whole(1))
    num_workers: int = setting(0, whole(0))
    shard: tuple[int, int] | None = setting(None, optional(part_of))

    def __post_init__(self) -> None:
        problems = broken_rules(self)
        if self.engine == "ray" and self.output_dir is None:
            problems.append("output_dir must be given with engine='ray': that is where the parts of the work meet.")
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
        if self.output_dir is None:
            return None
        folder = Path(self.output_dir).expanduser().absolute()
        if self.shard is None:
            return folder
        number, of = self.shard
        return folder / f"shard_{number:0{len(str(of))}}_of_{of}"

    def made_by(self, description: ModelDescription) -> dict[str, Any]:
        """Name what answers depend on besides the photos and their boxes."""
        return {"model": description.model["sha256"], "padding": self.padding if self.detections else None}
