"""`predict`: an exported model applied to photos."""

import logging
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from camera_trap_al.exceptions import DataError
from camera_trap_al.inference.classification import Classification
from camera_trap_al.inference.networks import onnxruntime_network, torch_network
from camera_trap_al.inference.photos import Images, PhotoSet, find_photos, with_detections
from camera_trap_al.inference.ray_data import classify_on_ray, need_ray, take_parts
from camera_trap_al.inference.recognition_file import AnswersAnew, Recognitions
from camera_trap_al.inference.results import Results
from camera_trap_al.inference.sequences import find_sequences, judge_sequences
from camera_trap_al.inference.settings import PredictionSettings
from camera_trap_al.inference.tables import (
    PARQUET_FILE,
    SKIPPED_FILE,
    UNREADABLE_FILE,
    AnswerTable,
    remove_earlier,
    write_skipped,
    write_unreadable,
)
from camera_trap_al.interchange.megadetector import DetectionFile, read_detections
from camera_trap_al.logs import run_logging, stage
from camera_trap_al.model_description import ModelDescription
from camera_trap_al.parallel import decoding_threads
from camera_trap_al.statistics.sequence_predictions import SequencePredictions
from camera_trap_al.statistics.thresholds import Thresholds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["predict"]

logger = logging.getLogger(__name__)

LOADERS = {"onnxruntime": onnxruntime_network, "torch": torch_network}


def predict(
    export_dir: str | PathLike[str],
    images: Images,
    *,
    output_dir: str | PathLike[str] | None = None,
    detections: str | PathLike[str] | None = None,
    detection_threshold: float = 0.2,
    padding: float = 0.1,
    engine: str = "onnxruntime",
    device: str | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
    shard: tuple[int, int] | None = None,
    sequence_gap: float | None = None,
    sequence_pattern: str | None = None,
    site_level: int | None = None,
) -> "pd.DataFrame":
    """Name the species in photos with a model that a run exported.

    The answer for a photo depends on that photo and the model alone. A call that was stopped goes on where it stopped
    when it is made again with the same `output_dir`; photos that were added or changed since are looked at, all others
    are not looked at again.

    Parameters
    ----------
    export_dir
        The folder ``export`` of a run.
    images
        A folder, of which every photo at any depth is taken, or a list of photos.
    output_dir
        Where results are written and kept: ``predictions.csv``; ``recognitions.json`` for Timelapse;
        ``unreadable_images.csv``, the photos that were skipped, and with `detections` ``skipped_detections.csv``. None:
        nothing is written.
    detections
        A file of MegaDetector: each animal in it is classified, instead of the whole photo, and ``recognitions.json``
        is that file with the classifications added.
    detection_threshold
        Confidence from which on a detection is classified, 0..1.
    padding
        By which share of its sides a detection is enlarged, on each side.
    engine
        What computes: ``"onnxruntime"``; ``"torch"``; or ``"ray"``, which spreads the work over the machines of a Ray
        cluster, each with onnxruntime, and needs ``pip install "camera_trap_al[ray]"``.
    device
        ``"cpu"``, ``"cuda"``, or what else the engine knows; None takes a CUDA GPU if the engine can use one.
    batch_size
        Images that are computed at once.
    num_workers
        Threads that decode photos; 0 means one per core, at most 8.
    shard
        Take only one part of the photos, for jobs on several machines: ``(3, 10)`` is the third of ten, and its results
        are in the folder ``shard_03_of_10`` of `output_dir`. None takes all. Parts are cut by position: a sequence that
        lies in two of them is two, and each part numbers its sequences anew.
    sequence_gap
        Seconds; photos of one site are a sequence while each is taken less than that after the one before. None: as in
        the run of the model, or else 60.
    sequence_pattern
        A regular expression that is looked for in file names: photos of one site are a sequence if what the part in
        parentheses matches, or else the whole, is the same, as with ``(SEQ[0-9]+)_IMG`` in SEQ7510_IMG_0001.jpg. Photos
        in whose names it is not found are grouped by time. None: as in the run of the model; ``""``: all by time.
    site_level
        Which folder of a photo's path names its site: 1 is the uppermost below `images`, or below the folder that all
        listed photos are in. None: as in the run of the model, or else all its folders together.

    Returns
    -------
    A line for each photo that can be read, in the order of their names, or as listed: File, RelativePath, Species,
    confidence (0..1, of the species), second_species, margin (confidence above that of the second), decision
    (``"accept"``, ``"review"`` or ``"label"``; empty where the model has no thresholds). With `detections` a line for
    each of them, with its number in the photo, the most confident first, and detection_confidence; and for a photo
    without any a line without a species, in which why_no_species says why. If at least half of the photos say in their
    EXIF data when they were taken, or fit `sequence_pattern`: sequence (its number), sequence_species and
    sequence_confidence, of all photos of the burst together; of several detections in a photo, the most confident one
    counts. A photo that says nothing has no number and stands for itself.

    Raises
    ------
    ConfigError
        If an argument cannot be used; all of them are listed.
    CheckpointError
        If the export folder lacks a file, or its files are damaged or do not belong together.
    DataError
        If there is no photo or none of them can be read (in a `shard`, the latter is only told), a file or folder
        cannot be read, or the results cannot be written.
    """
    settings = PredictionSettings.from_arguments(dict(locals()))
    with run_logging():
        description = ModelDescription.read(settings.export_folder)
        photos, detections_file = find_photos(images), None
        _tell_other_view(description, settings)
        if settings.detections is not None:
            detections_file = read_detections(Path(settings.detections).expanduser().absolute())
            photos = with_detections(photos, detections_file, settings.detection_threshold)
        if settings.shard is not None:
            photos = photos.part(*settings.shard)
        thresholds = Thresholds.from_dict(description.thresholds, description.classes)
        if thresholds.why_no_accept:
            logger.info("%s", thresholds.why_no_accept)
        with Results.open(settings.output_folder, settings.made_by(description)) as results:
            results.tell_others(photos)
            _classify_missing(settings, description, photos, results)
            _tell_unreadable(photos, results, settings)
            of_sequences = _judged_sequences(settings, description, photos, results)
            table = AnswerTable(photos, description.classes, thresholds, of_sequences)
            if settings.output_folder is not None:
                recognitions = Recognitions(description, photos, detections_file)
                _write(settings, lambda: results.answers(photos), table, recognitions, detections_file)
            return table.as_frame(results.answers(photos))


