"""Writes ``report.html``: how a run is going, from what its environment and its store know."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from camera_trap_al.active_learning_methods.base import PoolView
from camera_trap_al.deep_learning.active_learning_manager import ActiveLearningEnvironment
from camera_trap_al.evaluation import EvaluationReport
from camera_trap_al.exceptions import RunFileError
from camera_trap_al.files import left_if_open, written_aside
from camera_trap_al.pools import IndexArray, Role
from camera_trap_al.predictions import Predictions
from camera_trap_al.progress import Progress
from camera_trap_al.report import EmbeddingMap, PhotoCard, ReportData, doubts, map_embeddings, render, suspects
from camera_trap_al.run_store import RunStore
from camera_trap_al.run_store.query_table import AskedPhoto
from camera_trap_al.run_store.run_folder import results_folder
from camera_trap_al.statistics.out_of_fold import out_of_fold_probabilities, split_if_few

__all__ = ["REPORT_FILE", "gather", "write_report"]

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"
MOST_ASKED = 60  # photos of a round that are shown
MOST_SHOWN = 24  # photos of each other kind
MOST_JUDGED = 4000  # labelled photos that are judged out of fold, which takes about a second
THUMBNAIL = (128, 96)  # pixels; photos are kept as squares, and most were 4 to 3
JPEG_QUALITY = 75


def write_report(
    env: ActiveLearningEnvironment, store: RunStore, evaluation: EvaluationReport | None, progress: Progress
) -> None:
    """Write the page, whole or not at all. A run goes on without it.

    Parameters
    ----------
    env, store
        The run, whose models are up to date.
    evaluation
        The figures on the validation photos, if there are any.
    progress
        How the run stands.

    Raises
    ------
    RunFileError
        If the drive of the run is full or gone; not if another program holds the page open.
    """
    path = store.folder / REPORT_FILE
    try:
        with left_if_open():
            page = render(gather(env, store, evaluation, progress))
            with written_aside(path) as prepared:
                prepared.write_bytes(page.encode("utf-8", errors="replace"))  # a file name may be no valid text
            logger.info("How the run is going: %s", path)
    except RunFileError:
        raise
    except Exception:  # nothing depends on the page, and somebody waits for the next question
        logger.warning("%s could not be made and stays as it was. The run is not affected.", path, exc_info=True)


def gather(
    env: ActiveLearningEnvironment, store: RunStore, evaluation: EvaluationReport | None, progress: Progress
) -> ReportData:
    """Collect what the page shows; no photo is decoded for it. Parameters as `write_report`."""
    dataset, config, view = env.dataset, env.config, env.view()
    predictions = env.predict_candidates() if len(view.unlabelled) else None
    strategy = config.active_learning_strategy
    audit = progress.audit
    data = ReportData(
        run=store.folder.name,
        made_at=f"{datetime.now():%Y-%m-%d %H:%M}",
        n_answers=progress.n_answers,
        n_rounds=progress.n_rounds,
        n_unlabelled=len(env.pools.unlabelled),
        labels_per_class=progress.labels_per_class,
        n_propagated=progress.n_propagated,
        predicted_per_class={} if predictions is None else _count(predictions, dataset.classes),
        measured_on=progress.measured_on,
        rounds=_rounds(store),
        evaluation=evaluation,
        confusion_image=_drawn_already(store, len(env.pools.labelled)),
        prevalence={} if audit is None else {one.name: (one.share, one.interval) for one in audit.prevalence},
        forecast=progress.forecast,
        advice=progress.advice,
        strategy=strategy if isinstance(strategy, str) else type(strategy).__name__,
        embedding_map=_map(env, view, predictions),
    )
    of_round, asked = _asked(store)
    named = [photo for photo in of_round if photo.guess is not None and photo.label in progress.labels_per_class]
    note, suspected = _suspected(env, view)
    doubtful = {} if predictions is None else _doubtful(env, predictions)
    thumbnails = _thumbnails(env, [*asked, *doubtful, *suspected])
    return replace(
        data,
        asked_round=of_round[0].round if of_round else None,
        n_asked=len(of_round),
        n_named=len(named),
        n_named_rightly=sum(photo.guess == photo.label for photo in named),
        asked=_shown(asked, thumbnails),
        doubtful=_shown(doubtful, thumbnails),
        suspects=_shown(suspected, thumbnails),
        suspects_note=note,
    )


def _count(predictions: Predictions, classes: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(classes, np.bincount(predictions.first, minlength=len(classes)).tolist(), strict=True))


def _rounds(store: RunStore) -> list[Mapping[str, Any]]:
    """Give the figures of every round; of rounds before format 3, those of the validation."""
    rounds: list[Mapping[str, Any]] = list(store.round_history())
    if rounds and not rounds[0]["n_answers"]:
        return rounds
    known = {one["train_set_size"] for one in rounds}
    earlier = [one for one in store.validation_history() if one["train_set_size"] not in known]
    # In the order of answers, not of photos learnt from: these become fewer when photos vanish.
    return [*({"measured_on": "validation", **one} for one in earlier), *rounds]


def _drawn_already(store: RunStore, n_labelled: int) -> bytes | None:
    try:
        return (results_folder(store.folder, n_labelled) / "confusion_matrix.png").read_bytes()
    except OSError:
        return None  # it is drawn again then


def _asked(store: RunStore) -> tuple[list[AskedPhoto], dict[int, PhotoCard]]:
    """Give the photos of the last round that has an answer, and cards of the first of them by row."""
    photos = store.asked_photos()
    last = max((photo.round for photo in photos if photo.label is not None), default=None)
    of_round = [photo for photo in photos if photo.round == last]
    cards = {
        photo.row: PhotoCard(
            path=photo.path,
            guess=photo.guess,
            confidence=photo.confidence,
            label=photo.label,
            score=photo.score,
            is_audit=bool(photo.is_audit),
        )
        for photo in of_round[:MOST_ASKED]
    }
    return of_round, cards


def _doubtful(env: ActiveLearningEnvironment, predictions: Predictions) -> dict[int, PhotoCard]:
    names = [*env.dataset.classes, ""]  # -1, no second class, finds the last
    positions = doubts(predictions, MOST_SHOWN).tolist()
    return {
        int(predictions.rows[at]): PhotoCard(
            path=env.dataset.catalogue.paths[predictions.rows[at]],
            guess=names[predictions.first[at]],
            confidence=float(predictions.confidence[at]),
            second=names[predictions.second[at]],
        )
        for at in positions
    }


def _suspected(env: ActiveLearningEnvironment, view: PoolView) -> tuple[str, dict[int, PhotoCard]]:
    """Judge labelled photos by others; say how, and give by row those whose label is the least likely."""
    rows, dataset = view.labelled, env.dataset
    n_labelled = len(rows)
    rows = rows[np.linspace(0, n_labelled - 1, min(n_labelled, MOST_JUDGED)).astype(np.int64)]
    groups = split_if_few(dataset.groups(rows), dataset.pools.roles[rows] == Role.UNLABELLED)
    seed = int(env.config.generator("out of fold", 0).integers(2**31))
    targets = view.targets[rows]
    judged = out_of_fold_probabilities(view.embeddings[rows], targets, groups, len(dataset.classes), seed)
    cards = {}
    for at in suspects(judged, targets, MOST_SHOWN).tolist():
        row, guess = int(rows[at]), int(judged.probabilities[at].argmax())
        cards[row] = PhotoCard(
            path=f"{Role(dataset.pools.roles[row]).argument}/{dataset.catalogue.paths[row]}",
            guess=dataset.classes[guess],
            confidence=float(judged.probabilities[at, guess]),
            label=dataset.classes[targets[at]],
            own_confidence=float(judged.probabilities[at, targets[at]]),
        )
    of_all = f" They were drawn from {n_labelled:,}." if len(rows) < n_labelled else ""
    return judged.note + of_all, cards


def _map(env: ActiveLearningEnvironment, view: PoolView, predictions: Predictions | None) -> EmbeddingMap:
    guesses = np.zeros(0, np.int64) if predictions is None else predictions.first
    return map_embeddings(
        view.embeddings[np.concatenate([view.labelled, view.unlabelled])],
        np.concatenate([view.targets[view.labelled], guesses]),
        np.arange(len(view.labelled) + len(view.unlabelled)) < len(view.labelled),
        view.classes,
        env.config.generator("map", 0),
    )


def _thumbnails(env: ActiveLearningEnvironment, rows: Iterable[int]) -> dict[int, bytes]:
    """Give small JPEGs by row, of the photos that are kept decoded: no other is worth the wait."""
    wanted: IndexArray = np.unique(np.array(list(rows), np.int64))
    kept = np.setdiff1d(wanted, env.dataset.cache.missing(wanted))
    images, is_read = env.dataset.cache.read(kept)
    return {row: _jpeg(image) for row, image in zip(kept[is_read].tolist(), images, strict=True)}


def _jpeg(pixels: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).resize(THUMBNAIL, Image.Resampling.BOX).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _shown(cards: Mapping[int, PhotoCard], thumbnails: Mapping[int, bytes]) -> tuple[PhotoCard, ...]:
    return tuple(replace(card, thumbnail=thumbnails.get(row)) for row, card in cards.items())
