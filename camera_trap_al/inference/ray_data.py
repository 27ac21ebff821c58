"""The same classification on a Ray cluster: partitions of photos go to workers, and come back as Parquet files."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.inference.classification import Classification
from camera_trap_al.inference.networks import onnxruntime_network
from camera_trap_al.inference.photos import PhotoToClassify
from camera_trap_al.inference.results import AnswerRow, Results, as_row
from camera_trap_al.inference.settings import PredictionSettings
from camera_trap_al.model_description import ModelDescription

__all__ = ["classify_on_ray", "need_ray", "take_parts"]

logger = logging.getLogger(__name__)

PHOTOS_PER_PARTITION = 256
COLUMNS = AnswerRow._fields
CPUS_BESIDE_A_GPU = 4  # that decode for it


class PartitionWorker:
    """Classifies one partition after the other; made once in each worker process.

    Parameters
    ----------
    settings
        Those of the call.
    description
        Of the model, which each machine of the cluster must find in the same folder.
    """

    def __init__(self, settings: PredictionSettings, description: ModelDescription) -> None:
        export = settings.export_folder
        network = onnxruntime_network(export, description, settings.device, threads=1)
        self._classification = Classification(network, settings.batch_size, _cpus(settings), export, settings.padding)

    def __call__(self, partition: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Give the columns of the answers to the photos of a partition."""
        photos = [
            PhotoToClassify(str(name), Path(str(path)), _boxes(str(boxes)))
            for name, path, boxes in zip(partition["name"], partition["path"], partition["boxes"], strict=True)
        ]
        rows = [as_row(answer) for answers in self._classification.answers(photos) for answer in answers]
        return {column: [getattr(row, column) for row in rows] for column in COLUMNS}


def classify_on_ray(
    settings: PredictionSettings,
    description: ModelDescription,
    photos: Sequence[PhotoToClassify],
    missing: Sequence[int],
    results: Results,
) -> None:
    """Classify the photos at some positions on a Ray cluster: the one at RAY_ADDRESS, or one on this computer.

    A partition whose worker dies is given to another. What is done when the call itself dies stays in Parquet files,
    which the next call takes.

    Raises
    ------
    ConfigError
        If Ray is not installed.
    """
    ray = need_ray()
    folder = _parts_folder(settings, description)
    with _cluster(ray):
        partitions = ray.data.from_arrow(list(_partitions(photos, missing)))
        answered = partitions.map_batches(
            PartitionWorker,
            fn_constructor_args=(settings, description),
            batch_size=None,  # a partition
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=_most_workers(ray, settings)),
            num_cpus=_cpus(settings),
            num_gpus=1 if settings.device == "cuda" else 0,
        )
        answered.write_parquet(str(folder))
    take_parts(settings, description, results)


def take_parts(settings: PredictionSettings, description: ModelDescription, results: Results) -> None:
    """Take the answers out of the Parquet files that a call left, and remove these."""
    folder = _parts_folder(settings, description)
    if not folder.is_dir():
        return
    from pyarrow import ArrowInvalid, parquet

    for file in sorted(folder.glob("**/*.parquet")):
        try:
            columns = parquet.read_table(file, partitioning=None).to_pydict()
        except (ArrowInvalid, OSError) as error:  # half written: its photos are classified again
            logger.info("%s is left out (%s)", file, error)
        else:
            results.add_rows(AnswerRow(*row) for row in zip(*(columns[name] for name in COLUMNS), strict=True))
        file.unlink()
    shutil.rmtree(folder, ignore_errors=True)  # it is empty


def _partitions(photos: Sequence[PhotoToClassify], missing: Sequence[int]) -> Iterator[Any]:
    import pyarrow

    for start in range(0, len(missing), PHOTOS_PER_PARTITION):
        some = [photos[at] for at in missing[start : start + PHOTOS_PER_PARTITION]]
        yield pyarrow.table(
            {
                "name": [photo.name for photo in some],
                "path": [str(photo.path) for photo in some],
                "boxes": [json.dumps(photo.boxes) for photo in some],
            }
        )


def _boxes(text: str) -> tuple[tuple[float, ...], ...] | None:
    boxes = json.loads(text)
    return None if boxes is None else tuple(map(tuple, boxes))


def _parts_folder(settings: PredictionSettings, description: ModelDescription) -> Path:
    """Name the folder after what answers depend on, so that those of another model are never taken."""
    assert settings.output_folder is not None
    made_by = hashlib.sha256(json.dumps(settings.made_by(description)).encode()).hexdigest()
    return settings.output_folder / f"parts_{made_by[:16]}"


def _cpus(settings: PredictionSettings) -> int:
    return settings.num_workers or (CPUS_BESIDE_A_GPU if settings.device == "cuda" else 1)


def _most_workers(ray: Any, settings: PredictionSettings) -> int:
    there = ray.cluster_resources()
    by_gpus = there.get("GPU", 0) if settings.device == "cuda" else np.inf
    return max(1, int(min(there.get("CPU", 1) // _cpus(settings), by_gpus)))


def need_ray() -> Any:
    """Import Ray; errors as `classify_on_ray`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call home, and complain where there is no network
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            "engine='ray' needs Ray, which is not installed: pip install \"camera_trap_al[ray]\". On one computer, "
            "engine='onnxruntime' does the same work without it."
        ) from error
    return ray


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Use the cluster that the program is connected to, or connect to one, or start one on this computer."""
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()