def _tell_other_view(description: ModelDescription, settings: PredictionSettings) -> None:
    """Warn if the model is to look at whole photos and learnt from animals cut out of them, or the other way round."""
    if description.crops and settings.detections is None:
        logger.warning(
            "The model learnt from animals that were cut out of their photos, and is to look at whole photos now: it "
            "will be wrong more often. Give the detections of these photos (detections)."
        )
    elif not description.crops and settings.detections is not None:
        logger.warning(
            "The model learnt from whole photos, and is to look at animals that are cut out now: it may be wrong more "
            "often. Look at some of its answers, or train it with detections too."
        )
    elif settings.detections is not None:
        asked = {"padding": settings.padding, "detection_threshold": settings.detection_threshold}
        learnt = {"padding": description.crops["padding"], "detection_threshold": description.crops["threshold"]}
        others = [f"{name} {learnt[name]:g}, not {asked[name]:g}" for name in asked if asked[name] != learnt[name]]
        if others:
            logger.warning("The model learnt with %s: it may be wrong more often.", " and ".join(others))


def _classify_missing(
    settings: PredictionSettings, description: ModelDescription, photos: PhotoSet, results: Results
) -> None:
    """Bring the results up to date, keeping each batch as it comes."""
    if settings.engine == "ray":
        need_ray()
    if settings.output_folder is not None:
        take_parts(settings, description, results)
    missing = results.missing(photos)
    if not len(missing):
        logger.info("There is nothing left to classify in %d photos", len(photos))
        return
    with stage(logger, f"Classifying {len(missing)} of {len(photos)} photos"):
        if settings.engine == "ray":
            classify_on_ray(settings, description, photos, missing.tolist(), results)
        else:
            _classify_here(settings, description, photos, missing.tolist(), results)


def _classify_here(
    settings: PredictionSettings, description: ModelDescription, photos: PhotoSet, missing: list[int], results: Results
) -> None:
    network = LOADERS[settings.engine](settings.export_folder, description, settings.device)
    threads = decoding_threads(settings.num_workers)
    classification = Classification(network, settings.batch_size, threads, settings.export_folder, settings.padding)
    with (
        tqdm(total=len(photos), initial=len(photos) - len(missing), desc="Classifying", unit="photo", delay=1) as bar,
        closing(classification.answers(photos[at] for at in missing)) as batches,
    ):
        for answers in batches:
            results.add(answers)
            bar.update(len(answers))


def _tell_unreadable(photos: PhotoSet, results: Results, settings: PredictionSettings) -> None:
    unreadable = [(answer.photo.name, answer.problem) for answer in results.answers(photos) if answer.problem]
    folder = settings.output_folder
    if folder is not None:
        write_unreadable(folder, unreadable)
    if not unreadable:
        return
    name, problem = unreadable[0]
    if len(unreadable) == len(photos) and settings.shard is None:
        raise DataError(f"None of {len(photos)} photos can be read. The first is {name}: {problem}", photos.root / name)
    where = f"{folder / UNREADABLE_FILE} says why" if folder else f"the first is {name}: {problem}"
    logger.warning("%d of %d photos cannot be read and are left out; %s", len(unreadable), len(photos), where)


def _judged_sequences(
    settings: PredictionSettings, description: ModelDescription, photos: PhotoSet, results: Results
) -> SequencePredictions | None:
    sequences = find_sequences(settings, description, photos, results)
    return None if sequences is None else judge_sequences(results.answers(photos), sequences, description)


def _write(
    settings: PredictionSettings,
    answers: AnswersAnew,
    table: AnswerTable,
    recognitions: Recognitions,
    detections: DetectionFile | None,
) -> None:
    """Write all tables of this call, and leave none of an earlier one."""
    folder = settings.output_folder
    assert folder is not None
    if detections is not None:
        write_skipped(folder, detections.skipped)
    else:
        remove_earlier(folder, SKIPPED_FILE)
    table.write(folder, answers())
    recognitions.write(folder, answers)
    if settings.engine == "ray":
        table.write_parquet(folder, answers())
    else:
        remove_earlier(folder, PARQUET_FILE)
